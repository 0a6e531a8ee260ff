"""The threads in which the synchronous functions of requests run."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from ._waiting import until_done

if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds that a function of a request that has begun waits for a thread.
_PATIENCE = 0.05
# Threads beyond the limit, for what would otherwise wait for itself.
_MOST_FURTHER = 1000


class Workers:
    """A bounded pool of threads in which nothing waits for itself.

    A function that runs may wait for what another request holds, such as a connection
    of a pool, and that request may need a thread to give it back. So only the first
    function of a request waits until one of ``max_threads`` is free: it holds nothing
    yet. A later one gets a further thread where that takes too long, and one that is
    called inside another of the same request, whose thread does nothing but wait for
    it, gets one at once.

    Args:
        max_threads: How many functions may run at once.
    """

    def __init__(self, max_threads: int) -> None:
        self._threads = ThreadPoolExecutor(max_threads, "async_parallel worker")
        self._further = ThreadPoolExecutor(
            _MOST_FURTHER, "async_parallel further worker"
        )
        self._running: set[Future[None]] = set()

    async def run(
        self, function: Callable[[], None], *, begun: bool, inside: bool
    ) -> None:
        """Run ``function``, which raises nothing, and wait for its end.

        Args:
            function: What to run.
            begun: Whether a function of the same request ran before.
            inside: Whether one waits for this one.
        """
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def run() -> None:
            function()
            loop.call_soon_threadsafe(ended.set_result, None)

        call = self._submit(self._further if inside else self._threads, run)
        patience: asyncio.TimerHandle | None = None
        if begun and not inside:
            patience = loop.call_later(_PATIENCE, self._hurry, call, run)
        try:
            await until_done(ended)
        finally:
            if patience is not None:
                patience.cancel()

    async def shut_down(self, timeout: float) -> int:
        """Wait at most ``timeout`` seconds; return how many functions still run."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._further.shutdown(wait=False, cancel_futures=True)
        running = [asyncio.wrap_future(call) for call in self._running]
        if not running:
            return 0
        _, late = await asyncio.wait(running, timeout=timeout)
        return len(late)

    def _submit(
        self, threads: ThreadPoolExecutor, function: Callable[[], None]
    ) -> Future[None]:
        call = threads.submit(function)
        self._running.add(call)
        call.add_done_callback(self._running.discard)
        return call

    def _hurry(self, call: Future[None], function: Callable[[], None]) -> None:
        if call.cancel():  # it has not begun
            self._submit(self._further, function)
