"""Where functions run: marked ones in place, sessions that may block off the loop."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

import pytest
from conversation import Conversation
from flask import Flask, current_app, render_template_string, session
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from flask.views import View
from lifespan import Lifespan

from async_parallel import AsyncParallel
from async_parallel.asgi import ASGIAdapter, nonblocking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def app() -> Iterator[Flask]:
    """An application with the extension."""
    app = Flask(__name__)
    app.config["SECRET_KEY"] = "tests"
    extension = AsyncParallel(app)
    yield app
    extension.close()


async def ask(app: Flask, path: str = "/") -> str:
    """What the application answers through the adapter."""
    adapter = ASGIAdapter(app)
    async with Lifespan(adapter), Conversation(adapter, "GET", path) as client:
        client.say()
    return client.body.decode()


def where() -> str:
    """Whether this runs on the loop's thread, or in a worker."""
    on_loop = threading.current_thread() is threading.main_thread()
    return "loop" if on_loop else threading.current_thread().name.rpartition("_")[0]


WORKER = "async_parallel worker"


async def test_a_marked_function_runs_in_place(app: Flask) -> None:
    """Views and hooks alike, and class-based views by their method."""
    seen: list[str] = []

    @app.before_request
    @nonblocking
    def before() -> None:
        seen.append(where())

    @app.get("/")
    @nonblocking
    def view() -> str:
        return where()

    class ByClass(View):
        @nonblocking
        def dispatch_request(self) -> str:
            return where()

    app.add_url_rule("/class", view_func=ByClass.as_view("by_class"))
    assert await ask(app) == "loop"
    assert await ask(app, "/class") == "loop"
    assert seen == ["loop"] * 2


async def test_a_decorator_around_it_is_not_marked(app: Flask) -> None:
    """functools.wraps() copies the mark to a function that may block."""

    def decorator(view: Callable[..., str]) -> Callable[..., str]:
        @functools.wraps(view)
        def wrapper(**values: Any) -> str:
            return f"{where()}, {current_app.ensure_sync(view)(**values)}"

        return wrapper

    @app.get("/")
    @decorator
    @nonblocking
    def view() -> str:
        return where()

    assert await ask(app) == f"{WORKER}, {WORKER}"


async def test_a_function_inside_another_runs_on_its_thread(app: Flask) -> None:
    """With one thread for all: it is held by who waits for the async view."""

    def decorator(view: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(view)
        def wrapper() -> Any:
            return current_app.ensure_sync(view)()

        return wrapper

    @app.context_processor
    def values() -> dict[str, str]:
        return {"where": where()}

    @app.get("/")
    @decorator
    async def view() -> str:
        return render_template_string("{{ where }}")

    adapter = ASGIAdapter(app, max_threads=1)
    async with Lifespan(adapter), Conversation(adapter, "GET", "/") as client:
        client.say()
    assert client.body == WORKER.encode()


def test_a_marked_function_is_the_same_function() -> None:
    """The mark changes nothing else."""

    def view() -> str:
        return "x"

    assert nonblocking(view) is view


class Sessions(SecureCookieSessionInterface):
    """Sessions that come from somewhere else."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def open_session(self, app: Flask, request: Any) -> Any:
        """Open one, and note where."""
        self.seen.append(("open", where()))
        return SecureCookieSession({"name": request.path})

    def save_session(self, app: Flask, session: Any, response: Any) -> None:
        """Save it, and note where."""
        self.seen.append(("save", where()))


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_session_interface_of_the_users_runs_off_the_loop(
    when: str, app: Flask
) -> None:
    """Whenever the application sets it; the object stays what it is."""
    app = Flask(__name__)
    interface = Sessions()
    if when == "before":
        app.session_interface = interface
    AsyncParallel(app)
    app.session_interface = interface

    @app.get("/<name>")
    async def view(name: str) -> str:
        return str(session["name"])

    assert [await ask(app, f"/{number}") for number in range(2)] == ["/0", "/1"]
    assert interface.seen == [("open", WORKER), ("save", WORKER)] * 2
    assert app.session_interface is interface
    assert isinstance(interface, Sessions)


async def test_a_session_interface_may_be_replaced(app: Flask) -> None:
    """The next one is seen to as well."""

    @app.get("/")
    async def view() -> str:
        return str(session["name"])

    for _ in range(2):
        interface = app.session_interface = Sessions()
        assert await ask(app) == "/"
        assert interface.seen == [("open", WORKER), ("save", WORKER)]


async def test_a_partial_of_an_async_view_is_one(app: Flask) -> None:
    """It is not told by its code."""

    async def view(value: str) -> str:
        return f"{value} {where()}"

    app.add_url_rule("/", "view", functools.partial(view, "in the"))
    assert await ask(app) == "in the loop"


def test_by_wsgi_it_runs_where_it_did(app: Flask) -> None:
    """The request has a thread of its own there."""
    interface = app.session_interface = Sessions()

    @app.get("/<name>")
    def view(name: str) -> str:
        return str(session["name"])

    assert app.test_client().get("/a").text == "/a"
    assert interface.seen == [("open", "loop"), ("save", "loop")]


async def test_flasks_own_sessions_need_no_thread(app: Flask) -> None:
    """They are in a cookie, so there is nothing to wait for."""
    before = set(threading.enumerate())

    @app.get("/")
    async def view() -> str:
        session["name"] = "me"
        assert set(threading.enumerate()) == before
        return "x"

    assert await ask(app) == "x"
