"""The queries of one gather, from waiting to finished: turns, failure, timeout."""

from __future__ import annotations

import asyncio
from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING

from sqlalchemy import exc as sa_exc

from .errors import GatherTimeoutError, QueryTimeoutError, QueueFullError
from .instrumentation import GatherReport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._job import Job
    from ._lane import Lane
    from ._lanes import Lanes
    from ._shared_snapshot import SharedSnapshot


class Batch:
    """The jobs of one gather.

    A job is *waiting*, then *open* from the moment a lane takes it until the lane has
    cleaned up after it, then *done*. Of the open ones some have finished running
    (``record``) and only their lane is not yet clean (``leave``).

    Args:
        read_only: Whether writes are refused.
        max_concurrency: How many of the jobs may run at once; ``None`` for no limit.
        return_exceptions: Whether a failure is a result instead of the end.
        size: How many jobs the gather has.
        on_finished: Called with each job that has run to its end.
        outer: The query that the gather is made inside of, if it is.
        timeout: Seconds that all of it may take; ``None`` for no limit.

    Attributes:
        snapshot: What all of them see, if they are to see one state.
        bind: The name of the database, where the application has several.
    """

    def __init__(
        self,
        *,
        read_only: bool,
        max_concurrency: int | None,
        return_exceptions: bool,
        size: int,
        on_finished: Callable[[Job], None] | None = None,
        outer: Job | None = None,
        timeout: float | None = None,
    ) -> None:
        self.read_only = read_only
        self.outer = outer
        self.timeout = timeout
        self.jobs: Sequence[Job] = ()
        self.size = size
        self.error: BaseException | None = None
        self.return_exceptions = return_exceptions
        self.snapshot: SharedSnapshot | None = None
        self.bind: str | None = None
        self.queued = False
        self.turn = 0  # queries taken in this turn
        self.last_turn = 0.0
        self._loop = asyncio.get_running_loop()
        self._limit = max_concurrency
        self._on_finished = on_finished
        self._lanes: Lanes | None = None
        self._waiting: deque[Job] = deque()
        self._open: set[Job] = set()
        self._running = 0
        self._waiter: asyncio.Future[None] | None = None
        self.submitted_at = 0.0

    def submit(self, jobs: Sequence[Job], lanes: Lanes) -> None:
        """Let ``lanes`` run ``jobs``.

        Raises:
            QueueFullError: Too many wait already.
        """
        self.jobs = jobs
        self.submitted_at = self.last_turn = perf_counter()
        try:
            lanes.admit(len(jobs))
        except QueueFullError as error:
            self.error = error
            raise
        self._waiting.extend(jobs)
        self._lanes = lanes
        lanes.enqueue(self)

    @property
    def ready(self) -> bool:
        """Whether a job may run now, on any lane."""
        return (
            bool(self._waiting)
            and (self._limit is None or self._running < self._limit)
            and (self.snapshot is None or self.snapshot.open)
        )

    @property
    def has_room(self) -> bool:
        """Whether a job may run now, on a lane that sees the gather's snapshot."""
        return bool(self._waiting) and (
            self._limit is None or self._running < self._limit
        )

    @property
    def spreads(self) -> bool:
        """Whether a job is left that may run beside those that run."""
        return bool(self._waiting) and self._limit != 1

    @property
    def starving(self) -> bool:
        """Whether a job may run now, and none of the gather does."""
        return self.ready and not self._running

    @property
    def lanes(self) -> list[Lane]:
        """The lanes that run its jobs now."""
        return [job.lane for job in self._open if job.lane is not None]

    @property
    def settled(self) -> bool:
        """Whether nothing waits, runs or is being cleaned up."""
        return not self._waiting and not self._open

    def take(self, lane: Lane) -> Job:
        """The next job in the order of the arguments, where it may run on ``lane``."""
        job = self._waiting.popleft()
        job.lane = lane
        if self.snapshot is not None:
            self.snapshot.admit(job, lane)
        if self._lanes is not None:
            self._lanes.waiting -= 1
        self._open.add(job)
        self._running += 1
        self.last_turn = job.started_at = perf_counter()
        return job

    def put_back(self, job: Job) -> None:
        """Have another lane run ``job``, of which nothing has run."""
        self._open.discard(job)
        self._running -= 1
        self._drop(-1)
        job.lane = job.started_at = None
        self._waiting.appendleft(job)
        if self.snapshot is not None:
            self.snapshot.arrived(job)

    def record(self, job: Job) -> None:
        """Note that ``job`` has run; its first failure ends the others."""
        if job.expired is not None and isinstance(job.error, asyncio.CancelledError):
            job.error = job.expired
        job.finished_at = perf_counter()
        self._running -= 1
        if job.error is not None:
            self._fail(job, job.error)
        if self._on_finished is not None and self.error is None:
            self._on_finished(job)
        if self.snapshot is not None and self.snapshot.goes_on(job):
            return  # its lane asks for another first
        if self._lanes is not None and self.ready:
            self._lanes.enqueue(self)

    def leave(self, job: Job) -> None:
        """Note that the lane of ``job`` has cleaned up after it."""
        self._open.discard(job)
        self.wake()

    def abort(self, error: BaseException) -> None:
        """Drop what waits and cancel what runs, each once; the first call counts."""
        if self.error is not None:
            return
        self.error = error
        self._drop(len(self._waiting))
        self._waiting.clear()
        for job in self._open:
            if job.lane is not None:
                job.lane.cancel(job)
        self.wake()

    def time_out(self, timeout: float) -> None:
        """Abort with an error that says how far each query had come."""
        done = [j.query.label for j in self.jobs if j.finished_at is not None]
        left = [j for j in self.jobs if j.finished_at is None]
        running = [j.query.label for j in left if j.lane is not None]
        waiting = [j.query.label for j in left if j.lane is None]
        self.abort(GatherTimeoutError(timeout, done, running, waiting))

    def expire(self, job: Job, timeout: float) -> None:
        """End ``job`` alone, whose own time is up."""
        if job.finished_at is not None or job.cancelled or self.error is not None:
            return
        state = "waiting" if job.lane is None else job.lane.doing
        job.expired = QueryTimeoutError(job.query.label, timeout, state)
        if job.lane is not None:
            job.lane.cancel(job)
            return
        self._waiting.remove(job)
        self._drop(1)
        job.error = job.expired
        self._running += 1  # for a moment
        self.record(job)
        self.wake()

    async def wait(self) -> None:
        """Wait until nothing is left of the gather, then raise what ended it.

        A cancel aborts the jobs once. Further cancels are absorbed until all is
        clean: a second one inside asyncpg would leave its query running on the
        server.
        """
        cancelled: asyncio.CancelledError | None = None
        while not self.settled:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError as error:
                cancelled = cancelled or error
                self.abort(error)
        reason = cancelled or self.error
        if reason is not None:
            self._tell_of_commits(reason)
            raise reason

    def wake(self) -> None:
        """Let who waits for the gather go on, if nothing is left of it."""
        if self._waiter is not None and not self._waiter.done() and self.settled:
            self._waiter.set_result(None)

    def report(self) -> GatherReport:
        """What the gather did, once it is settled."""
        now = perf_counter()
        return GatherReport(
            queries=tuple(job.report(self.submitted_at, now) for job in self.jobs),
            elapsed_s=now - self.submitted_at,
            raised=self.error,
            snapshot=None if self.snapshot is None else self.snapshot.report(),
        )

    def _fail(self, job: Job, error: BaseException) -> None:
        if not job.cancelled or job.expired is not None:
            self.name(job, error)
        is_result = isinstance(error, (Exception, asyncio.CancelledError))
        if not (self.return_exceptions and is_result):
            self.abort(error)

    def name(self, job: Job, error: BaseException) -> None:
        """Say in a note of ``error`` that it was met by ``job``."""
        where = "" if self.bind is None else f", on the bind {self.bind!r}"
        if where and job.query.is_opaque and isinstance(error, sa_exc.DBAPIError):
            where += "; bind=... names another"
        error.add_note(
            f"async_parallel: query {job.position + 1} of {self.size}, {job.label}"
            f"{where}"
        )

    def _tell_of_commits(self, error: BaseException) -> None:
        committed = ", ".join(job.label for job in self.jobs if job.committed)
        if committed:
            error.add_note(f"async_parallel: committed all the same: {committed}")
        for job in self.jobs:
            if job.doubtful and job.error is not error:
                tell_of_doubt(job.label, error)

    def _drop(self, count: int) -> None:
        if self._lanes is not None:
            self._lanes.waiting -= count


def tell_of_doubt(label: str, error: BaseException) -> None:
    """Say in a note that nobody knows whether a query was committed."""
    error.add_note(
        f"async_parallel: query {label} was cut off during COMMIT, so whether it was"
        " committed is not known; look before it is repeated"
    )
