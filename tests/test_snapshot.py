"""All queries of a gather see one snapshot, whatever they are and however they end."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any, cast

import pytest
from shop import Order, User
from sqlalchemy import create_engine, event, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import await_only

from async_parallel import Query, QueryGatherer, Snapshot, _shared_snapshot, scalar
from async_parallel._postgres_snapshot import PostgreSQLSnapshot
from async_parallel.errors import (
    DetachedAttributeError,
    OverloadError,
    QueryTimeoutError,
    SnapshotUnsupportedError,
)
from async_parallel.instrumentation import record_gathers

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

SEEN = "SELECT pg_current_snapshot()::text || ' ' || pg_export_snapshot()"
SEES = text("SELECT pg_current_snapshot()::text")
PID = text("SELECT pg_backend_pid()")
COUNT = scalar(select(func.count()).select_from(User))
IN_TRANSACTION = "state LIKE 'idle in transaction%'"


class Writer:
    """Adds users from outside, each in a transaction that is committed at once."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url)
        self._lock = threading.Lock()
        self.added = 0

    def add(self) -> None:
        """Add one."""
        with self._lock, self._engine.begin() as connection:
            self.added += 1
            number = 1000 + self.added
            connection.execute(
                text("INSERT INTO users (id, name) VALUES (:id, 'new')"), {"id": number}
            )

    def close(self) -> None:
        """Take them away again."""
        with self._engine.begin() as connection:
            connection.execute(text("DELETE FROM users WHERE id > 1000"))
        self._engine.dispose()


@pytest.fixture
def writer(database: str) -> Any:
    """A writer on each database in turn."""
    if database.startswith("sqlite"):
        engine = create_engine(database)
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        engine.dispose()
    writer = Writer(database)
    yield writer
    writer.close()


async def count_async(session: AsyncSession) -> Any:
    """Count users in async style."""
    return await session.scalar(COUNT.source)


def count_sync(session: Session) -> Any:
    """Count users in sync style."""
    return session.scalar(COUNT.source)


def adding(writer: Writer) -> Callable[[AsyncSession], Any]:
    """A query that adds a user from outside, and counts the users."""

    async def add_and_count(session: AsyncSession) -> Any:
        await asyncio.to_thread(writer.add)
        return await session.scalar(COUNT.source)

    return add_and_count


def kill(url: str, condition: str) -> int:
    """End the other connections of which an SQL condition holds, and count them."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE"
    with engine.connect() as connection:
        found = connection.scalar(
            text(f"{sql} {condition} AND pid <> pg_backend_pid()")
        )
    engine.dispose()
    return int(found)


@pytest.mark.parametrize("max_connections", [1, 2, 5])
async def test_what_is_written_meanwhile_is_seen_by_none(
    max_connections: int,
    database: str,
    writer: Writer,
    make_gatherer: Callable[..., QueryGatherer],
) -> None:
    """Statements and functions, on few connections or many, see one state."""
    gatherer = make_gatherer(database, max_connections=max_connections)
    add = adding(writer)
    queries = [COUNT, add, count_sync, add, COUNT, count_async, add]
    assert await gatherer.gather(queries, snapshot=True) == [3] * 7
    assert await gatherer.gather(COUNT, count_sync, snapshot=True) == (6, 6)


async def test_without_a_snapshot_it_is_seen(
    gatherer: QueryGatherer, writer: Writer
) -> None:
    """Which is what the others are compared with."""
    queries = [COUNT, adding(writer)]
    before, after = await gatherer.gather(queries, max_concurrency=1)
    assert (before, after) == (3, 4)


async def test_the_gather_after_sees_what_was_committed_before_it(
    gatherer: QueryGatherer, writer: Writer
) -> None:
    """A snapshot is never older than the call."""
    for number in range(1, 6):
        writer.add()
        seen = await gatherer.gather([COUNT] * 3, snapshot=True)
        assert seen == [3 + number] * 3
        assert await gatherer.gather([COUNT] * 3) == [3 + number] * 3


async def test_five_queries_run_at_once_on_five_connections(
    postgres_gatherer: QueryGatherer,
) -> None:
    """Who took the snapshot runs a query too: k queries need k connections."""
    barrier = asyncio.Barrier(5)

    async def meet(session: AsyncSession) -> Any:
        await barrier.wait()
        return await session.scalar(PID)

    async with asyncio.timeout(10):
        pids = await postgres_gatherer.gather([meet] * 5, snapshot=True)
    assert len(set(pids)) == 5


async def test_fifty_gathers_of_five_at_once_on_five_connections(
    database: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """None waits for what another one holds."""
    gatherer = make_gatherer(database, max_connections=5)
    queries = [
        COUNT,
        count_sync,
        count_async,
        COUNT,
        scalar(select(func.count(Order.id))),
    ]
    async with asyncio.timeout(30):
        found = await asyncio.gather(
            *(gatherer.gather(queries, snapshot=True) for _ in range(50))
        )
    assert found == [[3, 3, 3, 3, 6]] * 50


async def test_others_are_served_beside_a_large_one(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Lanes that have joined a large gather make room for small ones."""
    gatherer = make_gatherer(postgres, max_connections=3)
    large = asyncio.create_task(
        gatherer.gather([text("SELECT pg_sleep(0.005)")] * 300, snapshot=True)
    )
    await asyncio.sleep(0.05)
    for _ in range(5):
        await gatherer.gather([PID] * 3)
        await gatherer.gather([COUNT] * 3, snapshot=True)
    assert not large.done()
    await large


async def test_one_query_alone_is_in_a_snapshot_too(
    gatherer: QueryGatherer, writer: Writer
) -> None:
    """A function with two statements sees one state."""

    async def twice(session: AsyncSession) -> Any:
        before = await session.scalar(COUNT.source)
        await asyncio.to_thread(writer.add)
        return before, await session.scalar(COUNT.source)

    ((before, after),) = await gatherer.gather(twice, snapshot=True)
    assert before == after


async def test_it_is_as_concurrent_as_is_asked(
    postgres_gatherer: QueryGatherer,
) -> None:
    """``max_concurrency`` holds, and at 1 one connection runs all."""
    for limit in (1, 2):
        with record_gathers() as reports:
            pids = await postgres_gatherer.gather(
                [PID] * 8, snapshot=True, max_concurrency=limit
            )
        snapshot = reports[0].snapshot
        assert snapshot is not None
        assert len({str(pid) for pid in pids}) <= limit
        assert (snapshot.identifier is None) == (limit == 1)


async def test_failures_may_be_results(database: str, gatherer: QueryGatherer) -> None:
    """A query that fails ends neither the snapshot nor the others."""
    bad = text("SELECT 1 FROM nowhere")

    def fail(_session: Session) -> None:
        raise LookupError

    def fail_and_go_on(session: Session) -> Any:
        with pytest.raises(DBAPIError):
            session.execute(bad)
        session.rollback()
        return session.scalar(COUNT.source)

    queries = [bad, COUNT, fail, fail_and_go_on, bad, count_async, COUNT]
    for _ in range(3):
        found = await gatherer.gather(
            queries, snapshot=True, return_exceptions=True, max_concurrency=2
        )
        kinds = [type(result) for result in found]
        assert [found[i] for i in (1, 3, 5, 6)] == [3] * 4
        assert issubclass(kinds[0], DBAPIError)
        assert issubclass(kinds[4], DBAPIError)
        assert kinds[2] is LookupError


async def test_a_query_that_is_too_slow_may_be_a_result(
    postgres_gatherer: QueryGatherer,
) -> None:
    """The first query, whose lane holds the snapshot, and one of the others."""
    slow: Query[Any] = Query(text("SELECT pg_sleep(60)"), timeout=0.1)
    found = await postgres_gatherer.gather(
        [slow, COUNT, slow, *[COUNT] * 20],
        snapshot=True,
        return_exceptions=True,
        max_concurrency=2,
    )
    assert [type(found[0]), type(found[2])] == [QueryTimeoutError] * 2
    assert [found[1], *found[3:]] == [3] * 21


async def test_what_a_function_commits_or_rolls_back_ends_no_snapshot(
    gatherer: QueryGatherer, writer: Writer
) -> None:
    """Each has its session in a savepoint."""

    def commit(session: Session) -> Any:
        session.scalar(COUNT.source)
        session.commit()
        writer.add()
        return session.scalar(COUNT.source)

    def roll_back(session: Session) -> Any:
        session.scalar(COUNT.source)
        session.rollback()
        return session.scalar(COUNT.source)

    found = await gatherer.gather(
        [commit, roll_back, COUNT], snapshot=True, max_concurrency=1
    )
    assert found == [3, 3, 3]


async def test_a_gather_inside_is_in_the_snapshot_too(
    gatherer: QueryGatherer, writer: Writer
) -> None:
    """It runs on the same connection, in the same transaction."""

    async def outer(session: AsyncSession) -> Any:
        before = await session.scalar(COUNT.source)
        await asyncio.to_thread(writer.add)
        inside = await gatherer.gather(COUNT, count_sync, snapshot=True)
        return before, *inside, *await gatherer.gather(COUNT)

    assert await gatherer.gather([outer], snapshot=True) == [(3, 3, 3, 3)]


async def test_a_gather_inside_a_query_without_one_is_refused(
    postgres_gatherer: QueryGatherer,
) -> None:
    """The transaction of the outer query cannot become one."""

    async def outer(_session: AsyncSession) -> Any:
        return await postgres_gatherer.gather(COUNT, COUNT, snapshot=True)

    with pytest.raises(SnapshotUnsupportedError, match="inside a query"):
        await postgres_gatherer.gather(outer)


async def test_results_come_as_they_are_completed(
    gatherer: QueryGatherer, writer: Writer
) -> None:
    """``as_completed`` has snapshots as well."""
    add = adding(writer)
    found = [
        pair async for pair in gatherer.as_completed(add, COUNT, add, snapshot=True)
    ]
    assert sorted(found) == [(0, 3), (1, 3), (2, 3)]


@pytest.mark.parametrize(
    ("snapshot", "level"),
    [
        (True, "repeatable read"),
        (Snapshot(), "repeatable read"),
        (Snapshot(isolation="serializable"), "serializable"),
    ],
)
async def test_the_isolation_level_is_as_asked(
    snapshot: Any, level: str, postgres_gatherer: QueryGatherer
) -> None:
    """On who took the snapshot, and on who joined."""
    shows = scalar(text("SELECT current_setting('transaction_isolation')"))
    found = await postgres_gatherer.gather([shows] * 4, snapshot=snapshot)
    assert found == [level] * 4


async def test_a_deferrable_snapshot_is_safe_for_all(
    postgres_gatherer: QueryGatherer,
) -> None:
    """Who took it is serializable and deferrable; who joined need not be."""
    setting = "SELECT current_setting('transaction_deferrable')"
    shows = scalar(text(f"{setting} FROM pg_sleep(0.02)"))  # so long that all join
    snapshot = Snapshot(isolation="serializable", deferrable=True)
    found = await postgres_gatherer.gather([shows] * 3, snapshot=snapshot)
    assert found.count("on") == 1
    ids = await postgres_gatherer.gather([SEES] * 3, snapshot=snapshot)
    assert len({str(rows) for rows in ids}) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"isolation": "read committed"}, "repeatable read"),
        ({"deferrable": True}, "serializable"),
    ],
)
def test_a_level_without_a_snapshot_is_refused(arguments: Any, message: str) -> None:
    """What gives no snapshot, or means nothing, cannot be asked for."""
    with pytest.raises(ValueError, match=message):
        Snapshot(**arguments)


async def test_writing_in_a_snapshot_is_refused(gatherer: QueryGatherer) -> None:
    """It would be of a state that is gone."""
    with pytest.raises(ValueError, match="only for reading"):
        await gatherer.gather(COUNT, snapshot=True, read_only=False)
    with pytest.raises(TypeError, match="'serializable'"):
        await gatherer.gather(COUNT, snapshot=cast("Any", "serializable"))


async def answered_at_once(session: AsyncSession) -> None:
    """A query whose answer nobody has to wait for."""


def meeting(count: int) -> list[Any]:
    """Queries that are answered only when so many of them run at once."""
    barrier = asyncio.Barrier(count)

    async def meet(session: AsyncSession) -> None:
        await session.execute(select(User.id))
        await barrier.wait()

    return [meet] * count


async def test_few_join_where_queries_are_answered_at_once(
    postgres_gatherer: QueryGatherer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One other does; the lane that leads runs what is left."""
    monkeypatch.setattr(_shared_snapshot, "_WIDENING", 60)
    queries = [answered_at_once, *[COUNT] * 6]
    with record_gathers() as reports:
        for _ in range(5):
            await postgres_gatherer.gather(queries, snapshot=True)
    assert all(r.snapshot and r.snapshot.lanes <= 2 for r in reports)


async def test_all_join_where_the_first_query_takes_longer_than_to_join(
    gatherer: QueryGatherer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They need not wait for the time that makes sure of it."""
    monkeypatch.setattr(_shared_snapshot, "_WIDENING", 60)
    async with asyncio.timeout(20):
        await gatherer.gather(meeting(5), snapshot=True)


async def test_a_query_that_never_ran_is_no_answer(
    postgres_gatherer: QueryGatherer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time was up while it waited; what runs takes long all the same."""
    monkeypatch.setattr(_shared_snapshot, "_WIDENING", 60)
    join = PostgreSQLSnapshot.join

    def join_slowly(snapshot: PostgreSQLSnapshot, connection: Any) -> None:
        await_only(asyncio.sleep(0.05))
        join(snapshot, connection)

    monkeypatch.setattr(PostgreSQLSnapshot, "join", join_slowly)
    queries = [*meeting(3), Query(SEES, timeout=0.01)]
    async with asyncio.timeout(20):
        *_, expired = await postgres_gatherer.gather(
            queries, snapshot=True, return_exceptions=True
        )
    assert isinstance(expired, QueryTimeoutError)


async def test_all_join_where_a_later_query_takes_long(gatherer: QueryGatherer) -> None:
    """Though the first was answered at once."""
    async with asyncio.timeout(20):
        queries = [answered_at_once, *meeting(5)]
        await gatherer.gather(queries, snapshot=True)


async def test_statements_on_one_connection_have_entities_of_their_own(
    gatherer: QueryGatherer,
) -> None:
    """Each names the query that it is of, also after one that failed."""
    users = [Query(select(User).order_by(User.id), label=label) for label in "ab"]
    found: Any = await gatherer.gather(
        users[0],
        Query(select(User).where(User.id == func.no_such_function())),
        users[1],
        snapshot=True,
        max_concurrency=1,
        return_exceptions=True,
    )
    first, failed, second = found
    assert isinstance(failed, DBAPIError)
    assert [user.id for user in first] == [user.id for user in second] == [1, 2, 3]
    for user, other in zip(first, second, strict=True):
        assert user is not other
    for label, users_found in (("a", first), ("b", second)):
        with pytest.raises(DetachedAttributeError) as caught:
            _ = users_found[0].orders
        assert caught.value.query == label


async def test_the_report_and_the_log_say_what_it_cost(
    gatherer: QueryGatherer, caplog: pytest.LogCaptureFixture
) -> None:
    """On how many connections, and how long it took them."""
    caplog.set_level(logging.DEBUG, "async_parallel")
    with record_gathers() as reports:
        await gatherer.gather([COUNT] * 3, snapshot=True)
        await gatherer.gather([COUNT] * 3)
    snapshot = reports[0].snapshot
    assert snapshot is not None
    assert snapshot.identifier
    assert 1 <= snapshot.lanes <= 3
    assert snapshot.cost_s > 0
    assert reports[1].snapshot is None
    assert f"saw one snapshot ({snapshot.identifier})" in caplog.text


async def test_nothing_is_left_open_by_failures(
    postgres_gatherer: QueryGatherer, backends: Callable[[str], int]
) -> None:
    """A failure ends the transactions of all, and keeps the connections."""
    for bad in (text("SELECT 1 FROM nowhere"), text("SELECT 1 / 0")):
        for queries in ([bad, COUNT, COUNT], [COUNT, COUNT, bad]):
            with pytest.raises(DBAPIError):
                await postgres_gatherer.gather(queries, snapshot=True)
            assert await asyncio.to_thread(backends, IN_TRANSACTION) == 0
    assert await postgres_gatherer.gather([COUNT] * 3) == [3] * 3


async def test_a_lost_connection_has_all_of_it_run_again(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """In another snapshot, since the first one is gone; so none is torn."""
    gatherer = make_gatherer(postgres, max_connections=3)
    sleeping = text("SELECT pg_sleep(0.3), pg_current_snapshot()::text /* victim */")
    task = asyncio.create_task(gatherer.gather([sleeping] * 3, snapshot=True))
    while not await asyncio.to_thread(kill, postgres, "query LIKE '%victim%'"):
        pass
    found = await task
    assert len({rows[0][1] for rows in found}) == 1


async def test_dead_connections_cost_no_failure(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Those that died at rest are replaced, for who takes and for who joins."""
    gatherer = make_gatherer(postgres, max_connections=3)
    await gatherer.gather([text("SELECT pg_sleep(0.05)")] * 3)
    assert kill(postgres, "datname = current_database()") == 3
    assert await gatherer.gather([COUNT] * 3, snapshot=True) == [3] * 3
    assert await gatherer.gather([SEES] * 3, snapshot=True)


async def test_a_pool_that_others_use_up_is_not_waited_for(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Who holds the snapshot runs what others cannot get a connection for."""
    url = postgres.replace("psycopg2", "asyncpg")
    engine = create_async_engine(url, pool_size=2, max_overflow=0)
    try:
        async with engine.connect():  # one of the two
            gatherer = make_gatherer(engine)
            async with asyncio.timeout(10):
                found = await gatherer.gather([COUNT] * 4, snapshot=True)
        assert found == [3] * 4
        two = [make_gatherer(engine), make_gatherer(engine)]
        async with asyncio.timeout(20):
            each = await asyncio.gather(
                *(gatherer.gather([COUNT] * 4, snapshot=True) for gatherer in two * 4)
            )
        assert each == [[3] * 4] * 8
    finally:
        await engine.dispose()


async def test_an_overfull_queue_is_refused_as_ever(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Queries that wait for the snapshot count as waiting."""
    gatherer = make_gatherer(postgres, max_connections=1, max_waiting=3)
    first = asyncio.create_task(
        gatherer.gather([text("SELECT pg_sleep(0.1)")] * 4, snapshot=True)
    )
    await asyncio.sleep(0.02)
    with pytest.raises(OverloadError):
        await gatherer.gather([COUNT] * 4, snapshot=True)
    await first
    assert gatherer._runner._lanes is not None
    assert gatherer._runner._lanes.waiting == 0


async def test_listeners_of_the_application_run_as_ever(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """What is set at the beginning of each transaction is set for each query."""
    gatherer = make_gatherer(postgres)

    @event.listens_for(gatherer.engine.sync_engine, "begin")
    def set_tenant(connection: Any) -> None:
        connection.exec_driver_sql("SET LOCAL app.tenant = '7'")

    tenant = scalar(text("SELECT current_setting('app.tenant', true)"))
    assert await gatherer.gather([tenant] * 3, snapshot=True) == ["7"] * 3
