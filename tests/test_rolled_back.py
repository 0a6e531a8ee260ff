"""What an application writes while it is tested leaves nothing in its databases."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import flask_sqlalchemy
import flask_sqlalchemy_lite
import pytest
import sqlalchemy as sa
from flask import Flask
from pages import Page, make_pages
from shop import Base, User
from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from async_parallel import AsyncParallel, gather_queries, run_in_parallel, scalar_one
from async_parallel.errors import (
    AsyncParallelError,
    ConfigurationError,
    ReadOnlyError,
)
from async_parallel.testing import rolled_back

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Notes(DeclarativeBase):
    """Of a table that only one test needs."""


class Note(Notes):
    """What somebody has written."""

    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


NOTES: Any = Note.__table__

COUNTS = (
    scalar_one(select(func.count(User.id))),
    scalar_one(select(func.count(Page.id))),
)
BEFORE = (3, 2)


@pytest.fixture
def archive(tmp_path: Path) -> str:
    """A SQLite file with the pages."""
    return make_pages(tmp_path, 2)


@pytest.fixture(params=["Flask-SQLAlchemy", "Lite"])
def app(request: pytest.FixtureRequest, database: str, archive: str) -> Iterator[Flask]:
    """An application with two databases."""
    app = Flask(__name__)
    app.testing = True
    if request.param == "Lite":
        app.config["SQLALCHEMY_ENGINES"] = {"default": database, "archive": archive}
        flask_sqlalchemy_lite.SQLAlchemy(
            app, session_options={"binds": {Page: "archive"}}
        )
    else:
        app.config["SQLALCHEMY_DATABASE_URI"] = database
        app.config["SQLALCHEMY_BINDS"] = {"archive": archive}
        flask_sqlalchemy.SQLAlchemy(app)
    extension = AsyncParallel(app)
    yield app
    with app.app_context():
        assert run_in_parallel(*COUNTS) == BEFORE
        for engine in app.extensions["sqlalchemy"].engines.values():
            engine.dispose()
    extension.close()


def _add(session: Any) -> None:
    session.add_all([User(id=99, name="new"), Page(id=99)])


def _commit(session: Any) -> None:
    _add(session)
    session.commit()


def _roll_back_first(session: Any) -> None:
    session.add_all([User(id=98, name="never"), Page(id=98)])
    session.flush()
    session.rollback()
    _commit(session)


def _fail_first(session: Any) -> None:
    session.add(User(id=1, name="twice"))
    with pytest.raises(IntegrityError):
        session.commit()
    session.rollback()
    _commit(session)


def _in_a_savepoint(session: Any) -> None:
    with session.begin_nested():
        _add(session)
    session.commit()


def _commit_twice(session: Any) -> None:
    session.add(User(id=99, name="new"))
    session.commit()
    session.add(Page(id=99))
    session.commit()


def _leave_open(session: Any) -> None:
    _commit(session)
    session.add_all([User(id=98, name="never"), Page(id=98)])
    session.flush()


@pytest.mark.parametrize(
    "write",
    [
        _commit,
        _roll_back_first,
        _fail_first,
        _in_a_savepoint,
        _commit_twice,
        _leave_open,
    ],
)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync view", "async view"])
def test_what_a_view_commits_is_rolled_back(
    app: Flask, write: Callable[[Any], None], *, is_async: bool
) -> None:
    """However it goes about it, and what the test has not committed is seen."""
    db = app.extensions["sqlalchemy"]

    @app.get("/")
    def look() -> list[Any]:
        return list(run_in_parallel(*COUNTS))

    @app.post("/")
    def act() -> list[Any]:
        write(db.session)
        return look()

    @app.put("/")
    async def act_async() -> list[Any]:
        write(db.session)
        return list(await gather_queries(*COUNTS))

    client = app.test_client()
    for _ in range(2):
        with rolled_back(app):
            with app.app_context():
                db.session.add_all([User(id=97, name="of the test"), Page(id=97)])
                db.session.commit()
                db.session.add(User(id=96, name="of the test"))
                db.session.commit()
            answer = client.put("/") if is_async else client.post("/")
            assert answer.json == ([7, 5] if write is _leave_open else [6, 4])
            assert client.get("/").json == [6, 4]
            with app.app_context():
                assert db.session.get(User, 99).name == "new"
        with app.app_context():
            assert run_in_parallel(*COUNTS) == BEFORE


def test_a_test_can_share_its_session_with_the_views(app: Flask) -> None:
    """In its context; so what it has not committed is seen, and survives a view's."""
    db = app.extensions["sqlalchemy"]

    @app.post("/")
    def act() -> list[Any]:
        _commit(db.session)
        return list(run_in_parallel(*COUNTS))

    for _ in range(2):
        with app.app_context(), rolled_back(app):
            db.session.add_all([User(id=97, name="of the test"), Page(id=97)])
            assert run_in_parallel(*COUNTS) == (4, 3)
            assert app.test_client().post("/").json == [5, 4]
            db.session.rollback()
            assert run_in_parallel(*COUNTS) == (5, 4)
            ended = db.session() if callable(db.session) else db.session
        assert not ended.in_transaction()
        with app.app_context():
            assert run_in_parallel(*COUNTS) == BEFORE


def test_what_a_gather_writes_is_rolled_back(app: Flask) -> None:
    """As it says that it writes; else it is refused as ever."""
    with app.app_context():
        engine = app.extensions["sqlalchemy"].engine
        Note.metadata.create_all(engine)
    writes = (text("DELETE FROM orders"), text("INSERT INTO users VALUES (99, 'new')"))
    with rolled_back(app), app.app_context():
        with pytest.raises(ReadOnlyError):
            run_in_parallel(writes[1])
        run_in_parallel(*writes, read_only=False)
        assert run_in_parallel(*COUNTS) == (4, 2)
        counts = run_in_parallel(
            sa.insert(Note).values(text="its key is the database's"),
            sa.insert(NOTES).values(text="so SQLAlchemy asks for it"),
            sa.insert(Note).values([{"text": "one"}, {"text": "other"}]),
            sa.update(Note).values(text="all"),
            sa.insert(Note).values(text="returned").returning(Note.text),
            sa.delete(Note),
            read_only=False,
        )
        assert counts == (1, 1, 2, 4, ["returned"], 5)
        orders = scalar_one(text("SELECT count(*) FROM orders"))
        assert run_in_parallel(orders) == (0,)
    with app.app_context():
        assert run_in_parallel(orders) == (6,)
        Note.metadata.drop_all(engine)


def test_the_connection_cannot_be_committed_itself(app: Flask) -> None:
    """As nothing could be rolled back then; the error says what to do."""
    end: Callable[[Any], Any]
    for end in (
        lambda session: session.connection().commit(),
        lambda session: session.connection().rollback(),
        lambda session: session.execute(text(" COMMIT")),
        lambda session: session.execute(text("rollback")),
        lambda session: Connection.commit(session.connection()),
        lambda session: Connection.rollback(session.connection()),
    ):
        with app.app_context(), rolled_back(app):
            session = app.extensions["sqlalchemy"].session
            _add(session)
            session.flush()
            with pytest.raises(AsyncParallelError, match="Let the session commit"):
                end(session)
            with contextlib.suppress(Exception):  # as a view that goes on would
                session.commit()
        with app.app_context():
            for engine in app.extensions["sqlalchemy"].engines.values():
                with engine.connect() as connection:  # the pool's next user
                    connection.commit()
            assert run_in_parallel(*COUNTS) == BEFORE


def _own_commit(engine: Any) -> None:
    with Session(engine) as session, session.begin():
        session.add(User(id=99, name="new"))


def _own_rollback(engine: Any) -> None:
    with Session(engine) as session:
        session.add(User(id=98, name="never"))
        session.flush()
        session.rollback()
    _own_commit(engine)


def _own_failure(engine: Any) -> None:
    with pytest.raises(IntegrityError), Session(engine) as session, session.begin():
        session.add(User(id=1, name="twice"))
    _own_commit(engine)


def _connect(engine: Any) -> None:
    with engine.connect() as connection:
        connection.execute(sa.insert(User).values(id=97, name="never"))
        connection.rollback()
        connection.execute(sa.insert(User).values(id=99, name="new"))
        connection.commit()
        connection.execute(sa.insert(User).values(id=98, name="never"))


def _connect_and_close(engine: Any) -> None:
    connection = engine.connect()
    with connection.begin():
        connection.execute(sa.insert(User).values(id=99, name="new"))
    connection.commit()
    connection.close()


def _begin(engine: Any) -> None:
    with engine.begin() as connection:
        connection.execute(sa.insert(User).values(id=99, name="new"))
    twice = [{"id": 98, "name": "never"}, {"id": 1, "name": "twice"}]
    with pytest.raises(IntegrityError), engine.begin() as connection:
        connection.execute(sa.insert(User), twice)


@pytest.mark.parametrize(
    "write",
    [
        _own_commit,
        _own_rollback,
        _own_failure,
        _connect,
        _connect_and_close,
        _begin,
    ],
)
def test_what_uses_the_engine_itself_is_rolled_back(
    app: Flask, write: Callable[[Any], None]
) -> None:
    """A session of its own, or a connection, beside what has been done before."""
    db = app.extensions["sqlalchemy"]
    for _ in range(2):
        with rolled_back(app), app.app_context():
            db.session.add(Page(id=99))
            db.session.commit()
            write(db.engine)
            assert db.engine.url.database
            assert run_in_parallel(*COUNTS) == (4, 3)
            db.engine.connect()  # which nobody closes
        with app.app_context():
            assert db.engine.pool.checkedout() == 0
            assert run_in_parallel(*COUNTS) == BEFORE


def test_what_an_engine_has_and_its_connection_not_is_named(app: Flask) -> None:
    """Whoever wants it learns why it is missing."""
    db = app.extensions["sqlalchemy"]
    with rolled_back(app), app.app_context():
        with pytest.raises(AttributeError, match=r"inside rolled_back.*raw_connection"):
            db.engine.raw_connection()
        with (
            pytest.raises(ConfigurationError, match="entered already"),
            rolled_back(app),
        ):
            pass
    with pytest.raises(TypeError, match="takes a Flask application"), rolled_back(db):
        pass


def test_a_session_without_changes_is_let_be(app: Flask) -> None:
    """It would begin inside the savepoint of another, which may end first."""
    db = app.extensions["sqlalchemy"]
    with app.app_context(), rolled_back(app):
        with app.app_context():
            db.session.add(User(id=99, name="new"))
            db.session.flush()
            assert run_in_parallel(*COUNTS) == (4, 2)
            db.session.rollback()
        assert run_in_parallel(*COUNTS) == BEFORE


def test_the_application_is_as_before_when_it_ends(app: Flask) -> None:
    """Also when the test failed, and its engines are open for the next."""
    db = app.extensions["sqlalchemy"]
    with app.app_context():
        before = dict(db.engines)
        with pytest.raises(IntegrityError), rolled_back(app):
            _fail(db.session)
        assert dict(db.engines) == before
        for engine in before.values():
            assert engine.pool.checkedout() == 0
    with app.app_context():
        _commit(db.session)
        assert run_in_parallel(*COUNTS) == (4, 3)
        for added in (User, Page):
            db.session.delete(db.session.get(added, 99))
        db.session.commit()


def _fail(session: Any) -> None:
    _commit(session)
    session.add(User(id=1, name="twice"))
    session.flush()


def test_a_session_that_began_before_writes_nothing(app: Flask) -> None:
    """Flask-SQLAlchemy's is dropped; that of -Lite cannot be."""
    db = app.extensions["sqlalchemy"]
    with app.app_context():
        db.session.add(User(id=98, name="outside"))
        if "SQLALCHEMY_ENGINES" in app.config:
            told = pytest.raises(ConfigurationError, match=r"Enter rolled_back.. first")
            with told, rolled_back(app):
                pass
            return
        with rolled_back(app):
            _commit(db.session)
            assert run_in_parallel(*COUNTS) == (4, 3)
        assert run_in_parallel(*COUNTS) == BEFORE


def test_what_sqlite_rolls_back_itself_is_told(sqlite: str, archive: str) -> None:
    """Else the next savepoint that is released would be a COMMIT."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = sqlite
    db = flask_sqlalchemy.SQLAlchemy(app)
    extension = AsyncParallel(app)
    trigger = "CREATE TRIGGER no BEFORE INSERT ON users WHEN NEW.id < 0 BEGIN SELECT"
    with app.app_context():
        with db.engine.begin() as connection:
            connection.execute(text(f"{trigger} RAISE(ROLLBACK, 'negative'); END"))
        with rolled_back(app):
            with pytest.raises(DBAPIError, match=r"negative|no such savepoint"):
                _commit_user(db.session, -1)
            with contextlib.suppress(Exception):
                db.session.rollback()
            db.session.close()
            with pytest.raises(AsyncParallelError, match="SQLite has ended"):
                _commit_user(db.session, 99)
        assert run_in_parallel(COUNTS[0]) == (3,)
        db.engine.dispose()
    extension.close()


def _commit_user(session: Any, number: int) -> None:
    session.add(User(id=number, name="new"))
    session.commit()


@pytest.fixture
def lite(database: str, archive: str) -> Iterator[Flask]:
    """An application with Flask-SQLAlchemy-Lite, whose binds are copies of engines."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_ENGINES"] = {"default": database, "archive": archive}
    db = flask_sqlalchemy_lite.SQLAlchemy(app)
    extension = AsyncParallel(app)
    with app.app_context():
        copy = db.get_engine("archive").execution_options(is_a_copy=True)
        db.sessionmaker.configure(
            binds={Page: copy}, join_transaction_mode="create_savepoint"
        )
    yield app
    with app.app_context():
        for engine in db.engines.values():
            engine.dispose()
    extension.close()


def test_a_copy_of_an_engine_is_its_connection_too(lite: Flask) -> None:
    """With options of its own, and the same pool."""
    db = lite.extensions["sqlalchemy"]
    with lite.app_context():
        for _ in range(2):  # in one context
            with rolled_back(lite):
                _commit(db.session)
                assert db.session.scalar(COUNTS[1].source) == 3
            with db.get_engine("archive").connect() as connection:
                assert connection.scalar(COUNTS[1].source) == 2


def test_a_session_of_another_name_that_began_before_is_refused(lite: Flask) -> None:
    """Its options tell nothing, as the application may have the same ones."""
    with lite.app_context():
        lite.extensions["sqlalchemy"].get_session("other")
        told = pytest.raises(ConfigurationError, match=r"Enter rolled_back\(\) first")
        with told, rolled_back(lite):
            pass


def test_the_context_of_another_application_counts_for_nothing(app: Flask) -> None:
    """Its sessions are not flushed, and are there afterwards."""
    other = Flask("other")
    other.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    other_db = flask_sqlalchemy.SQLAlchemy(other)
    with other.app_context():
        session = other_db.session()
        with rolled_back(app), app.app_context():
            _commit(app.extensions["sqlalchemy"].session)
            assert run_in_parallel(*COUNTS) == (4, 3)
        assert other_db.session() is session
        other_db.engine.dispose()


def test_a_session_that_was_removed_is_followed_by_one_that_is_flushed(
    database: str, archive: str
) -> None:
    """Of the context, whichever it is; without a default database too."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_BINDS"] = {"users": database, "archive": archive}
    db = flask_sqlalchemy.SQLAlchemy(app)
    extension = AsyncParallel(app)
    with app.app_context():
        with rolled_back(app):
            db.session.add(Page(id=98))
            db.session.remove()
            db.session.add(Page(id=99))
            assert run_in_parallel(COUNTS[1]) == (3,)
        for engine in db.engines.values():
            engine.dispose()
    extension.close()


def test_a_database_in_memory_can_be_used() -> None:
    """Flask-SQLAlchemy has one connection to it, on all threads."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///:memory:"
    db = flask_sqlalchemy.SQLAlchemy(app)
    extension = AsyncParallel(app)
    with app.app_context():
        Base.metadata.create_all(db.engine)
        for _ in range(2):
            with rolled_back(app):
                assert run_in_parallel(COUNTS[0]) == (0,)
                db.session.add(User(id=98, name="never"))
                db.session.flush()
                db.session.rollback()
                db.session.add(User(id=99, name="new"))
                db.session.commit()
                assert run_in_parallel(COUNTS[0]) == (1,)
            assert db.session.query(User).count() == 0
            db.session.remove()
        db.engine.dispose()
    extension.close()


def test_an_application_with_asynchronous_engines_alone_is_told_what_to_do() -> None:
    """As nothing of it would be rolled back."""
    app = Flask("shop")
    app.config["SQLALCHEMY_ENGINES"] = {}
    app.config["SQLALCHEMY_ASYNC_ENGINES"] = {"default": "sqlite+aiosqlite://"}
    flask_sqlalchemy_lite.SQLAlchemy(app, require_default_engine=False)
    extension = AsyncParallel(app)
    with (
        pytest.raises(ConfigurationError, match=r"no synchronous engine on 'shop'"),
        rolled_back(app),
    ):
        pass
    extension.close()


def test_an_application_without_flask_sqlalchemy_is_told_what_to_do() -> None:
    """There is nothing to roll back."""
    app = Flask("shop")
    app.config["ASYNC_PARALLEL_DATABASE_URI"] = "sqlite:///shop.sqlite3"
    AsyncParallel(app)
    with (
        pytest.raises(ConfigurationError, match=r"no Flask-SQLAlchemy on 'shop'.*on_c"),
        rolled_back(app),
    ):
        pass
