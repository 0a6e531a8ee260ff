"""One HTTP exchange: a WSGI call in the request's greenlet, and its response."""

from __future__ import annotations

import asyncio
import functools
import re
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import ClientDisconnected, HTTPException
from werkzeug.wrappers import Response
from werkzeug.wsgi import ClosingIterator

from ._body import Body
from ._environ import make_environ
from ._serving import await_here, off_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from ._client import Message, Scope, Send
    from ._serving import ServedRequest

    Headers = list[tuple[str, str]]
    ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

_UNSAFE = re.compile(r"[\0\r\n]")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
# Of one connection, which is the server's (PEP 3333, "Other HTTP Features").
_DIGITS = re.compile(r"[0-9]+")
_END: Any = object()
_CHUNKED = b"transfer-encoding"
_HOP_BY_HOP = {
    *{b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade"},
    _CHUNKED,
}
_NO_BODY = {204, 304}
_HTTP_2 = "2"
_WITHOUT_BODY = {"GET", "HEAD", "OPTIONS"}


class Exchange:
    """One request and its response, run in the request's greenlet.

    Args:
        scope: The ASGI HTTP scope.
        send: Sends the response.
        request: What the request is served with.
        max_headers: How many headers the request may have.
    """

    def __init__(
        self, scope: Scope, send: Send, request: ServedRequest, max_headers: int
    ) -> None:
        self._scope = scope
        self._send = send
        self._request = request
        self._client = request.client
        self._max_headers = max_headers
        self._is_http_2 = scope["http_version"] >= _HTTP_2
        # There a body need not be announced.
        self._may_come_late = self._is_http_2 and (
            self._client.expects_body or scope["method"] not in _WITHOUT_BODY
        )
        self._start: Message | None = None
        self._announced: int | None = None  # by Content-Length
        self._sent = 0
        self._has_body = True
        self._endless = False  # it may be, for all that is known
        self._started = False
        self._ended = False

    def run(self, app: Callable[..., Iterable[bytes]]) -> None:
        """Call the WSGI application and send what it answers."""
        try:
            try:
                environ = make_environ(
                    self._scope, Body(self._client), max_headers=self._max_headers
                )
            except HTTPException as error:
                self._refuse(error)
            else:
                self._respond(app(environ, self._start_response))
        except ClientDisconnected:
            self._ended = True  # nobody is there whom anything could be told

    def _respond(self, iterable: Iterable[bytes]) -> None:
        response = _response_behind(iterable)
        made_of = None if response is None else response.response
        stream = self._request.stream
        body: Any = iterable
        if not isinstance(iterable if response is None else made_of, (list, tuple)):
            # What does not exist yet is made while it is iterated over, by code that
            # may block; and somebody has to notice when nobody wants it any more.
            if stream is None or made_of is not stream:
                body = _OffLoop(iterable)
            self._endless = True
            self._client.watch(_note, beside_body=True)
        try:
            for chunk in body:
                self._write(chunk)
                if body is iterable and self._endless:
                    # Neither it nor the server need ever wait, so that nobody else
                    # would have a turn, and nobody notice that the client has gone.
                    await_here(asyncio.sleep(0))
                if self._ended:
                    break
            self._finish()
        finally:
            if stream is not None:
                stream.close()
            close = getattr(iterable, "close", None)
            if close is not None:
                if response is None or getattr(response, "_on_close", True):
                    off_loop(close)
                else:
                    close()

    def _start_response(
        self, status: str, headers: Headers, exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        if exc_info is not None and self._started:
            raise exc_info[1].with_traceback(exc_info[2])
        if exc_info is None and self._start is not None:
            raise RuntimeError("start_response() was called twice without exc_info.")
        code = int(status[:3])
        self._announced = None
        self._has_body = code not in _NO_BODY and self._scope["method"] != "HEAD"
        encoded: list[tuple[bytes, bytes]] = []
        for name, value in headers:
            if _UNSAFE.search(value):
                raise _unsafe(name, value)
            lowered = _lowered(name)
            if lowered == b"content-length":
                if code in _NO_BODY:
                    continue  # servers would wait for what it announces
                if self._announced is not None or not _DIGITS.fullmatch(value):
                    raise _unsafe(name, value)
                self._announced = int(value)
            elif lowered in _HOP_BY_HOP and (self._is_http_2 or lowered == _CHUNKED):
                continue
            encoded.append((lowered, value.encode("latin-1")))
        self._start = {
            "type": "http.response.start",
            "status": code,
            "headers": encoded,
        }
        return self._write

    def _write(self, chunk: bytes) -> None:
        size = len(chunk)  # a TypeError where it is none
        if not size or self._ended or not self._has_body:
            return
        if self._announced is not None:
            chunk = chunk[: self._announced - self._sent]
        self._sent += len(chunk)
        await_here(self._send_chunk(chunk, more=self._sent != self._announced))

    def _finish(self) -> None:
        if self._ended:
            return
        if self._has_body and self._announced not in {None, self._sent}:
            raise RuntimeError(
                f"The application announced {self._announced} bytes as the"
                f" Content-Length of {self._scope['path']!r} and sent {self._sent}."
                " Leave the header out, or correct it."
            )
        await_here(self._send_chunk(b"", more=False))

    async def _send_chunk(self, chunk: bytes, *, more: bool) -> None:
        if self._client.gone:
            raise ClientDisconnected  # not every server lets go of who sends to nobody
        try:
            if not self._started:
                if self._start is None:
                    raise RuntimeError("The application did not call start_response().")
                self._started = True
                await self._emit(self._start)
            self._ended = not more
            body = {"type": "http.response.body", "body": chunk, "more_body": more}
            if not more and self._may_come_late and self._client.more:
                # Hypercorn 0.18 drops a connection, with all that is under way on it,
                # where a part of a body arrives after the end of the response to it.
                # https://github.com/pgjones/hypercorn/issues/329
                await self._emit({**body, "more_body": True})
                await self._client.discard()
                body["body"] = b""
            await self._emit(body)
        except OSError as error:  # how ASGI says that the client has gone
            self._client.lose()
            raise ClientDisconnected from error

    async def _emit(self, message: Message) -> None:
        if self._endless or self._is_http_2:  # the server may wait for ever
            await self._client.while_there(self._send, message)
        else:
            await self._send(message)

    def _refuse(self, refusal: HTTPException) -> None:
        response = refusal.get_response()
        response.headers["Connection"] = "close"
        self._start_response(response.status, list(response.headers))
        self._write(response.get_data())
        self._finish()


class _OffLoop:
    """An iterable whose items are made where making them may block."""

    def __init__(self, iterable: Iterable[bytes]) -> None:
        self._iterable = iterable

    def __iter__(self) -> Iterator[bytes]:
        iterator: Any = off_loop(iter, self._iterable)
        take: Callable[[], Any] = functools.partial(next, iterator, _END)
        while (chunk := off_loop(take)) is not _END:
            yield chunk


@functools.lru_cache(maxsize=512)
def _lowered(name: str) -> bytes:
    if not _NAME.fullmatch(name):
        raise _unsafe(name, "")
    return name.lower().encode("latin-1")


def _unsafe(name: str, value: str) -> ValueError:
    return ValueError(
        f"The response's header {name!r} cannot be sent with the value {value!r}. A"
        " name has letters, digits and '-', a value no line break, and there is one"
        " Content-Length, of digits."
    )


def _note(_reason: object) -> None:
    """Do nothing: that the client has gone is seen before the next chunk."""


def _response_behind(iterable: Any) -> Response | None:
    """The werkzeug response that ``iterable`` is of, where nothing is around it."""
    if type(iterable) is not ClosingIterator:
        return None
    # There is no public way to ask.
    callbacks: list[Any] = getattr(iterable, "_callbacks", [])
    last = getattr(callbacks[-1], "__self__", None) if callbacks else None
    if not (isinstance(last, Response) and type(last).close is Response.close):
        return None
    for callback in callbacks[:-1]:
        if type(getattr(callback, "__self__", None)) is not GeneratorType:
            return None
    return last
