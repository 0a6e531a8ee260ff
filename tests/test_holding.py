"""Callers that hold what their gather waits for, or does not see."""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy_lite import SQLAlchemy as Lite
from shop import Base, User
from sqlalchemy import delete, event, insert, orm, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from async_parallel import AsyncParallel, _holding, gather_queries, run_in_parallel
from async_parallel._engine import async_url
from async_parallel.errors import HoldAndWaitError, HoldAndWaitWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session

    from async_parallel import QueryGatherer

QUERY = select(User.id).where(User.id == 1)
ACTIONS = pytest.mark.parametrize("action", ["warn", "error"])


def objection(action: str) -> Any:
    """What a gather does that objects: a warning here, or an error."""
    if action == "warn":
        return pytest.warns(HoldAndWaitWarning)
    return pytest.raises(HoldAndWaitError)


@ACTIONS
async def test_a_caller_that_holds_a_connection_is_told(
    action: str, sqlite: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """One session of the gatherer's own engine is enough, once it has a connection."""
    gatherer = make_gatherer(sqlite, hold_and_wait=action)
    async with AsyncSession(gatherer.engine) as session:
        await gatherer.gather(QUERY)  # it has none yet
        await session.execute(QUERY)
        with objection(action) as caught:
            await gatherer.gather(QUERY)
    if action == "warn":
        assert caught[0].filename == __file__
    assert await gatherer.gather(QUERY) == ([1],)


@ACTIONS
async def test_the_same_for_an_engine_of_the_callers(
    action: str, sqlite: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """A pool of another kind is watched for the same."""
    engine = create_async_engine(async_url(sqlite))
    try:
        gatherer = make_gatherer(engine, hold_and_wait=action)
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
            with objection(action):
                await gatherer.gather(QUERY)
        assert await gatherer.gather(QUERY) == ([1],)
    finally:
        await engine.dispose()


async def test_what_others_hold_is_their_own(
    sqlite: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """A connection of another task is no reason to object, nor is a nested gather."""
    gatherer = make_gatherer(sqlite, hold_and_wait="error")
    taken, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with gatherer.engine.connect():
            taken.set()
            await go_on.wait()

    async def nested(_session: AsyncSession) -> Any:
        return await gatherer.gather(QUERY)

    def nested_and_blocking(_session: Session) -> Any:
        return gatherer.gather_blocking(
            (QUERY,),
            max_concurrency=None,
            timeout=None,
            return_exceptions=False,
            read_only=True,
        )

    holder = asyncio.create_task(hold())
    await taken.wait()
    results = await gatherer.gather(QUERY, nested, nested_and_blocking)
    assert results == ([1], ([1],), ([1],))
    go_on.set()
    await holder


async def test_nobody_is_told_unless_asked_to(
    sqlite: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """By default it is the caller's own affair."""
    gatherer = make_gatherer(sqlite)
    async with gatherer.engine.connect():
        assert await gatherer.gather(QUERY) == ([1],)


class Db:
    """Flask-SQLAlchemy, or -Lite, on the shop's database."""

    def __init__(self, kind: str, url: str, **config: Any) -> None:
        self.app = Flask(__name__)
        self.app.config.update(config)
        self._extension: Any
        if kind == "lite":
            self.app.config["SQLALCHEMY_ENGINES"] = {"default": url}
            self._extension = Lite()
        else:
            self.app.config["SQLALCHEMY_DATABASE_URI"] = url
            self._extension = SQLAlchemy(model_class=Base)
        self._extension.init_app(self.app)
        self.parallel = AsyncParallel(self.app)

    @property
    def session(self) -> Session:
        """The session of the current context."""
        session: Session = self._extension.session
        return session

    def close(self) -> None:
        """Close all engines."""
        with self.app.app_context():
            for engine in self._extension.engines.values():
                engine.dispose()
        self.parallel.close()  # after the context: what ends with it runs on the portal


@pytest.fixture(params=["flask-sqlalchemy", "lite"])
def make_db(request: pytest.FixtureRequest, sqlite: str) -> Iterator[Callable[..., Db]]:
    """Makes an application on each of the two extensions, with a configuration."""
    made: list[Db] = []

    def make(**config: Any) -> Db:
        made.append(Db(request.param, sqlite, **config))
        return made[-1]

    yield make
    for db in made:
        db.close()


def flush(session: Session) -> None:
    """Write a row, and keep nothing of it in the session."""
    session.add(User(id=99, name="new"))
    session.flush()
    session.expunge_all()


CHANGES: dict[str, Callable[[Session], object]] = {
    "added": lambda session: session.add(User(id=99, name="new")),
    "changed": lambda session: setattr(session.get(User, 1), "name", "other"),
    "deleted": lambda session: session.delete(session.get(User, 1)),
    "flushed": flush,
    "inserted at once": lambda session: session.execute(
        insert(User).values(id=99, name="new")
    ),
    "inserted into the table": lambda session: session.execute(
        insert(Base.metadata.tables["users"]).values(id=99, name="new")
    ),
    "updated at once": lambda session: session.execute(update(User).values(name="x")),
    "deleted at once": lambda session: session.execute(
        delete(User).where(User.id == 99)
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@ACTIONS
def test_uncommitted_changes_are_told_of(
    change: str, action: str, make_db: Callable[..., Db]
) -> None:
    """The queries would not see them; after a rollback there are none."""
    db = make_db(ASYNC_PARALLEL_HOLD_AND_WAIT=action)
    with db.app.app_context():
        CHANGES[change](db.session)
        with objection(action):
            run_in_parallel([QUERY])
        db.session.rollback()
        run_in_parallel([QUERY])


def test_reading_is_no_change(make_db: Callable[..., Db]) -> None:
    """A session that has read, and holds a connection of another engine, may gather."""
    db = make_db(ASYNC_PARALLEL_HOLD_AND_WAIT="error")
    with db.app.app_context():
        user = db.session.get(User, 1)
        assert user is not None
        user.name = str(user.name)  # the same
        assert run_in_parallel([QUERY]) == [[1]]


def test_changes_in_another_database_are_none_here(
    make_db: Callable[..., Db], sqlite: str, tmp_path: Any
) -> None:
    """A gather on one bind does not miss what is changed in another."""
    from shop import make_shop

    other = f"sqlite:///{tmp_path / 'other.sqlite3'}"
    make_shop(other)
    db = make_db(
        ASYNC_PARALLEL_HOLD_AND_WAIT="error", ASYNC_PARALLEL_BINDS={"other": other}
    )
    with db.app.app_context():
        db.session.add(User(id=99, name="new"))
        assert run_in_parallel([QUERY], bind="other") == [[1]]
        with pytest.raises(HoldAndWaitError):
            run_in_parallel([QUERY])
        db.session.rollback()


@pytest.mark.parametrize("debug", [True, False])
def test_debug_mode_warns_by_itself(debug: bool, make_db: Callable[..., Db]) -> None:  # noqa: FBT001
    """In production nothing is looked for unless the configuration says so."""
    db = make_db(DEBUG=debug)

    @db.app.get("/")
    async def index() -> Any:
        db.session.add(User(id=99, name="new"))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            await gather_queries(QUERY)
        db.session.rollback()
        return [warning.category.__name__ for warning in caught]

    expected = ["HoldAndWaitWarning"] if debug else []
    assert db.app.test_client().get("/").get_json() == expected


def test_sessions_are_listened_to_before_the_first_gather(sqlite: str) -> None:
    """What a view changed before it would be missed."""
    for name, note in _holding._NOTES.items():
        if event.contains(orm.Session, name, note):
            event.remove(orm.Session, name, note)
    Db("lite", sqlite, ASYNC_PARALLEL_HOLD_AND_WAIT="warn").close()
    for name, note in _holding._NOTES.items():
        assert event.contains(orm.Session, name, note)
