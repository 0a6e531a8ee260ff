"""A proxy before PostgreSQL that counts what goes over the wire."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from typing import TYPE_CHECKING, Self

from sqlalchemy.engine import URL, make_url

if TYPE_CHECKING:
    from types import TracebackType

# After these messages a client waits for the server's answer.
# https://www.postgresql.org/docs/current/protocol-message-formats.html
_FLUSH, _QUERY, _SYNC = b"H", b"Q", b"S"


class CountingProxy:
    """Forwards connections to the server of ``url``; an async context manager.

    Attributes:
        url: The URL of the database, through the proxy.
        round_trips: How often a client has sent something to be answered, not counting
            the start of a connection.
        connections: How many connections were opened.
    """

    def __init__(self, url: str) -> None:
        self._server_url = make_url(url)
        self.url: URL
        self.round_trips = 0
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        url = self._server_url.set(host="127.0.0.1", port=port)
        self.url = url.difference_update_query(["host", "port"])
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            with contextlib.suppress(
                asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError
            ):
                await self._forward(reader, writer)
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        server_reader, server_writer = await self._connect()
        answers = asyncio.create_task(_copy(server_reader, writer))
        try:
            while await self._forward_message(reader, server_writer):
                pass
        finally:
            server_writer.close()
            answers.cancel()
            await asyncio.wait([answers])

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host = self._server_url.query.get("host") or self._server_url.host
        assert isinstance(host, str)
        port = self._server_url.port or 5432
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)

    async def _forward_message(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        kind = await reader.readexactly(1)
        # The first messages of a connection begin with their length, which is short:
        # a zero byte, where all others have the letter of their kind.
        first = kind == b"\0"
        length = await reader.readexactly(3 if first else 4)
        size = struct.unpack("!I", kind + length if first else length)[0] - 4
        body = await reader.readexactly(size)
        if kind in {_FLUSH, _QUERY, _SYNC}:
            self.round_trips += 1
        writer.write(kind + length + body)
        await writer.drain()
        return kind != b"X"


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()  # as the other side has
