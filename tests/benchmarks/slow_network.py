"""A network that takes a while: a proxy that holds each piece of data for some time.

In a process of its own, so that it takes no time of what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import URL


@contextlib.contextmanager
def slow_network(url: URL, delay: float) -> Iterator[URL]:
    """The URL of the same database behind ``delay`` seconds each way."""
    host, port = url.host or "127.0.0.1", str(url.port or 5432)
    process = subprocess.Popen(
        [sys.executable, __file__, host, port, str(delay)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield url.set(host="127.0.0.1", port=int(process.stdout.readline()))
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


class Delayed(asyncio.Protocol):
    """One side of a connection, whose data reaches the other side later."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._early: list[bytes] = []
        self._other: Delayed | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def join(self, other: Delayed) -> None:
        """Send what comes to ``other``."""
        self._other = other
        for data in self._early:
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        if self._other is None:
            self._early.append(data)
        else:
            loop = asyncio.get_running_loop()
            loop.call_later(self._delay, self._other.write, data)

    def write(self, data: bytes) -> None:
        """Send ``data``, which has been held long enough."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        other = self._other
        if other is not None and other.transport is not None:
            other.transport.close()


async def serve(host: str, port: int, delay: float) -> None:
    """Accept connections until the process ends; print the port first."""
    loop = asyncio.get_running_loop()
    joining: set[asyncio.Task[None]] = set()

    async def join(client: Delayed) -> None:
        _, server = await loop.create_connection(lambda: Delayed(delay), host, port)
        server.join(client)
        client.join(server)

    def accept() -> Delayed:
        client = Delayed(delay)
        task = loop.create_task(join(client))
        joining.add(task)
        task.add_done_callback(joining.discard)
        return client

    listening = await loop.create_server(accept, "127.0.0.1", 0)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()


if __name__ == "__main__":
    # select() takes microseconds; epoll, which asyncio prefers, rounds up to a
    # millisecond.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    _, upstream_host, upstream_port, seconds = sys.argv
    loop.run_until_complete(serve(upstream_host, int(upstream_port), float(seconds)))
