"""The pool that lends its connections to lanes without a checkout."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from wire import CountingProxy

from async_parallel import _pool

if TYPE_CHECKING:
    from collections.abc import Callable

    from async_parallel import QueryGatherer

PID = select(text("pg_backend_pid()"))


@pytest.fixture
def gatherer(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> QueryGatherer:
    """A gatherer with two connections."""
    return make_gatherer(postgres, max_connections=2)


def count(gatherer: QueryGatherer, name: str) -> list[int]:
    """A list that grows with each pool event of this name."""
    seen: list[int] = []
    event.listen(gatherer.engine.sync_engine, name, lambda *_: seen.append(1))
    return seen


async def test_lanes_use_connections_without_a_checkout_each(
    gatherer: QueryGatherer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between checks the pool is not asked, and what is parked counts as checked in."""
    monkeypatch.setattr(_pool, "_CHECK_INTERVAL", 3600)
    (first,) = await gatherer.gather(PID)
    pool: Any = gatherer.engine.sync_engine.pool
    get, asked = pool._do_get, []

    def count_and_get() -> Any:
        asked.append(1)
        return get()

    monkeypatch.setattr(pool, "_do_get", count_and_get)
    for _ in range(10):
        assert await gatherer.gather(PID) == (first,)
    assert asked == []
    status = gatherer.engine.pool.status()
    assert "Connections in pool: 1" in status
    assert "Current Checked out connections: 0" in status


async def test_a_connection_passes_the_pools_checks_again_after_a_while(
    gatherer: QueryGatherer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the interval a connection that is too old is replaced."""
    monkeypatch.setattr(_pool, "_CHECK_INTERVAL", 0)
    (first,) = await gatherer.gather(PID)
    assert await gatherer.gather(PID) == (first,)
    pool: Any = gatherer.engine.sync_engine.pool
    pool._recycle = 0
    (second,) = await gatherer.gather(PID)
    assert second != first


async def test_others_get_what_is_parked(gatherer: QueryGatherer) -> None:
    """A session of the application gets a parked connection, and opens none."""
    pids = {tuple(pid) for pid in await gatherer.gather(PID, PID)}
    async with (
        AsyncSession(gatherer.engine) as one,
        AsyncSession(gatherer.engine) as two,
    ):
        assert {(await one.scalar(PID),), (await two.scalar(PID),)} == pids


async def test_who_waits_for_a_connection_gets_the_next_one(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """A lane checks its connection in where somebody waits at the pool."""
    gatherer = make_gatherer(postgres, max_connections=1)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def hold(session: AsyncSession) -> Any:
        begun.set()
        await go_on.wait()
        return await session.scalar(PID)

    async def other() -> Any:
        async with AsyncSession(gatherer.engine) as session:
            return await session.scalar(PID)

    holding = asyncio.create_task(gatherer.gather(hold))
    await begun.wait()
    waiting = asyncio.create_task(other())
    await asyncio.sleep(0)
    go_on.set()
    (pid,) = await holding
    assert await asyncio.wait_for(waiting, timeout=10) == pid


@pytest.mark.parametrize("name", ["checkout", "checkin", "reset", "engine_connect"])
async def test_who_listens_to_the_pool_misses_nothing(
    name: str, gatherer: QueryGatherer
) -> None:
    """Where pool events are listened to, each lane causes them."""
    await gatherer.gather(PID)
    seen = count(gatherer, name)
    for _ in range(3):
        await gatherer.gather(PID)
    assert len(seen) >= 3
    pool: Any = gatherer.engine.sync_engine.pool
    assert not pool._parked


async def test_who_listens_to_statements_misses_nothing(
    gatherer: QueryGatherer,
) -> None:
    """A listener that comes later hears what runs on a parked connection."""
    await gatherer.gather(PID)
    seen = count(gatherer, "before_cursor_execute")
    await gatherer.gather(PID)
    assert seen == [1]


async def test_a_lost_connection_sends_all_parked_ones_through_the_checks(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """After a restart of the server one query is repeated, and all get answers."""
    async with CountingProxy(postgres) as proxy:
        gatherer = make_gatherer(proxy.url, max_connections=4)
        before = await gatherer.gather([PID] * 4)
        killer = make_gatherer(postgres)
        pids = ", ".join(str(pid) for (pid,) in before)
        end = text(f"SELECT pg_terminate_backend(p) FROM unnest(ARRAY[{pids}]) p")
        await killer.gather(end)
        # One query, so that its second try could meet another parked connection.
        assert (await gatherer.gather(PID))[0] not in before
        for _ in range(3):
            after = await gatherer.gather([PID] * 4)
            assert not {pid for (pid,) in after} & {pid for (pid,) in before}


async def test_disposing_of_the_engine_closes_what_is_parked(
    gatherer: QueryGatherer, backends: Callable[[str], int]
) -> None:
    """``dispose()`` closes all, and a lane that runs meanwhile spoils no count."""
    await gatherer.gather(PID, PID)

    async def dispose(session: AsyncSession) -> Any:
        await gatherer.engine.dispose()
        return await session.scalar(PID)

    (pid,) = await gatherer.gather(dispose)
    assert backends("true") <= 1
    assert await gatherer.gather(PID) != ([pid],)
    status = gatherer.engine.pool.status()
    assert "Current Checked out connections: 0" in status
