"""Clients of a server that may end at any time."""

from __future__ import annotations

import collections
import concurrent.futures
import json
import socket
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Future
    from types import TracebackType
    from typing import Self

Answer = tuple[int, Any]
"""Status and JSON; ``(0, None)`` where the server went away without an answer."""

GONE: Answer = (0, None)


class Clients:
    """At most 32 clients, each with a connection for each request.

    Attributes:
        statuses: How often each status was answered to who asks again and again.
        pids: The processes that answered them.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._threads = concurrent.futures.ThreadPoolExecutor(32)
        self._ended = threading.Event()
        self._repeated: list[Future[None]] = []
        self.statuses: collections.Counter[int] = collections.Counter()
        self.pids: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()
        self._threads.shutdown()

    def ask(self, path: str) -> Future[Answer]:
        """One request, and its answer some day."""
        return self._threads.submit(self._get, path)

    def repeat(self, path: str) -> None:
        """Ask again and again, until told to end or the server is gone."""
        self._repeated.append(self._threads.submit(self._get_until_ended, path))

    def end(self) -> None:
        """Have those that ask again and again end."""
        self._ended.set()
        for repeated in self._repeated:
            repeated.result(timeout=30)

    def _get_until_ended(self, path: str) -> None:
        while not self._ended.is_set():
            status, answer = self._get(path)
            self.statuses[status] += 1
            if status == 200:
                self.pids.add(answer["pid"])
            if status == 0:
                return

    def _get(self, path: str) -> Answer:
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        received = b""
        try:
            with socket.create_connection(("127.0.0.1", self._port), 20) as connection:
                connection.sendall(request.encode())
                while piece := connection.recv(65536):
                    received += piece
        except OSError:
            return GONE
        head, _, body = received.partition(b"\r\n\r\n")
        if not head:
            return GONE
        status = int(head.split(b" ", 2)[1])
        return status, _json(body) if status == 200 else None


def _json(body: bytes) -> Any:
    # Hypercorn sends it in chunks to who did not ask for another version.
    start, end = body.index(b"{"), body.rindex(b"}") + 1
    return json.loads(body[start:end])
