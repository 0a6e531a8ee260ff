"""Responses that are made by async iterators."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import ClientDisconnected

from ._serving import await_here, is_serving, served_request

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Block = Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]
    Keep = Callable[[Iterator[Any]], Iterator[Any]]

_END = object()


class AsyncStream(Iterator[Any]):
    """A synchronous iterator over an async one, which runs on the home loop.

    In a request's greenlet waiting for an item suspends the greenlet; elsewhere it
    blocks the thread. The request's context is kept until the end, for there is no
    other way to have it: Flask's ``stream_with_context`` knows no async iterators.
    When the client of a request goes, what the iterator awaits is cancelled.

    Args:
        source: The async iterator.
        block: Runs a coroutine function on the home loop from a thread.
        keep: Keeps the context of the request for an iterator.
    """

    def __init__(self, source: AsyncIterator[Any], block: Block, keep: Keep) -> None:
        self._source = source
        self._block = block
        self._items: Any = keep(self._iterate())
        request = served_request.get(None)
        if request is not None:
            request.stream = self

    def __next__(self) -> Any:
        return next(self._items)

    def close(self) -> None:
        """End the iterator, wherever it is."""
        self._items.close()  # which leaves the context that it kept
        close = getattr(self._source, "aclose", None)
        if close is not None:
            self._run(close)

    def _iterate(self) -> Iterator[Any]:
        while (item := self._run(self._next)) is not _END:
            yield item

    def _run(self, function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return await_here(function()) if is_serving() else self._block(function)

    async def _next(self) -> Any:
        request = served_request.get(None)
        if request is None:
            return await anext(self._source, _END)
        interruption = Interruption()
        request.client.watch(interruption.interrupt)
        try:
            return await anext(self._source, _END)
        except asyncio.CancelledError:
            if interruption.is_all():
                raise ClientDisconnected from None
            raise
        finally:
            request.client.unwatch(interruption.interrupt)


class Interruption:
    """Cancels the running task once, and knows whether nobody else did."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("An async stream is iterated over outside any task.")
        self._task = task
        self._before = task.cancelling()
        self._done = False

    def interrupt(self, _reason: object) -> None:
        """Cancel the task."""
        self._done = True
        self._task.cancel()

    def is_all(self) -> bool:
        """Take the cancel back; whether it was the only one."""
        return self._done and self._task.uncancel() <= self._before


def streamable(value: Any, block: Block, keep: Keep) -> Any:
    """What a view returned, with an async iterator made fit for WSGI.

    The iterator may be all of it, or the first of a tuple with status and headers, or
    what a ``Response`` is made of.
    """
    if isinstance(value, AsyncIterator):
        return AsyncStream(value, block, keep)
    if isinstance(value, tuple) and value and isinstance(value[0], AsyncIterator):
        return AsyncStream(value[0], block, keep), *value[1:]
    if isinstance(getattr(value, "response", None), AsyncIterator):
        value.response = AsyncStream(value.response, block, keep)
    return value
