"""Responses that are made by async iterators."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from ._serving import await_here, is_serving, served_request
from ._sources import isa

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
        self._close_source()  # where it had not begun

    def _iterate(self) -> Iterator[Any]:
        try:
            while (item := self._run(self._next)) is not _END:
                yield item
        finally:
            self._close_source()

    def _close_source(self) -> None:
        close = getattr(self._source, "aclose", None)
        if close is not None:
            self._run(close)

    def _run(self, function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return await_here(function()) if is_serving() else self._block(function)

    async def _next(self) -> Any:
        request = served_request.get(None)
        if request is None:
            return await anext(self._source, _END)
        return await request.client.while_there(anext, self._source, _END)


def streamable(value: Any, block: Block, keep: Keep) -> Any:
    """What a view returned, with an async iterator made fit for WSGI.

    The iterator may be all of it, or the first of a tuple with status and headers, or
    what a ``Response`` is made of.
    """
    if isa(value, AsyncIterator):
        return AsyncStream(value, block, keep)
    if isa(value, tuple) and value and isa(value[0], AsyncIterator):
        return AsyncStream(value[0], block, keep), *value[1:]
    if isa(getattr(value, "response", None), AsyncIterator):
        value.response = AsyncStream(value.response, block, keep)
    return value
