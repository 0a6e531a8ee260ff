"""End a gather at each point where it suspends, and look at what it leaves."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import text
from suspensions import Suspensions

from async_parallel import QueryGatherer
from async_parallel.errors import GatherTimeoutError

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Iterator,
        Sequence,
    )

    from observers import Observer
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

PATIENCE = 10
"""Seconds after which a gather is taken to hang."""

_PROBE = text("SELECT 1")
_NEVER = 3600


class Ending(Protocol):
    """One way to end a gather early, for one gather.

    Attributes:
        at_arrival: See ``Suspensions.begin``.
        error: What the gather then raises.
        struck: Whether it was ended early.
        task: The gather.
    """

    at_arrival: bool
    error: type[BaseException]
    struck: bool
    task: asyncio.Task[Any]

    def start(
        self, gatherer: QueryGatherer, queries: Sequence[Any], **options: Any
    ) -> None:
        """Start the gather."""

    def strike(self) -> None:
        """End it."""

    def actions(self, point: int) -> dict[int, Callable[[], object]]:
        """What to do at which points to end it at ``point``."""


class Cancel(Ending):
    """Cancel the task, and perhaps once more.

    Args:
        again: How many points later; 0 is the next turn of the loop.
    """

    at_arrival = False
    error = asyncio.CancelledError

    def __init__(self, again: int | None = None) -> None:
        self.struck = False
        self._again = again

    def start(
        self, gatherer: QueryGatherer, queries: Sequence[Any], **options: Any
    ) -> None:
        self.task = asyncio.create_task(gatherer.gather(list(queries), **options))

    def strike(self) -> None:
        self.struck |= self.task.cancel()
        if self._again == 0:
            asyncio.get_running_loop().call_soon(self.task.cancel)

    def actions(self, point: int) -> dict[int, Callable[[], object]]:
        return {point + (self._again or 0): self._strike_again, point: self.strike}

    def _strike_again(self) -> None:
        self.task.cancel()


class Deadline(Ending):
    """Let the deadline pass."""

    at_arrival = True
    error = GatherTimeoutError

    def __init__(self) -> None:
        self.struck = False

    def start(
        self, gatherer: QueryGatherer, queries: Sequence[Any], **options: Any
    ) -> None:
        self._running = gatherer._runner._batches
        self.task = asyncio.create_task(gatherer.gather(list(queries), **options))

    def strike(self) -> None:
        for batch in list(self._running):
            self.struck = True
            batch.time_out(_NEVER)

    def actions(self, point: int) -> dict[int, Callable[[], object]]:
        return {point: self.strike}


class Failure(Ending):
    """Let one more query fail, beside the others."""

    at_arrival = False
    error = LookupError

    def __init__(self) -> None:
        self.struck = False
        self._go_on = asyncio.Event()

    def start(
        self, gatherer: QueryGatherer, queries: Sequence[Any], **options: Any
    ) -> None:
        self.task = asyncio.create_task(self._gather(gatherer, queries, **options))

    def strike(self) -> None:
        self.struck |= not self._go_on.is_set()
        self._go_on.set()

    def actions(self, point: int) -> dict[int, Callable[[], object]]:
        return {point: self.strike}

    async def _gather(
        self, gatherer: QueryGatherer, queries: Sequence[Any], **options: Any
    ) -> list[Any]:
        results: dict[int, Any] = {}
        async with contextlib.aclosing(
            gatherer.as_completed(*queries, self._fail, **options)
        ) as completed:
            async for position, result in completed:
                results[position] = result
                if len(results) == len(queries):
                    self._go_on.set()
        return [results[position] for position in range(len(queries))]

    async def _fail(self, _session: AsyncSession) -> None:
        await self._go_on.wait()
        if self.struck:
            raise LookupError


class Sweep:
    """One kind of gather, which is ended at each of its points in turn.

    Attributes:
        points: How many there were.
        phases: What the queries were doing there.
        all_ran: Whether at last all of the endless queries ran.

    Args:
        observer: Of its database.
        queries: Of the gather.
        result: What each of them gives; ``None`` where they are endless.
        warm: Whether the connections are open already; else the gatherer is new.
        engine: Makes the engine, where it is not the gatherer's own.
        check: What else to check of the engine each time.
        options: Further arguments of the gather that is ended.
    """

    def __init__(
        self,
        observer: Observer,
        queries: Sequence[Any],
        result: Any,
        *,
        warm: bool,
        engine: Callable[[], AsyncEngine] | None = None,
        check: Callable[[AsyncEngine], Awaitable[None]] | None = None,
        **options: Any,
    ) -> None:
        self.points = 0
        self.all_ran = False
        self._observer = observer
        self._queries = list(queries)
        self._results = [result] * len(queries)
        self._is_endless = result is None
        self._warm = warm
        self._engine = engine
        self._check = check
        self._options = options
        self._suspensions = Suspensions()
        self.phases = self._suspensions.phases

    async def run(self, make: Callable[[], Ending]) -> None:
        """End a gather at point 1, the next at 2, until one does not get so far."""
        self.points = 0
        with complaints() as complained:
            async with contextlib.AsyncExitStack() as stack:
                gatherer = await stack.enter_async_context(self._gatherer())
                while await self._end(gatherer, make(), self.points + 1):
                    self.points += 1
                    if not self._warm:
                        await stack.aclose()
                        gatherer = await stack.enter_async_context(self._gatherer())
        assert complained == [], "\n".join(complained)

    @contextlib.asynccontextmanager
    async def _gatherer(self) -> AsyncIterator[QueryGatherer]:
        engine = self._engine() if self._engine else None
        async with QueryGatherer(engine or self._observer.url) as gatherer:
            self._suspensions.watch(gatherer.engine.dialect)
            if self._warm:
                await self._check_answers(gatherer)
            yield gatherer
        if engine is not None:
            await engine.dispose()

    async def _end(self, gatherer: QueryGatherer, ending: Ending, point: int) -> bool:
        """Whether the gather was ended at ``point``, and not before or after."""
        before = asyncio.all_tasks()
        with self._suspensions.counted():
            ending.start(gatherer, self._queries, **self._options)
            actions = ending.actions(point)
            self._suspensions.begin(actions, at_arrival=ending.at_arrival)
            async with asyncio.timeout(PATIENCE):
                await self._wait_until_all_run(ending)
                await asyncio.wait([ending.task])
        self._check_clean(gatherer, before, f"ended at point {point}")
        if ending.struck:
            assert outcome(ending.task) is ending.error
        else:
            assert ending.task.result() == self._results
        await self._check_answers(gatherer)
        return ending.struck and not self.all_ran

    async def _wait_until_all_run(self, ending: Ending) -> None:
        """End endless queries that all run, since they get no further."""
        while self._is_endless and not ending.struck:
            await asyncio.sleep(0)
            if self._observer.running() == len(self._queries):
                self.all_ran = True
                ending.strike()

    def _check_clean(
        self, gatherer: QueryGatherer, before: set[asyncio.Task[Any]], when: str
    ) -> None:
        tasks = asyncio.all_tasks() - before
        assert not tasks, f"{when}: {tasks}"
        in_use: int = gatherer.engine.pool.checkedout()  # type: ignore[attr-defined]
        assert in_use == 0, f"{when}: {in_use} connections"
        left = self._observer.left()
        assert not left, f"{when}: {left}"

    async def _check_answers(self, gatherer: QueryGatherer) -> None:
        if self._is_endless:
            assert await gatherer.gather([_PROBE] * len(self._queries))
        else:
            assert await gatherer.gather(self._queries) == self._results
        if self._check is not None:
            await self._check(gatherer.engine)


def outcome(task: asyncio.Task[Any]) -> type[object]:
    """The class of the exception that ended ``task``."""
    if task.cancelled():
        return asyncio.CancelledError
    return type(task.exception())


@contextlib.contextmanager
def complaints() -> Iterator[list[str]]:
    """What the event loop complains of meanwhile, or whoever writes to the log."""
    complained: list[str] = []
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    logged = logging.Handler(logging.WARNING)
    logged.emit = lambda record: complained.append(record.getMessage())  # type: ignore[method-assign]
    loop.set_exception_handler(lambda _, context: complained.append(str(context)))
    logging.getLogger().addHandler(logged)
    try:
        yield complained
        gc.collect()  # of an error that nobody looked at is told when it goes
    finally:
        logging.getLogger().removeHandler(logged)
        loop.set_exception_handler(handler)
