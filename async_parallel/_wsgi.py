"""One HTTP exchange: from an ASGI scope to a WSGI call and back (PEP 3333)."""

from __future__ import annotations

import asyncio
import contextvars
import io
import sys
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import ClientDisconnected
from werkzeug.wsgi import ClosingIterator

from ._serving import await_here, is_serving, off_loop_in
from ._waiting import running_loop
from .errors import HomeLoopError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
    from types import TracebackType

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Headers = list[tuple[str, str]]
    ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

_BUFFER = 64 * 1024


def make_environ(scope: Scope, body: io.BufferedIOBase) -> dict[str, Any]:
    """The WSGI environment of an ASGI HTTP scope.

    Header names with an underscore are left out: as ``HTTP_*`` they could not be told
    from the same name with a hyphen, which a proxy may have checked or set.
    """
    root = scope.get("root_path", "").rstrip("/")
    path = scope["path"]
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    query = scope.get("query_string", b"").decode("latin-1")
    raw_path = scope.get("raw_path") or scope["path"].encode()
    uri = raw_path.decode("latin-1") + (f"?{query}" if query else "")
    host, port = scope.get("server") or ("localhost", None)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": root.encode().decode("latin-1"),
        "PATH_INFO": path.encode().decode("latin-1"),
        "QUERY_STRING": query,
        "REQUEST_URI": uri,
        "RAW_URI": uri,
        "SERVER_NAME": host,
        "SERVER_PORT": str(port or (443 if scope.get("scheme") == "https" else 80)),
        "SERVER_PROTOCOL": f"HTTP/{scope.get('http_version', '1.1')}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": body,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "asgi.scope": scope,
    }
    if environ["wsgi.url_scheme"] == "https":
        environ["HTTPS"] = "on"
    if scope.get("client"):
        environ["REMOTE_ADDR"] = scope["client"][0]
        environ["REMOTE_PORT"] = str(scope["client"][1])
    _add_headers(environ, scope["headers"])
    return environ


def _add_headers(
    environ: dict[str, Any], headers: Iterable[tuple[bytes, bytes]]
) -> None:
    for raw_name, raw_value in headers:
        if b"_" in raw_name:
            continue
        name = raw_name.decode("latin-1").upper().replace("-", "_")
        value = raw_value.decode("latin-1")
        if name not in {"CONTENT_TYPE", "CONTENT_LENGTH"}:
            name = f"HTTP_{name}"
            if name in environ:
                separator = "; " if name == "HTTP_COOKIE" else ","
                value = environ[name] + separator + value
        environ[name] = value


class Body(io.RawIOBase):
    """The request's body, received from the client as it is read."""

    def __init__(self, receive: Receive, loop: asyncio.AbstractEventLoop) -> None:
        self._receive = receive
        self._loop = loop
        self._chunk = memoryview(b"")
        self._more = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._chunk and self._more:
            self._take(self._wait())
        size = min(len(buffer), len(self._chunk))
        buffer[:size] = self._chunk[:size]
        self._chunk = self._chunk[size:]
        return size

    def _wait(self) -> Message:
        if is_serving():
            return await_here(self._next())
        if running_loop() is self._loop:
            raise HomeLoopError(
                "The request's body has not been read, and here, in a query or a"
                " task beside the view, waiting for it would block the event loop."
                " Read it in the view first: data = request.get_json()."
            )
        # In a worker thread; the request's greenlet waits for it meanwhile.
        return asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()

    async def _next(self) -> Message:
        return await self._receive()

    def _take(self, message: Message) -> None:
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        self._chunk = memoryview(message.get("body", b""))
        self._more = message.get("more_body", False)


class Exchange:
    """One request and its response, run in the request's greenlet.

    Args:
        scope: The ASGI HTTP scope.
        receive: Receives the request's body.
        send: Sends the response.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._body = Body(receive, asyncio.get_running_loop())
        self._send = send
        self._start: Message | None = None
        self._remaining: int | None = None
        self._started = False
        self._ended = False

    def run(self, app: Callable[..., Iterable[bytes]]) -> None:
        """Call the WSGI application and send what it answers."""
        environ = make_environ(self._scope, io.BufferedReader(self._body, _BUFFER))
        iterable = app(environ, self._start_response)
        # A body of known length that is no file exists by now. Anything else is made
        # while it is iterated over, by code that may block.
        exists = self._remaining is not None and isinstance(
            iterable, (list, tuple, ClosingIterator)
        )
        body: Any = iterable if exists else _OffLoop(iterable)
        try:
            for chunk in body:
                self._write(chunk)
            self._finish()
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()

    def _start_response(
        self, status: str, headers: Headers, exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        if exc_info is not None and self._started:
            raise exc_info[1].with_traceback(exc_info[2])
        if exc_info is None and self._start is not None:
            raise RuntimeError("start_response() was called twice without exc_info.")
        self._remaining = None
        encoded: list[tuple[bytes, bytes]] = []
        for name, value in headers:
            lowered = name.lower()
            if lowered == "content-length":
                self._remaining = int(value)
            encoded.append((lowered.encode("latin-1"), value.encode("latin-1")))
        self._start = {
            "type": "http.response.start",
            "status": int(status[:3]),
            "headers": encoded,
        }
        return self._write

    def _write(self, chunk: bytes) -> None:
        if not chunk or self._ended:
            return
        if self._remaining is not None:
            self._remaining -= len(chunk)
        self._emit(chunk, more=self._remaining is None or self._remaining > 0)

    def _finish(self) -> None:
        if not self._ended:
            self._emit(b"", more=False)

    def _emit(self, chunk: bytes, *, more: bool) -> None:
        await_here(self._send_chunk(chunk, more=more))

    async def _send_chunk(self, chunk: bytes, *, more: bool) -> None:
        if not self._started:
            if self._start is None:
                raise RuntimeError("The application did not call start_response().")
            self._started = True
            await self._send(self._start)
        self._ended = not more
        await self._send(
            {"type": "http.response.body", "body": chunk, "more_body": more}
        )


class _OffLoop:
    """An iterable whose items are made where making them may block.

    All in one context: a generator may end in it what it began in it, as Flask's
    ``stream_with_context`` does.
    """

    def __init__(self, iterable: Iterable[bytes]) -> None:
        self._iterable = iterable
        self._context = contextvars.copy_context()

    def __iter__(self) -> Iterator[bytes]:
        iterator = off_loop_in(self._context, iter, self._iterable)
        while (chunk := off_loop_in(self._context, _next, iterator)) is not None:
            yield chunk

    def close(self) -> None:
        close = getattr(self._iterable, "close", None)
        if close is not None:
            off_loop_in(self._context, close)


def _next(iterator: Iterator[bytes]) -> bytes | None:
    return next(iterator, None)
