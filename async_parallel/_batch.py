"""The queries of one gather, from waiting to finished: turns, failure, timeout."""

from __future__ import annotations

import asyncio
from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ._sources import Kind
from .errors import GatherTimeoutError
from .instrumentation import GatherReport, QueryReport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import Context

    from ._lane import Lane
    from ._lanes import Lanes
    from ._query import Query
    from .instrumentation import Outcome


class Job:
    """One query of one gather.

    Times are those of ``time.perf_counter``, in seconds; ``None`` until it happens.
    """

    __slots__ = (
        "batch",
        "cancelled",
        "context",
        "error",
        "finished_at",
        "lane",
        "plain",
        "position",
        "query",
        "started_at",
        "task",
        "value",
    )

    def __init__(
        self, batch: Batch, position: int, query: Query[Any], context: Context
    ) -> None:
        self.batch = batch
        self.position = position
        self.query = query
        self.context = context
        # Whether one statement in AUTOCOMMIT, and so one round trip, is all of it.
        self.plain = batch.read_only and query.kind is Kind.STATEMENT
        self.value: Any = None
        self.error: BaseException | None = None
        self.cancelled = False
        self.lane: Lane | None = None
        self.task: asyncio.Task[Any] | None = None
        self.started_at: float | None = None
        self.finished_at: float | None = None

    @property
    def label(self) -> str:
        """How errors and reports name the query."""
        return repr(self.query.label)

    @property
    def outcome(self) -> Any:
        """What the query returned or raised."""
        return self.value if self.error is None else self.error

    def report(self, submitted_at: float, now: float) -> QueryReport:
        """What happened to it, up to ``now``."""
        started, finished = self.started_at, self.finished_at
        outcome: Outcome = "returned"
        if started is None:
            outcome = "not started"
        elif self.cancelled:
            outcome = "cancelled"
        elif self.error is not None:
            outcome = "raised"
        return QueryReport(
            label=self.query.label,
            outcome=outcome,
            queued_s=(now if started is None else started) - submitted_at,
            elapsed_s=0.0 if started is None else (finished or now) - started,
            lane=None if self.lane is None else self.lane.number,
        )


class Batch:
    """The jobs of one gather.

    A job is *waiting*, then *open* from the moment a lane takes it until the lane has
    cleaned up after it, then *done*. Of the open ones some have finished running
    (``record``) and only their lane is not yet clean (``leave``).

    Args:
        read_only: Whether writes are refused.
        max_concurrency: How many of the jobs may run at once; ``None`` for no limit.
        return_exceptions: Whether a failure is a result instead of the end.
        on_finished: Called with each job that has run to its end.
    """

    def __init__(
        self,
        *,
        read_only: bool,
        max_concurrency: int | None,
        return_exceptions: bool,
        on_finished: Callable[[Job], None] | None = None,
    ) -> None:
        self.read_only = read_only
        self.jobs: Sequence[Job] = ()
        self.error: BaseException | None = None
        self.queued = False
        self.turn = 0  # queries taken in this turn
        self.last_turn = 0.0
        self._loop = asyncio.get_running_loop()
        self._limit = max_concurrency
        self._return_exceptions = return_exceptions
        self._on_finished = on_finished
        self._lanes: Lanes | None = None
        self._waiting: deque[Job] = deque()
        self._open: set[Job] = set()
        self._running = 0
        self._waiter: asyncio.Future[None] | None = None
        self.submitted_at = 0.0

    def submit(self, jobs: Sequence[Job], lanes: Lanes) -> None:
        """Let ``lanes`` run ``jobs``."""
        self.jobs = jobs
        self._waiting.extend(jobs)
        self._lanes = lanes
        self.submitted_at = self.last_turn = perf_counter()
        lanes.enqueue(self)

    @property
    def waiting(self) -> int:
        """How many jobs no lane has taken yet."""
        return len(self._waiting)

    @property
    def ready(self) -> bool:
        """Whether a job may run now."""
        return bool(self._waiting) and (
            self._limit is None or self._running < self._limit
        )

    @property
    def starving(self) -> bool:
        """Whether a job may run now, and none of the gather does."""
        return self.ready and not self._running

    @property
    def settled(self) -> bool:
        """Whether nothing waits, runs or is being cleaned up."""
        return not self._waiting and not self._open

    def take(self) -> Job:
        """The next job in the order of the arguments; only where ``ready``."""
        job = self._waiting.popleft()
        self._open.add(job)
        self._running += 1
        self.last_turn = job.started_at = perf_counter()
        return job

    def record(self, job: Job) -> None:
        """Note that ``job`` has run; its first failure ends the others."""
        job.finished_at = perf_counter()
        self._running -= 1
        if job.error is not None:
            self._fail(job, job.error)
        if self._on_finished is not None and self.error is None:
            self._on_finished(job)
        if self._lanes is not None and self.ready:
            self._lanes.enqueue(self)

    def leave(self, job: Job) -> None:
        """Note that the lane of ``job`` has cleaned up after it."""
        self._open.discard(job)
        self._wake()

    def abort(self, error: BaseException) -> None:
        """Drop what waits and cancel what runs, each once; the first call counts."""
        if self.error is not None:
            return
        self.error = error
        self._waiting.clear()
        for job in self._open:
            if job.lane is not None:
                job.lane.cancel(job)
        self._wake()

    def time_out(self, timeout: float) -> None:
        """Abort with an error that says how far each query had come."""
        done = [j.query.label for j in self.jobs if j.finished_at is not None]
        running = [j.query.label for j in self._open if j.finished_at is None]
        waiting = [j.query.label for j in self._waiting]
        self.abort(GatherTimeoutError(timeout, done, running, waiting))

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
        if cancelled is not None:
            raise cancelled
        if self.error is not None:
            raise self.error

    def report(self) -> GatherReport:
        """What the gather did, once it is settled."""
        now = perf_counter()
        return GatherReport(
            queries=tuple(job.report(self.submitted_at, now) for job in self.jobs),
            elapsed_s=now - self.submitted_at,
            raised=self.error,
        )

    def _fail(self, job: Job, error: BaseException) -> None:
        if not job.cancelled:
            error.add_note(
                f"async_parallel: query {job.position + 1} of {len(self.jobs)},"
                f" {job.label}"
            )
        is_result = isinstance(error, (Exception, asyncio.CancelledError))
        if not (self._return_exceptions and is_result):
            self.abort(error)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done() and self.settled:
            self._waiter.set_result(None)
