"""The limit that PostgreSQL itself keeps, for what no cancel of ours reaches."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import pytest
from shop import User
from sqlalchemy import event, make_url, select, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool
from wire import CountingProxy

from async_parallel import Query, scalar_one

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from async_parallel import QueryGatherer

SHOW = text("SHOW statement_timeout")
LIMIT = scalar_one(SHOW)
IDS = select(User.id).order_by(User.id)


def limit_sync(session: Session) -> Any:
    """The limit that a function has, in sync style."""
    return session.scalar(SHOW)


async def limit_async(session: AsyncSession) -> Any:
    """The limit that a function has."""
    return await session.scalar(SHOW)


kinds = pytest.mark.parametrize(
    "query",
    [LIMIT, limit_sync, limit_async],
    ids=["statement", "function", "async function"],
)


@pytest.fixture
async def proxy(postgres: str) -> AsyncIterator[CountingProxy]:
    """A proxy before PostgreSQL."""
    async with CountingProxy(postgres) as proxy:
        yield proxy


@kinds
@pytest.mark.parametrize("snapshot", [False, True])
async def test_the_server_ends_a_statement_a_second_after_we_should_have(
    query: Any,
    postgres: str,
    make_gatherer: Callable[..., QueryGatherer],
    *,
    snapshot: bool,
) -> None:
    """Of the gather's timeout and the query's the shorter one counts; or none.

    In a snapshot, whose connections are for all queries, the gather's alone.
    """
    gatherer = make_gatherer(postgres, max_connections=1)
    limits: list[Any] = []
    for own, timeout in [(None, 4), (2.5, 4), (30, 4), (7, None), (None, None)]:
        is_function = callable(query)
        asked = (Query if is_function else scalar_one)(
            query if is_function else SHOW, timeout=own
        )
        limits += await gatherer.gather(asked, timeout=timeout, snapshot=snapshot)
    expected = {False: ["5s", "3500ms", "5s", "8s", "0"], True: ["5s"] * 3 + ["0"] * 2}
    assert limits == expected[snapshot]


async def test_the_default_of_the_gatherer_is_a_limit(
    postgres: str,
    make_gatherer: Callable[..., QueryGatherer],
) -> None:
    """On each connection, at its first query already."""
    gatherer = make_gatherer(postgres, timeout=30)
    assert await gatherer.gather([LIMIT] * 5) == ["31s"] * 5


@kinds
@pytest.mark.parametrize(
    ("configured", "limited", "otherwise"),
    [("2s", "2s", "2s"), ("1min", "5s", "1min")],
)
async def test_a_shorter_limit_of_the_database_stays(
    query: Any,
    configured: str,
    limited: str,
    otherwise: str,
    postgres: str,
    make_gatherer: Callable[..., QueryGatherer],
) -> None:
    """One that the URL, the role or the server has; a longer one comes back."""
    url = make_url(postgres).update_query_dict(
        {"options": f"-c statement_timeout={configured}"}
    )
    gatherer = make_gatherer(url, max_connections=1)
    for _ in range(2):
        assert await gatherer.gather(query, timeout=4) == (limited,)
        assert await gatherer.gather(query) == (otherwise,)


@pytest.mark.parametrize("long", [100_000_000, math.inf])
async def test_a_timeout_longer_than_the_server_can_count_is_none(
    long: float, postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """It counts milliseconds, in 32 bits."""
    gatherer = make_gatherer(postgres, max_connections=1)
    assert await gatherer.gather(LIMIT, timeout=4) == ("5s",)
    assert await gatherer.gather(LIMIT, timeout=long) == ("0",)


async def test_the_limit_of_one_query_is_none_of_the_others_in_its_snapshot(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """They may have to run on the connection that it has begun with."""
    gatherer = make_gatherer(postgres, max_connections=2)
    queries = [scalar_one(SHOW, timeout=own) for own in (0.5, None, 30)] * 3
    assert await gatherer.gather(queries, snapshot=True) == ["0"] * 9
    assert await gatherer.gather(queries, snapshot=True, timeout=4) == ["5s"] * 9


async def test_a_limit_that_a_listener_has_set_comes_back(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Where it is the shorter one, it stays."""
    gatherer = make_gatherer(postgres, max_connections=1)

    @event.listens_for(gatherer.engine.sync_engine, "connect")
    def limit(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("SET statement_timeout = '2s'")
        cursor.close()

    for timeout, expected in [(None, "2s"), (10, "2s"), (0.5, "1500ms"), (None, "2s")]:
        assert await gatherer.gather(LIMIT, timeout=timeout) == (expected,)


async def test_who_takes_a_connection_by_himself_has_no_limit(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Of the engine that the lanes have theirs from, which is public."""
    gatherer = make_gatherer(postgres, max_connections=1)
    for timeout in (4, None):
        await gatherer.gather(LIMIT, timeout=timeout)
        pids: list[Any] = []
        for _ in range(2):
            async with gatherer.engine.connect() as connection:
                assert await connection.scalar(SHOW) == "0"
                pids.append(await connection.scalar(text("SELECT pg_backend_pid()")))
        assert pids[0] == pids[1]
    pool = gatherer.engine.pool
    assert pool.checkedin() == 1  # type: ignore[attr-defined]


async def test_lanes_go_on_with_their_connection_where_each_checkout_matters(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """They know of the limit, and change it where theirs is another."""
    options = {"pool_pre_ping": True}
    gatherer = make_gatherer(postgres, max_connections=1, engine_options=options)
    pid = scalar_one(text("SELECT pg_backend_pid()"))
    pids = {
        (await gatherer.gather(pid, timeout=timeout))[0]
        for timeout in (4, 4, None, 4, None)
    }
    assert len(pids) == 1


async def test_a_pool_of_ones_own_is_left_as_it_is(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """As nobody could be told of the limit."""
    options = {"poolclass": AsyncAdaptedQueuePool}
    gatherer = make_gatherer(postgres, engine_options=options)
    assert await gatherer.gather([LIMIT] * 3, timeout=4) == ["0"] * 3


@kinds
async def test_what_writes_has_no_limit(
    query: Any, postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """A COMMIT that waits for a standby would be told of as done before it is."""
    gatherer = make_gatherer(postgres, max_connections=1)
    assert await gatherer.gather(LIMIT, timeout=4) == ("5s",)
    assert await gatherer.gather(query, timeout=4, read_only=False) == ("0",)
    assert await gatherer.gather(LIMIT, timeout=4) == ("5s",)


async def test_the_limit_costs_a_round_trip_where_it_changes(
    proxy: CountingProxy, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """So with one timeout for all a statement is one round trip, as without."""
    gatherer = make_gatherer(proxy.url, max_connections=1)
    await gatherer.gather(IDS, IDS)
    for timeout, more in [(None, 0), (4, 1), (4, 0), (None, 1), (None, 0)]:
        before = proxy.round_trips
        await gatherer.gather([IDS] * 10, timeout=timeout)
        assert proxy.round_trips - before == 10 + more


async def test_a_connection_of_an_engine_of_ones_own_is_left_as_it_is(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Who else uses it would have the limit too."""
    url = make_url(postgres).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url)
    gatherer = make_gatherer(engine)
    assert await gatherer.gather([LIMIT] * 3, timeout=4) == ["0"] * 3
    await gatherer.aclose()
    await engine.dispose()


async def test_a_query_inside_another_has_the_limit_of_that(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """It is in its transaction, at whose end a limit of its own would be undone."""
    gatherer = make_gatherer(postgres, max_connections=1)

    async def outer(_session: AsyncSession) -> Any:
        return await gatherer.gather(limit_sync, LIMIT, timeout=2)

    assert await gatherer.gather(outer, timeout=4) == (("5s", "5s"),)
    assert await gatherer.gather(LIMIT) == ("0",)


async def test_who_gives_up_while_his_connection_is_made_anew_leaves_none_in_use(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """At whichever moment: the lanes get what they may have, and no more."""
    gatherer = make_gatherer(postgres, max_connections=2)

    async def take() -> None:
        async with gatherer.engine.connect():
            await asyncio.Event().wait()

    for turns in range(40):
        assert await gatherer.gather([LIMIT] * 5, timeout=4) == ["5s"] * 5
        taking = [asyncio.create_task(take()) for _ in range(2)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in taking:
            task.cancel()
        await asyncio.wait(taking)
    assert await gatherer.gather([LIMIT] * 5) == ["0"] * 5
