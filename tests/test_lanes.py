"""Who may use a connection, in which order, and when one more is opened."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any

import pytest
from shop import User
from sqlalchemy import select, text

from async_parallel import Query, _lanes
from async_parallel._batch import Batch

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncSession

    from async_parallel import QueryGatherer
    from async_parallel._job import Job


async def test_a_turn_is_a_query_for_each_lane(
    postgres: str,
    make_gatherer: Callable[..., QueryGatherer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Waiting gathers take turns, in each of which one gets all lanes once."""
    gatherer, taken = make_gatherer(postgres, max_connections=2), []
    take = Batch.take

    def note(batch: Batch, lane: Any) -> Job:
        taken.append((job := take(batch, lane)).query.label)
        return job

    await gatherer.gather([text("SELECT 1")] * 2)
    monkeypatch.setattr(Batch, "take", note)
    query = select(User.name).where(User.id == 1)
    first = asyncio.create_task(gatherer.gather([Query(query, label="a")] * 6))
    second = asyncio.create_task(gatherer.gather([Query(query, label="b")] * 3))
    await asyncio.gather(first, second)
    assert "".join(taken) == "aa" + "aa" + "bb" + "aa" + "b"


async def test_no_more_lanes_open_while_the_loop_is_busy(
    postgres: str,
    make_gatherer: Callable[..., QueryGatherer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the processor is the limit, queries that wait get no more lanes."""
    monkeypatch.setattr(_lanes, "thread_time", time.perf_counter)  # all of the time
    monkeypatch.setattr(_lanes, "_STALL", math.inf)  # however slow this machine is
    gatherer, together = make_gatherer(postgres), asyncio.Barrier(5)

    async def meet(session: AsyncSession) -> None:
        await session.execute(text("SELECT pg_sleep(0.01)"))
        await together.wait()

    await gatherer.gather([meet] * 15)
    pool: Any = gatherer.engine.pool
    assert pool.checkedin() == 5


async def test_a_closed_gatherer_has_no_greenlet_left(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Greenlets that rest end when the gatherer is closed."""
    gatherer = make_gatherer(postgres)
    await gatherer.gather([text("SELECT 1")] * 3)
    resting = gatherer._runner._lanes.greenlets._resting  # type: ignore[union-attr]
    workers = list(resting)
    assert workers
    await gatherer.aclose()
    assert resting == []
    assert all(worker.dead for worker in workers)


async def test_lanes_that_wait_for_the_database_do_not_keep_others_waiting(
    postgres: str,
    make_gatherer: Callable[..., QueryGatherer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where nobody gets a turn, one more lane opens, however busy the loop is."""
    monkeypatch.setattr(_lanes, "thread_time", time.perf_counter)  # all of the time
    gatherer, go_on = make_gatherer(postgres), asyncio.Event()

    async def hold(_session: AsyncSession) -> None:
        await go_on.wait()

    held = asyncio.create_task(gatherer.gather([hold] * 5))
    await asyncio.sleep(0)
    assert await asyncio.wait_for(gatherer.gather(text("SELECT 1")), timeout=10)
    go_on.set()
    await held


async def test_a_lane_that_ended_before_it_began_leaves_nobody_waiting(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Where somebody cancels every task, the gathers that were not meant go on."""
    gatherer = make_gatherer(postgres, max_connections=1)
    first = asyncio.create_task(gatherer.gather(text("SELECT 1")))
    second = asyncio.create_task(gatherer.gather(text("SELECT 2")))
    await asyncio.sleep(0)
    (lane,) = [t for t in asyncio.all_tasks() if t.get_name() == "async_parallel lane"]
    lane.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (await asyncio.wait_for(second, timeout=10))[0][0][0] == 2
