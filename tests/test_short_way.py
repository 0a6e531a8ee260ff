"""The short way of whole responses, past WSGI: the same answers, where it may be."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from both_ways import Answer, Ask, by_asgi, by_wsgi
from conversation import Conversation, http_scope
from flask import Flask, Response, g, jsonify, request
from lifespan import Lifespan
from werkzeug.datastructures import Headers
from werkzeug.exceptions import NotFound
from werkzeug.wsgi import ClosingIterator

from async_parallel import AsyncParallel
from async_parallel.asgi import ASGIAdapter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping

    Called = list[Callable[[], None]]


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Called:
    """The closing functions of the responses that were called as WSGI applications."""
    found: Called = []

    def note(iterable: Any, close: Any) -> ClosingIterator:
        found.append(close)
        return ClosingIterator(iterable, close)

    # Nothing of the class itself is changed, which would be noticed.
    monkeypatch.setattr("werkzeug.wrappers.response.ClosingIterator", note)
    return found


@contextlib.asynccontextmanager
async def serving(app: Flask) -> AsyncIterator[ASGIAdapter]:
    """An adapter of ``app``, which has the extension."""
    adapter = ASGIAdapter(app)
    async with Lifespan(adapter):
        yield adapter


async def says_nothing() -> Any:
    """Receive from a client that neither sends anything nor goes."""
    await asyncio.Event().wait()


def make_app(kind: type[Flask] = Flask) -> Flask:
    """An application with the extension."""
    app = kind(__name__)
    AsyncParallel(app)
    return app


async def ask(app: Flask, path: str = "/", method: str = "GET", **options: Any) -> Any:
    """What the adapter answers."""
    async with serving(app) as adapter:
        return await by_asgi(adapter, Ask(method, path, **options))


def with_cookies() -> Response:
    """Two headers of one name."""
    response = Response("x")
    response.set_cookie("one", "1")
    response.set_cookie("two", "ü", httponly=True)
    return response


WHOLE: dict[str, Callable[[], Any]] = {
    "text": lambda: "hello",
    "dict": lambda: {"a": [1, 2]},
    "nothing": lambda: "",
    "status": lambda: ("made", 201, {"X-Id": "7"}),
    "cookies": with_cookies,
    "jsonify": lambda: jsonify(1, 2, 3),
    "values": lambda: Response("x", headers=[("X-A", "1"), ("X-A", "ü\t2")]),
    "error": lambda: ("no", 404),
}


def mark(response: Response) -> Response:
    """Tell what a hook sees."""
    response.headers["X-Hook"] = str(response.content_length)
    return response


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_whole_response_goes_past_wsgi(
    name: str, kind: str, called: Called
) -> None:
    """With the same status, headers and body, and hooks have seen it."""

    async def view() -> Any:
        return WHOLE[name]()

    app, plain = make_app(), Flask(__name__)
    for each in (app, plain):
        is_async = kind == "async" and each is app
        each.add_url_rule("/", "view", view if is_async else WHOLE[name])
        each.after_request(mark)
    answer = await ask(app)
    assert not called
    assert answer == by_wsgi(plain, Ask("GET", "/"))
    assert len(called) == 1  # which shows that it counts


class Shouting(Response):
    """Has its own idea of headers."""

    def get_wsgi_headers(self, environ: Any) -> Headers:
        headers = super().get_wsgi_headers(environ)
        headers["X-Shout"] = environ["PATH_INFO"]
        return headers


class Doubled(Response):
    """Has its own idea of its body."""

    def iter_encoded(self) -> Iterator[bytes]:
        return iter([b"".join(super().iter_encoded()) * 2])


def _announcing(length: str) -> Response:
    response = Response("hello")
    response.headers["Content-Length"] = length
    return response


class Accepted(Response):
    """Says another status than it has."""

    @property
    def status(self) -> str:
        return "202 Accepted"

    @status.setter
    def status(self, status: str | int) -> None:
        Response.status.fset(self, status)  # type: ignore[attr-defined]


class Gone(Response):
    """Says another code than it has."""

    @property
    def status_code(self) -> int:
        return 410

    @status_code.setter
    def status_code(self, code: int) -> None:
        Response.status_code.fset(self, code)  # type: ignore[attr-defined]


class Closing(list[bytes]):
    """A body that is to be closed."""

    def close(self) -> None:
        """Be closed."""


def with_headers(headers: Any) -> Response:
    """A response whose headers were given as something else."""
    response = Response("hi")
    response.headers = headers
    return response


def passing_through() -> Response:
    """A response that is not to be looked at."""
    response = Response("hi")
    response.direct_passthrough = True
    return response


def with_own(name: str, method: Callable[..., Any]) -> Response:
    """A response that has a method of its own."""
    response = Response("hi")
    setattr(response, name, method)
    return response


OWN_HEADERS = Headers({"X-Own": "1", "Content-Length": "2"})
OWN_ANSWER = ([b"own"], "200 OK", [("Content-Length", "3")])


BY_WSGI: dict[str, Callable[[], Any]] = {
    "class": lambda: Shouting("hello"),
    "body": lambda: Doubled(["a"]),
    "location": lambda: ("", 201, {"Location": "/ü"}),
    "far location": lambda: ("", 302, {"Location": "/\u65e5\u672c"}),
    "far content": lambda: ("", 200, {"content-location": "/\u65e5\u672c"}),
    "headers in a list": lambda: with_headers([("X-A", "1"), ("X-B", "2")]),
    "headers in a dict": lambda: with_headers({"X-A": "1", "ab": "2"}),
    "own headers": lambda: with_own("get_wsgi_headers", lambda _environ: OWN_HEADERS),
    "own answer": lambda: with_own("get_wsgi_response", lambda _environ: OWN_ANSWER),
    "own items": lambda: with_own("get_app_iter", lambda _environ: [b"ho"]),
    "own encoding": lambda: with_own("iter_encoded", lambda: iter([b"ho"])),
    "own status": lambda: Accepted("hi"),
    "own code": lambda: Gone("hi"),
    "own list": lambda: Response(Closing([b"a"]), headers={"Content-Length": "1"}),
    "content location": lambda: ("", 200, {"content-location": "/ü"}),
    "no content": lambda: ("x", 204),
    "not modified": lambda: ("x", 304),
    "early": lambda: ("x", 102),
    "pieces": lambda: Response([b"a", b"b"]),
    "pieces, of which one is all": lambda: Response(
        [b"a", b""], headers={"Content-Length": "1"}
    ),
    "no pieces": lambda: Response([], headers={"Content-Length": "0"}),
    "strings": lambda: Response(["ü"], headers={"Content-Length": "2"}),
    "string": lambda: Response(["a"], headers={"Content-Length": "1"}),
    "no length": lambda: Response([b"a"]),
    "too much": lambda: _announcing("3"),
    "tuple": lambda: Response((b"a",), headers={"Content-Length": "1"}),
}


@pytest.mark.parametrize("name", BY_WSGI)
async def test_what_needs_wsgi_goes_by_it(name: str, called: Called) -> None:
    """What werkzeug would correct, and what a class of its own has changed."""
    app = make_app()
    app.add_url_rule("/", "view", BY_WSGI[name])
    answer = await ask(app)
    # Two of them have no iterator of werkzeug's.
    assert len(called) == (name not in {"own answer", "own items"})
    expected = by_wsgi(app, Ask("GET", "/"))
    if name == "too much":  # no more is sent than was announced
        expected = Answer(expected.status, expected.headers, expected.body[:3])
    assert answer == expected


async def test_what_passes_through_goes_by_it(called: Called) -> None:
    """Of it nothing is called when it is closed."""
    app, closed = make_app(), []

    @app.get("/")
    def view() -> Response:
        response = passing_through()
        response.call_on_close(lambda: closed.append(1))
        return response

    assert (await ask(app)).body == b"hi"
    assert not called
    assert not closed


class Around:
    """What somebody puts around a method, and says that it is no other."""

    def __init__(self, changed: Any) -> None:
        self.changed = changed

    def __eq__(self, _other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]

    def __get__(self, response: Any, _kind: type) -> Any:
        return self if response is None else functools.partial(self.changed, response)


@pytest.mark.parametrize("around", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        *("get_wsgi_headers", "get_wsgi_response", "get_app_iter", "iter_encoded"),
        *("__call__", "close"),
    ],
)
async def test_a_class_that_somebody_changes_goes_by_it(
    name: str, *, around: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any time, as tools do that look at each response."""
    app, seen = make_app(), []
    app.add_url_rule("/", "view", lambda: "hi")
    assert (await ask(app)).body == b"hi"
    original = getattr(Response, name)

    def changed(self: Response, *args: Any) -> Any:
        seen.append(self)
        return original(self, *args)

    monkeypatch.setattr(Response, name, Around(changed) if around else changed)
    assert (await ask(app)).body == b"hi"
    assert len(seen) == 1


def test_a_class_that_was_changed_before_goes_by_it() -> None:
    """Tools do that when the process starts."""
    program = """
import functools, werkzeug.wrappers as w
original = w.Response.get_wsgi_headers
w.Response.get_wsgi_headers = functools.wraps(original)(lambda *a: original(*a))
import flask
from async_parallel._whole import _answers_as_werkzeugs
print(_answers_as_werkzeugs(flask.Response))
"""
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    assert ran.stdout == "False\n"


async def test_a_response_that_is_closed_in_its_own_way_is() -> None:
    """The method may be of the object."""
    app, closed = make_app(), []

    @app.get("/")
    def view() -> Response:
        response = Response("hi")
        response.close = lambda: closed.append(1)  # type: ignore[method-assign]
        return response

    await ask(app)
    assert closed == [1]


async def test_what_is_sent_is_what_it_was_when_flask_was_asked() -> None:
    """Later changes are not of this response, which others may have too."""
    app, plain = make_app(), Flask(__name__)
    shared = Response("hello")

    def change(_error: object) -> None:
        shared.set_data(b"much longer than it was")

    for each in (app, plain):
        shared.set_data("hello")
        each.add_url_rule("/", "view", lambda: shared)
        each.teardown_request(change)
    answer = await ask(app)
    shared.set_data("hello")
    assert answer == by_wsgi(plain, Ask("GET", "/"))
    assert answer.body == b"hello"


async def test_responses_in_the_place_of_a_stream_close_it() -> None:
    """Nobody iterates over it any more."""
    app, closed = make_app(), []

    class Endless:
        def __aiter__(self) -> Endless:
            return self

        async def __anext__(self) -> str:
            return "x"

        async def aclose(self) -> None:
            closed.append(1)

    @app.get("/")
    async def view() -> Any:
        return Endless()

    @app.after_request
    def replace(_response: Response) -> Response:
        return Response("replaced")

    assert (await ask(app)).body == b"replaced"
    assert closed == [1]


def as_wsgi(_environ: Any, start_response: Any) -> list[bytes]:
    """A response that is none of werkzeug's."""
    start_response("200 OK", [("Content-Length", "4")])
    return [b"wsgi"]


@pytest.mark.parametrize("other", [NotFound(), as_wsgi])
async def test_hooks_may_answer_with_any_wsgi_application(other: Any) -> None:
    """Flask calls it."""
    app, plain = make_app(), Flask(__name__)
    for each in (app, plain):
        each.add_url_rule("/", "view", lambda: "hello")
        each.after_request(lambda _response: other)
    assert await ask(app) == by_wsgi(plain, Ask("GET", "/"))


async def test_head_goes_by_wsgi(called: Called) -> None:
    """It announces a body that is not sent."""
    app = make_app()
    app.add_url_rule("/", "view", lambda: "hello")
    answer = await ask(app, method="HEAD")
    assert (answer.body, len(called)) == (b"", 1)
    assert ("content-length", "5") in answer.headers


def asked_by(method: str) -> Flask:
    """An application that middleware always has asked by one method."""
    app = make_app()
    app.add_url_rule("/", "view", lambda: "hello")
    plain: Any = app.wsgi_app

    def changed(environ: Any, start_response: Any) -> Any:
        environ["REQUEST_METHOD"] = method
        return plain(environ, start_response)

    app.wsgi_app = changed  # type: ignore[method-assign]
    return app


async def test_a_head_of_middlewares_own_goes_by_wsgi(called: Called) -> None:
    """Then there is no body, and it is found to be missing."""
    with pytest.raises(RuntimeError, match=r"announced 5 bytes .* sent 0"):
        await ask(asked_by("HEAD"))
    assert len(called) == 1


async def test_a_head_that_middleware_hides_has_no_body() -> None:
    """For the client of HTTP/1.1 it would be the begin of the next response."""
    assert (await ask(asked_by("GET"), method="HEAD")).body == b""


class Derived(Flask):
    """An application's own class."""


def around_flasks_own(monkeypatch: pytest.MonkeyPatch) -> type[Flask]:
    """Flask, where a tool has wrapped what answers a request."""
    original: Any = Flask.wsgi_app

    @functools.wraps(original)
    def wsgi_app(*args: Any) -> Any:
        return original(*args)

    monkeypatch.setattr(Flask, "wsgi_app", wsgi_app)
    return Flask


@pytest.mark.parametrize("make", [lambda _: Derived, around_flasks_own])
async def test_who_only_calls_flasks_own_goes_the_short_way(
    make: Callable[[pytest.MonkeyPatch], type[Flask]],
    called: Called,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A class of one's own, or a tool around it."""
    app = make_app(make(monkeypatch))
    app.add_url_rule("/", "view", lambda: "hello")
    assert (await ask(app)).body == b"hello"
    assert not called


async def test_a_body_that_middleware_keeps_is_missed() -> None:
    """The server must break the connection, or the client would wait for it."""
    app = make_app()
    app.add_url_rule("/", "view", lambda: "hello")
    plain: Any = app.wsgi_app

    def keep(environ: Any, start_response: Any) -> Any:
        body = plain(environ, start_response)
        assert next(body) == b"hello"
        return body

    app.wsgi_app = keep  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match=r"announced 5 bytes .* sent 0"):
        await ask(app)


async def test_less_than_announced_is_still_an_error() -> None:
    """It is found where WSGI is."""
    app = make_app()
    app.add_url_rule("/", "view", lambda: _announcing("9"))
    with pytest.raises(RuntimeError, match=r"announced 9 bytes .* sent 5"):
        await ask(app)


@pytest.mark.parametrize("bad", ["a\r\nX-Evil: 1", "a\0b"])
async def test_headers_are_checked_here_too(bad: str) -> None:
    """Werkzeug lets a zero pass, and what was put past werkzeug's check."""
    app = make_app()

    @app.get("/")
    async def view() -> Response:
        response = Response("x")
        response.headers._list.append(("X-Bad", bad))
        return response

    with pytest.raises(ValueError, match=r"'X-Bad' cannot be sent"):
        await ask(app)


def adding(app: Any) -> Any:
    """Middleware around what begins the response."""

    def run(environ: Any, start_response: Any) -> Any:
        def start(status: str, headers: Any, exc_info: Any = None) -> Any:
            return start_response(status, [*headers, ("X-Added", "1")], exc_info)

        return app(environ, start)

    return run


def shouting(app: Any) -> Any:
    """Middleware around the body alone."""

    def run(environ: Any, start_response: Any) -> Any:
        body = app(environ, start_response)
        try:
            yield from (chunk.upper() for chunk in body)
        finally:
            body.close()

    return run


def copying(app: Any) -> Any:
    """Middleware that asks for something else."""
    return lambda environ, start: app({**environ, "PATH_INFO": "/other"}, start)


def late(app: Any) -> Any:
    """Middleware that begins the response itself, from what it was told."""

    def run(environ: Any, start_response: Any) -> Any:
        told: list[Any] = []
        body = app(environ, lambda *start: told.append(start))
        start_response("202 Accepted", told[0][1])
        return body

    return run


class Proxy:
    """What looks like a ``start_response``, and adds a header."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __call__(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        return self._inner(status, [*headers, ("X-Proxy", "1")], exc_info)


def proxying(app: Any) -> Any:
    """Middleware that hides behind what it is around."""
    return lambda environ, start: app(environ, Proxy(start))


def peeking(app: Any) -> Any:
    """Middleware that takes the first piece out, and puts it back."""

    def run(environ: Any, start_response: Any) -> Any:
        body = app(environ, start_response)
        try:
            yield next(body)
            yield from body
        finally:
            body.close()

    return run


PAST = {shouting, peeking, copying}


@pytest.mark.parametrize(
    "middleware", [adding, shouting, copying, late, proxying, peeking]
)
async def test_middleware_sees_what_it_would(middleware: Any, called: Called) -> None:
    """Whatever it is around; and callbacks run when the response has been sent."""
    app, plain = make_app(), Flask(__name__)
    closed: list[str] = []

    def view() -> Response:
        path = request.path
        response = Response(f"hello from {path}")
        response.call_on_close(lambda: closed.append(path))
        return response

    for each in (app, plain):
        each.add_url_rule("/", "view", view)
        each.add_url_rule("/other", "other", view)
        each.wsgi_app = middleware(each.wsgi_app)  # type: ignore[method-assign]
    answer = await ask(app)
    assert closed == ["/other" if middleware is copying else "/"]
    assert bool(called) == (middleware not in PAST)
    assert answer == by_wsgi(plain, Ask("GET", "/"))
    assert closed == [closed[0]] * 2


async def test_who_wraps_it_in_the_application_gets_a_response() -> None:
    """An attribute that was set later, and a class with its own ``wsgi_app``."""

    class Own(Flask):
        def wsgi_app(self, environ: Any, start_response: Any) -> Any:
            with self.request_context(environ):
                response: Any = self.full_dispatch_request()
                response.headers["X-Own"] = type(response).__name__
                return response(environ, start_response)

    own, wrapped, inside = make_app(Own), make_app(), make_app()
    dispatch: Any = wrapped.full_dispatch_request

    def instead(environ: Any, start_response: Any) -> Any:
        return Own.wsgi_app(inside, environ, start_response)  # type: ignore[arg-type]

    inside.wsgi_app = instead  # type: ignore[method-assign]

    def around() -> Any:
        response = dispatch()
        response.headers["X-Own"] = type(response).__name__
        return response

    wrapped.full_dispatch_request = around  # type: ignore[method-assign]
    for app in (own, wrapped, inside):
        app.add_url_rule("/", "view", lambda: "hello")
        assert ("x-own", "Response") in (await ask(app)).headers


async def test_who_was_around_it_before_the_extension_stays() -> None:
    """As tools are that wrap the methods of an application when it is made."""
    app, seen = Flask(__name__), []
    dispatch: Any = app.full_dispatch_request

    def around() -> Any:
        response = dispatch()
        seen.append(type(response))
        return response

    app.full_dispatch_request = around  # type: ignore[method-assign]
    AsyncParallel(app)
    app.add_url_rule("/", "view", lambda: "hello")
    assert (await ask(app)).body == b"hello"
    assert seen == [Response]


async def test_a_request_inside_a_request_is_answered_with_a_response() -> None:
    """As views do that answer several requests in one."""
    app = make_app()

    @app.get("/")
    async def batch() -> list[str]:
        kinds = []
        for _ in range(2):
            with app.test_request_context("/one"):
                response: Any = app.full_dispatch_request()
                kinds += [type(response).__name__, response.get_data(as_text=True)]
        g.kinds = kinds
        return kinds

    app.add_url_rule("/one", "one", lambda: request.path)
    assert b"Direct" not in (answer := await ask(app)).body
    assert answer.body.count(b"Response") == answer.body.count(b"/one") == 2


async def test_a_request_that_is_dispatched_again_has_a_response() -> None:
    """The second time it is not the server that asks."""
    app = make_app()

    @app.get("/")
    async def view() -> str:
        if "inner" in g:
            return "inner"
        g.inner = True
        inner: Any = app.full_dispatch_request()
        return f"{type(inner).__name__} {inner.get_data(as_text=True)}"

    assert (await ask(app)).body == b"Response inner"


async def test_a_request_may_be_forwarded_inside() -> None:
    """With the same environment, and what comes back is a response."""
    app = make_app()

    @app.get("/")
    async def view() -> str:
        environ = request.environ
        environ["PATH_INFO"] = "/other"
        with app.request_context(environ):
            inner: Any = app.full_dispatch_request()
            return f"{type(inner).__name__} {inner.get_data(as_text=True)}"

    app.add_url_rule("/other", "other", lambda: "other")
    assert (await ask(app)).body == b"Response other"


async def test_a_method_that_is_changed_in_the_class_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As tools do that look at each request; at any time."""
    app, seen = make_app(), []
    app.add_url_rule("/", "view", lambda: "hi")
    original: Any = Flask.full_dispatch_request

    def changed(self: Flask) -> Any:
        response = original(self)
        seen.append(type(response))
        return response

    monkeypatch.setattr(Flask, "full_dispatch_request", changed)
    assert (await ask(app)).body == b"hi"
    assert seen == [Response]


async def test_a_second_start_is_refused_as_elsewhere() -> None:
    """Where middleware asks the application twice."""
    app = make_app()
    app.add_url_rule("/", "view", lambda: "hello")
    plain: Any = app.wsgi_app

    def twice(environ: Any, start_response: Any) -> Any:
        plain(environ, start_response).close()
        return plain(environ, start_response)

    app.wsgi_app = twice  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="called twice"):
        await ask(app)


async def test_callbacks_run_after_the_last_byte(called: Called) -> None:
    """Off the loop, as they may block; also where sending fails."""
    app = make_app()
    order: list[str] = []
    loop = asyncio.get_running_loop()

    @app.get("/")
    async def view() -> Response:
        response = Response("hello")

        @response.call_on_close
        def close() -> None:
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            order.append("closed")

        return response

    async with serving(app) as adapter:

        async def receive() -> Any:
            await loop.create_future()

        for broken in (False, True):
            order.clear()

            async def send(message: Any, *, broken: bool = broken) -> None:
                order.append(message["type"])
                if broken:
                    raise OSError

            scope = {"type": "http", "method": "GET", "path": "/", "http_version": "1"}
            await adapter({**scope, "headers": []}, receive, send)
            assert order[-1] == "closed"
            assert len(order) == (2 if broken else 3)
    assert not called


@pytest.mark.parametrize("breaks_at", ["http.response.start", "http.response.body"])
async def test_who_goes_before_a_whole_response_is_no_error(breaks_at: str) -> None:
    """The server has nobody to tell."""
    app, sent = make_app(), []

    @app.get("/")
    async def view() -> str:
        return "text"

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message["type"])
        if message["type"] == breaks_at:
            raise OSError

    async with serving(app) as adapter:
        await adapter(http_scope("GET", "/"), says_nothing, send)
    assert sent[-1] == breaks_at


async def test_over_http_2_a_whole_response_ends_after_the_body_that_nobody_wants() -> (
    None
):
    """There is a server that drops the connection where it arrives after the end."""
    app = make_app()

    @app.post("/")
    async def view() -> str:
        return "text"

    headers = [(b"content-length", b"1")]
    async with (
        serving(app) as adapter,
        Conversation(adapter, "POST", "/", http_version="2", headers=headers) as client,
    ):
        assert await client.chunk(1) == b"text"
        assert not client.task.done()
        client.say(b"a")
    assert (client.status, client.received) == (200, 1)


async def test_another_error_of_the_server_reaches_it() -> None:
    """It is not the client that has gone."""
    app = make_app()
    app.add_url_rule("/", "view", lambda: "text")

    async def send(_message: MutableMapping[str, Any]) -> None:
        raise LookupError

    async with serving(app) as adapter:
        with pytest.raises(LookupError):
            await adapter(http_scope("GET", "/"), says_nothing, send)


async def test_what_a_view_sets_is_seen_where_it_is_sent() -> None:
    """ASGI middleware may want to know it."""
    app, seen = make_app(), []
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="")

    @app.get("/")
    async def view() -> str:
        user.set("alice")
        return "text"

    async def send(_message: MutableMapping[str, Any]) -> None:
        seen.append(user.get())

    async with serving(app) as adapter:
        await adapter(http_scope("GET", "/"), says_nothing, send)
    assert seen == ["alice", "alice"]


async def test_a_slow_client_of_a_whole_response_keeps_no_worker() -> None:
    """A few of them would keep all others from synchronous views."""
    app, taken, begun = make_app(), asyncio.Event(), asyncio.Event()

    @app.get("/")
    def view() -> str:
        return "text"

    async def send(_message: MutableMapping[str, Any]) -> None:
        begun.set()
        await taken.wait()

    adapter = ASGIAdapter(app, max_threads=1)
    async with Lifespan(adapter), asyncio.timeout(10):
        slow = asyncio.ensure_future(
            adapter(http_scope("GET", "/"), says_nothing, send)
        )
        await begun.wait()
        assert (await by_asgi(adapter, Ask("GET", "/"))).body == b"text"
        assert not slow.done()
        taken.set()
        await slow


async def test_a_small_request_leaves_nothing_to_the_garbage_collector() -> None:
    """What it did would stop the event loop for milliseconds, every few thousand."""
    app = make_app()

    @app.get("/")
    async def view() -> dict[str, int]:
        return {"a": 1}

    async with serving(app) as adapter:
        await by_asgi(adapter, Ask("GET", "/"))  # for which a rule is searched
        gc.collect()
        gc.disable()
        try:
            for _ in range(10):
                await by_asgi(adapter, Ask("GET", "/"))
            assert gc.collect() == 0
        finally:
            gc.enable()
