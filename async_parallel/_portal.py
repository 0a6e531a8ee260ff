"""A thread with an event loop, and the processes that cannot have one."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

from .errors import HomeLoopError, PatchedProcessError


class Portal:
    """A thread that runs an event loop until it is stopped.

    Attributes:
        loop: The loop, which runs from the start.
        thread: The identifier of the thread.
    """

    def __init__(self) -> None:
        started = threading.Event()
        self._started = started
        self._thread = threading.Thread(
            target=self._main, name="async_parallel portal", daemon=True
        )
        self.loop: asyncio.AbstractEventLoop
        self.thread: int
        self._thread.start()
        started.wait()

    def stop(self) -> None:
        """Stop the loop and wait for the thread."""
        self.loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    def _main(self) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        self._stopped = asyncio.Event()
        self._started.set()
        await self._stopped.wait()


def refuse_patched_process() -> None:
    """Refuse to run beside gevent's or eventlet's replacements of the standard library.

    Raises:
        PatchedProcessError: ``socket`` is patched.
    """
    gevent: Any = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("socket"):
        raise PatchedProcessError("gevent")
    eventlet: Any = sys.modules.get("eventlet.patcher")
    if eventlet is not None and eventlet.is_monkey_patched("socket"):
        raise PatchedProcessError("eventlet")


def refuse_uwsgi_without_threads() -> None:
    """Refuse to start a thread that uwsgi would never let run.

    Raises:
        HomeLoopError: uwsgi runs without threads.
    """
    # The module exists only inside a uwsgi worker.
    uwsgi: Any = sys.modules.get("uwsgi")
    if uwsgi is None:
        return
    options = {name.decode() if isinstance(name, bytes) else name for name in uwsgi.opt}
    if not options & {"enable-threads", "threads"}:
        raise HomeLoopError(
            "uwsgi runs without threads, and the event loop needs one. Start it with"
            " --enable-threads."
        )
