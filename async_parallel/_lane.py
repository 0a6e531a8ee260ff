"""A lane: one connection, and the task and greenlet that run queries on it."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any

from sqlalchemy import exc as sa_exc
from sqlalchemy.util import await_only

from ._connections import closings_ended
from ._detached import guard
from ._member import SnapshotMember
from ._nested import NestedSessions
from ._pool import is_torn
from ._query import has_rows
from ._recovery import is_loss, pause_before_repeat
from ._shared_snapshot import LOST
from ._sources import Kind, check_returned
from ._waiting import contained
from .errors import SnapshotLostError

if TYPE_CHECKING:
    from sqlalchemy import orm
    from sqlalchemy.engine import Connection

    from ._batch import Batch
    from ._job import Job
    from ._lanes import Lanes
    from ._sessions import Sessions
    from ._shared_snapshot import SharedSnapshot

current_job: contextvars.ContextVar[Job] = contextvars.ContextVar("current_job")
"""The query that this code is part of, if it is part of one."""

_NO_CONTEXT = contextvars.Context()

# Seconds that a cancelled query has to end. Closing its connection takes SQLAlchemy up
# to 2 s where the network is cut; a cancel in asyncpg's executemany() never ends.
_CANCEL_GRACE = 4.0
_CANCEL_RETRY = 0.01
# Seconds until the server is asked again to end a cancelled query; then twice as many.
_URGE = 0.1
# Seconds that the last such request has before the connection is closed.
_LAST_REQUEST = 0.5


class _Stopped(OSError):  # noqa: N818 - it never leaves this module
    """What SQLAlchemy sees of a cancelled statement, and keeps the connection.

    Of a kind that it expects where it is closing one at that moment.
    """


class Lane(SnapshotMember):
    """One connection, and the task and greenlet that run queries on it.

    It begins with a job, goes on while jobs wait, then gives its connection back and
    ends. All of a job runs under the job's own context.

    Attributes:
        job: What it runs now, or is about to begin with.
        number: Its place among the lanes that were started, from 1.
        inner: The lanes of gathers inside the running query, if there were any.
        waits_for: Gathers inside it that run on lanes of another database.
        task: What runs it.
    """

    def __init__(self, lanes: Lanes, *, number: int) -> None:
        self.number = number
        self.lanes = lanes
        self._sessions: Sessions = lanes.sessions
        self._connection: Connection | None = None
        self._options: Any = None
        self.inner: Lanes | None = None
        self.waits_for: tuple[tuple[Lanes, Batch], ...] = ()
        self.job: Job | None = None
        self._begun = False
        self._in_statement = False
        self._last_resort: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None]

    def start(self, job: Job) -> None:
        """Start with ``job``."""
        self.job = job
        # An empty context: the lane outlives the request that happened to start it.
        self.task = asyncio.get_running_loop().create_task(
            self.lanes.greenlets.run(self._run, job, translate=self._translate),
            name="async_parallel lane",
            context=contextvars.Context(),
        )
        self.task.add_done_callback(self._ended)

    def cancel(self, job: Job) -> None:
        """Cancel ``job`` if it still runs here; only the first call does anything."""
        if job.cancelled or job is not self.job:
            return
        if self._begun and self._last_resort is None:
            self._urge_later(job, _URGE, _CANCEL_GRACE)
        if job.committing:
            return  # it is all but done, and cut off nobody would know whether
        job.cancelled = True
        if not self._begun:
            return  # it will see for itself before it does anything
        if self._connection is not None:
            self._sessions.interrupt(self._connection)
        self._deliver_cancel(job)

    def _deliver_cancel(self, job: Job) -> None:
        if job is not self.job:
            return
        if job.task is None or job.task.done():
            if not self.task.cancelling():  # else the loop is being shut down
                self.task.cancel()
        elif not job.task.cancelling():
            job.task.cancel()
        else:
            # A timeout of its own is cancelling it right now, and a second cancel
            # inside the driver would leave a query running; it is its turn next.
            asyncio.get_running_loop().call_later(
                _CANCEL_RETRY, self._deliver_cancel, job
            )

    def _urge_later(self, job: Job, delay: float, grace: float) -> None:
        delay = min(delay, grace)
        self._last_resort = asyncio.get_running_loop().call_later(
            delay, self._urge, job, delay, grace - delay
        )

    def _urge(self, job: Job, delay: float, grace: float) -> None:
        """Have ``job`` end, which has been told to; cut it off after ``grace``."""
        if job is not self.job:
            return
        if grace <= 0:
            self._cut_off(job)
            return
        # What comes late ends whatever runs by then: so not a COMMIT, which is not
        # cancelled, and not where somebody else goes on with the connection.
        is_alone = job.cancelled and self._sessions.outermost
        if is_alone and self._connection is not None:
            self._sessions.interrupt_again(self._connection)
        self._urge_later(job, 2 * delay, grace)

    def _cut_off(self, job: Job) -> None:
        """Close the connection of ``job``, but have the server end its query before."""
        connection = self._connection
        if connection is None:
            return
        if job.cancelled and self._sessions.interrupt_again(connection):
            # Closed at once, asyncpg would not ask.
            self._last_resort = asyncio.get_running_loop().call_later(
                _LAST_REQUEST, self._sessions.terminate, connection
            )
        else:
            self._sessions.terminate(connection)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """See to a job whose lane was cancelled before it began."""
        job, self.job = self.job, None
        if job is not None:
            job.error = asyncio.CancelledError()
            self.lanes.discard(self)
            job.batch.record(job)
            job.batch.leave(job)
        if not task.cancelled():
            task.result()  # a defect of ours goes to the loop's exception handler

    def _translate(self, error: BaseException) -> BaseException:
        """Have a cancelled statement fail in a way that costs no connection."""
        cancelled = self._in_statement and self.job is not None and self.job.cancelled
        if cancelled and isinstance(error, asyncio.CancelledError):
            return _Stopped()
        return error

    def runs(self, job: Job | None) -> bool:
        """Whether ``job`` is what the lane runs now."""
        return job is not None and self.job is job

    def wait_for(self, lanes: Lanes, batch: Batch) -> None:
        """Note that the running query waits for ``batch`` on other ``lanes``."""
        waited = [pair for pair in self.waits_for if not pair[1].settled]
        self.waits_for = (*waited, (lanes, batch))

    def sessions_inside(self) -> Sessions:
        """Sessions for gathers inside the running query, on its own connection.

        So a query never waits for a second connection while it holds one.
        """
        return NestedSessions(self._sessions, self._connect(), self.job)

    def _run(self, job: Job | None) -> None:
        try:
            while job is not None:
                following = None
                try:
                    if not self._serve(job):
                        return
                    job.batch.record(job)
                    # Before the gather learns of it, so that nothing outlives the call.
                    if self._snapshot is not None:
                        following = self._go_on(job, self._snapshot)
                    if following is None and (self.lanes.idle or self._sessions.wanted):
                        self._disconnect()
                finally:
                    job.batch.leave(job)
                if following is None and self._sessions.wanted:
                    await_only(asyncio.sleep(0))  # the pool serves who asks first
                job = following or self.lanes.take(self)
        finally:
            try:
                self._disconnect()
            finally:
                self.lanes.discard(self)

    def _serve(self, job: Job) -> bool:
        """Run ``job``, unless it is put back."""
        self.job, self._begun = job, True
        is_put_back = False
        try:
            job.value = job.context.run(self._attempt, job)
        except BaseException as error:  # noqa: BLE001 - goes to the caller, all of it
            is_put_back = self._can_put_back(job, error)
            if not is_put_back:
                job.error = self._sessions.explain(job, error)
            if job.committed:
                error.add_note(f"async_parallel: query {job.label} was committed")
            if job.cancelled:
                await_only(closings_ended())
        finally:
            if not job.plain or job.error is not None:
                self._drop_torn()
            self.job = self.inner = None
            self.waits_for = ()
            if self._last_resort is not None:
                self._last_resort.cancel()
                self._last_resort = None
            if not is_put_back:
                # It holds the job in turn, by current_job: a cycle that would keep the
                # results until the next collection.
                job.context = _NO_CONTEXT
            self._recalled = False
            while self.task.cancelling():  # the next job was not cancelled
                self.task.uncancel()
        if is_put_back:
            job.batch.put_back(job)
        return not is_put_back

    def _go_on(self, job: Job, snapshot: SharedSnapshot) -> Job | None:
        """The next query that sees the same snapshot; without one, leave that."""
        following: Job | None = None
        if snapshot.has_next(self, job, self._connection):
            following = job.batch.take(self)
        else:
            self._leave()
        self.lanes.enqueue(job.batch)
        return following

    def _attempt(self, job: Job) -> Any:
        current_job.set(job)
        tries = 0
        while True:
            if job.cancelled or self._recalled:  # before the lane began, or between
                raise asyncio.CancelledError
            tries += 1
            if self._snapshot is not None and self._snapshot.is_lost:
                raise SnapshotLostError(job.query.label, LOST)
            connection = self._connect()
            try:
                if job.timeout is not None or self._sessions.bounds:
                    self._bound(job, connection)
                snapshot = job.batch.snapshot
                if snapshot is not None and snapshot is not self._snapshot:
                    self._enter(job, snapshot, connection)
                value = self._execute(job, connection)
            except sa_exc.StatementError as error:
                pause = self._pause_before_repeat(job, error, tries)
                if pause is None:
                    raise
            else:
                if snapshot is not None:
                    snapshot.check(job, connection)
                return value
            await_only(asyncio.sleep(pause))

    def _pause_before_repeat(
        self, job: Job, error: sa_exc.StatementError, tries: int
    ) -> float | None:
        """Seconds to wait before ``job``, which has failed, may be run again."""
        if is_loss(error) and self._connection is not None:
            self._sessions.spoil(self._connection)
        if job.repeatable and self._sessions.outermost:
            return pause_before_repeat(error, tries)
        return None

    def _execute(self, job: Job, connection: Connection) -> Any:
        # What is no SELECT, such as SET, must not outlast its query in a snapshot.
        reads = job.plain and (self._snapshot is None or job.query.selects)
        session = self._sessions.reader(connection) if reads else None
        if session is None:
            job.plain = False
            return self._sessions.transaction(connection, job, self._call)
        try:
            value = self._ask(job, session, connection)
            guard(session, job.query)
            return value
        finally:
            session.close()

    def _ask(self, job: Job, session: orm.Session, connection: Connection) -> Any:
        """The result of a statement; where it is cancelled, the server ends it."""
        # A listener of the application's would see that, and might begin anew.
        self._in_statement = not self._sessions.is_listened(session)
        try:
            result = session.execute(job.query.source)
            if job.plain and not has_rows(result):
                self._sessions.spoil(connection)  # SET, PRAGMA: not for the next query
            return job.query.fetch(result)
        except Exception:
            if not job.cancelled:
                raise
        finally:
            self._in_statement = False
        self._sessions.settle(connection, reads=job.query.selects)
        raise asyncio.CancelledError

    def _call(self, job: Job, session: Any) -> Any:
        """Run ``job`` with a session that is in a transaction."""
        job.entered = True
        try:
            return self._result(job, session)
        finally:
            if self.inner is not None:  # what the query left behind ends with it
                await_only(self.inner.stop())

    def _result(self, job: Job, session: Any) -> Any:
        query = job.query
        if query.kind is Kind.STATEMENT:
            return self._ask(job, session, self._connect())
        if query.kind is not Kind.ASYNC_FUNCTION:
            value = query.source(session)
        else:
            job.task = asyncio.get_running_loop().create_task(
                contained(query.source, session),
                name=f"async_parallel {job.label}",
                # A copy, because the lane is inside job.context itself.
                context=contextvars.copy_context(),
            )
            try:
                value, exit_ = await_only(job.task)
            finally:
                job.task = None  # it holds the job, by its context
            if exit_ is not None:
                raise exit_
        check_returned(value, job.label)
        return value

    def _connect(self) -> Connection:
        connection = self._connection
        if connection is not None and self._sessions.unusable(
            connection, self._options
        ):
            self._disconnect()
        if self._connection is None:
            try:
                self._connection = self._sessions.connect()
                self._options = self._connection.get_execution_options()
            except Exception as error:
                error.add_note(f"async_parallel: connecting to {self._sessions.shown}")
                raise
        return self._connection

    def _drop_torn(self) -> None:
        # A function may have met a cancel of its own, and have gone on.
        if self._connection is not None and is_torn(self._connection):
            self._connection.close()

    def _disconnect(self) -> None:
        if self._snapshot is not None:
            self._leave()
        connection, self._connection = self._connection, None
        if connection is not None:
            self._sessions.disconnect(connection)
