"""Snapshots behind PgBouncer, across two servers, and as CockroachDB has them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import asyncpg  # type: ignore[import-untyped]
import pytest
from balanced import Balancer, Twin
from cockroach import cockroach_engine, drop_clock, make_clock
from pgbouncer import PROGRAM, PgBouncer, unprepared
from restartable import RestartableServer
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from async_parallel import scalar
from async_parallel.errors import ReadOnlyError, SnapshotUnsupportedError
from async_parallel.instrumentation import record_gathers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
    from sqlalchemy.orm import Session

    from async_parallel import QueryGatherer

SEES = scalar(text("SELECT pg_current_snapshot()::text"))
VIRTUAL = text(
    "SELECT virtualtransaction FROM pg_locks WHERE pid = pg_backend_pid() LIMIT 1"
)
READ_ONLY = "default_transaction_read_only"
IN_TRANSACTION = "state LIKE 'idle in transaction%'"

needs_pgbouncer = pytest.mark.skipif(
    PROGRAM is None, reason="pgbouncer is not installed"
)


def sees_sync(session: Session) -> Any:
    """What a sync function sees."""
    return session.scalar(SEES.source)


def sees_slowly(session: Session) -> Any:
    """The same, where it takes longer than it takes others to join."""
    session.execute(text("SELECT pg_sleep(0.1)"))
    return session.scalar(SEES.source)


@pytest.fixture
def write(postgres: str) -> Iterator[Callable[[], None]]:
    """Commits a transaction, past PgBouncer, so that another state is seen."""
    engine = create_engine(postgres)

    def commit() -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql("SELECT pg_current_xact_id()")

    yield commit
    engine.dispose()


@pytest.fixture
def start_pgbouncer(postgres: str, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts PgBouncer before PostgreSQL, and gives its URL."""
    with contextlib.ExitStack() as started:

        def start(**options: Any) -> str:
            bouncer = started.enter_context(PgBouncer(postgres, tmp_path, **options))
            return bouncer.url

        yield start


async def agree(
    gatherer: QueryGatherer, write: Callable[[], None], *, at_once: int
) -> int:
    """Gather in snapshots while others write; the most connections of one gather."""

    async def write_and_see(session: AsyncSession) -> Any:
        await asyncio.to_thread(write)
        return await session.scalar(SEES.source)

    queries = [SEES, write_and_see, SEES, sees_sync, SEES]
    states: set[str] = set()
    with record_gathers() as reports:
        for _ in range(3):
            async with asyncio.timeout(30):
                found = await asyncio.gather(
                    *(gatherer.gather(queries, snapshot=True) for _ in range(at_once))
                )
            assert [len(set(seen)) for seen in found] == [1] * at_once
            states.update(seen[0] for seen in found)
    assert len(states) > 1, "nothing was written meanwhile"
    return max(report.snapshot.lanes for report in reports if report.snapshot)


@needs_pgbouncer
async def test_gathers_behind_pgbouncer_agree(
    start_pgbouncer: Callable[..., str],
    make_gatherer: Callable[..., QueryGatherer],
    write: Callable[[], None],
    backends: Callable[[str], int],
) -> None:
    """In transaction mode, with fewer connections of the server than of its clients.

    PgBouncer has to be told to take the startup parameter that refuses writes. It does
    not pass that on; the transaction of the snapshot refuses them all the same.
    """
    url = start_pgbouncer(pool_size=8, ignored=READ_ONLY)
    gatherer = make_gatherer(url, engine_options={"connect_args": unprepared()})
    await agree(gatherer, write, at_once=20)
    with pytest.raises(ReadOnlyError):
        await gatherer.gather(SEES, text("CREATE TABLE made ()"), snapshot=True)
    assert await agree(gatherer, write, at_once=1) > 1
    assert backends(IN_TRANSACTION) == 0


@needs_pgbouncer
async def test_gathers_of_an_engine_behind_pgbouncer_agree(
    start_pgbouncer: Callable[..., str],
    make_gatherer: Callable[..., QueryGatherer],
    write: Callable[[], None],
    backends: Callable[[str], int],
) -> None:
    """Of one that the application made, where PgBouncer's connections refuse writes."""
    url = start_pgbouncer(pool_size=8, first=f"SET {READ_ONLY} = on")
    engine = create_async_engine(
        make_url(url).set(drivername="postgresql+asyncpg"), connect_args=unprepared()
    )
    gatherer = make_gatherer(engine, max_connections=5)
    await connect_in_turn(gatherer, 5)
    await agree(gatherer, write, at_once=20)
    assert await agree(gatherer, write, at_once=1) > 1
    await gatherer.aclose()
    await engine.dispose()
    assert backends(IN_TRANSACTION) == 0


async def connect_in_turn(gatherer: QueryGatherer, count: int) -> None:
    """Have each connection be asked once whether it refuses writes, one after another.

    That is no transaction, and is prepared; so before PgBouncer 1.21 nobody else may
    come between. Who is in a transaction has a connection of the server to himself.
    """
    release = asyncio.Event()
    held: list[asyncio.Task[Any]] = []
    for _ in range(count):
        connected = asyncio.Barrier(2)

        async def hold(session: AsyncSession, connected: Any = connected) -> None:
            await session.execute(SEES.source)
            await connected.wait()
            await release.wait()

        held.append(asyncio.create_task(gatherer.gather(hold)))
        async with asyncio.timeout(10):
            await connected.wait()
    release.set()
    await asyncio.gather(*held)


@needs_pgbouncer
@pytest.mark.parametrize(("pool_size", "gathers"), [(1, 1), (2, 6)])
async def test_no_gather_waits_for_ever_in_the_queue_of_pgbouncer(
    pool_size: int,
    gathers: int,
    start_pgbouncer: Callable[..., str],
    make_gatherer: Callable[..., QueryGatherer],
    write: Callable[[], None],
    backends: Callable[[str], int],
) -> None:
    """Who took a snapshot has what the others wait for, if it is the last to be had."""
    url = start_pgbouncer(pool_size=pool_size, ignored=READ_ONLY)
    gatherer = make_gatherer(url, engine_options={"connect_args": unprepared()})
    await agree(gatherer, write, at_once=gathers)
    assert backends(IN_TRANSACTION) == 0


@needs_pgbouncer
async def test_no_limit_of_a_gather_is_left_to_who_comes_next_behind_pgbouncer(
    start_pgbouncer: Callable[..., str], make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Its connections to the server are for all its clients, so none is limited."""
    url = start_pgbouncer(pool_size=2, ignored=READ_ONLY)
    gatherer = make_gatherer(url, engine_options={"connect_args": unprepared()})

    def limit(session: Session) -> Any:
        return session.scalar(text("SHOW statement_timeout"))

    for snapshot in (False, True):
        limits = await gatherer.gather([limit] * 5, timeout=30, snapshot=snapshot)
        assert limits == ["0"] * 5
    assert await gatherer.gather([limit] * 5) == ["0"] * 5


@needs_pgbouncer
async def test_a_connection_to_pgbouncer_counts_as_one_without_a_limit(
    start_pgbouncer: Callable[..., str], make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """So who takes it by himself gets that, and not a new one in its place."""
    url = start_pgbouncer(pool_size=2, ignored=READ_ONLY)
    options = {"connect_args": unprepared()}
    gatherer = make_gatherer(url, max_connections=1, engine_options=options)

    async def connected() -> Any:
        async with gatherer.engine.connect() as connection:
            raw: Any = await connection.get_raw_connection()
            return raw.driver_connection

    before = await connected()
    await gatherer.gather(sees_sync, timeout=30)
    assert await connected() is before


@needs_pgbouncer
async def test_pgbouncer_says_which_parameter_it_refuses(
    start_pgbouncer: Callable[..., str], make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Where it is not told to ignore it."""
    gatherer = make_gatherer(start_pgbouncer(pool_size=2))
    # SQLAlchemy 2.0 lets the driver's own pass, where it could not connect.
    refusal = (DBAPIError, asyncpg.PostgresError)
    with pytest.raises(refusal, match=READ_ONLY):
        await gatherer.gather(SEES, SEES, snapshot=True)


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[RestartableServer, RestartableServer]]:
    """Two servers that know nothing of each other."""
    with RestartableServer() as first, RestartableServer() as second:
        yield first, second


@pytest.fixture
async def balanced(servers: tuple[RestartableServer, RestartableServer]) -> Any:
    """What leads to each of them in turn; it leaves no transaction."""
    balancer = Balancer(servers)
    yield balancer
    left = [in_transaction(server.url) for server in servers]
    await balancer.engine.dispose()
    assert left == [0, 0]


def in_transaction(url: str) -> int:
    """How many connections of a server are in a transaction."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            sql = f"SELECT count(*) FROM pg_stat_activity WHERE {IN_TRANSACTION}"
            return int(connection.execute(text(sql)).scalar_one())
    finally:
        engine.dispose()


def of_two_servers(
    balanced: Balancer, make_gatherer: Callable[..., QueryGatherer], *, owned: bool
) -> QueryGatherer:
    """A gatherer whose second connection leads to another server than the first."""
    balanced.second.set()
    if owned:
        options = {"async_creator": balanced.connect}
        return make_gatherer(Balancer.url, engine_options=options)
    return make_gatherer(balanced.engine)


@pytest.mark.parametrize("owned", [True, False])
async def test_a_snapshot_across_two_servers_is_refused(
    balanced: Balancer,
    make_gatherer: Callable[..., QueryGatherer],
    owned: bool,  # noqa: FBT001
) -> None:
    """With the reason; gathers without one go on, and such on one connection."""
    gatherer = of_two_servers(balanced, make_gatherer, owned=owned)
    for _ in range(3):
        with pytest.raises(SnapshotUnsupportedError, match="lead to several servers"):
            await gatherer.gather([SEES, sees_slowly] * 3, snapshot=True)
        assert len(await gatherer.gather([SEES] * 5)) == 5
        alone = await gatherer.gather([SEES] * 5, snapshot=True, max_concurrency=1)
        assert len(set(alone)) == 1


@pytest.mark.parametrize("owned", [True, False])
async def test_it_is_of_the_first_server_where_failures_are_results(
    balanced: Balancer,
    make_gatherer: Callable[..., QueryGatherer],
    owned: bool,  # noqa: FBT001
) -> None:
    """On one connection, as no query has failed that could be told of it."""
    gatherer = of_two_servers(balanced, make_gatherer, owned=owned)
    seen = await gatherer.gather(
        [SEES, sees_slowly] * 3, snapshot=True, return_exceptions=True
    )
    assert all(isinstance(each, str) for each in seen)
    assert len(set(seen)) == 1


async def test_it_is_refused_where_both_have_a_snapshot_of_that_name(
    balanced: Balancer,
    servers: tuple[RestartableServer, RestartableServer],
    make_gatherer: Callable[..., QueryGatherer],
) -> None:
    """Names are unique on one server alone, and another's snapshot shows its rows."""
    gatherer = make_gatherer(balanced.engine, max_connections=2)

    async def lead(session: AsyncSession) -> None:
        async with Twin(servers[1], str(await session.scalar(VIRTUAL))):
            balanced.second.set()
            await asyncio.Event().wait()  # until the other one ends it

    with pytest.raises(SnapshotUnsupportedError, match="lead to several servers"):
        async with asyncio.timeout(20):
            await gatherer.gather(lead, SEES, snapshot=True)
    assert len(await gatherer.gather([SEES] * 5)) == 5


@pytest.fixture
def sent() -> list[str]:
    """What was sent to CockroachDB."""
    return []


@pytest.fixture
async def cockroachdb(postgres: str, sent: list[str]) -> Any:
    """An engine on what looks like CockroachDB to SQLAlchemy."""
    make_clock(postgres)
    engine = cockroach_engine(postgres, sent)
    yield engine
    await engine.dispose()
    drop_clock(postgres)


async def test_cockroachdb_is_asked_for_the_time_and_then_as_of_it(
    cockroachdb: AsyncEngine,
    sent: list[str],
    make_gatherer: Callable[..., QueryGatherer],
) -> None:
    """Each connection begins at the time that the first one was told."""
    gatherer = make_gatherer(cockroachdb, max_connections=3)
    await gatherer.gather(SEES)
    sent.clear()
    barrier = asyncio.Barrier(3)

    async def meet(_session: AsyncSession) -> None:
        await barrier.wait()

    with record_gathers() as reports:
        async with asyncio.timeout(10):
            await gatherer.gather([meet] * 3, snapshot=True)
    snapshot = reports[0].snapshot
    assert snapshot is not None
    transactions = [sql for sql in sent if sql.startswith(("BEGIN", "ROLLBACK"))]
    begin = f"BEGIN READ ONLY AS OF SYSTEM TIME {snapshot.identifier}"
    assert transactions == [begin] * 3 + ["ROLLBACK"] * 3
