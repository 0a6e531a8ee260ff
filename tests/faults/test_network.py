"""What a gather does while the network between it and PostgreSQL fails."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import asyncpg  # type: ignore[import-untyped]
import pytest
from activity import Activity
from faults import (
    LATE,
    FaultyProxy,
    Way,
    be_late,
    cut,
    lose_client,
    lose_server,
    reset,
)
from shop import User
from sqlalchemy import create_engine, orm, select, text
from sqlalchemy.exc import DBAPIError
from sweep import PATIENCE, complaints

from async_parallel import QueryGatherer, _backends, _lane, scalar
from async_parallel.errors import GatherTimeoutError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from faults import Fault
    from sqlalchemy.ext.asyncio import AsyncSession

STATEMENT = select(User.id).order_by(User.id)
LEGACY = orm.Session().query(User.name).order_by(User.id)
ENDLESS = text("SELECT pg_sleep(600) /* arrives late */")
# Not only 'active', which it is too while it waits for what comes after a Parse.
RUNNING = "query LIKE '%arrives late%' AND wait_event = 'PgSleep'"
IDS = [1, 2, 3]
TIMEOUT = 0.1
# More messages than a query has, in either direction.
MOST_MESSAGES = 50

losses = pytest.mark.parametrize(
    ("fault", "way"),
    [
        pytest.param(reset, Way.TO_SERVER, id="reset before it arrives"),
        pytest.param(reset, Way.TO_CLIENT, id="reset before the answer"),
        pytest.param(cut, Way.TO_CLIENT, id="cut in the answer"),
        pytest.param(lose_client, Way.TO_CLIENT, id="closed before the answer"),
    ],
)


class Functions:
    """Functions of a session that count their calls.

    Attributes:
        calls: How often they were called.
    """

    def __init__(self) -> None:
        self.calls = 0

    def ids(self, session: orm.Session) -> Any:
        """Ask in sync style."""
        self.calls += 1
        return session.scalars(STATEMENT).all()

    async def ids_async(self, session: AsyncSession) -> Any:
        """Ask in async style."""
        self.calls += 1
        return (await session.scalars(STATEMENT)).all()


def endless(session: orm.Session) -> None:
    """Run until stopped, in sync style."""
    session.execute(ENDLESS)


async def endless_async(session: AsyncSession) -> None:
    """Run until stopped."""
    await session.execute(ENDLESS)


@pytest.fixture
async def proxy(postgres: str) -> AsyncIterator[FaultyProxy]:
    """A network before PostgreSQL."""
    async with FaultyProxy(postgres) as proxy:
        yield proxy


@pytest.fixture
async def gatherer(proxy: FaultyProxy) -> AsyncIterator[QueryGatherer]:
    """A gatherer behind that network, on one connection; it must be left clean."""
    with complaints() as complained:
        async with QueryGatherer(proxy.url, max_connections=1) as gatherer:
            yield gatherer
            proxy.forget_plans()
            proxy.restore()
            check_clean(gatherer)
            assert await gatherer.gather(STATEMENT) == (IDS,)
    assert complained == []


def check_clean(gatherer: QueryGatherer) -> None:
    """Check that the client's side has nothing left of a gather."""
    assert gatherer.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    names = [task.get_name() for task in asyncio.all_tasks()]
    assert [name for name in names if name.startswith("async_parallel")] == []


@losses
@pytest.mark.parametrize(
    ("query", "result"),
    [
        pytest.param(STATEMENT, IDS, id="statement"),
        pytest.param(scalar(STATEMENT), 1, id="shape"),
        pytest.param(LEGACY.count, 3, id="legacy count"),
        pytest.param(LEGACY.all, [("user 1",), ("user 2",), ("user 3",)], id="legacy"),
    ],
)
@pytest.mark.parametrize("timeout", [None, 600])
async def test_a_query_that_loses_its_connection_is_asked_again(
    query: Any,
    result: Any,
    fault: Fault,
    way: Way,
    timeout: float | None,
    gatherer: QueryGatherer,
    proxy: FaultyProxy,
) -> None:
    """At whichever message it is lost, a second connection gives the answer.

    One of them may be that which tells the server of the timeout.
    """
    for message in range(MOST_MESSAGES):
        await gatherer.gather([query] * 2)
        connections = proxy.connections
        proxy.plan(fault, way, message)
        assert await gatherer.gather(query, timeout=timeout) == (result,)
        if proxy.struck == message:
            break
        assert proxy.connections - connections == 1
    assert proxy.struck >= 3


@losses
@pytest.mark.parametrize("name", ["ids", "ids_async"])
async def test_a_function_that_loses_its_connection_is_not_called_again(
    name: str, fault: Fault, way: Way, gatherer: QueryGatherer, proxy: FaultyProxy
) -> None:
    """It may have had other effects, so once it has begun the caller gets the error."""
    functions = Functions()
    function = getattr(functions, name)
    failed = 0
    for message in range(MOST_MESSAGES):
        await gatherer.gather(function, function)
        functions.calls = 0
        proxy.plan(fault, way, message)
        (answer,) = await gatherer.gather(function, return_exceptions=True)
        assert functions.calls == 1
        check_clean(gatherer)
        failed += isinstance(answer, DBAPIError)
        assert failed or answer == IDS
        if proxy.struck == message:
            break
    assert answer == IDS
    assert failed >= 3


@pytest.fixture
def sequence(postgres: str) -> Iterator[str]:
    """A sequence in the database, which no rollback turns back."""
    engine = create_engine(postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("SET lock_timeout = '5s'"))  # in the end
        connection.execute(text("CREATE SEQUENCE executions"))
        yield "executions"
        connection.execute(text("DROP SEQUENCE executions"))
    engine.dispose()


@losses
async def test_a_statement_that_may_write_is_not_executed_again(
    sequence: str, fault: Fault, way: Way, gatherer: QueryGatherer, proxy: FaultyProxy
) -> None:
    """What the server has made of it when the connection is lost is not known."""
    execute = scalar(text(f"SELECT nextval('{sequence}')"))
    for message in range(MOST_MESSAGES):
        (before,) = await gatherer.gather(execute, read_only=False)
        proxy.plan(fault, way, message)
        await gatherer.gather(execute, read_only=False, return_exceptions=True)
        proxy.forget_plans()
        (after,) = await gatherer.gather(execute, read_only=False)
        assert after - before <= 2
        if proxy.struck == message:
            break
    assert proxy.struck >= 5


async def test_connections_that_were_reset_meanwhile_are_replaced(
    proxy: FaultyProxy, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Where nobody has noticed yet, all of a gather's queries are asked again."""
    gatherer = make_gatherer(proxy.url)
    for _ in range(3):
        assert await gatherer.gather([STATEMENT] * 5) == [IDS] * 5
        proxy.reset_all()
    assert await gatherer.gather([STATEMENT, LEGACY.count] * 3) == [IDS, 3] * 3


async def test_a_failure_amid_lost_connections_leaves_the_pool_whole(
    proxy: FaultyProxy, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Connections that a failing sibling has given up are not lent to two lanes."""
    gatherer = make_gatherer(proxy.url)

    async def fail(session: AsyncSession) -> None:
        with contextlib.suppress(DBAPIError):
            await session.scalars(STATEMENT)
        raise LookupError

    for _ in range(5):
        assert await gatherer.gather([STATEMENT] * 5) == [IDS] * 5
        proxy.reset_all()
        with pytest.raises(LookupError):
            await gatherer.gather([STATEMENT, fail] * 3)
        check_clean(gatherer)


@pytest.mark.parametrize("fault", [reset, cut])
async def test_a_connection_that_is_lost_while_it_opens_costs_one_gather_at_most(
    fault: Fault, proxy: FaultyProxy
) -> None:
    """It is opened again, or the driver's error says where; nothing is left of it."""
    async with QueryGatherer(proxy.url) as gatherer:
        for message in range(MOST_MESSAGES):
            await gatherer.engine.dispose()
            proxy.plan(fault, Way.TO_CLIENT, message)
            (answer,) = await gatherer.gather(STATEMENT, return_exceptions=True)
            check_clean(gatherer)
            if answer != IDS:
                assert isinstance(answer, (OSError, DBAPIError, asyncpg.PostgresError))
                assert answer.__notes__[0].startswith("async_parallel: connecting to")
            if proxy.struck == message:
                break
            assert await gatherer.gather(STATEMENT) == (IDS,)
    assert proxy.struck >= 10


@pytest.mark.parametrize("ways", [(Way.TO_SERVER,), (Way.TO_CLIENT,), tuple(Way)])
@pytest.mark.parametrize("warm", [True, False])
async def test_a_black_hole_ends_with_the_timeout(
    ways: tuple[Way, ...],
    proxy: FaultyProxy,
    make_gatherer: Callable[..., QueryGatherer],
    monkeypatch: pytest.MonkeyPatch,
    *,
    warm: bool,
) -> None:
    """Nothing is answered any more, whether connecting or connected, and all ends."""
    monkeypatch.setattr(_lane, "_CANCEL_GRACE", TIMEOUT)
    gatherer = make_gatherer(proxy.url)
    functions = Functions()
    queries = [STATEMENT, functions.ids, functions.ids_async, LEGACY.count]
    if warm:
        await gatherer.gather(queries)
    proxy.black_hole(*ways)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(GatherTimeoutError, match="none finished, 4 still running"):
            await gatherer.gather(queries, timeout=TIMEOUT)
    check_clean(gatherer)
    proxy.restore()
    assert await gatherer.gather(queries) == [IDS, IDS, IDS, 3]


async def test_a_black_hole_is_left_without_help(
    gatherer: QueryGatherer, proxy: FaultyProxy
) -> None:
    """With the package's own patience a cancelled query ends too."""
    await gatherer.gather(STATEMENT)
    proxy.black_hole()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(GatherTimeoutError):
            await gatherer.gather(STATEMENT, timeout=TIMEOUT)


@pytest.mark.parametrize("snapshot", [False, True])
@pytest.mark.parametrize("warm", [True, False])
async def test_what_no_cancel_reaches_is_ended_by_the_server_itself(
    postgres: str,
    make_gatherer: Callable[..., QueryGatherer],
    monkeypatch: pytest.MonkeyPatch,
    *,
    snapshot: bool,
    warm: bool,
) -> None:
    """It knows the timeout too, so nothing runs on behind a network that is cut."""
    monkeypatch.setattr(_lane, "_CANCEL_GRACE", TIMEOUT)
    monkeypatch.setattr(_backends, "_BOUND_MARGIN", 2 * TIMEOUT)
    activity = Activity(postgres)
    queries = [ENDLESS, endless, endless_async]
    async with FaultyProxy(activity.url) as proxy:
        gatherer = make_gatherer(proxy.url)
        if warm:
            await gatherer.gather([STATEMENT] * 3)
        gathering = asyncio.ensure_future(
            gatherer.gather(queries, timeout=1, snapshot=snapshot)
        )
        await asyncio.to_thread(activity.wait_for, 3, RUNNING)
        proxy.black_hole()
        with pytest.raises(GatherTimeoutError):
            await gathering
        await asyncio.to_thread(activity.wait_for, 0, RUNNING)
        check_clean(gatherer)


@pytest.mark.parametrize("way", list(Way))
async def test_a_server_that_vanishes_without_a_word_ends_with_the_timeout(
    way: Way,
    gatherer: QueryGatherer,
    proxy: FaultyProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A half-open connection gives no answer and no error, so the deadline counts."""
    monkeypatch.setattr(_lane, "_CANCEL_GRACE", TIMEOUT)
    await gatherer.gather(STATEMENT, STATEMENT)
    proxy.plan(lose_server, way, 1)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(GatherTimeoutError):
            await gatherer.gather(STATEMENT, timeout=TIMEOUT)
    assert proxy.struck == 1


async def test_a_slow_network_changes_no_result(
    proxy: FaultyProxy, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Queries whose every message takes its time are answered in their places."""
    gatherer = make_gatherer(proxy.url, max_connections=2)
    functions = Functions()
    proxy.delay = 0.001
    queries = [STATEMENT, functions.ids, functions.ids_async, LEGACY.count] * 3
    assert await gatherer.gather(queries) == [IDS, IDS, IDS, 3] * 3
    assert functions.calls == 6


endless_queries = pytest.mark.parametrize(
    "query",
    [ENDLESS, endless, endless_async],
    ids=["statement", "function", "async function"],
)


async def check_stopped(
    gather: Callable[[], Awaitable[Any]],
    gatherer: QueryGatherer,
    proxy: FaultyProxy,
    backends: Callable[[str], int],
) -> None:
    """Have each message of ``gather`` in turn arrive after the cancel of its query."""
    for message in range(MOST_MESSAGES):
        proxy.forget_plans()
        await gatherer.gather(STATEMENT)
        struck = proxy.struck
        proxy.plan(be_late, Way.TO_SERVER, message)
        with pytest.raises(GatherTimeoutError):
            await gather()
        assert await asyncio.to_thread(backends, RUNNING) == 0
        if proxy.struck == struck:
            break
    assert message >= 3


@endless_queries
async def test_a_query_that_arrives_after_its_cancel_is_stopped(
    query: Any,
    gatherer: QueryGatherer,
    proxy: FaultyProxy,
    backends: Callable[[str], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PostgreSQL forgets a cancel that comes when nothing runs."""
    # What else would end it, later.
    monkeypatch.setattr(_lane, "_LAST_REQUEST", 0)
    monkeypatch.setattr(_backends, "_BOUND_MARGIN", 600)
    await check_stopped(
        lambda: gatherer.gather(query, timeout=LATE / 3), gatherer, proxy, backends
    )


@pytest.mark.parametrize("snapshot", [False, True])
@endless_queries
async def test_it_is_stopped_too_where_the_connection_is_that_of_others(
    query: Any,
    gatherer: QueryGatherer,
    proxy: FaultyProxy,
    backends: Callable[[str], int],
    monkeypatch: pytest.MonkeyPatch,
    *,
    snapshot: bool,
) -> None:
    """In a snapshot, and inside another query: when the connection is given up."""
    monkeypatch.setattr(_lane, "_CANCEL_GRACE", 2 * LATE)
    monkeypatch.setattr(_backends, "_BOUND_MARGIN", 600)

    async def outer(_session: AsyncSession) -> None:
        await gatherer.gather(query, timeout=LATE / 3)

    async def gather() -> None:
        if snapshot:
            await gatherer.gather(query, timeout=LATE / 3, snapshot=True)
        else:
            await gatherer.gather(outer)

    await check_stopped(gather, gatherer, proxy, backends)
