"""Lanes: who may use a connection, in which order, and when to open one more."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from typing import TYPE_CHECKING, Any

from sqlalchemy import exc as sa_exc
from sqlalchemy.util import await_only, greenlet_spawn

from ._query import Kind
from ._sources import check_returned
from .errors import LaneTimeoutError, ReadOnlyError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from ._batch import Batch, Job
    from ._sessions import Sessions

# A gather begins on this many lanes at once. More open only while queries wait and
# the loop is idle, that is, while the database is what is waited for: where the loop
# is the bottleneck, more lanes add cost and nothing else.
_LANES_AT_ONCE = 5
_GROWTH_INTERVAL = 0.002
_LOOP_IS_BUSY = 0.001

current_job: contextvars.ContextVar[Job] = contextvars.ContextVar("current_job")


class Lanes:
    """The lanes of one engine, and the gathers that wait for them.

    Gathers are served in turn, one query each; within a gather, first come, first
    served.

    Args:
        sessions: Opens connections, and sessions on them.
        limit: How many lanes there may be at once.
        timeout: How long in seconds a gather may wait without getting a turn.
    """

    def __init__(
        self,
        sessions: Sessions,
        *,
        limit: int,
        timeout: float,
        root: Lanes | None = None,
    ) -> None:
        self.sessions = sessions
        self.root = root or self
        self.limit = limit
        self.timeout = timeout
        self._queue: deque[Batch] = deque()
        self._lanes: set[Lane] = set()
        self._started = 0
        self._loop = asyncio.get_running_loop()
        self._growth: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None

    def inside(self, outer: Job | None) -> Lanes:
        """Where a gather made inside the query ``outer`` runs.

        On that query's own lane, if it is one of these and still runs ``outer``; a
        task that the query left behind is no longer inside.
        """
        lane = outer.lane if outer is not None else None
        if lane is None or not lane.runs(outer) or lane.lanes.root is not self.root:
            return self
        return lane.nested()

    @property
    def in_use(self) -> int:
        """How many lanes there are now."""
        return len(self._lanes)

    @property
    def waiting(self) -> int:
        """How many queries wait for a lane."""
        return sum(batch.waiting for batch in self._queue)

    @property
    def idle(self) -> bool:
        """Whether no query waits that may run now."""
        return not self._queue

    def enqueue(self, batch: Batch) -> None:
        """Let ``batch`` take part in the turns."""
        if batch.queued or not batch.ready:
            return
        batch.queued = True
        self._queue.append(batch)
        while self._queue and len(self._lanes) < min(_LANES_AT_ONCE, self.limit):
            self._add_lane()
        if self._queue:
            self._arm()

    def take(self, lane: Lane) -> Job | None:
        """The job whose turn it is, now that of ``lane``; ``None`` if none waits."""
        while self._queue:
            batch = self._queue.popleft()
            if not batch.ready:  # aborted since
                batch.queued = False
                continue
            job = batch.take()
            job.lane = lane
            batch.queued = batch.ready
            if batch.queued:
                self._queue.append(batch)
            return job
        return None

    def discard(self, lane: Lane) -> None:
        """Forget a lane that has ended."""
        self._lanes.discard(lane)

    async def drain(self) -> None:
        """Wait until every lane has ended, and stop the timers."""
        while self._lanes:
            await asyncio.wait([lane.task for lane in self._lanes])
        for timer in (self._growth, self._watch):
            if timer is not None:
                timer.cancel()

    def _add_lane(self) -> None:
        lane = Lane(self, number=self._started + 1)
        job = self.take(lane)
        if job is not None:
            self._started += 1
            self._lanes.add(lane)
            lane.start(job)

    def _arm(self) -> None:
        if self._growth is None and len(self._lanes) < self.limit:
            self._growth = self._loop.call_later(
                _GROWTH_INTERVAL, self._grow, self._loop.time() + _GROWTH_INTERVAL
            )
        if self._watch is None:
            self._watch = self._loop.call_later(self.timeout, self._expire)

    def _grow(self, due: float) -> None:
        self._growth = None
        if self._loop.time() - due < _LOOP_IS_BUSY:
            for _ in range(min(len(self._lanes) or 1, self.limit - len(self._lanes))):
                self._add_lane()
        if self._queue:
            self._arm()

    def _expire(self) -> None:
        self._watch = None
        now = self._loop.time()
        for batch in list(self._queue):
            if batch.ready and now - batch.last_turn >= self.timeout:
                batch.abort(
                    LaneTimeoutError(
                        self.timeout, self.limit, len(self._lanes), self.waiting
                    )
                )
        if any(batch.ready for batch in self._queue):
            oldest = min(batch.last_turn for batch in self._queue if batch.ready)
            self._watch = self._loop.call_at(oldest + self.timeout, self._expire)


class Lane:
    """One connection, and the task and greenlet that run queries on it.

    It begins with a job, goes on while jobs wait, then gives its connection back and
    ends. All of a job runs under the job's own context.
    """

    def __init__(self, lanes: Lanes, *, number: int) -> None:
        self.number = number
        self.lanes = lanes
        self._sessions = lanes.sessions
        self._connection: Connection | None = None
        self._nested: Lanes | None = None
        self._job: Job | None = None
        self.task: asyncio.Task[None]

    def start(self, job: Job) -> None:
        """Start with ``job``."""
        # An empty context: the lane outlives the request that happened to start it.
        self.task = asyncio.get_running_loop().create_task(
            greenlet_spawn(self._run, job),
            name="async_parallel lane",
            context=contextvars.Context(),
        )

    def cancel(self, job: Job) -> None:
        """Cancel ``job`` if it still runs here; only the first call does anything."""
        if job.cancelled or job is not self._job:
            return
        job.cancelled = True
        if self._connection is not None:
            self._sessions.interrupt(self._connection)
        target = job.task if job.task is not None and not job.task.done() else self.task
        if not target.cancelling():  # else the loop is being shut down
            target.cancel()

    def runs(self, job: Job | None) -> bool:
        """Whether ``job`` is what the lane runs now."""
        return job is not None and self._job is job

    def nested(self) -> Lanes:
        """The lanes for gathers inside the running query: one, on its connection.

        So a query never waits for a second connection while it holds one.
        """
        if self._nested is None:
            in_transaction = self._job is not None and not self._is_plain(self._job)
            self._nested = Lanes(
                self._sessions.nested(self._connect(), savepoints=in_transaction),
                limit=1,
                timeout=self.lanes.timeout,
                root=self.lanes.root,
            )
        return self._nested

    def _run(self, job: Job | None) -> None:
        try:
            while job is not None:
                self._serve(job)
                job.batch.record(job)
                try:
                    # Before the gather learns of it, so that nothing outlives the call.
                    if self.lanes.idle:
                        self._disconnect()
                finally:
                    job.batch.leave(job)
                job = self.lanes.take(self)
        finally:
            self.lanes.discard(self)
            self._disconnect()

    def _serve(self, job: Job) -> None:
        self._job = job
        try:
            job.value = job.context.run(self._attempt, job)
        except BaseException as error:  # noqa: BLE001 - goes to the caller, all of it
            job.error = self._explain(job, error)
        finally:
            self._job = self._nested = None
            while self.task.cancelling():
                self.task.uncancel()

    def _attempt(self, job: Job) -> Any:
        current_job.set(job)
        try:
            return self._execute(job)
        except sa_exc.DBAPIError as error:
            # A dead connection: nothing was read, nothing can have been written, so
            # the statement may run again. A function may have had other effects.
            if not (error.connection_invalidated and self._is_plain(job)):
                raise
        return self._execute(job)

    def _execute(self, job: Job) -> Any:
        connection = self._connect()
        if not self._is_plain(job):
            return self._sessions.transaction(connection, job, self._call)
        session = self._sessions.open(connection)
        try:
            return job.query.fetch(session.execute(job.query.source))
        finally:
            session.close()

    @staticmethod
    def _is_plain(job: Job) -> bool:
        """Whether one statement in AUTOCOMMIT, and so one round trip, is all of it."""
        return job.query.kind is Kind.STATEMENT and job.batch.read_only

    def _call(self, job: Job, session: Any) -> Any:
        """Run ``job`` with a session that is in a transaction."""
        query = job.query
        if query.kind is Kind.STATEMENT:
            return query.fetch(session.execute(query.source))
        if query.kind is Kind.FUNCTION:
            value = query.source(session)
        else:
            job.task = asyncio.get_running_loop().create_task(
                query.source(session),
                name=f"async_parallel {job.label}",
                # A copy, because the lane is inside job.context itself.
                context=contextvars.copy_context(),
            )
            value = await_only(job.task)
        check_returned(value, job.label)
        return value

    def _connect(self) -> Connection:
        connection = self._connection
        if connection is not None and connection.invalidated:
            self._disconnect()
        if self._connection is None:
            self._connection = self._sessions.connect()
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._sessions.disconnect(connection)

    def _explain(self, job: Job, error: BaseException) -> BaseException:
        if (
            job.batch.read_only
            and isinstance(error, sa_exc.DBAPIError)
            and self._sessions.refused_write(error)
        ):
            refusal = ReadOnlyError(job.label)
            refusal.__cause__ = error
            return refusal
        return error
