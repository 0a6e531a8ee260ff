"""One HTTP exchange: a WSGI call in the request's greenlet, and its response."""

from __future__ import annotations

import asyncio
import functools
from types import GeneratorType, MethodType
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import ClientDisconnected, HTTPException
from werkzeug.wrappers import Response
from werkzeug.wsgi import ClosingIterator

from ._body import Body
from ._environ import make_environ
from ._headers import encode
from ._serving import ServedRequest, await_here, off_loop
from ._whole import NO_BODY, whole_body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from ._client import Client, Message, Scope, Send
    from ._workers import Workers

    HeaderList = list[tuple[str, str]]
    ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

_END: Any = object()
_START = "http.response.start"
_BODY = "http.response.body"
_HTTP_2 = "2"
_WITHOUT_BODY = {"GET", "HEAD", "OPTIONS"}


class Exchange(ServedRequest):
    """One request and its response, run in the request's greenlet.

    Args:
        scope: The ASGI HTTP scope.
        send: Sends the response.
        workers: Where its synchronous functions run.
        client: Who asked.
        max_headers: How many headers the request may have.
    """

    _start: Message | None = None
    _announced: int | None = None  # by Content-Length
    _sent = 0
    _has_body = True
    _endless = False  # it may be, for all that is known
    _started = False
    _ended = False

    def __init__(
        self,
        scope: Scope,
        send: Send,
        workers: Workers,
        client: Client,
        max_headers: int,
    ) -> None:
        self.workers = workers
        self.client = client
        self._scope = scope
        self._send = send
        self._max_headers = max_headers
        self._is_http_2 = scope["http_version"] >= _HTTP_2

    def run(self, app: Callable[..., Iterable[bytes]]) -> None:
        """Call the WSGI application and send what it answers."""
        try:
            try:
                environ = make_environ(
                    self._scope, Body(self.client), max_headers=self._max_headers
                )
            except HTTPException as error:
                self._refuse(error)
            else:
                answer: Any = app(environ, self.start_response)
                if answer.__class__ is Direct:
                    self._respond_at_once(answer)
                else:
                    self._respond(answer)
        except ClientDisconnected:
            self._ended = True  # nobody is there whom anything could be told

    def take(self, response: Any, method: str) -> bytes | None:
        """Take over a response that is whole and needs nothing of WSGI, if it is one.

        That is what werkzeug would correct nothing of, for a request by ``method``.

        Returns:
            Its body, as it is now; ``None`` where it is to be called.
        """
        is_first = self._start is None and self.stream is None
        chunk = whole_body(response) if is_first else None
        if chunk is None or method == "HEAD" or self._scope["method"] == "HEAD":
            return None
        pairs, length = encode(
            response.headers, is_http_2=self._is_http_2, has_uris=False
        )
        if length != len(chunk):
            return None
        self._announced = length
        code = response.status_code
        self._start = {"type": _START, "status": code, "headers": pairs}
        return chunk

    def _respond(self, iterable: Iterable[bytes]) -> None:
        response = _response_behind(iterable)
        made_of = None if response is None else response.response
        stream = self.stream
        body: Any = iterable
        if not isinstance(iterable if response is None else made_of, (list, tuple)):
            # What does not exist yet is made while it is iterated over, by code that
            # may block; and somebody has to notice when nobody wants it any more.
            if stream is None or made_of is not stream:
                body = _OffLoop(iterable)
            self._endless = True
            self.client.watch(_note, beside_body=True)
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
                _close(response, close)

    def _respond_at_once(self, direct: Direct) -> None:
        chunk = next(direct, None)
        # There is no public way to ask. Without them closing it does nothing.
        closes = getattr(direct.response, "_on_close", True)
        if not closes:
            self.give_worker_back()  # who reads slowly shall not keep it
        try:
            if chunk is None:  # somebody has taken it out
                self._finish()
            else:
                await_here(self._send_chunk(chunk, more=False))
        finally:
            if closes:
                off_loop(direct.close)

    def start_response(
        self, status: str, headers: HeaderList, exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """Begin the response; PEP 3333 says how."""
        if exc_info is not None and self._started:
            raise exc_info[1].with_traceback(exc_info[2])
        if exc_info is None and self._start is not None:
            raise RuntimeError("start_response() was called twice without exc_info.")
        code = int(status[:3])
        self._has_body = code not in NO_BODY and self._scope["method"] != "HEAD"
        pairs, self._announced = encode(
            headers, is_http_2=self._is_http_2, has_length=code not in NO_BODY
        )
        self._start = {"type": _START, "status": code, "headers": pairs}
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
        if self.client.gone:
            raise ClientDisconnected  # not every server lets go of who sends to nobody
        # Where it may wait for ever, sending ends with the client.
        may_hang = self._endless or self._is_http_2
        send = self._send_while_there if may_hang else self._send
        try:
            if not self._started:
                if self._start is None:
                    raise RuntimeError("The application did not call start_response().")
                self._started = True
                await send(self._start)
            self._ended = not more
            body = {"type": _BODY, "body": chunk, "more_body": more}
            if self._is_http_2 and not more and self._may_come_late:
                # Hypercorn 0.18 drops a connection, with all that is under way on it,
                # where a part of a body arrives after the end of the response to it.
                # https://github.com/pgjones/hypercorn/issues/329
                await send({**body, "more_body": True})
                await self.client.discard()
                body["body"] = b""
            await send(body)
        except OSError as error:  # how ASGI says that the client has gone
            self.client.lose()
            raise ClientDisconnected from error

    async def _send_while_there(self, message: Message) -> None:
        await self.client.while_there(self._send, message)

    @property
    def _may_come_late(self) -> bool:
        """Whether more of a body, announced or not, may be to come over HTTP/2."""
        has_body = self._scope["method"] not in _WITHOUT_BODY
        return self.client.more and (self.client.expects_body or has_body)

    def _refuse(self, refusal: HTTPException) -> None:
        response = refusal.get_response()
        response.headers["Connection"] = "close"
        self.start_response(response.status, list(response.headers))
        self._write(response.get_data())
        self._finish()


class Direct:
    """A response on its way from Flask to the exchange, past WSGI where it can.

    To all others it is a WSGI application, and the iterator that one answers.
    """

    __slots__ = ("_chunk", "response")

    def __init__(self, response: Any) -> None:
        self.response = response
        self._chunk: bytes | None = None

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        # Not what only looks like it, as it may do more.
        if type(start_response) is MethodType:
            exchange: Any = start_response.__self__
            if start_response.__func__ is Exchange.start_response:
                self._chunk = exchange.take(self.response, environ["REQUEST_METHOD"])
                if self._chunk is not None:
                    return self
        answer: Iterable[bytes] = self.response(environ, start_response)
        return answer

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk, self._chunk = self._chunk, None
        if chunk is None:
            raise StopIteration
        return chunk

    def close(self) -> None:
        """Call what is to be called when the response has been sent."""
        self.response.close()


class _OffLoop:
    """An iterable whose items are made where making them may block."""

    def __init__(self, iterable: Iterable[bytes]) -> None:
        self._iterable = iterable

    def __iter__(self) -> Iterator[bytes]:
        iterator: Any = off_loop(iter, self._iterable)
        take: Callable[[], Any] = functools.partial(next, iterator, _END)
        while (chunk := off_loop(take)) is not _END:
            yield chunk


def _close(response: Response | None, close: Callable[[], object]) -> None:
    """Call ``close`` where its callbacks, if there are any, may block."""
    # There is no public way to ask.
    if response is None or getattr(response, "_on_close", True):
        off_loop(close)
    else:
        close()


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
