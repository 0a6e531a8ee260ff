"""The client of a request: what it sends, and what ends when it goes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest
from conversation import Conversation, http_scope
from flask import Flask, request
from lifespan import Lifespan
from sqlalchemy import text
from werkzeug.exceptions import ClientDisconnected, Unauthorized
from werkzeug.wrappers import Response

from async_parallel import AsyncParallel, _client, asgi, gather_queries, run_in_parallel
from async_parallel._client import Client
from async_parallel.asgi import ASGIAdapter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, MutableMapping

    from sqlalchemy.ext.asyncio import AsyncSession

FOR_EVER = text("SELECT pg_sleep(3600)")


@pytest.fixture
def app(postgres: str) -> Flask:
    """An application with the extension and PostgreSQL."""
    app = Flask(__name__)
    app.config["ASYNC_PARALLEL_DATABASE_URI"] = postgres
    AsyncParallel(app)
    return app


@pytest.fixture
async def adapter(app: Flask) -> AsyncIterator[ASGIAdapter]:
    """The application under the adapter, within its lifespan."""
    adapter = ASGIAdapter(app)
    async with Lifespan(adapter):
        yield adapter


@pytest.mark.parametrize("path", ["/async", "/sync"])
async def test_a_gather_ends_with_its_client(
    path: str, app: Flask, adapter: ASGIAdapter, backends: Callable[[str], int]
) -> None:
    """No query is left on the server, and the view sees why."""
    seen: list[str] = []

    @app.get("/async")
    async def view() -> str:
        try:
            await gather_queries([FOR_EVER] * 3)
        except ClientDisconnected as error:
            seen.append(type(error).__name__)
            raise
        return ""

    @app.get("/sync")
    def sync_view() -> str:
        try:
            run_in_parallel([FOR_EVER] * 3)
        except ClientDisconnected as error:
            seen.append(type(error).__name__)
            raise
        return ""

    async with Conversation(adapter, "GET", path) as client:
        client.say()
        client.leave()
    assert seen == ["ClientDisconnected"]
    assert backends("state = 'active'") == 0


async def test_a_gather_with_return_exceptions_ends_too(
    app: Flask, adapter: ASGIAdapter
) -> None:
    """There is nobody to return them to."""

    @app.get("/")
    async def view() -> str:
        with pytest.raises(ClientDisconnected):
            await gather_queries([FOR_EVER], return_exceptions=True)
        return ""

    async with Conversation(adapter, "GET", "/") as client:
        client.say()
        client.leave()


async def test_what_writes_goes_on(app: Flask, adapter: ASGIAdapter) -> None:
    """A payment does not stop half way because somebody closed a window."""
    gone, done = asyncio.Event(), asyncio.Event()

    async def write(session: AsyncSession) -> int:
        await gone.wait()
        done.set()
        result = await session.execute(text("SELECT 1"))
        return int(result.scalar_one())

    @app.get("/")
    async def view() -> str:
        reading = asyncio.create_task(_until_cut_off(gone))
        assert await gather_queries(write, read_only=False) == (1,)
        await reading
        return "done"

    async with Conversation(adapter, "GET", "/") as client:
        client.say()
        client.leave()
    assert done.is_set()


async def _until_cut_off(gone: asyncio.Event) -> None:
    with pytest.raises(ClientDisconnected):
        await gather_queries(FOR_EVER)
    gone.set()


async def test_the_view_itself_is_not_interrupted(
    app: Flask, adapter: ASGIAdapter
) -> None:
    """It awaits other things than gathers to their end."""
    order: list[str] = []
    gone = asyncio.Event()

    @app.get("/")
    async def view() -> str:
        reading = asyncio.create_task(_until_cut_off(gone))
        await gone.wait()
        order.append("gone")
        await asyncio.sleep(0)
        order.append("view ended")
        await reading
        return ""

    async with Conversation(adapter, "GET", "/") as client:
        client.say()
        client.leave()
    assert order == ["gone", "view ended"]


async def test_a_gather_after_the_client_went_does_not_begin(
    app: Flask, adapter: ASGIAdapter
) -> None:
    """Once it is known that nobody waits, nothing more is asked for."""

    @app.get("/")
    async def view() -> str:
        for _ in range(2):
            with pytest.raises(ClientDisconnected):
                await gather_queries(FOR_EVER)
        return ""

    async with Conversation(adapter, "GET", "/") as client:
        client.say()
        client.leave()


async def test_what_a_request_left_running_runs_on(
    app: Flask, adapter: ASGIAdapter
) -> None:
    """A task that outlives its request is nobody's who could go."""
    ended = asyncio.Event()
    tasks: list[asyncio.Task[Any]] = []

    async def afterwards() -> Any:
        await ended.wait()
        return await gather_queries(text("SELECT pg_sleep(0.2)"), text("SELECT 1"))

    @app.get("/")
    async def view() -> str:
        tasks.append(asyncio.create_task(afterwards()))
        return ""

    async with Conversation(adapter, "GET", "/") as client:
        client.say()
        client.leave()
    ended.set()
    assert len(await tasks[0]) == 2


async def test_a_body_that_nobody_reads_is_not_received(
    app: Flask, adapter: ASGIAdapter
) -> None:
    """So ``100 Continue`` is not said, and nothing is buffered; also by a gather."""

    @app.post("/")
    async def view() -> str:
        await gather_queries(text("SELECT pg_sleep(0.2)"))
        return "done"

    headers = [(b"content-length", b"1000000")]
    async with Conversation(adapter, "POST", "/", headers=headers) as client:
        client.say(b"x", more=True)
    assert (client.body, client.received) == (b"done", 0)


async def test_after_the_body_the_client_is_watched(
    app: Flask, adapter: ASGIAdapter
) -> None:
    """A view that has read it is told like one without a body."""

    @app.post("/")
    async def view() -> str:
        assert request.get_data() == b"xy"
        with pytest.raises(ClientDisconnected):
            await gather_queries(FOR_EVER)
        return ""

    headers = [(b"content-length", b"2")]
    async with Conversation(adapter, "POST", "/", headers=headers) as client:
        client.say(b"x", more=True)
        client.say(b"y")
        client.leave()


async def test_a_gather_before_the_body_was_read_is_told_too(
    app: Flask, adapter: ASGIAdapter
) -> None:
    """As soon as the body is through, the client is watched for it."""

    @app.post("/")
    async def view() -> str:
        gathering = asyncio.create_task(_until_cut_off(asyncio.Event()))
        await asyncio.sleep(0)
        assert request.get_data() == b"xy"
        await gathering
        return ""

    headers = [(b"content-length", b"2")]
    async with Conversation(adapter, "POST", "/", headers=headers) as client:
        client.say(b"xy")
        client.leave()


async def test_watching_does_not_disturb_who_reads() -> None:
    """While he waits for a message, nobody else receives."""
    receivers: list[asyncio.Future[MutableMapping[str, Any]]] = []

    async def receive() -> MutableMapping[str, Any]:
        receivers.append(asyncio.get_running_loop().create_future())
        return await receivers[-1]

    client = Client(receive, asyncio.get_running_loop(), [])
    client.watch(lambda _error: None)  # it would begin to look in 50 ms
    reading = asyncio.create_task(client.receive())
    later = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.1, later.set_result, None)
    await later
    assert len(receivers) == 1
    receivers[0].set_result({"type": "http.request", "body": b"x", "more_body": True})
    await reading
    await client.receive()  # there is something to read
    assert len(receivers) == 1
    client.end()


async def test_a_cancel_from_elsewhere_is_not_taken_back() -> None:
    """Even if the client goes in the same moment."""

    async def receive() -> MutableMapping[str, Any]:
        raise AssertionError

    client = Client(receive, asyncio.get_running_loop(), [(b"content-length", b"1")])
    waiting = asyncio.create_task(client.while_there(asyncio.Event().wait))
    await asyncio.sleep(0)
    client.lose()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_body_that_was_not_announced_is_read_all_the_same(
    app: Flask, adapter: ASGIAdapter
) -> None:
    """HTTP/2 needs no length; a part that came while a gather ran is not lost."""

    @app.post("/")
    async def view() -> bytes:
        await gather_queries(text("SELECT pg_sleep(0.2)"))
        return request.get_data()

    async with Conversation(adapter, "POST", "/", http_version="2") as client:
        client.say(b"abc", more=True)
        client.say(b"def")
    assert client.body == b"abcdef"


async def test_a_part_of_the_body_is_not_lost_between_two_gathers(
    app: Flask, adapter: ASGIAdapter
) -> None:
    """Though the view has read some of it, and the client is watched again."""

    @app.post("/")
    async def view() -> bytes:
        await gather_queries(text("SELECT pg_sleep(0.1)"))
        begin = request.stream.read1(3)  # type: ignore[attr-defined]
        await gather_queries(text("SELECT pg_sleep(0.1)"))
        rest: bytes = begin + request.get_data()
        return rest

    async with Conversation(adapter, "POST", "/", http_version="2") as client:
        client.say(b"abc" * 30_000, more=True)
        client.say(b"def")
    assert client.body == b"abc" * 30_000 + b"def"


async def test_a_short_body_that_was_not_announced_does_not_end_the_watch(
    app: Flask, adapter: ASGIAdapter
) -> None:
    """It has all arrived, so that only the client's going can come."""

    @app.post("/")
    async def view() -> str:
        with pytest.raises(ClientDisconnected):
            await gather_queries(FOR_EVER)
        assert request.get_data() == b"abc"
        return ""

    async with Conversation(adapter, "POST", "/", http_version="2") as client:
        client.say(b"abc")
        client.leave()


async def test_reading_while_the_client_is_watched_waits_for_the_watch() -> None:
    """There is one receiver at a time, and the reader gets what the watch received."""
    messages: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    at_once: list[int] = []
    receiving = asyncio.Event()

    async def receive() -> MutableMapping[str, Any]:
        at_once.append(1)
        assert sum(at_once) == 1
        receiving.set()
        try:
            return await messages.get()
        finally:
            at_once.append(-1)

    client = Client(receive, asyncio.get_running_loop(), [])
    lost = asyncio.Event()
    client.watch(lambda _error: lost.set())
    await receiving.wait()
    reading = asyncio.create_task(client.receive())
    await asyncio.sleep(0)
    messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})
    await reading
    assert not client.more
    messages.put_nowait({"type": "http.disconnect"})
    await lost.wait()
    assert client.gone
    client.end()


async def test_a_body_that_is_cut_off_is_an_error_in_the_view(
    app: Flask, adapter: ASGIAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    """It sees werkzeug's ClientDisconnected, and the log sees nothing."""
    seen: list[str] = []

    def read() -> str:
        try:
            request.get_data()
        except ClientDisconnected:
            seen.append(threading.current_thread().name)
            raise
        return ""

    @app.post("/async")
    async def view() -> str:
        return read()

    app.add_url_rule("/sync", "sync", read, methods=["POST"])
    for path in ("/async", "/sync"):
        async with Conversation(
            adapter, "POST", path, headers=[(b"content-length", b"9")]
        ) as client:
            client.say(b"half", more=True)
            client.leave()
    assert len(seen) == 2
    assert not caplog.records


ANNOUNCED = [(b"content-length", b"200000")]


def refusing(**changes: Any) -> Conversation:
    """A request with a body, over HTTP/2, to an application that refuses it at once."""
    options = {"headers": ANNOUNCED, "http_version": "2", "method": "POST", **changes}
    method = str(options.pop("method"))
    adapter = ASGIAdapter(Unauthorized("who are you?"))
    return Conversation(adapter, method, "/", **options)


async def test_over_http_2_a_response_ends_after_the_body_that_nobody_wants() -> None:
    """There is a server that drops the connection where it arrives after the end."""
    async with refusing() as client:
        assert b"who are you?" in await client.chunk(1)
        for part in (b"a", b"b"):
            client.say(part, more=True)
            await settled()
        assert not client.task.done()
        client.say(b"c")
    assert (client.status, client.received) == (401, 3)
    assert [message.get("more_body") for message in client.sent[1:]] == [True, False]


@pytest.mark.parametrize(("method", "waits"), [("POST", True), ("GET", False)])
async def test_one_that_was_not_announced_may_come_there_too(
    method: str, *, waits: bool
) -> None:
    """With a method for it; else there is nothing to wait for."""
    async with refusing(method=method, headers=[]) as client:
        await client.chunk(1)
        await settled()
        assert client.task.done() is not waits
        client.say(b"a")
    assert client.received == waits


async def test_nothing_of_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much comes while it waits."""
    clients: list[Client] = []

    class Kept(Client):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            clients.append(self)

    monkeypatch.setattr(asgi, "Client", Kept)
    async with refusing() as client:
        for _ in range(10):
            client.say(b"x" * 65_536, more=True)
            await client.until_received(client.received + 1)
            await settled()
            assert len(clients[0].chunk) == 0
        client.say()


@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_who_goes_before_the_request_is_refused_is_no_error(
    version: str,
) -> None:
    """Such as one with two hosts."""
    hosts = [(b"host", b"a"), (b"host", b"b")]
    async with refusing(headers=hosts, http_version=version) as client:
        client.breaks_on_send = True
    assert client.sent == []


async def test_it_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor for a client that has gone."""
    monkeypatch.setattr(_client, "_LINGER", 0.01)
    async with refusing() as client:
        client.say(b"a", more=True)
    assert client.sent[-1] == {
        "type": "http.response.body",
        "body": b"",
        "more_body": False,
    }
    monkeypatch.undo()
    async with refusing() as client:
        client.leave()
    assert client.sent[-1]["more_body"]


async def test_over_http_1_the_server_sees_to_that() -> None:
    """It closes the connection, which nobody else uses."""
    async with refusing(http_version="1.1") as client:
        pass
    assert (client.status, client.received) == (401, 0)


async def test_nothing_is_sent_to_a_client_that_has_gone(
    app: Flask, adapter: ASGIAdapter
) -> None:
    """A server may wait for ever until it is taken."""

    @app.get("/")
    async def view() -> str:
        with contextlib.suppress(ClientDisconnected):
            await gather_queries(FOR_EVER)
        return "nobody reads this"

    async with Conversation(adapter, "GET", "/") as client:
        client.leave()
    assert client.sent == []


async def test_over_http_2_sending_ends_with_the_client() -> None:
    """There is a server that waits for ever until it is taken."""
    leaves = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await leaves.wait()
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.body":
            leaves.set()
            await asyncio.Event().wait()

    adapter = ASGIAdapter(Response("text"))
    for headers in ([], ANNOUNCED):
        leaves.clear()
        scope = http_scope("GET", "/", http_version="2", headers=headers)
        async with asyncio.timeout(10):
            await adapter(scope, receive, send)


async def settled() -> None:
    """Let everything that can go on do so."""
    for _ in range(20):
        await asyncio.sleep(0)
