"""Async iterators as responses: on the loop, in context, until the client goes."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from conversation import Conversation
from flask import Flask, Response, g, request, stream_with_context
from lifespan import Lifespan
from werkzeug.exceptions import ClientDisconnected

from async_parallel import AsyncParallel
from async_parallel.asgi import ASGIAdapter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
def app() -> Iterator[Flask]:
    """An application with the extension."""
    app = Flask(__name__)
    extension = AsyncParallel(app)
    yield app
    extension.close()


@pytest.fixture
async def adapter(app: Flask) -> AsyncIterator[ASGIAdapter]:
    """The application under the adapter, within its lifespan."""
    adapter = ASGIAdapter(app)
    async with Lifespan(adapter):
        yield adapter


def add_views(app: Flask) -> None:  # noqa: C901 - many small ones
    """Each way to answer with an async iterator."""

    async def chunks() -> AsyncIterator[str]:
        for number in range(3):
            await asyncio.sleep(0)
            yield f"{request.path} {g.name} {number}\n"

    @app.before_request
    def before() -> None:
        g.name = "me"

    @app.get("/iterator")
    async def iterator() -> Any:
        return chunks()

    @app.get("/tuple")
    async def with_status() -> Any:
        return chunks(), 201, {"X-A": "1"}

    @app.get("/response")
    async def response() -> Response:
        body: Any = chunks()
        return Response(body, mimetype="text/event-stream")

    @app.get("/sync")
    def from_a_sync_view() -> Any:
        return chunks()

    @app.get("/view")
    async def view() -> AsyncIterator[str]:
        async for chunk in chunks():
            yield chunk

    @app.get("/handler")
    async def failing() -> str:
        raise LookupError

    @app.errorhandler(LookupError)
    async def handler(_error: LookupError) -> Any:
        return chunks()


PATHS = ["/iterator", "/tuple", "/response", "/sync", "/view", "/handler"]


@pytest.mark.parametrize("path", PATHS)
async def test_an_async_iterator_is_a_response(
    path: str, app: Flask, adapter: ASGIAdapter
) -> None:
    """Item by item, with the request's context still there."""
    add_views(app)
    async with Conversation(adapter, "GET", path) as client:
        client.say()
        assert await client.chunk(1) == f"{path} me 0\n".encode()
    assert client.body.decode() == "".join(f"{path} me {n}\n" for n in range(3))
    assert client.status == (201 if path == "/tuple" else 200)


@pytest.mark.parametrize("path", PATHS)
def test_it_is_one_by_wsgi_too(path: str, app: Flask) -> None:
    """Items come from the portal's loop, as the view did."""
    add_views(app)
    response = app.test_client().get(path)
    assert response.text == "".join(f"{path} me {n}\n" for n in range(3))


async def test_it_runs_on_the_loop_without_a_thread(
    app: Flask, adapter: ASGIAdapter
) -> None:
    """However many there are at once."""
    threads: set[threading.Thread] = set()
    together = asyncio.Barrier(100)

    @app.get("/")
    async def view() -> Any:
        async def chunks() -> AsyncIterator[str]:
            await together.wait()
            threads.update(threading.enumerate())
            yield "x"

        return chunks()

    before = set(threading.enumerate())
    clients = [Conversation(adapter, "GET", "/") for _ in range(100)]
    for client in clients:
        await client.__aenter__()
    await asyncio.gather(*(client.task for client in clients))
    assert all(client.body == b"x" for client in clients)
    assert threads == before


async def test_the_client_sees_an_item_before_the_next_is_made(
    app: Flask, adapter: ASGIAdapter
) -> None:
    """Server-sent events arrive when they happen."""
    go_on = asyncio.Event()

    @app.get("/")
    async def view() -> AsyncIterator[str]:
        yield "data: 1\n\n"
        await go_on.wait()
        yield "data: 2\n\n"

    async with Conversation(adapter, "GET", "/") as client:
        client.say()
        assert await client.chunk(1) == b"data: 1\n\n"
        go_on.set()
        assert await client.chunk(2) == b"data: 2\n\n"


async def test_the_stream_ends_when_the_client_goes(
    app: Flask, adapter: ASGIAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    """What it awaits is cancelled, its cleanup runs, and nothing is logged."""
    ended: list[str] = []

    @app.get("/")
    async def view() -> AsyncIterator[str]:
        try:
            yield "data: 1\n\n"
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(request.path)

    async with Conversation(adapter, "GET", "/") as client:
        client.say()
        await client.chunk(1)
        client.leave()
    assert ended == ["/"]
    assert client.task.cancelling() == 0
    assert not caplog.records


async def test_a_stream_that_shrugs_off_the_cancel_ends_too(
    app: Flask, adapter: ASGIAdapter
) -> None:
    """Its next item is not asked for."""
    asked: list[int] = []

    @app.get("/")
    async def view() -> AsyncIterator[str]:
        for number in range(100):
            asked.append(number)
            yield f"{number}"
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                asked.append(-1)

    async with Conversation(adapter, "GET", "/") as client:
        client.say()
        await client.chunk(1)
        client.leave()
    assert asked == [0, -1, 1]
    assert client.task.cancelling() == 0


async def test_a_stream_that_begins_after_the_client_went_ends(
    app: Flask, adapter: ASGIAdapter
) -> None:
    """Its first item is not waited for."""

    @app.post("/")
    async def view() -> Any:
        with pytest.raises(ClientDisconnected):
            request.get_data()

        async def chunks() -> AsyncIterator[str]:
            await asyncio.Event().wait()
            yield "x"

        return chunks()

    headers = [(b"content-length", b"9")]
    async with Conversation(adapter, "POST", "/", headers=headers) as client:
        client.leave()
    assert client.sent == []


async def test_a_stream_that_learns_it_itself_is_not_cancelled(
    app: Flask, adapter: ASGIAdapter
) -> None:
    """It reads the body, and may clean up when that is cut off."""
    ended: list[bool] = []

    @app.post("/")
    async def view() -> AsyncIterator[str]:
        yield "x"
        with pytest.raises(ClientDisconnected):
            request.get_data()
        await asyncio.sleep(0)
        ended.append(True)

    headers = [(b"content-length", b"9")]
    async with Conversation(adapter, "POST", "/", headers=headers) as client:
        client.leave()
    assert ended == [True]
    assert client.task.cancelling() == 0


@pytest.mark.parametrize("breaks_on_send", [False, True])
async def test_callbacks_run_when_the_client_goes(
    breaks_on_send: bool,  # noqa: FBT001 - a parameter of the test
    app: Flask,
    adapter: ASGIAdapter,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After the stream has ended, in its own context, wherever it was."""
    order: list[str] = []

    async def chunks() -> AsyncIterator[str]:
        try:
            yield "x"
            await asyncio.Event().wait()
        finally:
            order.append(request.path)

    @app.get("/")
    async def view() -> Response:
        body: Any = chunks()
        response = Response(body)
        response.call_on_close(lambda: order.append("callback"))
        return response

    client = Conversation(adapter, "GET", "/")
    client.breaks_on_send = breaks_on_send
    async with client:
        client.say()
        if not breaks_on_send:
            await client.chunk(1)
        client.leave()
    assert order == ["/", "callback"]
    assert not caplog.records


async def test_a_cancel_by_the_server_is_raised(
    app: Flask, adapter: ASGIAdapter
) -> None:
    """It is not taken for the client's going."""

    @app.get("/")
    async def view() -> AsyncIterator[str]:
        yield "x"
        await asyncio.Event().wait()

    client = Conversation(adapter, "GET", "/")
    await client.__aenter__()
    await client.chunk(1)
    client.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await client.task


async def test_an_error_in_the_middle_is_raised_to_the_server(
    app: Flask, adapter: ASGIAdapter
) -> None:
    """Which then breaks the connection, so that the client knows."""

    @app.get("/")
    async def view() -> AsyncIterator[str]:
        yield "x"
        raise LookupError

    client = Conversation(adapter, "GET", "/")
    await client.__aenter__()
    with pytest.raises(LookupError):
        await client.task
    assert client.sent[-1]["more_body"] is True


async def test_a_head_request_does_not_begin_the_stream(
    app: Flask, adapter: ASGIAdapter
) -> None:
    """And nothing of it is left."""
    begun: list[bool] = []

    @app.get("/")
    async def view() -> AsyncIterator[str]:
        begun.append(True)
        yield "x"

    async with Conversation(adapter, "HEAD", "/") as client:
        client.say()
    assert (client.status, client.body, begun) == (200, b"", [])


async def test_a_synchronous_stream_ends_when_the_client_goes(
    app: Flask, adapter: ASGIAdapter
) -> None:
    """At its next item; and it is closed, in its own context."""
    closed: list[str] = []
    go_on = threading.Event()
    loop = asyncio.get_running_loop()

    @app.get("/")
    def view() -> Response:
        def chunks() -> Iterator[str]:
            try:
                yield "first"
                go_on.wait()
                while True:
                    yield "x"
            finally:
                closed.append(request.path)

        return Response(stream_with_context(chunks()))

    async with Conversation(adapter, "GET", "/") as client:
        client.say()
        await client.chunk(1)
        client.leave()
        await client.until_received(2)  # the body's end, and that it has gone
        loop.call_soon(go_on.set)
    assert closed == ["/"]


async def test_a_server_that_cannot_send_ends_the_stream(
    app: Flask, adapter: ASGIAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    """An OSError from ``send`` is how ASGI says that nobody is there."""
    closed: list[bool] = []

    @app.get("/")
    async def view() -> AsyncIterator[str]:
        try:
            while True:
                yield "x"
        finally:
            closed.append(True)

    client = Conversation(adapter, "GET", "/")
    client.breaks_on_send = True
    async with client:
        pass
    assert closed == [True]
    assert not caplog.records


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_stream_beside_an_unread_body_ends_with_its_client(
    kind: str, app: Flask, adapter: ASGIAdapter
) -> None:
    """One message of the body is looked at for that, and is there for who reads it."""
    read: list[bytes] = []

    async def chunks() -> AsyncIterator[str]:
        try:
            yield "x"
            await asyncio.Event().wait()
        finally:
            read.append(request.get_data())

    def sync_chunks() -> Iterator[str]:
        try:
            while True:
                yield "x"
        finally:
            read.append(request.get_data())

    @app.post("/async")
    async def view() -> Any:
        return chunks()

    @app.post("/sync")
    def sync_view() -> Response:
        return Response(stream_with_context(sync_chunks()))

    headers = [(b"content-length", b"5")]
    async with Conversation(adapter, "POST", f"/{kind}", headers=headers) as client:
        client.say(b"123", more=True)
        client.say(b"45", more=True)
        client.say()
        await client.chunk(1)
        client.leave()
    assert read == [b"12345"]


async def test_a_stream_that_a_hook_replaces_is_closed(
    app: Flask, adapter: ASGIAdapter
) -> None:
    """What replaces it runs where it belongs: it may block."""
    seen: list[str] = []

    async def chunks() -> AsyncIterator[str]:
        yield "x"

    @app.get("/")
    async def view() -> Any:
        return chunks()

    @app.after_request
    def after(_response: Response) -> Response:
        def others() -> Iterator[str]:
            seen.append(threading.current_thread().name)
            yield "y"

        return Response(others())

    async with Conversation(adapter, "GET", "/") as client:
        client.say()
    assert client.body == b"y"
    assert seen[0].startswith("async_parallel worker")


async def test_a_hook_may_look_into_the_stream(
    app: Flask, adapter: ASGIAdapter
) -> None:
    """A synchronous one takes an item in its worker, and the rest follows."""

    @app.get("/")
    async def view() -> AsyncIterator[str]:
        yield "x"
        yield request.path

    @app.after_request
    def after(response: Response) -> Response:
        first = next(iter(response.response))
        response.headers["X-First"] = str(first)
        return response

    async with Conversation(adapter, "GET", "/") as client:
        client.say()
    assert (client.headers[b"x-first"], client.body) == (b"x", b"/")


async def test_callbacks_on_close_run_off_the_loop(
    app: Flask, adapter: ASGIAdapter
) -> None:
    """They may block, whatever the response is made of."""
    seen: list[str] = []

    def note() -> None:
        seen.append(threading.current_thread().name)

    async def chunks() -> AsyncIterator[str]:
        yield "x"

    @app.get("/<kind>")
    async def view(kind: str) -> Response:
        body: Any = chunks() if kind == "stream" else "x"
        response = Response(body)
        response.call_on_close(note)
        return response

    for kind in ("stream", "text"):
        async with Conversation(adapter, "GET", f"/{kind}") as client:
            client.say()
        assert client.body == b"x"
    assert len(seen) == 2
    assert all(name.startswith("async_parallel worker") for name in seen)


async def test_a_generator_with_a_length_is_made_off_the_loop(
    app: Flask, adapter: ASGIAdapter
) -> None:
    """That its length is known does not mean that it exists."""
    seen: list[str] = []

    @app.get("/")
    async def view() -> Response:
        def chunks() -> Iterator[bytes]:
            seen.append(threading.current_thread().name)
            yield b"12345"

        return Response(chunks(), headers={"Content-Length": "5"})

    async with Conversation(adapter, "GET", "/") as client:
        client.say()
    assert client.body == b"12345"
    assert seen[0].startswith("async_parallel worker")
