"""Where a Flask application's functions run: async ones at home, others off the loop.

Flask asks ``app.ensure_sync`` for a synchronous version of each view, hook and error
handler that it is about to call, and that asks ``app.async_to_sync`` where it is a
coroutine function. Both are replaced. The session interface it calls without asking,
so that is seen to when a request begins. Steps in which Flask would look for functions
are passed by where there are none.
"""

from __future__ import annotations

import functools
import inspect
import sys
from types import CodeType, NoneType
from typing import TYPE_CHECKING, Any, TypeVar

from werkzeug.exceptions import HTTPException

from ._flask_context import has_app_teardown, has_teardown
from ._origin import is_from
from ._serving import await_here, is_serving, off_loop, serve, served_request
from ._streams import streamable
from ._wsgi import Direct

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ._home_loop import HomeLoop
    from ._streams import Keep

    Respond = Callable[[HTTPException], Any]

F = TypeVar("F", bound="Callable[..., Any]")

# What most hooks and views return, and is no response.
_PLAIN = {NoneType, dict, list, str, bytes}
_STEPS = ("preprocess_request", "do_teardown_request", "do_teardown_appcontext")
_system: Any = sys
_MARK = "_async_parallel_nonblocking"


def nonblocking(function: F) -> F:
    """Mark a synchronous view or hook that never blocks: it runs on the event loop.

    That saves the way to a worker thread and back. While it runs, nothing else does,
    so it may compute a little, and wait for nothing: no file, no lock, no database.
    Put it next to the function, below other decorators: they do not inherit it.

    Args:
        function: The function; it is returned, marked.
    """
    # The mark names whom it is for: functools.wraps() copies it to what may block.
    setattr(function, _MARK, function)
    return function


class Router:
    """Replaces how a Flask application calls its functions.

    Args:
        app: The Flask application.
        home: Where its async functions run.
        on_portal: Called before one of them is sent to the portal, which must be
            stopped some day.
        keep: Keeps the request's context for an iterator that makes a response.
        respond: Makes the response to the current request of an HTTP error.
    """

    def __init__(
        self,
        app: Any,
        home: HomeLoop,
        on_portal: Callable[[], None],
        keep: Keep,
        respond: Respond,
    ) -> None:
        self._app = app
        self._home = home
        self._on_portal = on_portal
        self._keep = keep
        self._respond = respond
        self._by_flask = app.async_to_sync
        self._session_interface: Any = None
        self._make_context = app.request_context
        app.async_to_sync = self.async_to_sync
        app.ensure_sync = self.ensure_sync
        app.request_context = self.request_context
        self._make_response = app.make_response
        if is_from(app.make_response, "flask.app"):  # else it may look at errors
            app.make_response = self.make_response
        # Where Flask looks for functions that are to be called takes longer than most.
        kind = app.__class__
        self._preprocess = kind.preprocess_request
        self._tear_down = kind.do_teardown_request
        self._tear_app_down = kind.do_teardown_appcontext
        for name in _STEPS:
            if is_from(getattr(kind, name), "flask.app") and name not in vars(app):
                setattr(app, name, getattr(self, name))
        self._flasks = _code_of_flasks_wsgi_app(app)
        if "full_dispatch_request" not in vars(app):  # else somebody is around it
            app.full_dispatch_request = self.full_dispatch_request

    def async_to_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """A synchronous function that runs the coroutine function ``func`` at home."""
        return functools.partial(self._at_home, func)

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """A synchronous function that runs ``func`` where it belongs."""
        # Most are told by their code, which takes a tenth of the time.
        code = getattr(func, "__code__", None)
        is_plain = code is not None and code.co_flags & inspect.CO_COROUTINE
        if is_plain or inspect.iscoroutinefunction(func):
            wrapped: Callable[..., Any] = self._app.async_to_sync(func)
            return wrapped
        run = self._in_place if _never_blocks(func) else self._elsewhere
        return functools.partial(run, func)

    def request_context(self, environ: Any) -> Any:
        """The context of a request that begins."""
        # The application may set its session interface at any time.
        if self._app.session_interface is not self._session_interface:
            self._session_interface = self._app.session_interface
            _route_session(self._session_interface)
        return self._make_context(environ)

    def preprocess_request(self) -> Any:
        """Call what is to be called before the view, if there is anything."""
        app = self._app
        preprocess = app.__class__.preprocess_request
        is_changed = preprocess is not self._preprocess  # by who wants to be called
        if is_changed or app.before_request_funcs or app.url_value_preprocessors:
            return preprocess(app)
        return None

    def do_teardown_request(self, *args: Any, **named: Any) -> None:
        """Call what is to be called after the request, if there is anything."""
        app = self._app
        tear_down = app.__class__.do_teardown_request
        if tear_down is not self._tear_down or has_teardown(app):
            tear_down(app, *args, **named)

    def do_teardown_appcontext(self, *args: Any, **named: Any) -> None:
        """Call what is to be called after all of it, if there is anything."""
        app = self._app
        tear_down = app.__class__.do_teardown_appcontext
        if tear_down is not self._tear_app_down or has_app_teardown(app):
            tear_down(app, *args, **named)

    def full_dispatch_request(self, *args: Any) -> Any:
        """The response to the current request; to Flask itself, on a short way.

        Whoever else asks for it may look at it, and change it.
        """
        response = self._app.__class__.full_dispatch_request(self._app, *args)
        asks = _system._getframe(1).f_code  # noqa: SLF001 - no other way
        return Direct(response) if asks is self._flasks else response

    def make_response(self, given: Any) -> Any:
        """The response that Flask makes of what a view or a handler gave.

        An HTTP error that nobody handled it calls as a WSGI application, whose answer
        is an iterator: it cannot be told from one that blocks.
        """
        if isinstance(given, HTTPException) and is_serving() and _is_plain(given):
            given = self._respond(given)
        return self._make_response(given)

    def _at_home(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if is_serving():
            value = await_here(func(*args, **kwargs))
            return value if type(value) in _PLAIN else self._finish(value)
        coroutine = functools.partial(func, *args, **kwargs)
        request = served_request.get(None)
        if request is not None:  # synchronous code of a request calls it
            worker = request.worker
            work = worker.work_until_done if worker and worker.is_current else None
            return self._finish(
                self._home.block_on(serve, _run, coroutine, meanwhile=work)
            )
        if not self._app.config["ASYNC_PARALLEL_SHARED_LOOP"]:
            return self._finish(self._by_flask(func)(*args, **kwargs))
        self._on_portal()
        return self._finish(self._home.block_on(coroutine))

    def _elsewhere(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return self._finish(off_loop(func, *args, **kwargs))

    def _in_place(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return self._finish(func(*args, **kwargs))

    def _finish(self, value: Any) -> Any:
        """``value`` as WSGI can have it, where it is made by an async iterator."""
        if type(value) in _PLAIN:
            return value
        return streamable(value, self._home.block_on, self._keep)


def _code_of_flasks_wsgi_app(app: Any) -> CodeType | None:
    """What runs where Flask itself, not a class derived from it, answers a request."""
    for kind in app.__class__.__mro__:
        method: Any = inspect.unwrap(kind.__dict__.get("wsgi_app"))
        if is_from(method, "flask.app"):
            code: CodeType = method.__code__
            return code
    return None


def _is_plain(error: HTTPException) -> bool:
    """Whether an error makes its response when it is called, as werkzeug's do."""
    if error.response is not None:
        return False  # a response of the application's is not to be changed
    return type(error).__call__ is HTTPException.__call__


def _run(function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return await_here(function())


def _never_blocks(func: Callable[..., Any]) -> bool:
    """Whether ``func`` is marked, only makes a generator, or is Flask's own.

    What Flask has leads to user code by ``ensure_sync``.
    """
    function = getattr(func, "__func__", func)
    if getattr(function, _MARK, None) is function:
        return True
    if inspect.isasyncgenfunction(func):
        return True
    return any(is_from(func, f"flask.{name}") for name in ("views", "templating"))


def _route_session(interface: Any) -> None:
    """Have a session interface that may block do so off the loop."""
    for name in ("open_session", "save_session"):
        method = getattr(interface, name)
        # As long as it is that of a class; else it is routed already.
        of_flask = getattr(method, "__module__", "") == "flask.sessions"
        if not of_flask and name not in vars(interface):
            setattr(interface, name, functools.partial(off_loop, method))
