"""Find what blocks the event loop, in debug mode."""

from __future__ import annotations

import logging
import sys
import sysconfig
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from types import FrameType

_logger = logging.getLogger("async_parallel")

_LIMIT = 0.1
_PAUSE = 0.05
_LIBRARIES = tuple(
    {
        sysconfig.get_path(name)
        for name in ("stdlib", "platstdlib", "purelib", "platlib")
    }
    | {str(Path(__file__).parent)}
)


class BlockingWatch:
    """A thread that asks an event loop for a sign of life, and names what holds it.

    Args:
        loop: The loop.
        thread: The identifier of the thread on which it runs.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        self._loop = loop
        self._watched = thread
        self._alive = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._watch, name="async_parallel blocking watch", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for it."""
        self._stopped.set()
        self._alive.set()  # it need not wait for the loop, which waits for it
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(_PAUSE):
            self._alive.clear()
            try:
                self._loop.call_soon_threadsafe(self._alive.set)
            except RuntimeError:
                return  # the loop is closed
            if not self._alive.wait(_LIMIT) and not self._stopped.is_set():
                self._warn()
                while not (self._alive.wait(_LIMIT) or self._stopped.is_set()):
                    pass

    def _warn(self) -> None:
        system: Any = sys
        frame = system._current_frames().get(self._watched)  # noqa: SLF001 - no other way
        if frame is None or not self._loop.is_running():
            return
        guilty = _of_the_application(frame)
        _logger.warning(
            "'%s' (%s, line %d) has held the event loop for more than %d ms, and every"
            " other request waits. Await what it waits for, or do it in a plain 'def'"
            " without 'nonblocking', which runs in a worker thread under ASGIAdapter.",
            guilty.f_code.co_qualname,
            guilty.f_code.co_filename,
            guilty.f_lineno,
            _LIMIT * 1000,
        )


def _of_the_application(innermost: FrameType) -> FrameType:
    """The innermost frame that is of no library; the innermost where all are."""
    frame: FrameType | None = innermost
    while frame is not None:
        if not frame.f_code.co_filename.startswith(_LIBRARIES):
            return frame
        frame = frame.f_back
    return innermost
