"""Serve a Flask application under an ASGI server, with its async views on the loop."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from typing import TYPE_CHECKING, Any

from ._client import Client
from ._forks import keep_for_ever, watch
from ._known_routes import remember_routes
from ._routing import nonblocking
from ._serving import served_request, serving_greenlets
from ._sources import check_positive
from ._workers import Workers
from ._wsgi import Exchange
from .errors import ExtensionNotFoundError

if TYPE_CHECKING:
    from ._client import Receive, Scope, Send

__all__ = ["ASGIAdapter", "nonblocking"]

_logger = logging.getLogger("async_parallel")

MAX_THREADS = 40
"""Requests with synchronous functions at once unless told otherwise, as in AnyIO."""

MAX_HEADERS = 100
"""Headers that a request may have unless told otherwise, as in gunicorn."""


class ASGIAdapter:
    """Serves a Flask application, or any WSGI application, under an ASGI server.

    Each request runs in a greenlet on the server's event loop. Async views, hooks,
    error handlers and async iterators that are responses run on that loop without a
    thread, and share it with the gathers they make. Synchronous ones run in a bounded
    pool of threads, with the request's context; those marked with ``nonblocking`` run
    on the loop. The loop is the application's home loop until the server shuts down.

    Bodies are received while they are read, responses are sent as fast as the client
    takes them. When the client goes, the request's read-only gathers are cancelled and
    its stream ends; a view is never interrupted.

    Args:
        app: The application. ``AsyncParallel`` must be initialised on a Flask one, for
            it is what sends functions to the loop or to a thread; another WSGI
            application runs on the loop as it is.
        max_threads: How many requests may be running synchronous functions. Default:
            40, as in AnyIO, and so in Starlette and FastAPI.
        max_headers: How many headers a request may have; one with more is answered
            with 431. Default: 100, as in gunicorn.
        require_databases: Fail the server's start where a database does not answer,
            instead of logging it.
        shutdown_timeout: Seconds that the shutdown waits for synchronous functions
            that still run. Default: 10.

    Raises:
        ValueError: A limit that is not positive.
    """

    def __init__(
        self,
        app: Any,
        *,
        max_threads: int = MAX_THREADS,
        max_headers: int = MAX_HEADERS,
        require_databases: bool = False,
        shutdown_timeout: float = 10.0,
    ) -> None:
        check_positive(
            max_threads=max_threads,
            max_headers=max_headers,
            shutdown_timeout=shutdown_timeout,
        )
        self._app = app
        self._max_threads = max_threads
        self._max_headers = max_headers
        self._require_databases = require_databases
        self._shutdown_timeout = shutdown_timeout
        self._workers: Workers | None = None
        self._greenlets = serving_greenlets()
        self._loop: asyncio.AbstractEventLoop | None = None
        remember_routes(app)
        watch(self)

    def after_fork(self) -> None:
        """Forget the parent's threads, in a forked child, which has none of them."""
        keep_for_ever([self._loop, self._workers, self._greenlets])
        self._loop = self._workers = None
        self._greenlets = serving_greenlets()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI scope: HTTP or the lifespan; a websocket is closed."""
        if scope["type"] != "http":
            await self._answer_other(scope["type"], receive, send)
            return
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            await self._make_home()
        client = Client(receive, loop, scope["headers"])
        workers = self._workers or self._make_workers()
        exchange = Exchange(scope, send, workers, client, self._max_headers)
        served_request.set(exchange)
        context = contextvars.copy_context()
        try:
            await self._greenlets.run(exchange.run, self._app, context=context)
        finally:
            listener = exchange.end()
            if listener is not None:
                await asyncio.wait([listener])
        if exchange.cancelled is not None:
            raise exchange.cancelled

    async def _answer_other(self, kind: str, receive: Receive, send: Send) -> None:
        if kind == "lifespan":
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
        await receive()
        try:
            await self._start_up()
        except Exception as error:  # noqa: BLE001 - the server is told, and ends
            message = f"The application did not start: {error}"
            _logger.error("%s", message)  # noqa: TRY400 - that says it
            await send({"type": "lifespan.startup.failed", "message": message})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._shut_down()
        await send({"type": "lifespan.shutdown.complete"})

    @property
    def _extension(self) -> Any:
        return getattr(self._app, "extensions", {}).get("async_parallel")

    async def _start_up(self) -> None:
        await self._make_home()
        if self._extension is not None:
            await self._extension.open(strict=self._require_databases)

    async def _make_home(self) -> None:
        """Make the running loop the application's home; a server may have several."""
        loop = asyncio.get_running_loop()
        if self._extension is not None:
            await self._extension.make_home()
        elif hasattr(self._app, "ensure_sync"):
            raise ExtensionNotFoundError(
                f"AsyncParallel is not initialised on {self._app.name!r}, so its views"
                " would block the event loop. Write 'AsyncParallel(app)' where the app"
                " is made."
            )
        if self._loop is not loop:
            self._loop, self._greenlets = loop, serving_greenlets()

    def _make_workers(self) -> Workers:
        # It starts a thread only when there is something to run.
        self._workers = Workers(self._max_threads)
        return self._workers

    async def _shut_down(self) -> None:
        if self._extension is not None:
            await self._extension.aclose()
        workers, self._workers = self._workers, None
        late = await workers.shut_down(self._shutdown_timeout) if workers else 0
        if late:
            _logger.error(
                "%d requests of %r still run synchronous functions %g s after the"
                " shutdown began, and are left behind. Give what they wait for a"
                " timeout.",
                late,
                getattr(self._app, "name", self._app),
                self._shutdown_timeout,
            )
        self._greenlets.end()
        self._loop = None
