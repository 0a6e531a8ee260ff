"""What the tests of a user's own application have: ``async_parallel.testing``."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import tomllib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from archive import Page, drop_archive, make_archive
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from lifespan import Lifespan
from observers import PostgresObserver, SQLiteObserver
from shop import Order, User
from sqlalchemy import create_engine, func, insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, make_transient_to_detached
from sqlalchemy.pool import StaticPool

import async_parallel
from async_parallel import (
    AsyncParallel,
    Query,
    QueryGatherer,
    first,
    gather_queries,
    run_in_parallel,
    scalar,
    scalar_one,
)
from async_parallel._engine import async_url
from async_parallel.asgi import ASGIAdapter
from async_parallel.errors import (
    BindNotFoundError,
    ConfigurationError,
    GatherTimeoutError,
    HomeLoopError,
    QueryTypeError,
    ReadOnlyError,
    UnansweredQueryError,
    UnattachableError,
)
from async_parallel.testing import (
    FakeGatherer,
    RecordedGathers,
    answers,
    on_connection,
    recording,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    MakeApp = Callable[[str | None], Flask]

ROOT = Path(__file__).parents[1]
PAGES = select(Page).order_by(Page.paper_id, Page.number)
COUNT = scalar_one(select(func.count()).select_from(Page))
NEW: dict[str, Any] = {"paper_id": 1, "text": "new"}


@pytest.fixture
def archive(database: str) -> Iterator[str]:
    """Each database in turn, with the archive in it."""
    make_archive(database)
    yield database
    drop_archive(database)


@pytest.fixture
def session(archive: str) -> Iterator[Session]:
    """A session of a synchronous driver, which has added a page and not committed."""
    engine = create_engine(archive)
    with engine.connect() as connection:
        transaction = connection.begin()
        if connection.dialect.name == "sqlite":  # whose driver begins with a write
            connection.exec_driver_sql("BEGIN")
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            session.add(Page(number=3, **NEW))
            yield session
        transaction.rollback()
    engine.dispose()


@pytest.fixture(params=["sync", "async"])
async def holder(
    request: pytest.FixtureRequest, archive: str
) -> AsyncIterator[Session | AsyncSession]:
    """A session of each kind, which has added a page and not committed."""
    if request.param == "sync":
        yield request.getfixturevalue("session")
        return
    engine = create_async_engine(async_url(archive))
    async with engine.connect() as connection:
        transaction = await connection.begin()
        if connection.dialect.name == "sqlite":
            await connection.exec_driver_sql("BEGIN")
        async with AsyncSession(
            connection, join_transaction_mode="create_savepoint"
        ) as session:
            session.add(Page(number=3, **NEW))
            yield session
        await transaction.rollback()
    await engine.dispose()


def count(url: str) -> int:
    """How many pages are committed."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return int(connection.scalar(select(func.count()).select_from(Page)) or 0)
    finally:
        engine.dispose()


async def in_async(session: AsyncSession) -> int:
    """Use what an ``AsyncSession`` has."""
    rows = (await session.scalars(PAGES)).all()
    assert len((await session.execute(text("SELECT * FROM pages"))).all()) == len(rows)
    assert await session.scalar(select(func.count()).select_from(Page)) == len(rows)
    page = await session.get_one(Page, (1, 1))
    await session.refresh(page, ["paper"])
    assert page.paper.id == 1
    return len(rows)


def in_sync(session: Session) -> int:
    """Use a synchronous one."""
    return session.query(Page).count()


def write(session: Session, number: int) -> int:
    """Write, and commit."""
    session.add(Page(number=number, **NEW))
    session.commit()
    return number


@pytest.fixture
def make_app() -> Iterator[MakeApp]:
    """Makes applications that count pages in each kind of view, and closes them."""
    made: list[Flask] = []

    def make(url: str | None) -> Flask:
        app = Flask(__name__)
        app.testing = True
        if url is not None:
            app.config["ASYNC_PARALLEL_DATABASE_URI"] = url
        AsyncParallel(app)
        app.get("/async")(asynchronous)
        app.get("/sync")(synchronous)
        app.get("/gather-twice")(twice)
        made.append(app)
        return app

    yield make
    for app in made:
        app.extensions["async_parallel"].close()


async def asynchronous() -> list[int]:
    """A view."""
    return list(await gather_queries(COUNT, in_sync, in_async))


def synchronous() -> list[int]:
    """A view."""
    return run_in_parallel([COUNT, in_sync, in_async])


async def twice() -> list[str]:
    """A view."""
    await gather_queries(COUNT)
    return list(await gather_queries({"a": COUNT, "b": COUNT}))


async def test_each_kind_of_query_sees_what_the_test_has_not_committed(
    holder: Any, gatherer: QueryGatherer, archive: str
) -> None:
    """Statements, legacy queries and functions run on the very connection."""
    with on_connection(gatherer, holder):
        pages, number, legacy, sync, asynchronous, rows = await gatherer.gather(
            PAGES,
            COUNT,
            Session().query(Page).count,
            in_sync,
            in_async,
            select(Page.paper_id, Page.number),
        )
    assert [len(pages), number, legacy, sync, asynchronous, len(rows)] == [5] * 6
    assert count(archive) == 4
    assert await gatherer.gather(COUNT) == (4,)  # as ever again


async def test_a_connection_will_do(session: Session, gatherer: QueryGatherer) -> None:
    """Where the test has no session, or flushes by itself."""
    session.flush()
    with on_connection(gatherer, session.connection()):
        assert await gatherer.gather(COUNT) == (5,)


class Counting(AsyncSession):
    """A session class of an application."""

    executed = 0

    async def execute(self, *args: Any, **kwargs: Any) -> Any:
        Counting.executed += 1
        return await super().execute(*args, **kwargs)


async def test_the_sessions_are_the_applications(
    holder: Any, archive: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """A session class with methods of its own keeps them, whatever the driver."""
    maker = async_sessionmaker(class_=Counting)
    gatherer = make_gatherer(archive, sessionmaker=maker)
    before = Counting.executed
    with on_connection(gatherer, holder):
        assert await gatherer.gather(in_async) == (5,)
    assert Counting.executed > before


async def test_what_the_session_has_committed_meanwhile_is_seen(
    holder: Any, gatherer: QueryGatherer, archive: str
) -> None:
    """It goes on with its transaction between two gathers."""
    with on_connection(gatherer, holder):
        assert await gatherer.gather(COUNT) == (5,)
        holder.add(Page(number=4, **NEW))
        committing = holder.commit()
        if committing is not None:
            await committing
        assert await gatherer.gather(COUNT) == (6,)
    assert count(archive) == 4


async def test_an_error_leaves_the_transaction_usable(
    holder: Any, gatherer: QueryGatherer
) -> None:
    """The error is the original one, with its note; what the test made is there."""
    with on_connection(gatherer, holder):
        with pytest.raises(DBAPIError) as caught:
            await gatherer.gather(PAGES, Query(text("SELECT nothing"), label="bad"))
        assert any("query 2 of 2, 'bad'" in note for note in caught.value.__notes__)
        pages, error, again = await gatherer.gather(
            COUNT, text("SELECT nothing"), COUNT, return_exceptions=True
        )
        assert isinstance(error, DBAPIError)
        assert (pages, again) == (5, 5)


@pytest.mark.parametrize(
    "query",
    [
        pytest.param(insert(Page).values(number=9, **NEW), id="statement"),
        pytest.param(text("UPDATE pages SET text = 'x'"), id="text"),
        pytest.param(partial(write, number=9), id="function"),
        pytest.param(lambda s: s.add(Page(number=9, **NEW)), id="unflushed"),
    ],
)
async def test_writes_are_refused_as_ever(
    query: Any, holder: Any, gatherer: QueryGatherer
) -> None:
    """By their type, by the database, and where a function leaves them to the end."""
    with on_connection(gatherer, holder):
        with pytest.raises(ReadOnlyError):
            await gatherer.gather(query, COUNT)
        assert await gatherer.gather(COUNT) == (5,)
        holder.add(Page(number=4, **NEW))  # the test itself may write
        assert await gatherer.gather(COUNT) == (6,)


async def test_a_query_that_writes_commits_to_its_savepoint(
    holder: Any, gatherer: QueryGatherer, archive: str
) -> None:
    """The test and the gathers after see it, and nobody else ever."""
    with on_connection(gatherer, holder):
        written = await gatherer.gather(
            partial(write, number=5),
            insert(Page).values(number=6, **NEW),
            read_only=False,
        )
        assert written == (5, 1)
        assert await gatherer.gather(COUNT) == (7,)
        with pytest.raises(DBAPIError):
            await gatherer.gather(insert(Page).values(number=6, **NEW), read_only=False)
        assert await gatherer.gather(COUNT) == (7,)
    assert count(archive) == 4


def test_nothing_is_committed_where_the_test_has_made_nothing(
    archive: str, make_app: MakeApp
) -> None:
    """Python's SQLite driver begins no transaction by itself for a savepoint."""
    engine = create_engine(archive)
    app = make_app(archive)
    with engine.connect() as connection, app.app_context():
        with on_connection(app, connection):
            run_in_parallel([insert(Page).values(number=6, **NEW)], read_only=False)
            assert run_in_parallel([COUNT]) == [5]
        connection.rollback()
    engine.dispose()
    assert count(archive) == 4


async def test_a_gather_inside_a_query_and_one_beside_it(
    holder: Any, gatherer: QueryGatherer
) -> None:
    """Both wait for their turn on the one connection."""

    async def outer(_session: AsyncSession) -> Any:
        return await gatherer.gather(COUNT, in_sync, in_async)

    async def twice(_session: AsyncSession) -> Any:
        return await gatherer.gather(outer, COUNT)

    with on_connection(gatherer, holder):
        nested, beside = await asyncio.gather(
            gatherer.gather(twice), gatherer.gather(in_async, COUNT)
        )
    assert nested == (((5, 5, 5), 5),)
    assert beside == (5, 5)


async def test_the_other_ways_to_gather(holder: Any, gatherer: QueryGatherer) -> None:
    """``as_completed``, snapshots, results in the test's session, and reports."""
    with on_connection(gatherer, holder), recording() as gathers:
        found = [label async for label, _ in gatherer.as_completed([COUNT, PAGES])]
        assert found == [0, 1]
        pages, number = await gatherer.gather(PAGES, COUNT, snapshot=True)
        assert len(pages) == number == 5
        (pages,) = await gatherer.gather(PAGES, into=holder)
        assert all(page in holder for page in pages)
    gathers.expect(2, 2, 1)


async def stream(session: AsyncSession) -> int:
    """Use what only an asynchronous driver has."""
    return len([row async for row in await session.stream_scalars(PAGES)])


async def connect(session: AsyncSession) -> int:
    """The same."""
    return len((await (await session.connection()).execute(PAGES)).all())


@pytest.mark.parametrize("function", [stream, connect])
async def test_some_methods_need_an_asynchronous_driver(
    function: Any, holder: Any, gatherer: QueryGatherer
) -> None:
    """With a synchronous one the error says what to give instead."""
    with on_connection(gatherer, holder):
        if isinstance(holder, AsyncSession):
            assert await gatherer.gather(function) == (5,)
        else:
            with pytest.raises(NotImplementedError, match="Give it an AsyncSession"):
                await gatherer.gather(function)


async def test_a_timeout_ends_what_waits(holder: Any, gatherer: QueryGatherer) -> None:
    """A function that awaits is cancelled; the transaction is usable then."""

    async def wait(session: AsyncSession) -> None:
        await session.execute(PAGES)
        await asyncio.Event().wait()

    with on_connection(gatherer, holder):
        with pytest.raises(GatherTimeoutError):
            await gatherer.gather(wait, COUNT, timeout=0.05)
        assert await gatherer.gather(COUNT) == (5,)


async def test_a_statement_that_is_stopped_leaves_the_transaction_usable(
    archive: str, gatherer: QueryGatherer
) -> None:
    """On an asynchronous driver a timeout ends it on the server."""
    is_sqlite = archive.startswith("sqlite")
    endless = text((SQLiteObserver if is_sqlite else PostgresObserver).endless)
    engine = create_async_engine(async_url(archive))
    async with engine.connect() as connection:
        await connection.begin()
        await connection.execute(insert(Page).values(number=3, **NEW))
        with on_connection(gatherer, connection):
            with pytest.raises(GatherTimeoutError):
                await gatherer.gather(endless, timeout=0.05)
            assert await gatherer.gather(COUNT) == (5,)
        await connection.rollback()
    await engine.dispose()


def test_a_timeout_is_seen_between_two_queries(
    session: Session, archive: str, make_app: MakeApp
) -> None:
    """A synchronous driver holds the loop up, so it comes after the query."""
    app = make_app(archive)

    def slow(_session: Session) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + 0.4  # past the deadline, whenever it began
        while loop.time() < until:
            pass

    with app.app_context(), on_connection(app, session):
        with pytest.raises(GatherTimeoutError, match=r"1 finished \('slow'\)"):
            run_in_parallel([Query(slow, label="slow"), COUNT, COUNT], timeout=0.3)
        assert run_in_parallel([COUNT]) == [5]


@pytest.mark.parametrize("target", ["app", "extension"])
def test_the_flask_test_client(
    target: str, session: Session, archive: str, make_app: MakeApp
) -> None:
    """Both kinds of views, by the application or by its extension."""
    app = make_app(archive)
    extension: AsyncParallel = app.extensions["async_parallel"]
    client = app.test_client()
    with on_connection(app if target == "app" else extension, session):
        for path in ("/async", "/sync", "/async"):
            assert client.get(path).json == [5, 5, 5]
    assert client.get("/sync").json == [4, 4, 4]


async def test_an_asgi_client(holder: Any, archive: str, make_app: MakeApp) -> None:
    """Under the adapter, whose home loop is the test's."""
    adapter = ASGIAdapter(app := make_app(archive))
    transport = httpx.ASGITransport(adapter)
    async with (
        Lifespan(adapter),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        with on_connection(app, holder):
            for path in ("/async", "/sync"):
                assert (await client.get(path)).json() == [5, 5, 5]
        assert (await client.get("/async")).json() == [4, 4, 4]


async def test_an_async_connection_on_another_loop_is_refused(
    archive: str, make_app: MakeApp
) -> None:
    """The message says how the test's loop becomes the home loop."""
    app = make_app(archive)
    extension: AsyncParallel = app.extensions["async_parallel"]
    engine = create_async_engine(async_url(archive))
    async with engine.connect() as connection:
        with on_connection(app, connection):
            response = await asyncio.to_thread(_caught, app)
            assert "belongs to another event loop" in response
        await asyncio.to_thread(extension.close)
        await extension.make_home()
        with on_connection(app, connection), app.app_context():
            assert await gather_queries(COUNT) == (4,)
    await engine.dispose()
    await extension.aclose()


def _caught(app: Flask) -> str:
    with pytest.raises(HomeLoopError) as caught:
        app.test_client().get("/sync")
    return str(caught.value)


def test_an_in_memory_database_of_the_tests() -> None:
    """Which no gather could use, as each connection has one of its own."""
    app, db = Flask(__name__), SQLAlchemy()
    app.testing = True
    app.debug = True
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///:memory:"
    db.init_app(app)
    AsyncParallel(app)

    @app.get("/")
    async def view() -> list[Any]:
        users, order = await gather_queries(select(User), first(select(Order)))
        return [[user.name for user in users], order]

    with app.app_context():
        User.metadata.create_all(db.engine)
        db.session.add(User(id=1, name="Ada"))
        with on_connection(app, db.session()):
            assert app.test_client().get("/").json == [["Ada"], None]
        db.session.remove()
        db.engine.dispose()
    app.extensions["async_parallel"].close()


def test_a_bind_that_is_not_configured_is_refused(make_app: MakeApp) -> None:
    """As a gather refuses it; an application without a database may have one so."""
    app = make_app(None)
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    with engine.connect() as connection:
        with (
            pytest.raises(BindNotFoundError),
            on_connection(app, connection, bind="reports"),
        ):
            pass
        with app.app_context(), on_connection(app, connection):
            assert run_in_parallel([scalar(text("SELECT 1"))]) == [1]
    engine.dispose()


def test_a_sqlite_connection_of_another_thread_is_refused(make_app: MakeApp) -> None:
    """Before anything runs, and with the way out."""
    app = make_app(None)
    engine = create_engine("sqlite://")
    with (
        engine.connect() as connection,
        app.app_context(),
        on_connection(app, connection),
        pytest.raises(ConfigurationError, match="'check_same_thread': False"),
    ):
        run_in_parallel([text("SELECT 1")])
    engine.dispose()


def test_what_cannot_be_used_is_refused(sqlite: str, make_app: MakeApp) -> None:
    """Each message names what was given."""
    app = make_app(sqlite)
    engine = create_engine(sqlite)
    with engine.connect() as connection:
        with (
            pytest.raises(TypeError, match="The target must be"),
            on_connection(1, connection),
        ):
            pass
        with (
            pytest.raises(ConfigurationError, match="not initialised"),
            on_connection(Flask("other"), connection),
        ):
            pass
    with (
        pytest.raises(TypeError, match="is neither"),
        on_connection(
            app,
            engine,  # type: ignore[arg-type]
        ),
    ):
        pass
    engine.dispose()
    connection_of_none = AsyncConnection(create_async_engine(async_url(sqlite)))
    with (
        pytest.raises(HomeLoopError, match="belongs to an event loop"),
        on_connection(app, connection_of_none),
    ):
        pass


def test_a_connection_that_commits_each_statement_is_refused(
    postgres: str, make_app: MakeApp
) -> None:
    """Nothing of it could be rolled back."""
    app = make_app(postgres)
    engine = create_engine(postgres, isolation_level="AUTOCOMMIT")
    with (
        engine.connect() as connection,
        app.app_context(),
        on_connection(app, connection),
        pytest.raises(ConfigurationError, match="AUTOCOMMIT") as caught,
    ):
        run_in_parallel([text("SELECT 1")])
    assert any("to the connection given to" in note for note in caught.value.__notes__)
    engine.dispose()


def test_sqlite_may_begin_as_its_own_documentation_has_it(
    sqlite: str, make_app: MakeApp
) -> None:
    """Without Python's beginning of transactions, by a BEGIN of one's own."""
    app = make_app(sqlite)
    engine = create_engine(sqlite)
    with engine.connect() as connection, app.app_context():
        dbapi: Any = connection.connection.dbapi_connection
        dbapi.isolation_level = None
        connection.exec_driver_sql("BEGIN")
        with on_connection(app, connection):
            with pytest.raises(ReadOnlyError):
                run_in_parallel([text("DELETE FROM orders")])
            assert run_in_parallel([select(func.count(Order.id))]) == [[6]]
        connection.rollback()
        dbapi.isolation_level = ""
    engine.dispose()


def latest(_session: Session, number: int = 1) -> list[int]:
    """A function that a test has an answer for."""
    raise AssertionError(number)


def asked() -> dict[str, Any]:
    """What each of the queries below returns."""
    return {
        "statement": select(User).where(User.id == 1),
        "other": select(User).where(User.id == 2),
        "shaped": first(select(User).where(User.id == 3)),
        "function": latest,
        "partial": partial(latest, number=2),
        "labelled": Query(text("SELECT 1"), label="named"),
        "key": text("SELECT 2"),
        "legacy": Session().query(User),
        "now": func.now(),
    }


GIVEN: dict[Any, Any] = {
    latest: [1, 2],
    select(User).where(User.id == 1): ["Ada"],
    select(User).where(User.id == 2): [],
    Query(select(User).where(User.id == 3)): None,
    func.now(): "now",
    "named": "by label",
    "key": "by key",
    "legacy": ["legacy"],
}
ANSWERED: dict[str, Any] = {
    "statement": ["Ada"],
    "other": [],
    "shaped": None,
    "function": [1, 2],
    "partial": [1, 2],
    "labelled": "by label",
    "key": "by key",
    "legacy": ["legacy"],
    "now": "now",
}


async def test_a_fake_gatherer_answers() -> None:
    """By statements of the same meaning, functions, queries and labels."""
    async with FakeGatherer(GIVEN) as gatherer:
        assert isinstance(gatherer, QueryGatherer)
        await gatherer.open()
        with recording() as gathers:
            assert await gatherer.gather(asked()) == ANSWERED
            assert await gatherer.gather(latest, snapshot=True) == ([1, 2],)
            completed = gatherer.as_completed(asked())
            assert {label: result async for label, result in completed} == ANSWERED
        gathers.expect(9, 1, 9)


async def test_an_answer_can_be_attached_to_a_session() -> None:
    """An entity that is as if it came from a database; another one says how to be."""
    statement = select(User)
    ada = User(id=1, name="Ada")
    with Session() as session:
        async with FakeGatherer({statement: [ada]}) as gatherer:
            with pytest.raises(UnattachableError, match="make_transient_to_detached"):
                await gatherer.gather(statement, into=session)
            make_transient_to_detached(ada)
            (users,) = await gatherer.gather(statement, into=session)
            assert users == [ada] == [*session]


async def test_a_partial_is_a_key_of_its_own() -> None:
    """For the same arguments; the function is one for all others."""
    given = {partial(newest, limit=3): "three", newest: "some"}
    async with FakeGatherer(given) as gatherer:
        queries = [partial(newest, limit=limit) for limit in (3, 4)]
        assert await gatherer.gather([*queries, newest]) == ["three", "some", "some"]


def newest(session: Session, limit: int = 1) -> list[User]:
    """The users that came last."""
    statement = select(User).order_by(User.id.desc()).limit(limit)
    return [*session.scalars(statement)]


async def test_a_legacy_query_is_answered_by_what_it_says() -> None:
    """Where all of it is asked for; what else may be asked has another shape."""
    ada = select(User).filter_by(name="Ada").order_by(User.id)
    given = {ada: ["Ada"], "query(User).count": 1}
    query = Session().query(User).filter_by(name="Ada").order_by(User.id)
    found: Any
    async with FakeGatherer(given) as gatherer:
        found = await gatherer.gather(query, query.all, query.count)
        assert found == (["Ada"], ["Ada"], 1)
        for other in (query.filter(User.id > 1).all, query.limit(1).all, query.first):
            with pytest.raises(UnansweredQueryError, match=r"query\(User\)"):
                await gatherer.gather(other)


async def test_a_legacy_query_is_a_key_as_it_is_a_query() -> None:
    """With the method that is called, and what it is called with."""
    query = Session().query(User).order_by(User.id)
    given = {
        query: ["all"],
        query.count: 1,
        partial(query.get, 1): "one",
        partial(query.get, 2): "two",
    }
    again = Session().query(User).order_by(User.id)
    asked: Any = [again.all, again.count, partial(again.get, 2), partial(again.get, 1)]
    async with FakeGatherer(given) as gatherer:
        assert await gatherer.gather(asked) == [["all"], 1, "two", "one"]
        with pytest.raises(UnansweredQueryError, match=r"'query\(User\).count'"):
            await gatherer.gather(again.first)


@pytest.mark.parametrize("key", [User, 7, None, Session()])
def test_what_answers_nothing_is_refused(key: Any) -> None:
    """At once, as a query it would be refused with what to write instead."""
    with pytest.raises(QueryTypeError):
        FakeGatherer({key: []})


def test_an_application_is_answered(make_app: MakeApp) -> None:
    """In synchronous views and asynchronous ones, without any database."""
    app = make_app(None)
    client = app.test_client()
    given = {COUNT: 1, in_sync: 2, in_async: 3}
    with answers(app, given):
        assert client.get("/sync").json == [1, 2, 3]
        assert client.get("/async").json == [1, 2, 3]
    with app.app_context(), pytest.raises(ConfigurationError):
        run_in_parallel([COUNT])


async def test_a_gatherer_is_answered_for_a_while(
    gatherer: QueryGatherer, database: str
) -> None:
    """Then it asks its database again."""
    query = scalar(select(func.count()).select_from(User))
    with answers(gatherer, {query: 17}):
        assert await gatherer.gather(query) == (17,)
    assert await gatherer.gather(query) == (3,)


async def test_an_exception_is_raised_as_the_database_would() -> None:
    """It ends the gather, or is a result; an instance or a class."""
    error = ValueError("lost")
    async with FakeGatherer({"a": error, "b": KeyError, "c": 1}) as gatherer:
        with pytest.raises(ValueError, match="lost") as caught:
            await gatherer.gather({"c": COUNT, "a": COUNT})
        assert caught.value is error
        assert any("query 2 of 2, 'a'" in note for note in error.__notes__)
        found = await gatherer.gather(
            {"a": COUNT, "b": COUNT, "c": COUNT}, return_exceptions=True
        )
        assert found["a"] is error
        assert isinstance(found["b"], KeyError)
        assert found["c"] == 1


class Asked(dict[Any, Any]):
    """Answers that count how often they are looked at."""

    times = 0

    def items(self) -> Any:
        self.times += 1
        return super().items()


async def test_a_lost_connection_is_answered_once() -> None:
    """Where a database would be asked again, the answer would be the same."""
    lost = DBAPIError("SELECT 1", {}, Exception(), connection_invalidated=True)
    asked = Asked({"a": lost})
    async with FakeGatherer(asked) as gatherer:
        with pytest.raises(DBAPIError):
            await gatherer.gather({"a": COUNT})
    assert asked.times == 1


async def test_a_query_without_an_answer_says_how_to_give_one() -> None:
    """The error names the query and those that have one; writes are refused first."""
    named: Query[Any] = Query(text("SELECT 1"), label="named")
    async with FakeGatherer({latest: 1, "total": 2, named: 3}) as gatherer:
        with pytest.raises(UnansweredQueryError) as caught:
            await gatherer.gather(Query(select(User), label="users"))
        assert caught.value.query == "users"
        assert caught.value.answered == ["latest", "total", "named"]
        assert "{'users': ...}" in str(caught.value)
        assert isinstance(caught.value, LookupError)
        with pytest.raises(ReadOnlyError):
            await gatherer.gather(insert(Page))
    async with FakeGatherer({}) as gatherer:
        with pytest.raises(UnansweredQueryError, match="Answered are: none"):
            await gatherer.gather(select(User))


def test_a_recorder_says_what_was_gathered(archive: str, make_app: MakeApp) -> None:
    """The message of a failed expectation names each gather and its queries."""
    app = make_app(archive)
    with recording() as gathers:
        gathers.expect()
        app.test_client().get("/gather-twice")
    gathers.expect(1, 2)
    assert len(gathers) == len(gathers[:]) == 2
    assert len(gathers[1].queries) == 2
    with pytest.raises(AssertionError) as caught:
        gathers.expect(3)
    message = str(caught.value)
    assert "Expected 1 gather of 3 queries; there were 2 gathers of 1, 2 queries" in (
        message
    )
    assert "gather 2: 'a', 'b'" in message
    with pytest.raises(AssertionError, match="Expected no gathers"):
        gathers.expect()
    assert "gather 2: 'a', 'b'" in repr(gathers)
    assert repr(RecordedGathers([])) == "<RecordedGathers: no gathers>"


SUITE = """
    import pytest
    from sqlalchemy import select, literal
    from async_parallel.testing import FakeGatherer

    ONE = select(literal(1))

    @pytest.fixture
    def anyio_backend():
        return "asyncio"

    @pytest.fixture
    async def gatherer():
        async with FakeGatherer({ONE: [1]}) as gatherer:
            yield gatherer

    async def test_before(gatherer, recorded_gathers):
        await gatherer.gather(ONE, ONE)
        recorded_gathers.expect(2)

    async def test_after(recorded_gathers, gatherer):
        await gatherer.gather(ONE)
        recorded_gathers.expect(1)

    class TestInAClass:
        async def test_method(self, gatherer, recorded_gathers):
            await gatherer.gather(ONE)
            recorded_gathers.expect(1)

    def test_sync(recorded_gathers):
        import asyncio

        async def gather():
            async with FakeGatherer({ONE: [1]}) as gatherer:
                await gatherer.gather(ONE, ONE, ONE)

        asyncio.run(gather())
        recorded_gathers.expect(3)
"""


def run_pytest(directory: Path, *options: str) -> str:
    """What pytest prints of a suite, where a warning is an error."""
    package = str(Path(async_parallel.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error", *options, str(directory)],
        cwd=directory,
        env={
            **os.environ,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": os.pathsep.join([package, os.environ.get("PYTHONPATH", "")]),
            "PYTHONSAFEPATH": "",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return result.stdout + result.stderr


PLUGIN = ("-p", "pytest_async_parallel")
ANYIO = ("-p", "anyio", "-o", "anyio_mode=auto")
ASYNCIO = ("-p", "pytest_asyncio.plugin", "-o", "asyncio_mode=auto")
LOOP_SCOPE = ("-o", "asyncio_default_fixture_loop_scope=function")


@pytest.mark.parametrize(
    "runner",
    [
        pytest.param(ANYIO, id="anyio"),
        pytest.param((*ASYNCIO, *LOOP_SCOPE), id="pytest-asyncio"),
    ],
)
def test_the_plugin_records_the_gathers_of_a_test(
    runner: tuple[str, ...], tmp_path: Path
) -> None:
    """Whichever plugin runs asynchronous tests, whatever the order of the fixtures."""
    if "pytest_asyncio.plugin" in runner:
        pytest.importorskip("pytest_asyncio")
    (tmp_path / "test_suite.py").write_text(textwrap.dedent(SUITE), encoding="utf-8")
    printed = run_pytest(tmp_path, *PLUGIN, *runner)
    assert "4 passed" in printed, printed


def test_the_plugin_imports_nothing_before_it_is_asked(tmp_path: Path) -> None:
    """Neither the package, of which coverage could not be measured then, nor Flask."""
    suite = """
        import sys

        def test_imports():
            assert "pytest_async_parallel" in sys.modules
            for name in ("async_parallel", "flask", "sqlalchemy"):
                assert name not in sys.modules
    """
    (tmp_path / "test_suite.py").write_text(textwrap.dedent(suite), encoding="utf-8")
    printed = run_pytest(tmp_path, *PLUGIN)
    assert "1 passed" in printed, printed


def test_the_plugin_is_registered_and_in_the_wheel() -> None:
    """By an entry point, whose name switches it off: ``-p no:async_parallel``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    plugins = project["project"]["entry-points"]["pytest11"]
    assert plugins == {"async_parallel": "pytest_async_parallel"}
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["only-include"] == ["async_parallel", "pytest_async_parallel.py"]
