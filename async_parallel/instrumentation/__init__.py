"""Reports: what one gather did, query by query."""

from __future__ import annotations

import contextlib
import contextvars
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["GatherReport", "Outcome", "QueryReport", "SnapshotReport", "record_gathers"]

Outcome = Literal["returned", "raised", "cancelled", "not started"]

_recorder: contextvars.ContextVar[list[GatherReport] | None] = contextvars.ContextVar(
    "async_parallel_recorder", default=None
)


@dataclass(frozen=True, slots=True)
class QueryReport:
    """What happened to one query of a gather.

    Attributes:
        label: The query's name: its key, its label, its function or its statement.
        outcome: How it ended.
        queued_s: Seconds from the call until a lane took the query; until the end of
            the gather if none did.
        elapsed_s: Seconds from there until it had run; 0 if it never began.
        lane: The number of the lane, counted since the gatherer was opened; ``None``
            if none took it.
    """

    label: str
    outcome: Outcome
    queued_s: float
    elapsed_s: float
    lane: int | None


@dataclass(frozen=True, slots=True)
class SnapshotReport:
    """The snapshot of one gather, and what it cost.

    Attributes:
        identifier: Its name in the database, by which connections joined; ``None``
            where one connection ran all.
        lanes: How often a lane took or joined it.
        cost_s: Seconds that the lanes, added up, spent on taking, joining and leaving.
    """

    identifier: str | None
    lanes: int
    cost_s: float


@dataclass(frozen=True, slots=True)
class GatherReport:
    """What one gather did.

    Attributes:
        queries: One report a query, in the order of the arguments.
        elapsed_s: Seconds from the call until nothing of it was left.
        raised: The exception that ended the gather, or ``None``.
        snapshot: The one state that its queries saw, or ``None``.
    """

    queries: tuple[QueryReport, ...]
    elapsed_s: float
    raised: BaseException | None
    snapshot: SnapshotReport | None = None


@contextlib.contextmanager
def record_gathers() -> Generator[list[GatherReport]]:
    """Collect a report of each gather that this context makes, in order of ending.

    Of this context only: other requests, threads and tasks are not recorded.

    Returns:
        The list that fills while the ``with`` block runs.
    """
    reports: list[GatherReport] = []
    with record_into(reports):
        yield reports


@contextlib.contextmanager
def record_into(reports: list[GatherReport]) -> Generator[None]:
    """Collect a report of each gather that this context makes in ``reports``."""
    token = _recorder.set(reports)
    try:
        yield
    finally:
        _recorder.reset(token)


def recorder() -> list[GatherReport] | None:
    """Where the reports of the current context go, or ``None``."""
    return _recorder.get()
