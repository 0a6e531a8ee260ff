"""What a gather costs on the wire."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from shop import User
from sqlalchemy import select, text
from wire import CountingProxy

from async_parallel import scalar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from async_parallel import QueryGatherer


@pytest.fixture
async def proxy(postgres: str) -> AsyncIterator[CountingProxy]:
    """A proxy before PostgreSQL."""
    async with CountingProxy(postgres) as proxy:
        yield proxy


@pytest.fixture
def gatherer(
    proxy: CountingProxy, make_gatherer: Callable[..., QueryGatherer]
) -> QueryGatherer:
    """A gatherer that goes through the proxy, on one connection."""
    return make_gatherer(proxy.url, max_connections=1)


def ask_sync(session: Session) -> Any:
    """Run one query in sync style."""
    return session.scalar(select(User.name))


async def ask_async(session: AsyncSession) -> Any:
    """Run one query in async style."""
    return await session.scalar(select(User.name))


@pytest.mark.parametrize(
    ("query", "round_trips"),
    [
        pytest.param(select(User), 1, id="entities"),
        pytest.param(select(User.id, User.name), 1, id="columns"),
        pytest.param(text("SELECT 1"), 1, id="text"),
        pytest.param(scalar(select(User.name)), 1, id="shape"),
        pytest.param(ask_sync, 3, id="function: begin, query, rollback"),
        pytest.param(ask_async, 3, id="async function: begin, query, rollback"),
    ],
)
async def test_a_warm_query_costs_only_these_round_trips(
    query: Any, round_trips: int, gatherer: QueryGatherer, proxy: CountingProxy
) -> None:
    """On a warm connection a statement is one round trip, a function two more."""
    await gatherer.gather(query)
    await gatherer.gather(query)
    before = proxy.round_trips
    for _ in range(10):
        await gatherer.gather(query)
    assert proxy.round_trips - before == 10 * round_trips
    assert proxy.connections == 1


async def test_a_gather_costs_the_round_trips_of_its_queries(
    gatherer: QueryGatherer, proxy: CountingProxy
) -> None:
    """Nothing is sent for the gather itself, whichever lane runs what."""
    queries = [select(User).where(User.id == number) for number in range(50)]
    await gatherer.gather(queries)
    before = proxy.round_trips
    await gatherer.gather(queries)
    assert proxy.round_trips - before == 50


@pytest.mark.parametrize("connections", [1, 5])
async def test_a_snapshot_costs_one_round_trip_to_begin_and_one_to_end(
    connections: int, proxy: CountingProxy, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """On each connection; who takes it exports it with the same message."""
    gatherer = make_gatherer(proxy.url, max_connections=connections)
    queries = [text("SELECT pg_sleep(0.05)")] * 5
    for _ in range(3):
        await gatherer.gather(queries, snapshot=True)
    before = proxy.round_trips
    await gatherer.gather(queries, snapshot=True)
    assert proxy.round_trips - before == 5 + 2 * connections


async def test_the_first_row_is_one_round_trip_later_and_of_who_joins_two(
    proxy: CountingProxy, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Who joins has to wait for the snapshot, and to import it."""
    gatherer = make_gatherer(proxy.url, max_connections=2)
    sleep = scalar(text("SELECT :rank FROM pg_sleep(:seconds)"))
    quick, slow = (
        scalar(sleep.source.bindparams(rank=rank, seconds=seconds))
        for rank, seconds in (("quick", 0), ("slow", 0.1))
    )
    for _ in range(3):
        await gatherer.gather([slow] * 2, snapshot=True)
    for queries, trips in (([quick], 2), ([slow, quick], 4)):
        before = proxy.round_trips
        async with contextlib.aclosing(
            gatherer.as_completed(*queries, snapshot=True)
        ) as completed:
            _, first = await anext(completed)
            # The end of the transaction may be on its way by then.
            assert proxy.round_trips - before in {trips, trips + 1}
        assert first == "quick"


async def test_more_queries_than_connections_use_no_more_connections(
    proxy: CountingProxy, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """A gather of a thousand opens as many connections as are allowed, not more."""
    gatherer = make_gatherer(proxy.url, max_connections=4)
    await gatherer.gather([text("SELECT 1")] * 1000)
    assert proxy.connections <= 4
