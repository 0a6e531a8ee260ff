"""A proxy before PostgreSQL that fails as networks do."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct
from typing import TYPE_CHECKING

from wire import CountingProxy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.engine import URL

_FLUSH, _QUERY, _SYNC, _TERMINATE = b"H", b"Q", b"S", b"X"
# What a client may ask for before it starts, and the server answers with one byte.
_REQUESTS = {struct.pack("!I", 80877103), struct.pack("!I", 80877104)}
_PATIENCE = 5
LATE = 0.3
"""Seconds that a late message takes."""


class Way(enum.Enum):
    """Where a message goes."""

    TO_SERVER = enum.auto()
    TO_CLIENT = enum.auto()


class FaultyProxy(CountingProxy):
    """Forwards connections message by message, until told otherwise.

    Attributes:
        delay: Seconds that each message takes.
        struck: How many planned faults have happened.
    """

    def __init__(self, url: str | URL) -> None:
        super().__init__(str(url))
        self.delay = 0.0
        self.struck = 0
        self._links: set[Link] = set()
        self._plans: list[_Plan] = []
        self._lost: set[Way] = set()
        self._restored = asyncio.Event()

    def plan(self, fault: Fault, way: Way, message: int = 0) -> None:
        """Have ``fault`` happen instead of a message.

        Args:
            fault: What happens to the connection.
            way: Which messages count.
            message: Its number, of all that go this way from now on, from 0.
        """
        self._plans.append(_Plan(fault, way, message))

    def forget_plans(self) -> None:
        """Let nothing happen that has not happened yet."""
        self._plans.clear()

    def black_hole(self, *ways: Way) -> None:
        """Forward nothing more, on connections that there are and new ones."""
        self._restored.clear()
        self._lost.update(ways or Way)

    def restore(self) -> None:
        """Forward again."""
        self._lost.clear()
        self._restored.set()

    def reset_all(self) -> None:
        """Reset every connection."""
        for link in list(self._links):
            link.reset()

    async def passes(self, way: Way) -> None:
        """Wait as long as the network takes."""
        if self.delay:
            await asyncio.sleep(self.delay)
        while way in self._lost:
            await self._restored.wait()

    def due(self, way: Way) -> Fault | None:
        """The fault that is planned for a message that comes now."""
        due: Fault | None = None
        for plan in list(self._plans):
            if plan.way is not way:
                continue
            if plan.left == 0:
                due = plan.fault
                self._plans.remove(plan)
                self.struck += 1
            plan.left -= 1
        return due

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await self.passes(Way.TO_SERVER)
        server_reader, server_writer = await self._connect()
        link = Link(self, (reader, writer), (server_reader, server_writer))
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)


class _Plan:
    """A fault that shall happen."""

    def __init__(self, fault: Fault, way: Way, message: int) -> None:
        self.fault = fault
        self.way = way
        self.left = message


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Link:
    """A connection of a client, and the one to the server that belongs to it."""

    def __init__(self, proxy: FaultyProxy, client: Streams, server: Streams) -> None:
        self._proxy = proxy
        self._client, self._client_writer = client
        self._server, self._server_writer = server
        self._one_byte = False  # is the server's next answer
        self._half_open = False

    async def run(self) -> None:
        """Forward until either side is gone."""
        pumps = [
            asyncio.create_task(self._pump(self._to_server)),
            asyncio.create_task(self._pump(self._to_client)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            try:
                await asyncio.wait(pumps)
                await self.close_server()
            finally:  # also where the proxy itself ends meanwhile
                self._server_writer.close()

    def reset(self) -> None:
        """Reset the client's connection: it is not told that this is the end."""
        if self._client_writer.is_closing():
            return  # it has gone by itself
        connection: socket.socket = self._client_writer.get_extra_info("socket")
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._client_writer.transport.abort()

    async def close_server(self) -> None:
        """Close the server's side, and wait until it knows."""
        with contextlib.suppress(OSError, TimeoutError, RuntimeError):
            self._server_writer.write_eof()
            async with asyncio.timeout(_PATIENCE):
                while await self._server.read(65536):
                    pass
        self._server_writer.close()

    def close_client(self) -> None:
        """Close the client's side."""
        self._client_writer.close()

    async def write_to_client(self, data: bytes) -> None:
        """Have the client get ``data``."""
        self._client_writer.write(data)
        await self._client_writer.drain()

    def stay_half_open(self) -> None:
        """Leave the other side as it is when one is closed."""
        self._half_open = True

    async def _pump(self, forward: Callable[[], Awaitable[bool]]) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await forward():
                pass
        if self._half_open:
            await asyncio.Event().wait()

    async def _to_server(self) -> bool:
        kind = await self._client.readexactly(1)
        # The first messages of a connection begin with their length, which is short:
        # a zero byte, where all others have the letter of their kind.
        first = kind == b"\0"
        length = await self._client.readexactly(3 if first else 4)
        body = await self._read_body(self._client, kind + length if first else length)
        self._one_byte = first and body in _REQUESTS
        self._proxy.round_trips += kind in {_FLUSH, _QUERY, _SYNC}
        if await self._is_lost(Way.TO_SERVER, kind + length + body):
            return False
        self._server_writer.write(kind + length + body)
        await self._server_writer.drain()
        return kind != _TERMINATE

    async def _to_client(self) -> bool:
        message = await self._server.readexactly(1)
        if not self._one_byte:
            length = await self._server.readexactly(4)
            message += length + await self._read_body(self._server, length)
        self._one_byte = False
        if await self._is_lost(Way.TO_CLIENT, message):
            return False
        await self.write_to_client(message)
        return True

    async def _is_lost(self, way: Way, message: bytes) -> bool:
        await self._proxy.passes(way)
        fault = self._proxy.due(way)
        return fault is not None and not await fault(self, message)

    @staticmethod
    async def _read_body(reader: asyncio.StreamReader, length: bytes) -> bytes:
        return await reader.readexactly(struct.unpack("!I", length)[0] - 4)


if TYPE_CHECKING:
    # Whether the message is forwarded all the same.
    Fault = Callable[[Link, bytes], Awaitable[bool | None]]


async def reset(link: Link, _message: bytes) -> None:
    """The message does not arrive, and the client's connection is reset."""
    link.reset()


async def cut(link: Link, message: bytes) -> None:
    """The client gets the message without its last byte, then a reset."""
    await link.write_to_client(message[:-1])
    link.reset()


async def lose_server(link: Link, _message: bytes) -> None:
    """The server's side is closed; the client is not told."""
    link.stay_half_open()
    await link.close_server()


async def lose_client(link: Link, _message: bytes) -> None:
    """The client's side is closed; the server is not told."""
    link.stay_half_open()
    link.close_client()


async def be_late(_link: Link, _message: bytes) -> bool:
    """The message takes so long that what was sent after it arrives before it."""
    await asyncio.sleep(LATE)
    return True
