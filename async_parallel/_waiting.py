"""Waiting for what must not be left alone, even by who is cancelled."""

from __future__ import annotations

import asyncio
from typing import TypeVar

T = TypeVar("T")


async def wait_for_end(future: asyncio.Future[T]) -> T:
    """The result of ``future``, which a cancel of the waiting task does not cancel.

    The cancel is raised after ``future`` has ended.
    """
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = cancelled or error
    if cancelled is not None:
        future.exception()
        raise cancelled
    return future.result()
