"""Threads for the synchronous functions of requests, one for each request at a time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING

from ._waiting import until_done

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    Call = Callable[[], object]


class Worker:
    """A thread that runs one function after another.

    A daemon: at the interpreter's end nobody waits for what a function waits for.
    """

    def __init__(self, number: int) -> None:
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._thread = threading.Thread(
            target=self._work, name=f"async_parallel worker_{number}", daemon=True
        )
        self._thread.start()

    @property
    def is_current(self) -> bool:
        """Whether this code runs on the thread."""
        return threading.current_thread() is self._thread

    async def run(self, function: Call) -> None:
        """Run ``function``, which raises nothing, and wait for its end.

        A cancel is raised after that: nothing of a request goes on beside it.
        """
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def call() -> None:
            function()
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(ended.set_result, None)

        self._calls.put(call)
        await until_done(ended)

    def work_until_done(self, outcome: Future[object]) -> None:
        """Run functions until ``outcome`` is there; on the thread itself.

        What its function waits for may call other functions of the same request.
        """
        outcome.add_done_callback(lambda _: self._calls.put(_nothing))
        while not outcome.done():
            call = self._calls.get()
            if call is not None:
                call()

    def stop(self) -> None:
        """Have the thread end after what it runs."""
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            del call  # it would keep its request until the next


class Workers:
    """The workers of an event loop, each lent to one request until that has ended.

    So thread-local state is a request's own, as it is under WSGI: the scoped session
    that a view uses is the one that a teardown function removes.

    Args:
        max_threads: How many there may be; a further request waits for one.
    """

    def __init__(self, max_threads: int) -> None:
        self._limit = max_threads
        self._numbers = itertools.count()
        self._idle: list[Worker] = []
        self._lent: set[Worker] = set()
        self._waiting: deque[asyncio.Future[Worker]] = deque()
        self._returned = asyncio.Event()
        self._closed = False

    async def take(self) -> Worker:
        """A worker for a request; wait where all are lent.

        Raises:
            RuntimeError: The server shuts down.
        """
        if self._idle:
            worker = self._idle.pop()
        elif len(self._lent) < self._limit and not self._closed:
            worker = Worker(next(self._numbers))
        else:
            worker = await self._wait()
        self._lent.add(worker)
        return worker

    def give_back(self, worker: Worker) -> None:
        """Lend it to who waits first, or let it rest."""
        self._lent.discard(worker)
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                self._lent.add(worker)
                waiter.set_result(worker)
                return
        if self._closed:
            worker.stop()
        else:
            self._idle.append(worker)
        self._returned.set()

    async def shut_down(self, timeout: float) -> int:
        """End the threads; who waits for one gets an error.

        Args:
            timeout: Seconds to wait for those that are lent.

        Returns:
            How many are lent still.
        """
        self._closed = True
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(_shutting_down())
        while self._idle:
            self._idle.pop().stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._lent:
                    self._returned.clear()
                    await self._returned.wait()
        return len(self._lent)

    async def _wait(self) -> Worker:
        if self._closed:
            raise _shutting_down()
        waiter: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and not waiter.exception():
                self.give_back(waiter.result())
            raise


def _nothing() -> None:
    pass


def _shutting_down() -> RuntimeError:
    return RuntimeError("The server shuts down, and no thread is free for the request.")
