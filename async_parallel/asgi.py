"""Serve a Flask application under an ASGI server, with its async views on the loop."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ._serving import serve
from ._wsgi import Exchange
from .errors import ExtensionNotFoundError

if TYPE_CHECKING:
    from ._wsgi import Receive, Scope, Send

__all__ = ["ASGIAdapter"]


class ASGIAdapter:
    """Serves a Flask application, or any WSGI application, under an ASGI server.

    Each request runs in a greenlet on the server's event loop. Async views, hooks and
    error handlers run on that loop without a thread, and share it with the gathers
    they make. Synchronous ones run in a bounded pool of threads, with the request's
    context. The loop is the application's home loop until the server shuts down.

    Args:
        app: The application. ``AsyncParallel`` must be initialised on a Flask one, for
            it is what sends functions to the loop or to a thread; another WSGI
            application runs on the loop as it is.
        max_threads: How many synchronous functions may run at once. Default: as many
            as ``ThreadPoolExecutor`` takes, at most 32.
    """

    def __init__(self, app: Any, *, max_threads: int | None = None) -> None:
        if max_threads is not None and max_threads < 1:
            raise ValueError(
                f"max_threads must be at least 1, and it is {max_threads!r}."
            )
        self._app = app
        self._max_threads = max_threads or min(32, (os.cpu_count() or 1) + 4)
        self._workers: ThreadPoolExecutor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI scope: HTTP or the lifespan; a websocket is closed."""
        kind = scope["type"]
        if kind == "http":
            await self._make_home()
            await serve(self._threads(), Exchange(scope, receive, send).run, self._app)
        elif kind == "lifespan":
            await self._lifespan(receive, send)
        elif kind == "websocket":
            await receive()
            await send(
                {
                    "type": "websocket.close",
                    "code": 1000,
                    "reason": "This application serves no websockets.",
                }
            )

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self._make_home()
                if self._extension is not None:
                    await self._extension.open()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self._shut_down()
                await send({"type": "lifespan.shutdown.complete"})
                return

    @property
    def _extension(self) -> Any:
        return getattr(self._app, "extensions", {}).get("async_parallel")

    async def _make_home(self) -> None:
        """Make the running loop the application's home; a server may have several."""
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._extension is not None:
            await self._extension.make_home()
        elif hasattr(self._app, "ensure_sync"):
            raise ExtensionNotFoundError(
                f"AsyncParallel is not initialised on {self._app.name!r}, so its views"
                " would block the event loop. Write 'AsyncParallel(app)' where the app"
                " is made."
            )
        self._loop = loop

    def _threads(self) -> ThreadPoolExecutor:
        # It starts a thread only when there is something to run.
        if self._workers is None:
            self._workers = ThreadPoolExecutor(
                self._max_threads, thread_name_prefix="async_parallel worker"
            )
        return self._workers

    async def _shut_down(self) -> None:
        if self._extension is not None:
            await self._extension.aclose()
        workers, self._workers = self._workers, None
        if workers is not None:
            await asyncio.to_thread(workers.shutdown)
        self._loop = None
