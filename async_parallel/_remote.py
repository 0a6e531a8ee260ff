"""One call of a coroutine function on the event loop of another thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ._waiting import contained
from .errors import GathererClosedError, HomeLoopError

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


class RemoteCall(Generic[T]):
    """One coroutine on another thread's loop, and its outcome.

    Args:
        loop: Where it runs.
        context: What it runs in.
        function: Makes the coroutine, on that loop.
        args: Its arguments.
        owner: How errors name whose call it is.

    Raises:
        GathererClosedError: The loop is closed.
        HomeLoopError: The loop is not running.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context,
        function: Callable[..., Coroutine[Any, Any, T]],
        args: tuple[Any, ...],
        owner: str,
    ) -> None:
        self.outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._loop = loop
        self._context = context
        self._function = function
        self._args = args
        self._owner = owner
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False
        if not loop.is_running():
            raise HomeLoopError(
                f"The event loop that {owner} lives on is not running, so nothing can"
                " be run on it now. Call from a coroutine on it, or close first."
            )
        try:
            loop.call_soon_threadsafe(self._start)
        except RuntimeError as error:
            raise GathererClosedError(owner) from error

    def result(self) -> T:
        """Its result, for synchronous code; blocks until it is there.

        An exception such as ``KeyboardInterrupt`` cancels the coroutine first.

        Raises:
            GathererClosedError: The loop was stopped meanwhile.
        """
        try:
            return self.outcome.result()
        except asyncio.CancelledError as error:
            raise GathererClosedError(self._owner) from error
        except BaseException:
            if not self.outcome.done():
                self.cancel()
                concurrent.futures.wait([self.outcome])
            raise

    def cancel(self) -> None:
        """Cancel the coroutine; only the first call does anything."""
        if not self._cancelled:
            self._cancelled = True
            self._loop.call_soon_threadsafe(self._cancel)

    async def wait(self) -> T:
        """Its result, for a coroutine on the caller's loop.

        A cancel is forwarded once, and raised when all is clean over there.
        """
        here = asyncio.get_running_loop()
        cancelled: asyncio.CancelledError | None = None
        while not self.outcome.done():
            arrived: asyncio.Future[None] = here.create_future()
            self.outcome.add_done_callback(_waker(here, arrived))
            try:
                await arrived
            except asyncio.CancelledError as error:
                cancelled = cancelled or error
                self.cancel()
        if cancelled is not None:
            for note in getattr(self.outcome.exception(), "__notes__", ()):
                cancelled.add_note(note)  # such as what was committed
            raise cancelled
        return self.outcome.result()

    def _start(self) -> None:
        try:
            coroutine = contained(self._function, *self._args)
            self._task = self._loop.create_task(coroutine, context=self._context)
        except BaseException as error:  # noqa: BLE001 - wrong arguments, say
            self.outcome.set_exception(error)
            return
        self._task.add_done_callback(self._settle)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _settle(self, task: asyncio.Task[Any]) -> None:
        try:
            error = task.exception()
        except asyncio.CancelledError as cancelled:  # with its notes
            error = cancelled
        if error is not None:
            self.outcome.set_exception(error)
        else:
            value, exit_ = task.result()
            if exit_ is not None:
                self.outcome.set_exception(exit_)
            else:
                self.outcome.set_result(value)


def _waker(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]
) -> Callable[[object], None]:
    def wake() -> None:
        if not future.done():
            future.set_result(None)

    def arrive(_: object) -> None:
        loop.call_soon_threadsafe(wake)

    return arrive
