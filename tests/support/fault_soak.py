"""A soak: random steps on one gatherer, with the promises checked after each."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import sys
import threading
import time
import traceback
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from fault_promises import Ledger, check_act
from fault_steps import choose_step, until
from fault_tables import ITEMS, Item
from fault_writes import Queries
from sqlalchemy import func, select

from async_parallel import QueryGatherer, scalar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fault_databases import FaultDatabase
    from fault_steps import Step

CONNECTIONS = 4
# Seconds after which a step hangs: more than any wait of the package.
_PATIENCE = 30
_SHOWN = 5
# A collection finds what was dropped without being awaited or closed.
_STEPS_A_COLLECTION = 20
# asyncpg's own: a cancel while it asks a server for TLS, which it does by default,
# leaves a future that nobody awaits. It is seen without this package too.
_OF_ASYNCPG = "ConnectionError('unexpected connection_lost() call')"
# SQLAlchemy's own: a cancel while it closes a cursor has it closed twice.
_OF_SQLALCHEMY = "Error closing cursor"


class Soak:
    """Random steps on one gatherer; the same for the same seed.

    Args:
        database: Where, and what may happen to it.
        seed: Of all that is chosen.

    Attributes:
        seen: How often each error was raised, and each fault happened.
    """

    def __init__(self, database: FaultDatabase, seed: int) -> None:
        self._database = database
        self._seed = seed
        self.seen: Counter[str] = Counter()
        self.ledger = Ledger()
        self._complaints: list[str] = []
        self._steps: deque[str] = deque(maxlen=_SHOWN)

    async def run(self, steps: int) -> None:
        """Take so many steps.

        Raises:
            AssertionError: A promise was not kept.
        """
        await self._database.open()
        try:
            async with QueryGatherer(
                self._database.url, max_connections=CONNECTIONS
            ) as self._gatherer:
                with self._listening():
                    await self._take_all(steps)
        finally:
            await self._database.close()

    async def _take_all(self, steps: int) -> None:
        self._queries = Queries(
            self._gatherer, self._database.slow, deferred=self._database.deferred
        )
        await self._check_works()
        self._tasks, self._threads = asyncio.all_tasks(), threading.active_count()
        # Connections come and go, and each may have a thread.
        self._threads += self._database.threads * (CONNECTIONS - self._connected())
        for number in range(1, steps + 1):
            # Of its own, so that a step is the same whatever came before it.
            rng = random.Random(f"{self._seed} {number}")
            lowest = self._queries.next_id
            step = choose_step(rng, self._queries, self._database.faults)
            try:
                await self._take(step)
                await self._check(step, lowest)
                if number % _STEPS_A_COLLECTION == 0 or number == steps:
                    gc.collect()
                assert not self._complaints, "\n".join(self._complaints)
            except BaseException as error:
                error.add_note(self._where(number, step))
                raise
            self._steps.append(f"step {number}: {step}")
        self.ledger.check_all(await self._database.written(1))

    def _connected(self) -> int:
        pool: Any = self._gatherer.engine.pool
        return int(pool.checkedin() + pool.checkedout())

    async def _take(self, step: Step) -> None:
        under_way = [
            *[asyncio.create_task(act.run(self._gatherer)) for act in step.acts],
            asyncio.create_task(self._look(step)),
            *[asyncio.create_task(self._strike(*fault)) for fault in step.faults],
        ]
        _, hanging = await asyncio.wait(under_way, timeout=_PATIENCE)
        assert not hanging, f"it hangs: {hanging}"
        for task in under_way:
            task.result()
        self.seen.update(name for name, _, _ in step.faults)
        self.seen.update(type(act.error).__name__ for act in step.acts if act.error)

    async def _strike(self, fault: str, moment: float, which: float) -> None:
        await until(moment)
        await self._database.strike(fault, which)

    async def _look(self, step: Step) -> None:
        await until(step.look)
        if not {"fast", "immediate"} & {name for name, _, _ in step.faults}:
            await self._database.check_limit(CONNECTIONS)

    async def _check(self, step: Step, lowest: int) -> None:
        """Check all promises, first those that hold from the first moment on."""
        self._check_nothing_left()
        for act in step.acts:
            check_act(act, step)
        assert self._queries.running == 0, "a function still runs"
        assert self._queries.most_running <= CONNECTIONS, "too many ran at once"
        await self._database.check_rest()
        self.ledger.check(step, lowest, await self._database.written(lowest or 1))
        await self._check_works()
        self._check_nothing_left()
        await self._database.check_limit(CONNECTIONS)

    def _check_nothing_left(self) -> None:
        pool: Any = self._gatherer.engine.pool
        assert pool.checkedout() == 0, f"{pool.checkedout()} connections in use"
        tasks = asyncio.all_tasks() - self._tasks
        assert not tasks, f"tasks are left: {tasks}"
        # One that was told to end may need a moment.
        deadline = time.monotonic() + 0.2
        while threading.active_count() > self._threads and time.monotonic() < deadline:
            time.sleep(0.005)
        threads = [thread.name for thread in threading.enumerate()]
        assert len(threads) <= self._threads, f"threads are left: {threads}"

    async def _check_works(self) -> None:
        counts = [scalar(select(func.count(Item.id)))] * 5
        assert await self._gatherer.gather(counts) == [ITEMS] * 5

    def _where(self, number: int, step: Step) -> str:
        lines = "\n  ".join([*self._steps, f"step {number}: {step}"])
        return (
            f"ASYNC_PARALLEL_FAULT_SEED={self._seed}"
            f" ASYNC_PARALLEL_FAULT_STEPS={number} repeats it.\n  {lines}"
        )

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """Note what asyncio, loggers and the interpreter complain of."""
        loop, hook = asyncio.get_running_loop(), sys.unraisablehook
        handler = logging.Handler(logging.WARNING)
        handler.emit = self._note_record  # type: ignore[method-assign]
        handled = loop.get_exception_handler()
        loop.set_exception_handler(
            lambda _, context: self._note(context, context.get("exception"))
        )
        sys.unraisablehook = lambda what: self._note(what, what.exc_value)
        logging.getLogger().addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(handler)
            sys.unraisablehook = hook
            loop.set_exception_handler(handled)

    def _note(self, complaint: object, error: BaseException | None) -> None:
        if _OF_ASYNCPG not in f"{complaint!r}":
            where = "".join(traceback.format_exception(error)) if error else ""
            self._complaints.append(f"{complaint!r}\n{where}")

    def _note_record(self, record: logging.LogRecord) -> None:
        formatted = logging.Formatter("%(name)s %(levelname)s %(message)s")
        if record.getMessage() != _OF_SQLALCHEMY:
            self._complaints.append(formatted.format(record))
