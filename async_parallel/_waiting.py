"""Waiting for what must not be left alone, even by who is cancelled."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

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
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = cancelled or error
    if cancelled is not None:
        if not future.cancelled():
            future.exception()  # seen
        raise cancelled


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that runs on this thread, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
