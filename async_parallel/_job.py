"""One query of one gather, from waiting to finished."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._sources import Kind
from .instrumentation import QueryReport

if TYPE_CHECKING:
    import asyncio
    from contextvars import Context

    from ._batch import Batch
    from ._lane import Lane
    from ._query import Query
    from .errors import QueryTimeoutError
    from .instrumentation import Outcome


class Job:
    """One query of one gather.

    Times are those of ``time.perf_counter``, in seconds; ``None`` until it happens.

    Attributes:
        timeout: Seconds that it may take, of its own or of its gather.
        plain: Whether one statement in AUTOCOMMIT, and so one round trip, is all of it.
        entered: Whether the user's function, or a write, has begun.
        committing: Whether its COMMIT was sent, so that nobody may cancel it any more.
        committed: Whether its changes are in the database for good.
        doubtful: Whether nobody knows if they are, as its COMMIT was cut off.
        cancelled: Whether it was told to end.
        expired: What it raises in place of that, where its own time was up.
    """

    __slots__ = (
        "batch",
        "cancelled",
        "committed",
        "committing",
        "context",
        "doubtful",
        "entered",
        "error",
        "expired",
        "finished_at",
        "lane",
        "plain",
        "position",
        "query",
        "started_at",
        "task",
        "timeout",
        "value",
    )

    def __init__(
        self, batch: Batch, position: int, query: Query[Any], context: Context
    ) -> None:
        self.batch = batch
        self.position = position
        self.query = query
        self.context = context
        self.timeout = batch.timeout
        if query.timeout is not None and (
            self.timeout is None or query.timeout < self.timeout
        ):
            self.timeout = query.timeout
        self.plain = (
            batch.read_only
            and query.kind is Kind.STATEMENT
            and not query.streams  # PostgreSQL has its cursors in transactions only
        )
        self.value: Any = None
        self.error: BaseException | None = None
        self.entered = self.committing = self.committed = self.doubtful = False
        self.cancelled = False
        self.expired: QueryTimeoutError | None = None
        self.lane: Lane | None = None
        self.task: asyncio.Task[Any] | None = None
        self.started_at: float | None = None
        self.finished_at: float | None = None

    @property
    def label(self) -> str:
        """How errors and reports name the query."""
        return repr(self.query.label)

    def note_commit(self, _session: object) -> None:
        """Note that its transaction was committed."""
        self.committed = True

    @property
    def repeatable(self) -> bool:
        """Whether it can run again, as if it had not run before."""
        return not self.entered or (self.batch.read_only and self.query.repeatable)

    @property
    def server_timeout(self) -> float | None:
        """Seconds after which the server may end what it runs, by itself."""
        if not self.batch.read_only:
            return None  # a COMMIT that waits for standbys would be cut short
        if self.batch.snapshot is not None:
            return self.batch.timeout  # its connection is for the next ones too
        return self.timeout

    @property
    def outcome(self) -> Any:
        """What the query returned or raised."""
        return self.value if self.error is None else self.error

    def report(self, submitted_at: float, now: float) -> QueryReport:
        """What happened to it, up to ``now``."""
        started, finished = self.started_at, self.finished_at
        outcome: Outcome = "returned"
        if self.error is not None and self.error is self.expired:
            outcome = "raised"
        elif started is None:
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
