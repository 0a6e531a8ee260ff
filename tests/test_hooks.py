"""What Flask calls around a view, where it does not look for what nobody wants."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from both_ways import Ask, by_asgi, by_wsgi
from flask import (
    Blueprint,
    Flask,
    appcontext_tearing_down,
    request,
    request_tearing_down,
)
from lifespan import Lifespan

from async_parallel import AsyncParallel
from async_parallel.asgi import ASGIAdapter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType

STEPS = ["preprocess_request", "do_teardown_request", "do_teardown_appcontext"]
PATHS = ["/", "/of/blueprint"]


def make_app(kind: type[Flask] = Flask) -> tuple[Flask, Blueprint]:
    """An application with a view, and a blueprint with one."""
    app = kind(__name__)
    AsyncParallel(app)
    return app, add_views(app)


def add_views(app: Flask) -> Blueprint:
    """``/`` and ``/of/blueprint``."""
    blueprint = Blueprint("of", __name__, url_prefix="/of")
    for adds in (app, blueprint):
        adds.add_url_rule("/", "view", lambda: "view")
        adds.add_url_rule("/blueprint", "other", lambda: "of a blueprint")
    return blueprint


async def ask(app: Flask, *paths: str) -> None:
    """Ask for paths, by the adapter and then by WSGI."""
    adapter = ASGIAdapter(app)
    async with Lifespan(adapter):
        for path in paths:
            answer = await by_asgi(adapter, Ask("GET", path))
            assert answer.status == by_wsgi(app, Ask("GET", path)).status


@pytest.fixture
def ran() -> Iterator[set[CodeType]]:
    """The code that ran in this thread."""
    found: set[CodeType] = set()
    sys.setprofile(lambda frame, _event, _argument: found.add(frame.f_code))
    yield found
    sys.setprofile(None)


def test_nothing_is_looked_for_where_nothing_is(ran: set[CodeType]) -> None:
    """And all of it where something is."""
    app, blueprint = make_app()
    app.register_blueprint(blueprint)
    flasks = {getattr(Flask, name).__code__ for name in STEPS}
    by_wsgi(app, Ask("GET", "/of/blueprint"))
    assert not flasks & ran
    app.before_request_funcs.setdefault("other", []).append(lambda: None)
    app.teardown_request_funcs.setdefault("other", []).append(lambda _error: None)
    app.teardown_appcontext_funcs.append(lambda _error: None)
    by_wsgi(app, Ask("GET", "/of/blueprint"))
    assert flasks <= ran


HOOKS: dict[str, Callable[[Any, list[Any]], Any]] = {
    "before": lambda on, seen: on.before_request(lambda: seen.append(request.path)),
    "values": lambda on, seen: on.url_value_preprocessor(
        lambda *_given: seen.append(request.path)
    ),
    "teardown": lambda on, seen: on.teardown_request(
        lambda _error: seen.append(request.path)
    ),
}


@pytest.mark.parametrize("name", HOOKS)
async def test_a_hook_that_comes_late_is_called(name: str) -> None:
    """After requests have been served without any, as tests register them."""
    app, blueprint = make_app()
    app.register_blueprint(blueprint)
    await ask(app, *PATHS)
    app._got_first_request = False  # or Flask refuses it
    seen: list[Any] = []
    HOOKS[name](app, seen)
    await ask(app, *PATHS)
    assert seen == [path for path in PATHS for _way in range(2)]


@pytest.mark.parametrize("name", HOOKS)
async def test_hooks_of_a_blueprint_are_called_for_its_views(name: str) -> None:
    """Alone."""
    app, blueprint = make_app()
    seen: list[Any] = []
    HOOKS[name](blueprint, seen)
    app.register_blueprint(blueprint)
    await ask(app, *PATHS)
    assert seen == ["/of/blueprint"] * 2


async def test_what_comes_before_the_view_may_answer() -> None:
    """As it may anywhere."""
    app, _ = make_app()
    app.before_request(lambda: ("not now", 503))
    adapter = ASGIAdapter(app)
    async with Lifespan(adapter):
        assert (await by_asgi(adapter, Ask("GET", "/"))).status == 503


async def test_a_teardown_of_the_context_that_comes_late_is_called() -> None:
    """Of that of the application, which outlives the request's."""
    app, _ = make_app()
    await ask(app, "/")
    app._got_first_request = False  # or Flask refuses it
    seen: list[BaseException | None] = []
    app.teardown_appcontext(seen.append)
    assert by_wsgi(app, Ask("GET", "/")).status == 200
    assert seen == [None]


@pytest.mark.parametrize(
    ("signal", "name"),
    [
        (request_tearing_down, "do_teardown_request"),
        (appcontext_tearing_down, "do_teardown_appcontext"),
    ],
)
async def test_who_listens_to_the_teardown_hears_of_each(
    signal: Any, name: str
) -> None:
    """With the error, as a keyword too."""
    app, _ = make_app()
    await ask(app, "/")
    heard: list[Any] = []

    def hear(_sender: Flask, exc: BaseException | None, **_more: Any) -> None:
        heard.append(exc)

    error = ValueError("x")
    with signal.connected_to(hear):
        assert by_wsgi(app, Ask("GET", "/")).status == 200
        with app.test_request_context("/"):
            getattr(app, name)(error)
            getattr(app, name)(exc=error)
    assert heard == [None, error, error, None]


@pytest.mark.parametrize("name", STEPS)
async def test_a_step_that_is_changed_in_the_class_is_taken(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As tools do that look at each request, at any time."""
    app, _ = make_app()
    await ask(app, "/")
    seen: list[Flask] = []
    original = getattr(Flask, name)

    def changed(self: Flask, *args: Any) -> Any:
        seen.append(self)
        return original(self, *args)

    monkeypatch.setattr(Flask, name, changed)
    assert by_wsgi(app, Ask("GET", "/")).status == 200
    assert seen == [app]


@pytest.mark.parametrize("where", ["class", "instance"])
@pytest.mark.parametrize("name", STEPS)
async def test_a_step_of_ones_own_is_left_alone(name: str, where: str) -> None:
    """Of a class, or put around it before the extension was initialised."""
    seen: list[Flask] = []
    original = getattr(Flask, name)

    class Own(Flask):
        """Has the step."""

    def own(app: Flask, *args: Any) -> Any:
        seen.append(app)
        return original(app, *args)

    if where == "class":
        setattr(Own, name, own)
    app = Own(__name__)
    if where == "instance":
        setattr(app, name, lambda *args: own(app, *args))
    AsyncParallel(app)
    add_views(app)
    assert by_wsgi(app, Ask("GET", "/")).status == 200
    assert seen == [app]
