"""One HTTP exchange with an ASGI application, message by message."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from types import TracebackType

    Message = MutableMapping[str, Any]


def http_scope(method: str, path: str, **changes: Any) -> dict[str, Any]:
    """An HTTP scope without headers, with what ``changes`` says of it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "server": ("testserver", 80),
        "client": ("127.0.0.1", 1),
        "scheme": "http",
        "http_version": "1.1",
        **changes,
    }


class Conversation:
    """A client that says what it likes, when it likes; an async context manager.

    Attributes:
        sent: The messages that the application has sent.
        received: How many messages the application has received.
        task: The application's call.
    """

    def __init__(
        self, app: Callable[..., Any], method: str, path: str, **changes: Any
    ) -> None:
        self._app = app
        self._scope = http_scope(method, path, **changes)
        self._said: asyncio.Queue[Message] = asyncio.Queue()
        self._changed = asyncio.Event()
        self.sent: list[Message] = []
        self.received = 0
        self.breaks_on_send = False

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(
            self._app(self._scope, self._receive, self._send)
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is not None:
            self.task.cancel()
        await self.task

    def say(self, body: bytes = b"", *, more: bool = False) -> None:
        """Send a part of the body, the last one unless there is more."""
        message = {"type": "http.request", "body": body, "more_body": more}
        self._said.put_nowait(message)

    def leave(self) -> None:
        """Go away."""
        self._said.put_nowait({"type": "http.disconnect"})

    async def chunk(self, number: int) -> bytes:
        """The chunk of this number that the application sends, from 1."""
        while len(self._bodies()) < number:
            self._changed.clear()
            await self._changed.wait()
        body: bytes = self._bodies()[number - 1]["body"]
        return body

    async def until_received(self, count: int) -> None:
        """Wait until the application has received this many messages."""
        while self.received < count:
            self._changed.clear()
            await self._changed.wait()

    @property
    def status(self) -> int:
        """The status that was sent."""
        status: int = self.sent[0]["status"]
        return status

    @property
    def headers(self) -> dict[bytes, bytes]:
        """The headers that were sent."""
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        """All of the body that was sent."""
        return b"".join(message["body"] for message in self._bodies())

    def _bodies(self) -> list[Message]:
        return [m for m in self.sent if m["type"] == "http.response.body"]

    async def _receive(self) -> Message:
        message = await self._said.get()
        self.received += 1
        self._changed.set()
        return message

    async def _send(self, message: Message) -> None:
        if self.breaks_on_send:
            raise OSError("the client has gone")
        self.sent.append(message)
        self._changed.set()
