"""Failure, timeout and cancellation: what is raised, and that nothing is left."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

import asyncpg  # type: ignore[import-untyped]
import pytest
from shop import User
from sqlalchemy import create_engine, event, select, text
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import defer, undefer

from async_parallel import QueryGatherer, _lane, _sqlite
from async_parallel._sessions import Sessions
from async_parallel.errors import GatherTimeoutError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

ENDLESS = "SELECT pg_sleep(600) /* endless */"
ENDLESS_ON_SERVER = "query LIKE '%endless%' AND state = 'active'"


class Endless:
    """Queries that end only when they are stopped, on either database.

    Attributes:
        started: Set when the server, or SQLite's thread, runs one.
        running: How many run now.
    """

    def __init__(self, gatherer: QueryGatherer, database: str) -> None:
        self.gatherer = gatherer
        self._database = database
        self._on_sqlite = database.startswith("sqlite")
        self._ticks = threading.Event()
        self.sql = text(ENDLESS)
        if self._on_sqlite:
            self.sql = text(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT tick(i) FROM n)"
                " SELECT max(i) FROM n"
            )
            event.listen(gatherer.engine.sync_engine, "connect", self._add_tick)

    def _add_tick(self, connection: Any, _record: object) -> None:
        connection.create_function("tick", 1, self._tick)

    def _tick(self, number: int) -> int:
        self._ticks.set()
        return number + 1

    async def begun(self, count: int = 1) -> None:
        """Wait until the database runs ``count`` of them."""
        if self._on_sqlite:
            await asyncio.to_thread(self._ticks.wait)
        else:
            while await self.left() < count:
                pass

    async def left(self) -> int:
        """How many the database runs now."""
        if not self._on_sqlite:
            return await asyncio.to_thread(self._count_on_server)
        # One that still ran would tick on.
        self._ticks.clear()
        return int(await asyncio.to_thread(self._ticks.wait, 0.02))

    def _count_on_server(self) -> int:
        engine = create_engine(self._database)
        sql = f"SELECT count(*) FROM pg_stat_activity WHERE {ENDLESS_ON_SERVER}"
        try:
            with engine.connect() as connection:
                count: int = connection.scalar(
                    text(f"{sql} AND pid <> pg_backend_pid()")
                )
                return count
        finally:
            engine.dispose()


@pytest.fixture
async def endless(gatherer: QueryGatherer, database: str) -> AsyncIterator[Endless]:
    """Endless queries, none of which may be left."""
    endless = Endless(gatherer, database)
    yield endless
    assert await endless.left() == 0, "a query was left running on the server"
    assert await gatherer.gather(select(User.id).where(User.id == 1)) == ([1],)


def failing(_session: Session) -> None:
    """Fail with an error of the application."""
    raise LookupError("of the application")


async def fail_when(endless: Endless, session: AsyncSession) -> None:
    """Fail while the endless queries run."""
    await session.scalar(select(User.id))
    await endless.begun()
    raise LookupError("of the application")


async def test_the_original_exception_is_raised_with_a_note(
    gatherer: QueryGatherer,
) -> None:
    """Type, message and traceback are the query's own; the note names the query."""
    with pytest.raises(LookupError, match="of the application") as caught:
        await gatherer.gather({"good": select(User.id), "bad": failing})
    assert caught.value.__notes__ == ["async_parallel: query 2 of 2, 'bad'"]
    assert caught.traceback[-1].name == "failing"


async def test_a_database_error_is_sqlalchemys_own(gatherer: QueryGatherer) -> None:
    """A broken statement raises what a session would raise."""
    with pytest.raises(DBAPIError, match="nowhere") as caught:
        await gatherer.gather(text("SELECT 1 FROM nowhere"))
    assert caught.value.__notes__ == [
        "async_parallel: query 1 of 1, 'SELECT 1 FROM nowhere'"
    ]


async def test_a_statement_that_cannot_be_compiled_raises_its_own_error(
    gatherer: QueryGatherer,
) -> None:
    """Although its label, which is its text, cannot be made then either."""
    nonsense = select(User).options(defer(User.name)).options(undefer(User.name))
    with pytest.raises(InvalidRequestError, match="conflict") as caught:
        await gatherer.gather(select(User.id), nonsense)
    assert caught.value.__notes__ == ["async_parallel: query 2 of 2, 'a Select'"]


async def test_the_first_failure_stops_the_siblings(endless: Endless) -> None:
    """When one of five fails, the server has stopped the others before it is raised."""

    async def fail(session: AsyncSession) -> None:
        await fail_when(endless, session)

    with pytest.raises(LookupError):
        await endless.gatherer.gather(endless.sql, fail, *[endless.sql] * 3)
    assert await endless.left() == 0
    assert endless.gatherer.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


async def test_a_failure_stops_functions_too(gatherer: QueryGatherer) -> None:
    """Functions that wait see one cancel each, and may clean up."""
    entered, cancels = asyncio.Barrier(3), 0

    async def wait(session: AsyncSession) -> None:
        nonlocal cancels
        await entered.wait()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancels += 1
            await session.scalar(select(User.id))
            raise

    async def fail(_session: AsyncSession) -> None:
        await entered.wait()
        raise LookupError

    with pytest.raises(LookupError):
        await gatherer.gather(wait, wait, fail)
    assert cancels == 2


async def test_return_exceptions_puts_failures_in_their_places(
    gatherer: QueryGatherer,
) -> None:
    """The other queries finish, and nothing is raised."""
    good, bad, last = await gatherer.gather(
        select(User.id).where(User.id == 1),
        failing,
        select(User.id).where(User.id == 2),
        return_exceptions=True,
    )
    assert (good, last) == ([1], [2])
    assert isinstance(bad, LookupError)


async def test_a_timeout_names_what_finished_ran_and_waited(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """The error lists the queries by how far they had come, and none is left."""
    gatherer = make_gatherer(postgres, max_connections=1)
    endless = Endless(gatherer, postgres)
    with pytest.raises(GatherTimeoutError) as caught:
        await gatherer.gather(
            {"quick": select(User.id), "slow": endless.sql, "late": select(User.id)},
            timeout=0.3,
        )
    error = caught.value
    assert (error.finished, error.running, error.waiting) == (
        ["quick"],
        ["slow"],
        ["late"],
    )
    assert isinstance(error, TimeoutError)
    assert await endless.left() == 0


async def test_a_timeout_stops_what_runs(endless: Endless) -> None:
    """After the deadline no query runs on."""
    with pytest.raises(GatherTimeoutError, match="none finished, 2 still running"):
        await endless.gatherer.gather(endless.sql, endless.sql, timeout=0.2)


async def test_a_gatherers_own_timeout_applies(
    sqlite: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """The default of the gatherer counts where the call has none."""
    gatherer = make_gatherer(sqlite, timeout=0.01)

    async def hold(_session: AsyncSession) -> None:
        await asyncio.Event().wait()

    with pytest.raises(GatherTimeoutError, match=r"after 0\.01 s"):
        await gatherer.gather(hold)


async def test_a_cancelled_gather_stops_its_queries(endless: Endless) -> None:
    """One cancel: the task is cancelled, and the server runs nothing of it."""
    task = asyncio.create_task(endless.gatherer.gather([endless.sql] * 3))
    await endless.begun()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert await endless.left() == 0


async def test_repeated_cancels_are_absorbed(endless: Endless) -> None:
    """Forty cancels in a row, each after a turn of the loop, leave nothing behind."""
    task = asyncio.create_task(endless.gatherer.gather([endless.sql] * 3))
    await endless.begun()
    for _ in range(40):
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([task])
    assert task.cancelled()
    assert await endless.left() == 0


async def test_asyncio_timeout_around_a_gather(endless: Endless) -> None:
    """``asyncio.timeout`` raises its own error, after all is clean."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await endless.gatherer.gather(endless.sql)
    assert await endless.left() == 0


async def test_wait_for_around_a_gather(endless: Endless) -> None:
    """So does ``asyncio.wait_for``."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(endless.gatherer.gather(endless.sql), 0.2)
    assert await endless.left() == 0


async def test_a_failing_sibling_in_a_task_group(endless: Endless) -> None:
    """A task group that ends its gathers waits until they are clean."""

    async def fail() -> None:
        await endless.begun()
        raise LookupError

    async def run_both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(endless.gatherer.gather([endless.sql] * 2))
            group.create_task(fail())

    with pytest.raises(ExceptionGroup) as caught:
        await run_both()
    assert caught.group_contains(LookupError)
    assert await endless.left() == 0


async def test_an_anyio_scope_around_a_gather(endless: Endless) -> None:
    """An anyio scope, which cancels again and again, is left once all is clean."""
    import anyio

    with anyio.move_on_after(0.2) as scope:
        await endless.gatherer.gather([endless.sql] * 2)
    assert scope.cancelled_caught
    assert await endless.left() == 0


async def test_a_cancel_ends_no_other_gathers_queries(
    database: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """The lane goes on with the next gather after one on it was cancelled."""
    gatherer = make_gatherer(database, max_connections=1)
    endless = Endless(gatherer, database)
    first = asyncio.create_task(gatherer.gather(endless.sql))
    await endless.begun()
    second = asyncio.create_task(gatherer.gather([select(User.id)] * 3))
    await asyncio.sleep(0)
    first.cancel()
    assert len(await second) == 3
    assert first.cancelled()


async def test_a_cancel_that_the_driver_never_answers_ends_with_its_connection(
    postgres_gatherer: QueryGatherer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A query stuck in asyncpg's ``executemany`` is cut off after a while."""
    monkeypatch.setattr(_lane, "_CANCEL_GRACE", 0.2)

    async def write_many(session: AsyncSession) -> None:
        await session.execute(text("CREATE TEMP TABLE many (number int, name text)"))
        rows = [{"number": number, "name": "x" * 50} for number in range(5000)]
        while True:
            await session.execute(
                text("INSERT INTO many VALUES (:number, :name)"), rows
            )

    with pytest.raises(GatherTimeoutError):
        await postgres_gatherer.gather(write_many, read_only=False, timeout=0.3)
    assert len(await postgres_gatherer.gather([select(User.id)] * 5)) == 5


async def test_a_failure_before_its_siblings_began_stops_them(
    endless: Endless,
) -> None:
    """A query that fails at once, without IO, cancels what has not yet started."""
    await endless.gatherer.gather([select(User.id)] * 5)  # warm: nothing to wait for
    with pytest.raises(LookupError):
        await endless.gatherer.gather(failing, *[endless.sql] * 4)


async def test_a_cancel_waits_for_a_timeout_inside_the_query(
    gatherer: QueryGatherer,
) -> None:
    """A query that a timeout of its own is cancelling gets the gather's cancel next."""
    cleaning = asyncio.Event()
    go_on = asyncio.Event()

    async def with_timeout(_session: AsyncSession) -> None:
        try:
            async with asyncio.timeout(0):
                try:
                    await asyncio.Event().wait()
                finally:
                    cleaning.set()
                    await go_on.wait()
        except TimeoutError:
            await asyncio.Event().wait()

    task = asyncio.create_task(gatherer.gather(with_timeout))
    await cleaning.wait()
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_gather_that_comes_while_the_last_lane_leaves_is_served(
    sqlite: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Giving back a connection of the user's engine takes a moment; nobody is lost."""
    engine = create_async_engine(sqlite.replace("sqlite:", "sqlite+aiosqlite:"))
    gatherer = make_gatherer(engine, max_connections=1, lane_timeout=5)
    late: list[asyncio.Task[Any]] = []

    def give_back(sessions: Sessions, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        late.append(loop.create_task(gatherer.gather(select(User.id))))
        original(sessions, connection)

    original = Sessions.disconnect
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sessions, "disconnect", give_back)
        holder = asyncio.create_task(gatherer.gather(select(User.id)))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(gatherer.gather(select(User.id)))
        await asyncio.sleep(0)
        waiting.cancel()
        await holder
        patch.undo()
    assert await asyncio.wait_for(late[0], 4) == ([1, 2, 3],)
    await asyncio.wait(late)
    await engine.dispose()


def test_a_loop_that_ends_before_a_lane_began_hangs_not(sqlite: str) -> None:
    """A lane cancelled before its first step still lets go of its query."""

    async def leave() -> None:
        gatherer = QueryGatherer(sqlite)
        task = asyncio.create_task(gatherer.gather([select(User.id)] * 3))
        await asyncio.sleep(0)
        for other in asyncio.all_tasks() - {asyncio.current_task(), task}:
            other.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await gatherer.aclose()

    asyncio.run(leave())


async def test_a_query_that_swallows_its_cancel_ends_all_the_same(
    gatherer: QueryGatherer,
) -> None:
    """A function that suppresses the cancel returns, and its lane serves others."""
    entered = asyncio.Event()

    async def stubborn(session: AsyncSession) -> Any:
        try:
            entered.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return await session.scalar(select(User.id))

    task = asyncio.create_task(gatherer.gather(stubborn, select(User.id)))
    await entered.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert len(await gatherer.gather([select(User.id)] * 20)) == 20


async def test_a_cancel_while_connecting_leaves_no_connection(
    gatherer: QueryGatherer,
) -> None:
    """A gather cancelled after each of its first turns is clean and can be repeated."""
    for turns in range(30):
        task = asyncio.create_task(gatherer.gather([select(User.id)] * 3))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert gatherer.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    assert len(await gatherer.gather([select(User.id)] * 3)) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"host": "127.0.0.1", "port": 1, "query": {}}, "onnect"),
        ({"database": "no_such_database"}, "no_such_database"),
        ({"username": "no_such_user"}, "no_such_user"),
    ],
)
async def test_a_database_that_cannot_be_reached_raises_the_drivers_error(
    change: dict[str, Any],
    message: str,
    postgres: str,
    make_gatherer: Callable[..., QueryGatherer],
) -> None:
    """A wrong host, database or user reaches the caller as the driver says it."""
    from sqlalchemy.engine import make_url

    gatherer = make_gatherer(make_url(postgres).set(**change))
    for _ in range(2):
        with pytest.raises(
            # SQLAlchemy 2.0 hands on the driver's own.
            (OSError, DBAPIError, asyncpg.PostgresError),
            match=message,
        ) as caught:
            await gatherer.gather([select(User.id)] * 5)
        assert caught.value.__notes__[0].startswith(
            "async_parallel: connecting to post"
        )


async def test_a_lost_connection_costs_no_statement(
    postgres: str,
    make_gatherer: Callable[..., QueryGatherer],
) -> None:
    """Connections that the server closed meanwhile are replaced without an error."""
    gatherer = make_gatherer(postgres)
    pids = await gatherer.gather([text("SELECT pg_backend_pid()")] * 5)
    engine = create_engine(postgres)
    with engine.connect() as connection:
        for (row,) in pids:
            connection.execute(text(f"SELECT pg_terminate_backend({row[0]})"))
    engine.dispose()
    for _ in range(3):
        assert len(await gatherer.gather([select(User.id)] * 5)) == 5


def test_closing_the_loop_ends_a_running_gather(postgres: str) -> None:
    """``asyncio.run`` that is left while a gather runs hangs not and leaks nothing."""

    async def leave() -> None:
        gatherer = QueryGatherer(postgres)
        endless = Endless(gatherer, postgres)
        task = asyncio.create_task(gatherer.gather([endless.sql] * 2))
        await endless.begun(2)
        asyncio.get_running_loop().call_later(0, task.cancel)
        try:
            await task
        finally:
            await gatherer.aclose()

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(leave())


def test_shutting_the_loop_down_under_a_gather_is_one_cancel(postgres: str) -> None:
    """Tasks of a gather that the loop itself cancels are cancelled once, and end."""
    gatherer = QueryGatherer(postgres)
    endless = Endless(gatherer, postgres)

    async def hold() -> None:
        try:
            await gatherer.gather([endless.sql] * 2)
        finally:
            await gatherer.aclose()

    async def leave() -> None:
        tasks.append(asyncio.create_task(hold()))
        await endless.begun(2)

    tasks: list[asyncio.Task[None]] = []
    asyncio.run(leave())
    assert tasks[0].cancelled()
    assert asyncio.run(endless.left()) == 0


async def test_a_cursor_of_sqlite_is_closed_before_the_next_call(sqlite: str) -> None:
    """Though nobody waits for it, and in the thread that made it."""
    connection = await _sqlite.connect(sqlite.removeprefix("sqlite:///"))
    cursor = await connection.cursor()
    await cursor.execute("SELECT id FROM users")
    await cursor.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed cursor"):
        await cursor.fetchone()
    await connection.close()
    await cursor.close()


async def test_a_sqlite_connection_that_is_stopped_twice_answers_twice(
    sqlite: str,
) -> None:
    """Its thread ends at the first; the second must not wait for it for ever."""
    connection = await _sqlite.connect(sqlite.removeprefix("sqlite:///"))
    first, second = connection.stop(), connection.stop()
    assert first is not None
    assert second is not None
    async with asyncio.timeout(10):
        await first
        await second
