"""An application that shows what it was asked, and a way to ask it both ways."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import werkzeug
from conversation import http_scope
from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    flash,
    get_flashed_messages,
    redirect,
    render_template_string,
    request,
    send_file,
    session,
    stream_with_context,
    url_for,
)
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client
from werkzeug.urls import iri_to_uri

from async_parallel import AsyncParallel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping

REFUSAL = werkzeug.Response("not you", status=403, headers={"X-Reason": "rank"})
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@dataclasses.dataclass(frozen=True)
class Ask:
    """A request."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: tuple[bytes, ...] = ()


@dataclasses.dataclass(frozen=True)
class Answer:
    """A response: all that a client sees of it."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def by_wsgi(app: Any, ask: Ask) -> Answer:
    """What werkzeug's client gets from a WSGI application."""
    client = Client(app, use_cookies=False)
    body = b"".join(ask.body)
    response = client.open(
        iri_to_uri(ask.path),
        method=ask.method,
        headers=list(ask.headers),
        data=body or None,
    )
    try:
        headers = [(name.lower(), value) for name, value in response.headers]
        return Answer(response.status_code, headers, response.get_data())
    finally:
        response.close()


async def by_asgi(app: Callable[..., Any], ask: Ask) -> Answer:
    """What a client of an ASGI application gets, which sends the body in pieces."""
    url = urlsplit(iri_to_uri(ask.path))
    headers = [(b"host", b"localhost")]
    headers += [(n.lower().encode(), v.encode("latin-1")) for n, v in ask.headers]
    if ask.body:
        length = sum(map(len, ask.body))
        headers.append((b"content-length", str(length).encode()))
    scope = http_scope(
        ask.method,
        unquote(url.path),
        raw_path=url.path.encode(),
        query_string=url.query.encode(),
        headers=headers,
        server=("localhost", 80),
    )
    pieces = list(ask.body) or [b""]
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        if not pieces:
            await asyncio.Event().wait()
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, *rest = sent
    assert [message.get("more_body") for message in rest][-1] is False
    return Answer(
        start["status"],
        [(n.decode("latin-1"), v.decode("latin-1")) for n, v in start["headers"]],
        b"".join(message["body"] for message in rest),
    )


def shown() -> dict[str, Any]:
    """What a view sees of its request."""
    return {
        "method": request.method,
        "url": request.url,
        "root": request.script_root,
        "args": list(request.args.items(multi=True)),
        "headers": sorted(
            (name, value)
            for name, value in request.headers
            if name not in {"Content-Length", "Content-Type"}
        ),
        "cookies": list(request.cookies.items(multi=True)),
        "mimetype": request.mimetype,
        "form": list(request.form.items(multi=True)),
        "files": [
            (name, file.filename, hashlib.sha256(file.read()).hexdigest())
            for name, file in request.files.items(multi=True)
        ],
        "body": hashlib.sha256(request.get_data()).hexdigest(),
    }


def make_app() -> Flask:
    """The application, with views of both kinds."""
    app = Flask(__name__)
    app.config.update(SECRET_KEY="tests", MAX_CONTENT_LENGTH=100_000)
    parallel = AsyncParallel(app)
    for prefix, kind in (("/async", _asynchronous), ("/sync", _as_it_is)):
        app.register_blueprint(_views(kind), url_prefix=prefix, name=prefix[1:])
    app.after_request(seen)
    other = Flask("other")
    parallel.init_app(other)
    other.add_url_rule("/show", "show", _asynchronous(shown), methods=METHODS)
    app.wsgi_app = DispatcherMiddleware(  # type: ignore[method-assign]
        app.wsgi_app, {"/mounted": other.wsgi_app}
    )
    return app


def seen(response: Response) -> Response:
    """Tell what a hook sees of an error."""
    if response.status_code >= HTTPStatus.BAD_REQUEST or response.location:
        size, where = len(response.get_data()), iri_to_uri(response.location or "")
        response.headers["X-Seen"] = f"{size} {response.content_length} {where}"
    return response


def _as_it_is(view: Callable[..., Any]) -> Callable[..., Any]:
    return view


def _asynchronous(view: Callable[..., Any]) -> Callable[..., Any]:
    async def run(**values: Any) -> Any:
        await asyncio.sleep(0)
        return view(**values)

    return run


def show(rest: str = "") -> dict[str, Any]:
    """All that is seen of the request."""
    return {**shown(), "rest": rest}


def status(code: int) -> Any:
    """An answer of any status."""
    return Response("x" * 10, status=code, headers={"X-Code": str(code)})


def fail(code: int) -> Any:
    """An error of HTTP."""
    abort(code)


def refuse() -> Any:
    """An error that has its response already, as others will get it too."""
    abort(REFUSAL)


def away() -> Any:
    """A redirect."""
    return redirect(url_for(".show", name="ü"))


def cookies() -> Any:
    """Cookies, and a session."""
    session["visits"] = session.get("visits", 0) + 1
    response = Response(str(session["visits"]))
    response.set_cookie("one", "1", httponly=True)
    response.set_cookie("two", "ü", path="/x")
    return response


def flashing() -> Any:
    """A message for the next request."""
    flash("saved")
    return redirect(url_for(".flashes"))


def flashes() -> str:
    """The messages of the last request."""
    return render_template_string("{{ m }}", m=get_flashed_messages())


def stream() -> Response:
    """A generator in its context."""

    def chunks() -> Iterator[str]:
        for number in range(3):
            yield f"{request.path} {number}\n"

    return Response(stream_with_context(chunks()), mimetype="text/plain")


def file() -> Response:
    """A file, also a part of it."""
    return send_file(__file__, conditional=True, etag="tag", max_age=60)


def error() -> None:
    """An exception."""
    raise LookupError("a detail that nobody outside shall see")


VIEWS: dict[str, Callable[..., Any]] = {
    "/show/": show,
    "/show/<path:rest>": show,
    "/status/<int:code>": status,
    "/fail/<int:code>": fail,
    "/away": away,
    "/cookies": cookies,
    "/flash": flashing,
    "/flashes": flashes,
    "/stream": stream,
    "/file": file,
    "/error": error,
    "/refuse": refuse,
}


def _views(kind: Callable[..., Any]) -> Blueprint:
    views = Blueprint("views", __name__)
    run = {view: kind(view) for view in VIEWS.values()}
    for rule, view in VIEWS.items():
        views.add_url_rule(rule, view.__name__, run[view], methods=METHODS)
    views.add_url_rule("/only-get", "only_get", kind(lambda: "x"), methods=["GET"])
    return views
