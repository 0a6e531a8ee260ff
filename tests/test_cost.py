"""What a gather costs in the process: calls of functions, and memory.

Counts instead of times, so that nothing here can flake. What it costs on the wire is in
``test_round_trips.py``.
"""

from __future__ import annotations

import asyncio
import cProfile
import gc
import pstats
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from shop import User
from sqlalchemy import event, orm, select

import async_parallel
from async_parallel import _holding

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncSession

    from async_parallel import QueryGatherer

PACKAGE = str(Path(async_parallel.__file__).parent)
ENTITIES = select(User).order_by(User.id)
ROWS = select(User.id, User.name).order_by(User.id)


@pytest.fixture(autouse=True)
def _as_in_production() -> None:
    """Without what debug mode of an earlier test has sessions note."""
    for name, note in _holding._NOTES.items():
        if event.contains(orm.Session, name, note):
            event.remove(orm.Session, name, note)


async def calls_for_each_query(
    gatherer: QueryGatherer, query: Any, queries: int
) -> tuple[float, float]:
    """Calls of this package's functions and of all Python and C ones, for a query."""
    rounds = max(1, 100 // queries)
    for _ in range(3):
        await gatherer.gather([query] * queries)
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(rounds):
        await gatherer.gather([query] * queries)
    profile.disable()
    stats: Any = pstats.Stats(profile)
    own = sum(
        called
        for (file, *_), (_, called, *_) in stats.stats.items()
        if file.startswith(PACKAGE)
    )
    return own / rounds / queries, stats.total_calls / rounds / queries


@pytest.mark.parametrize(
    ("query", "queries", "own_at_most", "all_at_most"),
    [
        pytest.param(ENTITIES, 5, 74, 500, id="five of entities"),
        pytest.param(ROWS, 5, 73, 460, id="five of rows"),
        pytest.param(ENTITIES, 1000, 46, 400, id="a thousand of entities"),
        pytest.param(ROWS, 1000, 45, 360, id="a thousand of rows"),
    ],
)
async def test_a_query_costs_no_more_calls_than_this(
    query: Any,
    queries: int,
    own_at_most: int,
    all_at_most: int,
    postgres: str,
    make_gatherer: Callable[..., QueryGatherer],
) -> None:
    """Function calls for each query are bounded, ours and all of them."""
    gatherer = make_gatherer(postgres, max_connections=5)
    own, every = await calls_for_each_query(gatherer, query, queries)
    assert own <= own_at_most
    assert every <= all_at_most


async def test_a_query_that_waits_costs_little_memory(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """A query in the queue takes less than 400 bytes: it has no task and no session."""
    gatherer = make_gatherer(postgres, max_connections=1)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def hold(_session: AsyncSession) -> None:
        begun.set()
        await go_on.wait()

    async def gather(queries: int) -> None:
        await gatherer.gather([hold, *[ROWS] * queries])

    warm = asyncio.create_task(gather(10))
    go_on.set()
    await warm
    begun.clear()
    go_on.clear()
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        waiting = asyncio.create_task(gather(2000))
        await begun.wait()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        go_on.set()
    await waiting
    assert (after - before) / 2000 < 400
