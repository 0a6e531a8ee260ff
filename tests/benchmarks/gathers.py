"""Gathers in one process: all contestants in turn, in several rounds."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import time
from typing import TYPE_CHECKING, Any

from contestants import CONTESTANTS, OURS, STATEMENTS
from results import Figure
from shelves import CONNECTIONS

from async_parallel import QueryGatherer

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import URL

# Gathers in a batch, and of how many rounds one has it, by the number of queries.
GATHERS = {1: (30, 1), 5: (15, 1), 50: (4, 3), 1000: (1, 6)}
SLEEPS = (2, 6)
LOCAL = [
    *[(kind, queries) for kind in ("entities", "rows") for queries in GATHERS],
    ("sleep", 1),
    ("sleep", 5),
]
ALONE = ("values", "rows", "entities")
IN_SNAPSHOT = (*ALONE, "sleep")
SLOW = [("entities", 5), ("rows", 5)]


def steps(tasks: list[tuple[str, int]], rounds: int) -> int:
    """How many batches there will be."""
    return sum(len(CONTESTANTS) * size(*task, rounds)[1] for task in tasks)


def size(kind: str, queries: int, rounds: int) -> tuple[int, int]:
    """How many gathers make a batch, and how many rounds there are."""
    gathers, every = SLEEPS if kind == "sleep" else GATHERS[queries]
    return gathers, max(2, rounds // every)


async def measure(
    part: str,
    url: URL,
    tasks: list[tuple[str, int]],
    rounds: int,
    advance: Callable[[str], None],
) -> list[Figure]:
    """All contestants at all tasks."""
    figures: list[Figure] = []
    async with contextlib.AsyncExitStack() as stack:
        gather = {
            name: await stack.enter_async_context(make(url))
            for name, make in CONTESTANTS.items()
        }
        for kind, queries in tasks:
            title = f"{queries} x {kind}"
            taken = {name: Figure(part, title, name) for name in CONTESTANTS}
            figures += taken.values()
            gathers, some_rounds = size(kind, queries, rounds)
            for name in CONTESTANTS:
                await batch(gather[name], kind, queries, gathers)  # warm up
            for _ in range(some_rounds):
                gc.collect()
                for name in random.sample(list(CONTESTANTS), len(CONTESTANTS)):
                    advance(f"{part}: {title}: {name}")
                    times = await batch(gather[name], kind, queries, gathers)
                    taken[name].add(times)
    return figures


async def batch(gather: Any, kind: str, queries: int, gathers: int) -> list[float]:
    """The milliseconds that each of several gathers takes."""
    times: list[float] = []
    for _ in range(gathers):
        began = time.perf_counter()
        results = await gather(kind, queries)
        times.append((time.perf_counter() - began) * 1000)
        if len(results) != queries:
            raise RuntimeError(f"{queries} queries gave {len(results)} results")
    return times


async def fairness(
    url: URL, rounds: int, advance: Callable[[str], None]
) -> list[Figure]:
    """A gather of five alone, and while gathers of a thousand run."""
    figures: list[Figure] = []
    for kind in ALONE:
        alone = Figure("fairness", f"5 x {kind}", "alone")
        beside = Figure("fairness", f"5 x {kind}", "beside a gather of 1000")
        async with QueryGatherer(url, max_connections=CONNECTIONS) as gatherer:
            await small(gatherer, kind)
            for _ in range(rounds):
                advance(f"fairness: {kind}")
                alone.add(await small(gatherer, kind))
                ended = asyncio.Event()
                big = asyncio.create_task(many(gatherer, kind, ended))
                beside.add(await small(gatherer, kind))
                ended.set()
                await big
        figures += [alone, beside]
    return figures


async def small(gatherer: QueryGatherer, kind: str) -> list[float]:
    """The milliseconds that each of several gathers of five takes."""
    times: list[float] = []
    for _ in range(200):
        began = time.perf_counter()
        await gatherer.gather(STATEMENTS[kind][:5])
        times.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.001)
    return times


async def many(gatherer: QueryGatherer, kind: str, ended: asyncio.Event) -> None:
    """Gathers of a thousand, one after another."""
    while not ended.is_set():
        await gatherer.gather(STATEMENTS[kind])


async def snapshots(
    url: URL, rounds: int, advance: Callable[[str], None]
) -> list[Figure]:
    """A gather of five by itself and in one snapshot, in turn."""
    figures: list[Figure] = []
    async with QueryGatherer(url, max_connections=CONNECTIONS) as gatherer:
        for kind in IN_SNAPSHOT:
            gathers = SLEEPS[0] if kind == "sleep" else GATHERS[5][0]
            taken = {
                snapshot: Figure("snapshot", f"5 x {kind}", name)
                for snapshot, name in ((False, "without"), (True, "with"))
            }
            figures += taken.values()
            for _ in range(rounds):
                advance(f"snapshot: {kind}")
                for snapshot in random.sample([False, True], 2):
                    times = await five(gatherer, kind, gathers, snapshot=snapshot)
                    taken[snapshot].add(times)
    return figures


async def five(
    gatherer: QueryGatherer, kind: str, gathers: int, *, snapshot: bool
) -> list[float]:
    """The milliseconds that each of several gathers of five takes."""
    times: list[float] = []
    for _ in range(gathers):
        began = time.perf_counter()
        await gatherer.gather(STATEMENTS[kind][:5], snapshot=snapshot)
        times.append((time.perf_counter() - began) * 1000)
    return times


async def processor(
    url: URL, rounds: int, advance: Callable[[str], None]
) -> list[Figure]:
    """Processor milliseconds for each query, in gathers of five and of a thousand."""
    figures: list[Figure] = []
    async with QueryGatherer(url, max_connections=CONNECTIONS) as gatherer:
        for kind in ALONE:
            taken = {
                queries: Figure("processor", f"one of {queries} x {kind}", OURS)
                for queries in (5, 1000)
            }
            figures += taken.values()
            await gatherer.gather(STATEMENTS[kind])
            for _ in range(rounds):
                advance(f"processor: {kind}")
                for queries, figure in taken.items():
                    gc.collect()
                    began = time.process_time()
                    for first in range(0, 1000, queries):
                        some = STATEMENTS[kind][first : first + queries]
                        await gatherer.gather(some)
                    figure.add([time.process_time() - began])
    return figures
