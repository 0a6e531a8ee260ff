"""Waiting for what must not be left alone, even by who is cancelled."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


async def wait_for_end(future: asyncio.Future[T]) -> T:
    """The result of ``future``, which a cancel of the waiting task does not cancel.

    The cancel is raised after ``future`` has ended.
    """
    await until_done(future)
    return future.result()


async def until_done(future: asyncio.Future[Any]) -> None:
    """Wait for ``future``, also when cancelled, and only then raise the cancel."""
    cancelled: asyncio.CancelledError | None = None
    loop = asyncio.get_running_loop()
    while not future.done():
        woken: asyncio.Future[None] = loop.create_future()
        wake = functools.partial(_wake, woken)
        future.add_done_callback(wake)
        try:
            await woken
        except asyncio.CancelledError as error:
            cancelled = cancelled or error
            future.remove_done_callback(wake)
    if cancelled is not None:
        if not future.cancelled():
            future.exception()  # seen
        raise cancelled


async def contained(
    function: Callable[..., Awaitable[T]], *args: Any
) -> tuple[T, None] | tuple[None, BaseException]:
    """What ``function`` returns, or the exit that it asks for.

    Raised in a task, that would end the loop. The coroutine is made here, because a
    task that is cancelled before its first step would never await it.
    """
    try:
        return await function(*args), None
    except (SystemExit, KeyboardInterrupt) as error:
        return None, error


def _wake(woken: asyncio.Future[None], _future: object) -> None:
    if not woken.done():
        woken.set_result(None)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that runs on this thread, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
