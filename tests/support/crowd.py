"""A crowd of clients, some of which vanish in the middle of a request."""

from __future__ import annotations

import asyncio
import collections
import random
import socket
import struct
import time

VANISHING = 0.1
_UPLOAD = b"x" * 200_000
# Path, body, and whether it answers by itself; what does not is always left.
REQUESTS = [
    ("GET", "/quick/async", b"", True),
    ("GET", "/quick/sync", b"", True),
    ("GET", "/slow", b"", True),
    ("POST", "/upload/async", _UPLOAD, True),
    ("POST", "/upload/sync", _UPLOAD, True),
    ("GET", "/events", b"", False),
]


class Crowd:
    """Clients that ask at random, each one request after another.

    Attributes:
        outcomes: How often each status was answered, and how often a client vanished.

    Args:
        port: Where the server listens, on this machine.
        seed: Of the choices that are made at random.
    """

    def __init__(self, port: int, seed: int) -> None:
        self._port = port
        self._random = random.Random(seed)
        self.outcomes: collections.Counter[str] = collections.Counter()

    async def ask(self, clients: int, seconds: float, most: int) -> None:
        """Ask for ``seconds`` with so many at once, and at most ``most`` times."""
        end = time.monotonic() + seconds
        left = iter(range(most))

        async def client() -> None:
            for _ in left:
                if time.monotonic() > end:
                    return
                self.outcomes[await self._request()] += 1

        async with asyncio.TaskGroup() as tasks:
            for _ in range(clients):
                tasks.create_task(client())

    async def _request(self) -> str:
        method, path, body, answers = self._random.choice(REQUESTS)
        vanishes = not answers or self._random.random() < VANISHING
        patience = self._random.random() * 0.3
        sent = len(body)
        if vanishes and self._random.random() < 0.5:
            sent = self._random.randrange(len(body) + 1)
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
        writer.write(body[:sent])
        try:
            if vanishes:
                await asyncio.sleep(patience)
                _reset(writer)
                return "vanished"
            answer = await asyncio.wait_for(reader.read(), 30)
            return answer.split(b" ", 2)[1].decode()
        finally:
            writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Have the connection cut off when it is closed, without a goodbye."""
    connection: socket.socket = writer.get_extra_info("socket")
    reset = struct.pack("ii", 1, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
