"""The Flask extension: the application's databases, and where its async code runs."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import weakref
from typing import TYPE_CHECKING, Any

from ._binds import DEFAULT, find_binds, make_gatherer, route, set_defaults
from ._flask_context import callers_sessions, find_app, keep_context, respond
from ._home_loop import HomeLoop
from ._overload import answer_overload
from ._portal import refuse_patched_process
from ._routing import Router
from ._runner import GRACE
from ._signatures import Signatures, typed_as
from .errors import ConfigurationError, ExtensionNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from flask import Flask

    from ._attaching import AnySession
    from ._binds import StandIn
    from ._gather import QueryGatherer
    from ._several import Gatherers
    from ._snapshot import Snapshot

__all__ = ["AsyncParallel", "gather_queries", "run_in_parallel"]

_logger = logging.getLogger("async_parallel")


class AsyncParallel:
    """Lets the views of a Flask application gather queries.

    Engines and connections are made when they are first needed, so it may be
    initialised before a server forks. The application's async views, hooks and error
    handlers run on one event loop, the home loop: the server's under
    ``ASGIAdapter``, else that of one thread of its own. Code that blocks in them holds
    up every other one, as under any ASGI server.

    Args:
        app: The application to initialise; or call ``init_app`` later, for one
            application or many.
    """

    def __init__(self, app: Flask | None = None) -> None:
        self._home = HomeLoop("AsyncParallel", portal=True, debug=self._is_debug)
        self._gatherers: weakref.WeakKeyDictionary[Flask, dict[str, QueryGatherer]] = (
            weakref.WeakKeyDictionary()
        )
        self._routes: weakref.WeakKeyDictionary[Flask, Gatherers | None] = (
            weakref.WeakKeyDictionary()
        )
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Initialise the extension on ``app``.

        Raises:
            ConfigurationError: It is initialised on ``app`` already, or a setting
                cannot be used.
            UnsupportedDatabaseError: The URL of a database cannot be used.
            PatchedProcessError: gevent or eventlet patched this process.
        """
        if "async_parallel" in app.extensions:
            raise ConfigurationError(
                f"AsyncParallel is initialised on {app.name!r} already. Use that one:"
                " current_app.extensions['async_parallel']."
            )
        refuse_patched_process()
        set_defaults(app.config)
        answer_overload(app)
        Router(app, self._home, self._close_at_exit, keep_context, respond)
        self._gatherers[app] = {}
        app.extensions["async_parallel"] = self

    def gatherer(self, bind: str | None = None) -> QueryGatherer:
        """The gatherer of one of the current application's databases.

        Args:
            bind: The name of the database. Default: the default one.

        Raises:
            BindNotFoundError: No database of this name is configured.
            ConfigurationError: No database is configured at all.
            ExtensionNotFoundError: There is no current app.
            UnsupportedDatabaseError: The URL of the database cannot be used.
        """
        app = find_app()
        gatherers = self._gatherers.get(app)
        if gatherers is None:
            raise ExtensionNotFoundError(
                f"This AsyncParallel is not initialised on {app.name!r}. Call"
                " init_app(app), or use current_app.extensions['async_parallel']."
            )
        name = bind or DEFAULT
        if name not in gatherers:
            # Of two threads that come here at once, one's is dropped unused.
            gatherer = make_gatherer(app, name, self._home, callers_sessions)
            gatherers.setdefault(name, gatherer)
            self._close_at_exit()
        return gatherers[name]

    def _route(self, bind: str | None = None) -> QueryGatherer | Gatherers:
        """What gathers queries of the current application.

        Args:
            bind: The name of the database that all of them go to. Default: each goes
                to the one that has its tables.

        Raises:
            BindNotFoundError: See ``gatherer``.
            ConfigurationError: See ``gatherer``.
            ExtensionNotFoundError: See ``gatherer``.
            UnsupportedDatabaseError: See ``gatherer``.
        """
        app = find_app()
        if bind is None and app in self._gatherers:
            if app not in self._routes:
                self._routes[app] = route(app, self._home, self.gatherer)
            several = self._routes[app]
            if several is not None:
                return several
        return self.gatherer(bind)

    @contextlib.contextmanager
    def stand_in(
        self, choose: Callable[[Flask], Mapping[str, StandIn]], app: Flask | None
    ) -> Generator[None]:
        """Gather on other sessions for a while; for ``async_parallel.testing``.

        Args:
            choose: What stands in for which binds of an application, in its context.
            app: The application. Default: all.

        Raises:
            BindNotFoundError: No database of this name is configured.
        """
        with contextlib.ExitStack() as stack:
            for each in list(self._gatherers) if app is None else [app]:
                made: dict[str, QueryGatherer] = {}
                with each.app_context():
                    for name, (engine, replace) in choose(each).items():
                        one = make_gatherer(each, name, self._home, tuple, engine)
                        stack.callback(one.put_back, one.replace_sessions(replace))
                        made[name] = one
                for name, one in made.items():
                    stack.callback(self._put, each, name, self._put(each, name, one))
            yield

    def _put(
        self, app: Flask, name: str, gatherer: QueryGatherer | None
    ) -> QueryGatherer | None:
        """Have ``gatherer`` be that of a bind, and return what was it."""
        before = self._gatherers[app].pop(name, None)
        if gatherer is not None:
            self._gatherers[app][name] = gatherer
        return before

    async def make_home(self) -> None:
        """Make the running loop the home loop, unless another server's loop is."""
        loop = asyncio.get_running_loop()
        if self._home.loop is loop:
            return
        if self._home.has_portal:
            await self.aclose()
        if self._home.loop is None:
            self._home.adopt(loop)

    async def open(self, *, strict: bool = False) -> None:
        """Connect once to every database; log, or if ``strict`` raise, what fails."""
        for app in list(self._gatherers):
            with app.app_context():
                for name in find_binds(app):
                    gatherer = self.gatherer(name)
                    try:
                        await gatherer.open()
                    except Exception as error:
                        message = "The database %r, %r, does not answer: %s"
                        _logger.error(message, name, gatherer, error)  # noqa: TRY400 - that says it
                        if strict:
                            raise

    async def aclose(self) -> None:
        """Close every connection, after the gathers that run, and leave the loop.

        Not in an async view under a WSGI server, which itself runs on that loop. The
        next gather opens connections again.
        """
        await self._close_gatherers()
        if self._home.has_portal:
            await asyncio.to_thread(self._home.stop)
        else:
            self._home.stop()

    def close(self, *, grace: float = GRACE) -> None:
        """Close every connection and stop the portal's thread, from synchronous code.

        The next gather opens and starts them again.

        Args:
            grace: Seconds that running gathers have to finish.

        Raises:
            HomeLoopError: The home loop is an ASGI server's, which is running.
        """
        if self._home.loop is not None:
            self._home.block_on(self._close_gatherers, grace)
            self._home.stop()
        atexit.unregister(self._at_exit)

    async def _close_gatherers(self, grace: float = GRACE) -> None:
        self._routes.clear()
        taken: list[QueryGatherer] = []
        for gatherers in list(self._gatherers.values()):
            taken += gatherers.values()
            gatherers.clear()
        for gatherer in taken:
            await gatherer.aclose(grace=grace)

    def _is_debug(self) -> bool:
        return any(app.debug for app in self._gatherers)

    def _close_at_exit(self) -> None:
        atexit.unregister(self._at_exit)
        atexit.register(self._at_exit)

    def _at_exit(self) -> None:
        if self._home.has_portal:
            self.close(grace=0)  # only daemon threads are left, which end with it


@typed_as(Signatures.gather_queries)
async def gather_queries(
    *queries: Any,
    bind: str | None = None,
    max_concurrency: int | None = None,
    timeout: float | None = None,
    return_exceptions: bool = False,
    read_only: bool = True,
    snapshot: bool | Snapshot = False,
    into: AnySession | None = None,
) -> Any:
    """Run queries of the current application at once, and wait for all of them.

    Each runs in a session of its own; results come in the order of the arguments.
    The first failure cancels the others, waits until they have stopped, and raises
    the original exception with a note that names the query.

    Args:
        queries: Statements, functions of a session, legacy queries or ``Query``
            objects; or one list of them, or one mapping of label to query.
        bind: The name of the database that all of them go to. Default: each goes to
            the bind that its ``Query`` names, else to that of the tables that it
            reads; functions and ``text()`` to the default one.
        max_concurrency: How many of the queries may run at once. Default:
            ``ASYNC_PARALLEL_MAX_CONCURRENCY``.
        timeout: Seconds for the whole call. Default: ``ASYNC_PARALLEL_TIMEOUT``.
        return_exceptions: Put exceptions in the place of results, and let the other
            queries finish.
        read_only: Refuse writes. With ``False`` each query is a transaction of its
            own, committed when it succeeds: several are not atomic together, and when
            one fails, others may have been committed.
        snapshot: Have all queries see one state of the database, none older than
            the call: ``True``, or a ``Snapshot`` for its isolation level. Default:
            each sees what was committed when it began.
        into: A session to attach the entities of all results to, such as
            ``db.session``: each is there once, and loads and writes as if the
            queries had been run there. What the session has loaded or changed
            stays. Nothing is sent. It must be one of the same database. Default:
            the entities are detached.

    Returns:
        A tuple in the order of the arguments; a list for a list; a dict with the same
        keys for a mapping.

    Raises:
        QueryTypeError: One of them cannot be a query. Nothing has run.
        BindConflictError: One of them reads tables of several binds, and ``bind`` is
            not given. Nothing has run.
        ReadOnlyError: A query writes, and ``read_only`` is true.
        GatherTimeoutError: ``timeout`` passed.
        QueryTimeoutError: The ``timeout`` of a single query passed.
        LaneTimeoutError: No connection became free within
            ``ASYNC_PARALLEL_LANE_TIMEOUT``.
        QueueFullError: ``ASYNC_PARALLEL_MAX_WAITING`` queries wait already.
        LaneDeadlockError: Inside a query, and it would wait for ever for a connection
            of another bind.
        HoldAndWaitError: The caller holds what the gather needs, and
            ``ASYNC_PARALLEL_HOLD_AND_WAIT`` is ``"error"``.
        SnapshotUnsupportedError: The database has no snapshot for several queries, or
            they go to several databases.
        SnapshotLostError: The connection that held the snapshot was lost.
        BindNotFoundError: No database of this name is configured.
        ConfigurationError: No database is configured at all.
        ExtensionNotFoundError: There is no current app, or no extension on it.
        UnsupportedDatabaseError: The database's URL cannot be used.
        UnattachableError: A result has an entity that ``into`` cannot own.
        UncommittedChangesError: The session of ``into`` has changed or deleted an
            entity that a query found otherwise.
        TypeError: ``into`` is no session.
        ValueError: A limit that is not positive, a snapshot to write in, or a query
            for another bind than ``bind``.
    """
    return await _gatherer(bind).gather(
        *queries,
        max_concurrency=max_concurrency,
        timeout=timeout,
        return_exceptions=return_exceptions,
        read_only=read_only,
        snapshot=snapshot,
        into=into,
    )


@typed_as(Signatures.run_in_parallel)
def run_in_parallel(
    *queries: Any,
    bind: str | None = None,
    max_concurrency: int | None = None,
    timeout: float | None = None,
    return_exceptions: bool = False,
    read_only: bool = True,
    snapshot: bool | Snapshot = False,
    into: AnySession | None = None,
) -> Any:
    """Do what ``gather_queries`` does, in synchronous code: views, commands, jobs.

    The calling thread waits; the queries run at once on the home loop. The arguments
    are those of ``gather_queries``.

    Returns:
        A list for a list, a dict for a mapping, else a tuple; in the order given.

    Raises:
        HomeLoopError: Called in async code, where ``await gather_queries(...)``
            belongs; or uwsgi runs without threads.
        QueryTypeError: As for ``gather_queries``, as are its other exceptions.
    """
    gatherer = _gatherer(bind)
    return gatherer.gather_blocking(
        queries,
        max_concurrency=max_concurrency,
        timeout=timeout,
        return_exceptions=return_exceptions,
        read_only=read_only,
        snapshot=snapshot,
        into=into,
    )


def _gatherer(bind: str | None) -> QueryGatherer | Gatherers:
    app = find_app()
    try:
        extension: AsyncParallel = app.extensions["async_parallel"]
    except KeyError:
        raise ExtensionNotFoundError(
            f"AsyncParallel is not initialised on {app.name!r}. Write"
            " 'AsyncParallel(app)' where the app is made."
        ) from None
    return extension._route(bind)  # pyright: ignore[reportPrivateUsage] # noqa: SLF001
