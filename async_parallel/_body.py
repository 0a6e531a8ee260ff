"""The request's body as WSGI wants it: a file, read from the client as it is read."""

from __future__ import annotations

import asyncio
import contextlib
import io
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import ClientDisconnected

from ._serving import await_here, is_serving
from ._waiting import running_loop
from .errors import HomeLoopError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from ._client import Client

_BUFFER = 64 * 1024


class Body:
    """``wsgi.input``: the file methods that PEP 3333 asks for.

    The buffer is made when something is read, which most requests never do.
    """

    __slots__ = ("_client", "_file", "_reading")

    def __init__(self, client: Client) -> None:
        self._client = client
        self._file: io.BufferedReader | None = None
        self._reading = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Read ``size`` bytes, or all that is to come."""
        with self._exclusively() as file:
            return file.read(size)

    def read1(self, size: int = -1, /) -> bytes:
        """Read what is there, waiting only where nothing is."""
        with self._exclusively() as file:
            return file.read1(size)

    def readinto(self, buffer: Any, /) -> int:
        """Read into ``buffer``."""
        with self._exclusively() as file:
            return file.readinto(buffer)

    def readline(self, size: int | None = -1, /) -> bytes:
        """Read to the end of the line, or ``size`` bytes of it."""
        with self._exclusively() as file:
            return file.readline(size)

    def readlines(self, hint: int = -1, /) -> list[bytes]:
        """Read the lines that are to come, or some of about ``hint`` bytes."""
        with self._exclusively() as file:
            return file.readlines(hint)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    @contextlib.contextmanager
    def _exclusively(self) -> Generator[io.BufferedReader]:
        # The file has a lock of its own, which would block the loop that its holder
        # waits for.
        if self._reading:
            raise HomeLoopError(
                "The request's body is being read elsewhere at the same time. Read it"
                " in one place: data = request.get_data()."
            )
        if self._file is None:
            self._file = io.BufferedReader(_RawBody(self._client), _BUFFER)
        self._reading = True
        try:
            yield self._file
        finally:
            self._reading = False


class _RawBody(io.RawIOBase):
    def __init__(self, client: Client) -> None:
        self._client = client

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        client = self._client
        while not client.chunk and client.more:
            if client.gone:
                raise ClientDisconnected
            self._receive()
        return client.take_into(buffer)

    def _receive(self) -> None:
        client = self._client
        if is_serving():
            await_here(client.receive())
            return
        if running_loop() is client.loop:
            raise HomeLoopError(
                "The request's body has not been read, and here, in a query or a"
                " task beside the view, waiting for it would block the event loop."
                " Read it in the view first: data = request.get_json()."
            )
        # In a worker thread; the request's greenlet waits for it meanwhile.
        asyncio.run_coroutine_threadsafe(client.receive(), client.loop).result()
