"""Steps of random gathers, and what happens to them meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
from fault_tables import ApplicationError

from async_parallel import Query
from async_parallel.instrumentation import record_gathers

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from fault_tables import Asked
    from fault_writes import Queries

    from async_parallel import QueryGatherer
    from async_parallel.instrumentation import GatherReport

Moment = float | int
"""When: after so many seconds, or where it is an ``int`` turns of the loop."""

TIMEOUTS = [0.001, 0.003, 0.008, 0.02]
STOPS = ["cancel", "timeout", "scope", "sibling", "leave"]


@dataclass
class Act:
    """One gather, and how it is stopped.

    Attributes:
        asked: Its queries.
        options: The options of the call.
        stop: How it is stopped, or ``None``.
        moments: When: each is counted from the one before.
        results: By position, what the queries returned, or raised.
        error: What the gather raised.
        report: What the package says of it.
    """

    asked: list[Asked]
    options: dict[str, Any]
    stop: str | None
    moments: list[Moment]
    results: dict[int, Any] = field(default_factory=dict)
    error: BaseException | None = None
    report: GatherReport | None = None

    def __str__(self) -> str:
        options = ", ".join(f"{name}={self.options[name]}" for name in self.options)
        stop = f" {self.stop} at {self.moments}" if self.stop else ""
        kinds = ", ".join(
            asked.kind + (f" in {asked.timeout}" if asked.timeout else "")
            for asked in self.asked
        )
        return f"[{kinds}] {options}{stop} -> {self.error!r}"

    @property
    def repeatable(self) -> bool:
        """Whether all of it is run again where it has to be."""
        return (
            self.stop != "leave"
            and not self.options.get("return_exceptions")
            and all(asked.repeatable for asked in self.asked)
        )

    async def run(self, gatherer: QueryGatherer) -> None:
        """Run it to its end, and keep what came of it."""
        with record_gathers() as reports:
            try:
                await getattr(self, f"_until_{self.stop or 'end'}")(gatherer)
            except BaseException as error:  # noqa: BLE001 - it is judged later
                self.error = error
            self.report = reports[-1] if reports else None

    async def _until_end(self, gatherer: QueryGatherer) -> None:
        queries = [asked.query for asked in self.asked]
        results = await gatherer.gather(queries, **self.options)
        self.results = dict(enumerate(results))

    async def _until_cancel(self, gatherer: QueryGatherer) -> None:
        task = asyncio.ensure_future(self._until_end(gatherer))
        for moment in self.moments:
            await until(moment)
            task.cancel()
        await task

    async def _until_timeout(self, gatherer: QueryGatherer) -> None:
        async with asyncio.timeout(self.moments[0]):
            await self._until_end(gatherer)

    async def _until_scope(self, gatherer: QueryGatherer) -> None:
        with anyio.fail_after(self.moments[0]):
            await self._until_end(gatherer)

    async def _until_sibling(self, gatherer: QueryGatherer) -> None:
        async def fail() -> None:
            await until(self.moments[0])
            raise ApplicationError("of the sibling")

        async with asyncio.TaskGroup() as group:
            group.create_task(self._until_end(gatherer))
            group.create_task(fail())

    async def _until_leave(self, gatherer: QueryGatherer) -> None:
        queries = {number: asked.query for number, asked in enumerate(self.asked)}
        most = self.moments[0] if isinstance(self.moments[0], int) else 1
        results = gatherer.as_completed(queries, **self.options)
        async with contextlib.aclosing(results):
            async for number, result in results:
                self.results[number] = result
                if len(self.results) > most:
                    break


@dataclass
class Step:
    """Gathers at once, and what happens to the database meanwhile.

    Attributes:
        acts: The gathers.
        faults: What happens, when, and to whom, from 0 to 1.
        look: When the connections are counted.
    """

    acts: list[Act]
    faults: list[tuple[str, Moment, float]]
    look: Moment

    def __str__(self) -> str:
        faults = ", ".join(f"{name} at {moment}" for name, moment, _ in self.faults)
        return "\n    ".join([faults or "no fault", *map(str, self.acts)])


async def until(moment: Moment) -> None:
    """Wait until then: any await of the package may be where it strikes."""
    if isinstance(moment, float):
        await asyncio.sleep(moment)
        return
    for _ in range(moment):
        await asyncio.sleep(0)


def choose_step(rng: random.Random, queries: Queries, faults: Sequence[str]) -> Step:
    """A step at random; all is chosen before any of it runs."""
    count = rng.choice([1, 1, 1, 2, 3])
    acts = [_choose_act(rng, queries) for _ in range(count)]
    struck = rng.choice([0, 0, 0, 1, 1, 2])
    return Step(
        acts,
        [(rng.choice(faults), _moment(rng), rng.random()) for _ in range(struck)],
        _moment(rng),
    )


def _choose_act(rng: random.Random, queries: Queries) -> Act:
    write, failures = rng.random() < 0.35, rng.random() < 0.3
    options: dict[str, Any] = {}
    if write:
        options["read_only"] = False
    elif rng.random() < 0.3:
        options["snapshot"] = True
    if rng.random() < 0.15:
        options["timeout"] = rng.choice(TIMEOUTS)
    if rng.random() < 0.2:
        options["max_concurrency"] = rng.randint(1, 5)
    if rng.random() < 0.25:
        options["return_exceptions"] = True
    size = rng.randint(1, 12)
    asked = [queries.make(rng, failures=failures, write=write) for _ in range(size)]
    for each in asked:
        if rng.random() < 0.04 and not isinstance(each.query, Query):
            each.timeout = rng.choice(TIMEOUTS)
            each.query = Query(each.query, timeout=each.timeout)
    stop = rng.choice(STOPS) if rng.random() < 0.45 else None
    moments = [_moment(rng) for _ in range(rng.randint(1, 3))] if stop else []
    if stop in {"timeout", "scope"}:
        moments = [_seconds(rng)]
    return Act(asked, options, stop, moments)


def _moment(rng: random.Random) -> Moment:
    return rng.randint(0, 12) if rng.random() < 0.4 else _seconds(rng)


def _seconds(rng: random.Random) -> float:
    return rng.choice([rng.uniform(0.0001, 0.003), rng.uniform(0.001, 0.015)])
