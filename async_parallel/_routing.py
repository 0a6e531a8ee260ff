"""Where a Flask application's functions run: async ones at home, others off the loop.

Flask asks ``app.ensure_sync`` for a synchronous version of each view, hook and error
handler that it is about to call, and that asks ``app.async_to_sync`` where it is a
coroutine function. Both are replaced.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

from ._serving import (
    await_here,
    is_serving,
    off_loop,
    serve,
    workers_of_request,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ._home_loop import HomeLoop


def route(app: Any, home: HomeLoop, on_portal: Callable[[], None]) -> None:
    """Replace how ``app`` calls its functions.

    Args:
        app: The Flask application.
        home: Where its async functions run.
        on_portal: Called before one of them is sent to the portal, which must be
            stopped some day.
    """
    by_flask = app.async_to_sync

    def async_to_sync(func: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(func)
        def call(*args: Any, **kwargs: Any) -> Any:
            if is_serving():
                return await_here(func(*args, **kwargs))
            coroutine = functools.partial(func, *args, **kwargs)
            workers = workers_of_request.get(None)
            if workers is not None:  # a worker's synchronous code calls it: go back
                return home.block_on(serve, workers, _run, coroutine)
            if not app.config["ASYNC_PARALLEL_SHARED_LOOP"]:
                return by_flask(func)(*args, **kwargs)
            on_portal()
            return home.block_on(coroutine)

        return call

    def ensure_sync(func: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(func):
            wrapped: Callable[..., Any] = app.async_to_sync(func)
            return wrapped
        if _never_blocks(func):
            return func
        return functools.partial(off_loop, func)

    app.async_to_sync = async_to_sync
    app.ensure_sync = ensure_sync


def _run(function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return await_here(function())


def _never_blocks(func: Callable[..., Any]) -> bool:
    """Whether ``func`` is Flask's own, and leads to user code by ``ensure_sync``."""
    function = getattr(func, "__func__", func)
    # Not __module__, which View.as_view() and decorators set to that of the class.
    module = getattr(function, "__globals__", {}).get("__name__")
    return module in {"flask.views", "flask.templating"}
