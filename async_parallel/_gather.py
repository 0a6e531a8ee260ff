"""``QueryGatherer``: several queries at once, each in a session of its own."""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING, Any

from ._attaching import attach
from ._calls import GatherCall
from ._holding import HoldingCheck
from ._home_loop import HomeLoop
from ._runner import GRACE, LANE_TIMEOUT, MAX_CONNECTIONS, MAX_WAITING, Runner
from ._sessions import open_sessions
from ._signatures import Signatures, typed_as
from ._sources import check_positive
from ._waiting import until_done, wait_for_end
from .errors import GathererClosedError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Self

    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

    from ._attaching import AnySession
    from ._holding import HoldAndWait
    from ._job import Job
    from ._sessions import Sessions
    from ._snapshot import Snapshot


class QueryGatherer:
    """Runs several queries at once, each in a session of its own, and waits for all.

    Nothing is shared between the queries, results come in the order of the arguments,
    and after a call nothing of it is left: no task, no connection in use, no
    query on the server. Opens connections when they are first needed. Belongs to the
    event loop that first uses it; calls from other loops are carried there and back.

    Args:
        url_or_engine: A database URL, sync or async, or an ``AsyncEngine``. An engine
            is used as it is and never disposed of; each of its connections is
            read-only while a lane holds it.
        max_connections: How many connections may be in use at once. Default: 15, or
            what the pool of a given engine allows if that is less.
        max_concurrency: How many queries of one gather run at once. Default: as many
            as there are connections.
        timeout: Seconds for one gather. Default: no limit.
        lane_timeout: Seconds that a gather may wait without getting a connection.
            Default: 30.
        max_waiting: How many queries may wait for a connection, over all gathers; a
            gather that comes later is refused. Default: 1,000.
        max_age: Seconds after which a connection is closed instead of used again, so
            that a failover or a balancer is followed. Default: no limit.
        hold_and_wait: What is done where the caller of a gather has a connection of
            the same engine in use: ``"ignore"``, ``"warn"`` or ``"error"``.
        sessionmaker: Makes the sessions, so that session subclasses, options and
            events of the application apply. Default: plain ``AsyncSession``.
        engine_options: Further arguments of ``create_async_engine`` for a URL.
        home: A home loop that is shared with others; the Flask extension's.
        callers_sessions: Finds the sessions of who gathers, for ``hold_and_wait`` to
            see that they have no uncommitted changes.

    Raises:
        UnsupportedDatabaseError: No async driver for the database, or SQLite's
            private ``:memory:``.
        ValueError: A limit that is not positive.
    """

    _closed = True  # until __init__ has succeeded, for __del__

    _bind: str | None = None
    _is_one_of_several = False

    def __init__(  # noqa: PLR0913 - the settings, each by its name
        self,
        url_or_engine: str | URL | AsyncEngine,
        *,
        max_connections: int = MAX_CONNECTIONS,
        max_concurrency: int | None = None,
        timeout: float | None = None,
        lane_timeout: float = LANE_TIMEOUT,
        max_waiting: int = MAX_WAITING,
        max_age: float | None = None,
        sessionmaker: async_sessionmaker[Any] | None = None,
        engine_options: Mapping[str, Any] | None = None,
        hold_and_wait: HoldAndWait = "ignore",
        home: HomeLoop | None = None,
        callers_sessions: Callable[[], Iterable[Any]] = tuple,
    ) -> None:
        check_positive(
            max_connections=max_connections,
            max_concurrency=max_concurrency,
            timeout=timeout,
            lane_timeout=lane_timeout,
            max_waiting=max_waiting,
            max_age=max_age,
        )
        sessions = open_sessions(
            url_or_engine,
            max_connections,
            engine_options or {},
            max_age=max_age,
            maker=sessionmaker,
        )
        self.engine: AsyncEngine = sessions.engine
        self._holding = HoldingCheck(self.engine, hold_and_wait, callers_sessions)
        self._home = home or HomeLoop(repr(self), portal=False)
        self._runner = Runner(sessions, self._home, lane_timeout, max_waiting)
        self._defaults = {"max_concurrency": max_concurrency, "timeout": timeout}
        self._closing: asyncio.Future[None] | None = None
        self._closed = False

    def name(self, bind: str, *, one_of_several: bool) -> None:
        """Say which of an application's databases it is of.

        Args:
            bind: Its name.
            one_of_several: Whether there are others, so that errors name it.
        """
        self._bind, self._is_one_of_several = bind, one_of_several

    def __repr__(self) -> str:
        return f"QueryGatherer({self.engine.url.render_as_string()!r})"

    def __del__(self) -> None:
        if not self._closed and self._runner.is_open and self._home.loop is not None:
            warnings.warn(
                f"{self!r} was not closed: use 'async with', or await its aclose()",
                ResourceWarning,
                source=self,
                stacklevel=1,
            )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    @typed_as(Signatures.gather)
    async def gather(
        self,
        *queries: Any,
        max_concurrency: int | None = None,
        timeout: float | None = None,
        return_exceptions: bool = False,
        read_only: bool = True,
        snapshot: bool | Snapshot = False,
        into: AnySession | None = None,
    ) -> Any:
        """Run ``queries`` at once and wait for all of them.

        The first failure cancels the queries that still run, waits until they have
        stopped, on the server too, and raises the original exception, with a note
        that names the query.

        Args:
            queries: Statements, functions of a session, legacy queries or ``Query``
                objects; or one list of them, or one mapping of label to query.
            max_concurrency: How many of them may run at once. Default: the
                gatherer's.
            timeout: Seconds for the whole call. Default: the gatherer's.
            return_exceptions: Put exceptions in the place of results, and let the
                other queries finish.
            read_only: Refuse writes. With ``False`` each query is a transaction of
                its own, committed when it succeeds: several are not atomic together,
                and when one fails, others may have been committed.
            snapshot: Have all queries see one state of the database, none older than
                the call: ``True``, or a ``Snapshot`` for its isolation level. Default:
                each sees what was committed when it began.
            into: A session to attach the entities of all results to, such as
                ``db.session``: each is there once, and loads and writes as if the
                queries had been run there. What the session has loaded or changed
                stays. Nothing is sent. It must be one of the same database. Default:
                the entities are detached.

        Returns:
            A tuple in the order of the arguments; a list for a list; a dict with the
            same keys for a mapping.

        Raises:
            QueryTypeError: One of them cannot be a query. Nothing has run.
            ReadOnlyError: A query writes, and ``read_only`` is true.
            GatherTimeoutError: ``timeout`` passed.
            QueryTimeoutError: The ``timeout`` of a single query passed.
            LaneTimeoutError: No connection became free within ``lane_timeout``.
            QueueFullError: ``max_waiting`` queries wait already.
            SnapshotUnsupportedError: The database has no snapshot for several queries.
            SnapshotLostError: The connection that held the snapshot was lost.
            GathererClosedError: The gatherer is closed.
            UnattachableError: A result has an entity that ``into`` cannot own.
            UncommittedChangesError: The session of ``into`` has changed or deleted an
                entity that a query found otherwise.
            TypeError: ``into`` is no session.
            ValueError: A limit that is not positive, a snapshot to write in, or a
                query for another bind.
        """
        call = self._prepare(
            queries,
            max_concurrency=max_concurrency,
            timeout=timeout,
            return_exceptions=return_exceptions,
            read_only=read_only,
            snapshot=snapshot,
            into=into,
        )
        if not call.queries:
            return call.arrange([])
        jobs = await self._home.carry(self._runner.run, call)
        if call.into is not None:
            attach(call.into, jobs)
        return call.arrange([job.outcome for job in jobs])

    def gather_blocking(self, queries: tuple[Any, ...], **options: Any) -> Any:
        """Gather from synchronous code on another thread than the home loop's."""
        call = self._prepare(queries, **options)
        if not call.queries:
            return call.arrange([])
        jobs = self._home.block_on(self._runner.run, call)
        if call.into is not None:
            attach(call.into, jobs)
        return call.arrange([job.outcome for job in jobs])

    async def open(self) -> None:
        """Connect once, so that what is wrong shows now.

        Raises:
            DBAPIError: The driver's own, or ``OSError``: the database does not answer.
        """
        await self._home.carry(self._runner.open)

    @typed_as(Signatures.as_completed)
    async def as_completed(
        self,
        *queries: Any,
        max_concurrency: int | None = None,
        timeout: float | None = None,
        return_exceptions: bool = False,
        read_only: bool = True,
        snapshot: bool | Snapshot = False,
        into: AnySession | None = None,
    ) -> AsyncGenerator[tuple[Any, Any]]:
        """Run ``queries`` at once and yield each result as soon as it is there.

        Leaving the loop early cancels what still runs; wrap it in
        ``contextlib.aclosing`` to have that done, and waited for, at once.

        Args:
            queries: As for ``gather``.
            max_concurrency: As for ``gather``.
            timeout: As for ``gather``; the time that the caller spends between two
                results counts.
            return_exceptions: As for ``gather``.
            read_only: As for ``gather``.
            snapshot: As for ``gather``.
            into: As for ``gather``; the entities of a result are attached when it is
                yielded.

        Yields:
            Pairs of label and result, in the order of completion. The label is the
            key of a mapping, else the position in the arguments, from 0.

        Raises:
            QueryTypeError: See ``gather``.
            ReadOnlyError: See ``gather``.
            GatherTimeoutError: See ``gather``.
            QueryTimeoutError: See ``gather``.
            LaneTimeoutError: See ``gather``.
            QueueFullError: See ``gather``.
            SnapshotUnsupportedError: See ``gather``.
            SnapshotLostError: See ``gather``.
            GathererClosedError: See ``gather``.
            UnattachableError: See ``gather``.
            UncommittedChangesError: See ``gather``.
            TypeError: See ``gather``.
            ValueError: See ``gather``.
        """
        finished: asyncio.Queue[Job | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def on_finished(job: Job | None) -> None:
            loop.call_soon_threadsafe(finished.put_nowait, job)

        call = self._prepare(
            queries,
            max_concurrency=max_concurrency,
            timeout=timeout,
            return_exceptions=return_exceptions,
            read_only=read_only,
            snapshot=snapshot,
            into=into,
            on_finished=on_finished,
        )
        running = loop.create_task(self._home.carry(self._runner.run, call))
        running.add_done_callback(lambda _: on_finished(None))
        try:
            while (job := await finished.get()) is not None:
                if call.into is not None:
                    attach(call.into, [job])
                yield call.key(job), job.outcome
            await running
        finally:
            running.cancel()
            await until_done(running)

    @property
    def shown(self) -> str:
        """The database's URL for a message, without its passwords."""
        return self._runner.sessions.shown

    def replace_sessions(self, replace: Callable[[Sessions], Sessions]) -> object:
        """Run on other sessions from now on, for a test.

        Returns:
            What ``put_back`` takes.
        """
        before = self._runner, self._holding
        sessions = replace(self._runner.sessions)
        self._runner = Runner(sessions, self._home, LANE_TIMEOUT, MAX_WAITING)
        self._holding = HoldingCheck(self.engine, "ignore", tuple)
        return before

    def put_back(self, before: Any) -> None:
        """Run on the sessions again that were replaced."""
        self._runner, self._holding = before

    def _prepare(self, queries: tuple[Any, ...], **options: Any) -> GatherCall:
        """Check the arguments of a gather, in the context of its caller."""
        if self._closed:
            raise GathererClosedError(repr(self))
        call = GatherCall.parse(queries, defaults=self._defaults, **options)
        for query in call.queries:
            if query.bind is not None and query.bind != self._bind:
                raise ValueError(
                    f"Query {query.label!r} is for the bind {query.bind!r}, and this"
                    f" gather is from {self!r} alone. Leave bind= out of one of them."
                )
        if self._is_one_of_several:
            call.bind = self._bind
        if call.outer is None:  # else it runs on the connection of that query
            self._holding.look()
        return call

    def _join(self, call: GatherCall) -> Runner:
        """Take part in a gather over several databases; return who runs it here.

        Raises:
            GathererClosedError: The gatherer is closed.
            HoldAndWaitError: The caller holds something, and is to be refused.
        """
        if self._closed:
            raise GathererClosedError(repr(self))
        if call.outer is None:
            self._holding.look()
        return self._runner

    async def aclose(self, *, grace: float = GRACE) -> None:
        """Close the connections, after the gathers that still run.

        New gathers are refused at once. Calling it again does nothing.

        Args:
            grace: Seconds that running gathers have to finish; then they are
                cancelled and their callers get a ``GathererClosedError``.
        """
        if not self._closed:
            self._closed = True
            if self._home.loop is not None:
                closing = self._home.carry(self._runner.close, grace, repr(self))
                self._closing = asyncio.ensure_future(closing)
        if self._closing is not None:
            await wait_for_end(self._closing)
