"""WSGI (PEP 3333) through the adapter, for applications that are not Flask's."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from conversation import Conversation, http_scope
from lifespan import Lifespan

from async_parallel.asgi import ASGIAdapter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def answering(
    chunks: list[bytes], *headers: tuple[str, str], status: str = "200 OK"
) -> Callable[..., Any]:
    """An application that answers with these chunks."""

    def app(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response(status, list(headers))
        return chunks

    return app


async def ask(app: Any, method: str = "GET", **changes: Any) -> Conversation:
    """A request for ``/`` that has been answered."""
    adapter = ASGIAdapter(app)
    async with Lifespan(adapter), Conversation(adapter, method, "/", **changes) as it:
        it.say()
    return it


async def test_each_chunk_is_sent_when_it_is_there() -> None:
    """The headers before the first; empty ones are nothing."""
    client = await ask(answering([b"a", b"", b"b"], ("X-A", "1"), ("X-A", "2")))
    assert [m.get("body") for m in client.sent] == [None, b"a", b"b", b""]
    assert client.sent[0]["headers"] == [(b"x-a", b"1"), (b"x-a", b"2")]


async def test_no_more_is_sent_than_was_announced() -> None:
    """More would be taken for the beginning of the next response."""
    client = await ask(answering([b"abc", b"def", b"ghi"], ("Content-Length", "5")))
    assert [m.get("body") for m in client.sent] == [None, b"abc", b"de"]
    assert client.sent[-1]["more_body"] is False


async def test_less_than_announced_is_an_error() -> None:
    """The server must break the connection, or the client would wait for the rest."""
    with pytest.raises(RuntimeError, match=r"announced 5 bytes .* sent 3"):
        await ask(answering([b"abc"], ("Content-Length", "5")))


async def test_an_empty_body_may_be_announced() -> None:
    """A length of 0 is complete from the start."""
    client = await ask(answering([], ("Content-Length", "0")))
    assert (client.status, client.body) == (200, b"")
    assert client.sent[-1]["more_body"] is False


@pytest.mark.parametrize(
    ("method", "status", "length"),
    [("HEAD", "200 OK", b"3"), ("GET", "204 No", None), ("GET", "304 Not", None)],
)
async def test_where_there_is_no_body_none_is_sent(
    method: str, status: str, length: bytes | None
) -> None:
    """Even if the application gives one; servers wait for what is announced."""
    app = answering([b"abc"], ("Content-Length", "3"), status=status)
    client = await ask(app, method)
    assert client.body == b""
    assert client.headers.get(b"content-length") == length


async def test_write_is_supported() -> None:
    """The callable that ``start_response`` returns sends at once."""

    def app(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [])
        write(b"first")
        return [b"second"]

    client = await ask(app)
    assert client.body == b"firstsecond"


async def test_headers_may_be_replaced_until_they_are_sent() -> None:
    """That is what ``exc_info`` is for; afterwards the exception is raised."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("X-A", "1")])
        if environ["REQUEST_METHOD"] == "POST":
            yield b"sent"
        try:
            dict[str, int]()["missing"]
        except LookupError:
            start_response("500 Oh", [("X-B", "2")], sys.exc_info())
        yield b"error"

    client = await ask(app)
    assert (client.status, client.headers, client.body) == (
        500,
        {b"x-b": b"2"},
        b"error",
    )
    with pytest.raises(LookupError):
        await ask(app, "POST")


async def test_a_second_start_without_an_error_is_refused() -> None:
    """As PEP 3333 demands."""

    def app(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        start_response("200 OK", [])
        return []

    with pytest.raises(RuntimeError, match="twice"):
        await ask(app)


async def test_an_application_that_does_not_start_is_told_so() -> None:
    """Instead of an empty response."""
    with pytest.raises(RuntimeError, match="did not call start_response"):
        await ask(lambda _environ, _start_response: [])


class Closing:
    """An iterable that counts how often it is closed."""

    def __init__(self, *chunks: bytes, fails: bool = False) -> None:
        self._chunks = chunks
        self._fails = fails
        self.closed: list[str] = []

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks
        if self._fails:
            raise LookupError

    def close(self) -> None:
        """Note which thread closes it."""
        self.closed.append(threading.current_thread().name)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_iterable_is_closed_once_whatever_happens(
    fails: bool,  # noqa: FBT001 - a parameter of the test
    method: str,
) -> None:
    """And in a worker, because who made it may block."""
    iterable = Closing(b"x", fails=fails)

    def app(_environ: dict[str, Any], start_response: Any) -> Closing:
        start_response("200 OK", [])
        return iterable

    asking = asyncio.create_task(ask(app, method))
    await asyncio.wait([asking])
    assert (asking.exception() is not None) is fails
    assert len(iterable.closed) == 1
    assert iterable.closed[0].startswith("async_parallel worker")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "1\r\nSet-Cookie: x"),
        ("X-A\r\nB", "1"),
        ("X A", "1"),
        ("Content-Length", "1_0"),
        ("Content-Length", "+5"),
        ("Content-Length", "-5"),
        ("Content-Length", ""),
    ],
)
async def test_headers_that_would_be_others_are_not_sent(name: str, value: str) -> None:
    """The error names the header."""
    with pytest.raises(ValueError, match="header " + re.escape(repr(name))):
        await ask(answering([], (name, value)))


async def test_two_lengths_are_not_sent() -> None:
    """Some would believe the first, others the second."""
    headers = [("Content-Length", "1"), ("content-length", "2")]
    with pytest.raises(ValueError, match="there is one Content-Length"):
        await ask(answering([b"xx"], *headers))


async def test_an_item_that_is_none_is_an_error_and_not_the_end() -> None:
    """A response must not be taken for complete that is not."""

    def app(_environ: dict[str, Any], start_response: Any) -> Iterator[Any]:
        start_response("200 OK", [])
        yield b"a"
        yield None
        yield b"b"

    with pytest.raises(TypeError):
        await ask(app)


@pytest.mark.parametrize(
    ("version", "kept"), [("1.1", {b"connection", b"x-a"}), ("2", {b"x-a"})]
)
async def test_headers_of_one_connection_are_the_servers(
    version: str, kept: set[bytes]
) -> None:
    """Only ``Connection: close`` may be asked for, where the protocol knows it."""
    headers = [("Connection", "close"), ("Transfer-Encoding", "chunked"), ("X-A", "")]
    client = await ask(answering([], *headers), http_version=version)
    assert set(client.headers) == kept


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(b"host", b"a"), (b"host", b"b")], 400),
        ([(f"a{number}".encode(), b"") for number in range(101)], 431),
    ],
)
async def test_ambiguous_requests_do_not_reach_the_application(
    headers: list[tuple[bytes, bytes]], status: int
) -> None:
    """They are answered, with what is wrong, and the connection is closed."""

    def app(_environ: dict[str, Any], _start_response: Any) -> list[bytes]:
        raise AssertionError

    client = await ask(app, headers=headers)
    assert client.status == status
    assert client.headers[b"connection"] == b"close"
    assert len(client.body) == int(client.headers[b"content-length"])


async def test_the_limit_of_headers_can_be_set() -> None:
    """For those who sit behind something that adds many."""
    adapter = ASGIAdapter(answering([b"x"]), max_headers=1)
    for count, status in ((1, 200), (2, 431)):
        headers = [(f"a{number}".encode(), b"") for number in range(count)]
        async with Conversation(adapter, "GET", "/", headers=headers) as client:
            client.say()
        assert client.status == status


def reading(read: Callable[[Any], Any]) -> Callable[..., Any]:
    """An application that answers with what ``read`` makes of ``wsgi.input``."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        answer = repr(read(environ["wsgi.input"])).encode()
        start_response("200 OK", [])
        return [answer]

    return app


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda body: body.read(), b"one\ntwo\nthree"),
        (lambda body: body.read(5), b"one\nt"),
        (lambda body: body.read(None), b"one\ntwo\nthree"),
        (lambda body: body.readline(), b"one\n"),
        (lambda body: body.readline(2), b"on"),
        (lambda body: body.readlines(), [b"one\n", b"two\n", b"three"]),
        (lambda body: body.readlines(1), [b"one\n"]),
        (list, [b"one\n", b"two\n", b"three"]),
        (lambda body: body.read1(100), b"on"),
        (lambda body: body.readinto(bytearray(5)), 5),
        (lambda body: [body.read(), body.read(), body.readline()][1:], [b"", b""]),
    ],
)
async def test_the_body_is_a_file(read: Callable[[Any], Any], expected: Any) -> None:
    """It has the methods that PEP 3333 names, across the messages it comes in."""
    async with Conversation(ASGIAdapter(reading(read)), "POST", "/") as client:
        for piece in (b"on", b"", b"e\ntw", b"o\n"):
            client.say(piece, more=True)
        client.say(b"three")
    assert client.body == repr(expected).encode()


async def test_no_more_of_the_body_is_received_than_is_read() -> None:
    """The rest stays with the server, which makes the client wait."""
    adapter = ASGIAdapter(reading(lambda body: body.read(3)))
    async with Conversation(adapter, "POST", "/") as client:
        for _ in range(100):
            client.say(b"abc", more=True)
    # Two: whether the first was all that is asked for, a buffered file does not know.
    assert client.received <= 2


async def test_a_response_waits_for_who_takes_it() -> None:
    """The next chunk is not made before ``send`` has returned."""
    made: list[int] = []
    sent: asyncio.Queue[Any] = asyncio.Queue()
    may_go_on = asyncio.Semaphore(0)

    def app(_environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        for number in range(3):
            made.append(number)
            yield b"x"

    async def send(message: Any) -> None:
        sent.put_nowait(message)
        await may_go_on.acquire()

    async def receive() -> Any:
        await asyncio.Event().wait()

    adapter = ASGIAdapter(app)
    async with Lifespan(adapter):
        task = asyncio.create_task(adapter(http_scope("GET", "/"), receive, send))
        for count in (1, 1, 2, 3, 3):  # at the start, three chunks, the end
            await sent.get()
            assert len(made) == count
            may_go_on.release()
        await task
