"""Binds: queries find the database of their tables, and one gather may need several."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from pages import Archived, Page, make_pages
from shop import User
from sqlalchemy import func, select, text
from sqlalchemy.orm import DeclarativeBase, aliased

from async_parallel import (
    AsyncParallel,
    Query,
    QueryGatherer,
    gather_queries,
    run_in_parallel,
    scalar,
    scalar_one,
)
from async_parallel.errors import (
    BindConflictError,
    BindNotFoundError,
    GatherTimeoutError,
    LaneDeadlockError,
    LaneTimeoutError,
    QueryTimeoutError,
    QueueFullError,
    ReadOnlyError,
    SnapshotUnsupportedError,
    UnansweredQueryError,
)
from async_parallel.instrumentation import record_gathers
from async_parallel.testing import answers, on_connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session


class Lost(DeclarativeBase):
    """Of a bind that nobody has configured."""

    metadata = sa.MetaData(info={"bind_key": "nowhere"})


USERS = scalar_one(select(func.count(User.id)))
PAGES = scalar_one(select(func.count(Page.id)))
# For ever, in each of the two.
ENDLESS_USERS = select(func.pg_sleep(600)).select_from(User).limit(1)
_numbers = select(sa.literal(1).label("i")).cte("numbers", recursive=True)
_numbers = _numbers.union_all(select(_numbers.c.i + 1))
ENDLESS_PAGES = select(func.count()).select_from(_numbers.join(Page, sa.true()))


@pytest.fixture
def archive(tmp_path: Path) -> str:
    """A SQLite file with the pages."""
    return make_pages(tmp_path, 3)


@pytest.fixture
def make_app(postgres: str, archive: str) -> Iterator[Callable[..., Flask]]:
    """Makes applications on both, and closes them."""
    made: list[Flask] = []

    def make(**settings: Any) -> Flask:
        app = Flask(__name__)
        app.config["ASYNC_PARALLEL_DATABASE_URI"] = postgres
        app.config["ASYNC_PARALLEL_BINDS"] = {"archive": archive}
        app.config.update(
            {
                f"ASYNC_PARALLEL_{name.upper()}": value
                for name, value in settings.items()
            }
        )
        AsyncParallel(app)
        made.append(app)
        return app

    yield make
    for app in made:
        app.extensions["async_parallel"].close()


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Iterator[Flask]:
    """An application on both, in its context."""
    app = make_app()
    with app.app_context():
        yield app


def test_each_query_goes_to_the_database_of_its_tables(app: Flask) -> None:
    """Whatever kind it is, in the order of the arguments."""
    other = aliased(Page)
    inner = select(Page.id).where(Page.id > 1).subquery()
    found = run_in_parallel(
        USERS,
        PAGES,
        select(Page.text).where(Page.id == 3),
        select(sa.exists().where(Page.id == 2)),
        select(func.count()).select_from(inner),
        select(Page.id).join(other, Page.id == other.id).order_by(Page.id),
        sa.orm.Query(Page).count,
        Query(select(User.id).order_by(User.id), label="people"),
        lambda session: session.get_bind().dialect.name,
        text("SELECT version()"),
    )
    assert found[:9] == (
        3,
        3,
        ["page 3"],
        [True],
        [2],
        [1, 2, 3],
        3,
        [1, 2, 3],
        "postgresql",
    )
    assert "PostgreSQL" in found[9][0][0]


def test_an_async_view_gathers_from_both(app: Flask) -> None:
    """And a mapping has its keys, a list is a list."""

    @app.get("/")
    async def view() -> dict[str, Any]:
        by_name: dict[str, Any] = await gather_queries({"users": USERS, "pages": PAGES})
        return {**by_name, "list": await gather_queries([PAGES, USERS])}

    answer = app.test_client().get("/").get_json()
    assert answer == {"users": 3, "pages": 3, "list": [3, 3]}


def test_a_query_over_tables_of_two_binds_is_refused(app: Flask) -> None:
    """By name, before anything runs; a bind that is named is used as it is."""
    both = select(User.id).join(Page, Page.id == User.id)
    with pytest.raises(BindConflictError, match="'pages' in 'archive'") as caught:
        run_in_parallel(USERS, Query(both, label="both"))
    assert caught.value.binds == {"archive": ["pages"], "default": ["users"]}
    assert caught.value.query == "both"
    assert caught.value.__notes__ == ["async_parallel: query 2 of 2, 'both'"]
    with pytest.raises(sa.exc.DBAPIError, match="users"):
        run_in_parallel(both, bind="archive")
    nowhere = sa.Table("things", Lost.metadata, sa.Column("id"), extend_existing=True)
    with pytest.raises(BindNotFoundError, match="nowhere"):
        run_in_parallel(USERS, select(nowhere.c.id))


def test_the_first_failure_stops_the_queries_of_the_other_database(
    app: Flask, backends: Callable[[str], int]
) -> None:
    """The original exception is raised, and its note counts over the whole gather."""

    def fail(session: Session) -> None:
        session.execute(text("SELECT 1"))
        raise LookupError("of the application")

    bad = Query(fail, label="bad")
    for endless in (ENDLESS_PAGES, ENDLESS_USERS):
        with pytest.raises(LookupError) as caught:
            run_in_parallel(PAGES, endless, bad)
        note = "async_parallel: query 3 of 3, 'bad', on the bind 'default'"
        assert caught.value.__notes__ == [note]
    with pytest.raises(sa.exc.OperationalError, match="no such table"):
        run_in_parallel(ENDLESS_USERS, sa.text("SELECT 1"), _missing())
    assert backends("state = 'active'") == 0


def test_who_asks_the_wrong_database_learns_which_one_it_was(app: Flask) -> None:
    """As a function does, of which nobody knows whose tables it asks for."""

    def pages(session: Session) -> Any:
        return session.scalar(PAGES.source)

    opaque = (pages, text("SELECT 1 FROM pages"))
    for query, bind in itertools.product(opaque, (None, "default")):
        with pytest.raises(sa.exc.DBAPIError) as caught:
            run_in_parallel(query, bind=bind)
        notes: list[str] = caught.value.__notes__
        told = ", on the bind 'default'; bind=... names another"
        assert any(note.endswith(told) for note in notes)
    assert run_in_parallel(pages, bind="archive") == run_in_parallel(PAGES)
    with pytest.raises(sa.exc.DBAPIError) as caught:
        run_in_parallel(USERS, PAGES, select(Page.id).where(text("nonsense")))
    assert any(
        note.endswith("on the bind 'archive'") for note in caught.value.__notes__
    )


def test_a_query_names_its_database_itself(app: Flask) -> None:
    """For what does not say which tables it reads, in one gather with others."""

    def pages(session: Session) -> Any:
        return session.scalar(PAGES.source)

    async def pages_async(session: AsyncSession) -> Any:
        return await session.scalar(PAGES.source)

    found = run_in_parallel(
        USERS,
        Query(pages, bind="archive"),
        Query(pages_async, bind="archive"),
        scalar(text("SELECT count(*) FROM pages"), bind="archive"),
        Query(text("SELECT 1"), bind="default"),
        Query(lambda session: session.get_bind().dialect.name),
    )
    assert found == (3, 3, 3, 3, [(1,)], "postgresql")
    assert run_in_parallel({"pages": Query(pages, bind="archive")}) == {"pages": 3}
    assert run_in_parallel(Query(pages, bind="archive"), bind="archive") == (3,)
    with pytest.raises(ValueError, match=r"'archive', and.*postgres.* alone"):
        run_in_parallel(Query(pages, bind="archive"), bind="default")
    label = pages.__qualname__
    with pytest.raises(BindNotFoundError, match="nowhere") as caught:
        run_in_parallel(USERS, Query(pages, bind="nowhere"))
    assert caught.value.__notes__ == [f"async_parallel: query 2 of 2, {label!r}"]


async def test_a_gatherer_refuses_the_bind_of_an_application(
    postgres_gatherer: QueryGatherer,
) -> None:
    """It is of one database, whatever names there are."""
    query = scalar(select(func.count(User.id)), bind="archive", label="count")
    with pytest.raises(ValueError, match=r"'count' is for the bind 'archive'.*Leave"):
        await postgres_gatherer.gather(query)


def test_an_application_with_one_database_has_its_name(postgres: str) -> None:
    """The one that it has by default."""
    app = Flask(__name__)
    app.config["ASYNC_PARALLEL_DATABASE_URI"] = postgres
    extension = AsyncParallel(app)
    with app.app_context():
        one = Query(text("SELECT 1"), bind="default")
        assert run_in_parallel(one) == ([(1,)],)
        with pytest.raises(ValueError, match="'archive'"):
            run_in_parallel(Query(text("SELECT 1"), bind="archive"))
        with pytest.raises(sa.exc.DBAPIError) as caught:
            run_in_parallel(text("SELECT nonsense"))
        assert not any("bind" in note for note in caught.value.__notes__)
    extension.close()


def _missing() -> Any:
    table = sa.Table(
        "missing", Archived.metadata, sa.Column("id"), extend_existing=True
    )
    Archived.metadata.remove(table)
    return select(table.c.id)


def test_failures_may_be_results(app: Flask) -> None:
    """In their places, while those of the other database go on."""
    found = run_in_parallel(USERS, _missing(), PAGES, return_exceptions=True)
    assert found[0] == found[2] == 3
    assert isinstance(found[1], sa.exc.OperationalError)


def test_time_is_up_for_all(app: Flask, backends: Callable[[str], int]) -> None:
    """The error names the queries of both; a query's own time ends it alone."""
    slow = [Query(ENDLESS_USERS, label="users"), Query(ENDLESS_PAGES, label="pages")]
    with pytest.raises(GatherTimeoutError) as caught:
        run_in_parallel(*slow, PAGES, timeout=0.3)
    assert sorted(caught.value.running) == ["pages", "users"]
    found = run_in_parallel(
        Query(ENDLESS_PAGES, timeout=0.2), USERS, PAGES, return_exceptions=True
    )
    assert isinstance(found[0], QueryTimeoutError)
    assert found[1:] == (3, 3)
    assert backends("state = 'active'") == 0


def test_a_cancel_ends_the_queries_of_both(
    app: Flask, backends: Callable[[str], int]
) -> None:
    """Nothing runs on, and the connections serve the next."""

    async def view() -> str:
        task = asyncio.create_task(gather_queries(ENDLESS_USERS, ENDLESS_PAGES))
        while not backends("query LIKE '%pg_sleep%' AND state = 'active'"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert backends("state = 'active'") == 0
        users, pages = await gather_queries(USERS, PAGES)
        return f"{users} {pages}"

    app.add_url_rule("/", view_func=view)
    assert app.test_client().get("/").text == "3 3"


@pytest.mark.parametrize("limit", [1, 2])
def test_it_is_as_concurrent_as_is_asked(app: Flask, limit: int) -> None:
    """Over both databases together, begun in the order of the arguments."""
    running, most, begun, lock = 0, 0, [], threading.Lock()

    def count(name: str, model: Any) -> Query[int]:
        async def ask(session: AsyncSession) -> int:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
                begun.append(name)
            await asyncio.sleep(0.01)
            with lock:
                running -= 1
            return int(await session.scalar(select(func.count(model.id))) or 0)

        return Query(ask, label=name)

    queries = [USERS, count("a", User), PAGES, count("b", User), USERS, PAGES]
    assert run_in_parallel(queries, max_concurrency=limit) == [3] * 6
    assert most <= limit
    assert sorted(begun) == ["a", "b"]
    if limit == 1:
        assert begun == ["a", "b"]


def test_a_snapshot_is_of_one_database(app: Flask) -> None:
    """Two have no state in common, so that is refused; one is as ever."""
    with pytest.raises(SnapshotUnsupportedError, match="'archive'"):
        run_in_parallel(USERS, PAGES, snapshot=True)
    assert run_in_parallel(PAGES, PAGES, snapshot=True) == (3, 3)
    assert run_in_parallel(USERS, USERS, snapshot=True) == (3, 3)


def test_writes_are_refused_in_both(app: Flask) -> None:
    """And made where they are asked for, each where its table is."""
    write = sa.update(Page).values(text="new")
    with pytest.raises(ReadOnlyError):
        run_in_parallel(USERS, write)
    assert run_in_parallel(USERS, write, read_only=False) == (3, 3)
    assert run_in_parallel(select(Page.text).distinct(), USERS) == (["new"], 3)


def test_one_report_has_the_queries_of_both(app: Flask) -> None:
    """As they were given."""
    with record_gathers() as gathers:
        run_in_parallel({"users": USERS, "pages": PAGES})
    assert [query.label for query in gathers[0].queries] == ["users", "pages"]
    assert len(gathers) == 1


def test_entities_of_both_are_attached(app: Flask, archive: str) -> None:
    """To a session that knows where each model is."""
    engine = sa.create_engine(archive)
    with sa.orm.Session(binds={Archived: engine}) as session:
        pages, users = run_in_parallel(select(Page), USERS, into=session)
        assert all(page in session for page in pages)
        assert users == 3
    engine.dispose()


def test_an_overfull_queue_refuses_all_of_it(make_app: Callable[..., Flask]) -> None:
    """Also where one of the databases would have had room."""
    app = make_app(max_connections=1, max_waiting=1)
    inside, go_on = threading.Event(), asyncio.Event()

    async def hold(_session: AsyncSession) -> asyncio.AbstractEventLoop:
        inside.set()
        await go_on.wait()
        return asyncio.get_running_loop()

    def block() -> None:
        with app.app_context():
            run_in_parallel([hold, USERS])

    thread = threading.Thread(target=block)
    thread.start()
    assert inside.wait(10)
    with app.app_context():
        with pytest.raises(QueueFullError):
            run_in_parallel(PAGES, USERS, USERS)
        release = Query(_set(go_on), label="release")
        run_in_parallel(release, bind="archive")
        thread.join(10)
        assert run_in_parallel(PAGES, USERS) == (3, 3)


def _set(event: asyncio.Event) -> Any:
    async def release(_session: AsyncSession) -> None:
        event.set()

    return release


def test_a_gather_inside_a_query_may_ask_the_other_database(app: Flask) -> None:
    """On lanes of that one; back at the first, on the query's own."""

    async def outer(_session: AsyncSession) -> Any:
        return await gather_queries(PAGES, USERS, inner)

    async def inner(_session: AsyncSession) -> Any:
        return await gather_queries(PAGES, USERS)

    assert run_in_parallel(outer, outer) == ((3, 3, (3, 3)),) * 2


def test_gathers_that_would_wait_for_each_other_are_refused(
    make_app: Callable[..., Flask],
) -> None:
    """Each holds the only lane that the other needs: one gives way, one goes on."""
    app = make_app(max_connections=1)
    extension: AsyncParallel = app.extensions["async_parallel"]

    async def view() -> list[Any]:
        together = asyncio.Barrier(2)

        async def from_default(_session: AsyncSession) -> Any:
            await together.wait()
            return await gather_queries([PAGES])

        async def from_archive(_session: AsyncSession) -> Any:
            await together.wait()
            return await gather_queries([USERS])

        both = await asyncio.gather(
            extension.gatherer().gather(from_default),
            extension.gatherer("archive").gather(from_archive),
            return_exceptions=True,
        )
        return [*both]

    with app.app_context():
        found = app.async_to_sync(view)()
        assert sorted(type(each).__name__ for each in found) == [
            "LaneDeadlockError",
            "tuple",
        ]
        assert not any(isinstance(each, LaneTimeoutError) for each in found)
        refused = next(each for each in found if isinstance(each, LaneDeadlockError))
        assert "_archive" in refused.query or "_default" in refused.query
        assert run_in_parallel(USERS, PAGES) == (3, 3)


def test_answers_are_for_all_databases(app: Flask) -> None:
    """Unless one is named; what has none is told of, and no database is asked."""
    users, pages = select(User), select(Page)
    with answers(app, {users: ["a user"], pages: ["a page"]}):
        found: tuple[Any, ...] = run_in_parallel(pages, users)
        assert found == (["a page"], ["a user"])
        with pytest.raises(UnansweredQueryError):
            run_in_parallel(users, PAGES)
    with answers(app, {PAGES: 7}, bind="archive"):
        assert run_in_parallel(USERS, PAGES) == (3, 7)
    assert run_in_parallel(USERS, PAGES) == (3, 3)


def test_a_scoped_session_of_a_test_is_used(app: Flask, postgres: str) -> None:
    """As that of Flask-SQLAlchemy is, for the database that is named."""
    engine = sa.create_engine(postgres)
    session = sa.orm.scoped_session(sa.orm.sessionmaker(engine))
    session.add(User(id=99, name="of the test"))
    with on_connection(app, session):
        assert run_in_parallel(USERS, PAGES) == (4, 3)
    session.remove()
    engine.dispose()
    assert run_in_parallel(USERS, PAGES) == (3, 3)


def test_the_session_of_flask_sqlalchemy_is_used_for_all_its_databases(
    postgres: str, archive: str
) -> None:
    """What it has in each of them, and has not committed, is seen, and goes with it."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = postgres
    app.config["SQLALCHEMY_BINDS"] = {"archive": archive}
    db = SQLAlchemy(app)
    extension = AsyncParallel(app)
    write = text("DELETE FROM pages WHERE id < 3")
    with app.app_context():
        db.session.add_all([User(id=99, name="new"), Page(id=99, text="new")])
        with on_connection(app, db.session):
            assert run_in_parallel(USERS, PAGES) == (4, 4)
            with pytest.raises(SnapshotUnsupportedError, match=r"^the connection giv"):
                run_in_parallel(USERS, PAGES, snapshot=True)
            with pytest.raises(ReadOnlyError):
                run_in_parallel(write, bind="archive")
            run_in_parallel(write, bind="archive", read_only=False)
            assert run_in_parallel(PAGES, USERS) == (2, 4)
        db.session.rollback()
        assert run_in_parallel(USERS, PAGES) == (3, 3)
        db.session.add_all([User(id=99, name="new"), Page(id=99, text="new")])
        with on_connection(extension, db.session, bind="archive"):
            assert run_in_parallel(USERS, PAGES) == (3, 4)
        db.session.remove()
        for engine in db.engines.values():
            engine.dispose()
    extension.close()


def test_closing_ends_what_runs_in_both(
    make_app: Callable[..., Flask], backends: Callable[[str], int]
) -> None:
    """The next gather opens connections again."""
    app = make_app()
    extension: AsyncParallel = app.extensions["async_parallel"]
    with app.app_context():
        assert run_in_parallel(USERS, PAGES) == (3, 3)
        extension.close()
        assert backends("true") == 0
        assert run_in_parallel(PAGES, USERS) == (3, 3)
