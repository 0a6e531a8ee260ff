"""The client of one request: what it sends, and whether it is still there."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from werkzeug.exceptions import ClientDisconnected

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, MutableMapping

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Leave = Callable[[BaseException], object]
    Headers = Iterable[tuple[bytes, bytes]]

T = TypeVar("T")

# Seconds that something must run before it is worth a task to learn that the client has
# gone: what is over sooner is not worth stopping.
_PATIENCE = 0.05
_LOOK_AHEAD = 64 * 1024
# Seconds that what is not wanted of a body may take to arrive.
_LINGER = 1.0
_BODY_HEADERS = {b"content-length", b"transfer-encoding"}
_NOTHING = memoryview(b"")


class Client:
    """The client of one request; everything here is called on the request's loop.

    Its body is received when it is read, a message at a time. That it has gone is
    known only to who receives, so while somebody watches, and nothing of the body is
    to come, a task does.

    Attributes:
        chunk: What was received of the body and has not been read.
        more: Whether more of it is to come.
        gone: Whether the client has gone, as far as is known.
        loop: The request's event loop.

    Args:
        receive: Receives the next ASGI message.
        loop: The running loop.
        headers: Of the request. Where they announce a body, that the client has gone is
            not noticed before it has been read: to look for it would mean to buffer
            what nobody has asked for.
    """

    # What most requests never change is the class's, so that a request costs less.
    chunk = _NOTHING
    more = True
    gone = False
    _looks_ahead = False
    _receiving = False
    _arrived: asyncio.Future[None] | None = None
    _listener: asyncio.Task[None] | None = None
    _timer: asyncio.TimerHandle | None = None
    _watchers: tuple[Leave, ...] = ()
    _ended = False

    def __init__(
        self, receive: Receive, loop: asyncio.AbstractEventLoop, headers: Headers
    ) -> None:
        self.loop = loop
        self._receive = receive
        self._headers = headers
        self._lock = threading.Lock()

    @property
    def expects_body(self) -> bool:
        """Whether the request announces a body."""
        return any(
            name in _BODY_HEADERS and value != b"0" for name, value in self._headers
        )

    async def receive(self) -> None:
        """Receive the next part of the body, or that the client has gone.

        Does nothing where there is something to read, or nothing more to come.
        """
        if self.chunk or not self.more or self.gone:
            return
        if self._listener is not None:
            self._arrived = self.loop.create_future()
            await self._arrived
            return
        self._receiving = True
        try:
            self._take(await self._receive())
        finally:
            self._receiving = False
        self._arm()

    async def discard(self) -> None:
        """Receive what is to come of an unwanted body, for a while, and drop it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER):
                while self.more and not self.gone:
                    await self.receive()
                    self.chunk = _NOTHING

    def take_into(self, buffer: Any) -> int:
        """Move what was received to ``buffer``; return how much. From any thread."""
        with self._lock:
            size = min(len(buffer), len(self.chunk))
            buffer[:size] = self.chunk[:size]
            self.chunk = self.chunk[size:]
        return size

    def watch(self, leave: Leave, *, beside_body: bool = False) -> None:
        """Have ``leave(error)`` called, once, if the client goes before the end.

        Args:
            leave: What to call.
            beside_body: Look ahead in a body that nobody has read, 64 KiB at most, for
                what would otherwise never end. Nothing of it is lost.
        """
        self._looks_ahead |= beside_body
        if self.gone:
            leave(ClientDisconnected())
        elif not self._ended:
            self._watchers += (leave,)
            self._arm()

    def unwatch(self, leave: Leave) -> None:
        """Have it no longer called."""
        self._watchers = tuple(each for each in self._watchers if each != leave)

    async def while_there(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Await ``function(*args)``, and cancel that when the client goes.

        It looks ahead in a body that has not been read, as nothing else will.

        Raises:
            ClientDisconnected: The client has gone.
        """
        if self.gone:
            raise ClientDisconnected
        interruption = _Interruption()
        self.watch(interruption.interrupt, beside_body=True)
        try:
            return await function(*args)
        except asyncio.CancelledError:
            if interruption.take_back():
                raise ClientDisconnected from None
            raise
        finally:
            self.unwatch(interruption.interrupt)
            interruption.take_back()

    def lose(self) -> None:
        """Note that the client has gone."""
        self.gone = True
        watchers, self._watchers = self._watchers, ()
        for leave in watchers:
            leave(ClientDisconnected())

    def end(self) -> asyncio.Task[None] | None:
        """The request has ended: what it left running may run on.

        Returns:
            What still listens, and has been cancelled; to be waited for.
        """
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        if self._listener is not None:
            self._listener.cancel()
        return self._listener

    def _arm(self) -> None:
        if self._may_listen and self._timer is None:
            self._timer = self.loop.call_later(_PATIENCE, self._begin_listening)

    @property
    def _may_listen(self) -> bool:
        looks_ahead = self._looks_ahead or not self.expects_body
        enough = len(self.chunk) >= _LOOK_AHEAD or not looks_ahead
        waits_for_reader = self.more and enough
        busy = self._receiving or self._listener is not None or self.gone
        return bool(self._watchers) and not (waits_for_reader or busy)

    def _begin_listening(self) -> None:
        self._timer = None
        if self._may_listen:
            self._listener = self.loop.create_task(
                self._listen(),
                name="async_parallel listener",
                context=contextvars.Context(),
            )

    async def _listen(self) -> None:
        try:
            while not self.gone:
                self._take(await self._receive())
                if self.more and len(self.chunk) >= _LOOK_AHEAD:  # who reads it goes on
                    self._listener = None
                    return
        except Exception:  # noqa: BLE001 - a server that says so that nobody is there
            self.lose()
        finally:
            self._wake()

    def _take(self, message: Message) -> None:
        if message["type"] == "http.disconnect":
            self.lose()
        else:
            body = message.get("body", b"")
            with self._lock:
                self.chunk = memoryview(
                    bytes(self.chunk) + body if self.chunk else body
                )
            self.more = message.get("more_body", False)
        self._wake()

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)


class _Interruption:
    """Cancels the running task, once, and takes that back."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("A response is sent outside any task.")
        self._task = task
        self._before = task.cancelling()
        self._done = False

    def interrupt(self, _reason: object) -> None:
        """Cancel the task, if it waits."""
        # Itself it would cancel at its next wait, whatever that is for.
        if asyncio.current_task() is not self._task:
            self._done = True
            self._task.cancel()

    def take_back(self) -> bool:
        """Whether the task was cancelled, and by nobody else."""
        if not self._done:
            return False
        self._done = False
        return self._task.uncancel() <= self._before
