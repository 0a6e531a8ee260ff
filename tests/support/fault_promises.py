"""What the package promises of a gather, whatever happened to it."""

from __future__ import annotations

import re
from asyncio import CancelledError
from typing import TYPE_CHECKING, Any

from fault_tables import ApplicationError
from sqlalchemy import exc as sa_exc

from async_parallel.errors import (
    GatherTimeoutError,
    QueryTimeoutError,
    SnapshotLostError,
    SnapshotUnsupportedError,
)

if TYPE_CHECKING:
    from fault_steps import Act, Step
    from fault_tables import Asked

UNKNOWN = "whether it was committed is not known"
COMMITTED = "committed all the same: "
LOSSES = {"terminate", "fast", "immediate"}
# What a server says that ends a session, or has not begun: classes 57P and 08.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_LOSSES = ("57P", "08")
_QUERY_CANCELED = "57014"
_NOTE = re.compile(r"async_parallel: query (\d+) of \d+, ")


def check_act(act: Act, step: Step) -> None:
    """Check the results of a gather, or what it raised."""
    faults = {name for name, _, _ in step.faults}
    for position, result in act.results.items():
        _check_outcome(act, act.asked[position], result, faults)
    if act.error is None:
        whole = act.stop == "leave" or len(act.results) == len(act.asked)
        assert whole, f"{len(act.results)} results of {len(act.asked)}"
    else:
        _check_raised(act, act.error, faults)
    for asked in act.asked:
        assert (asked.begun or 0) <= 1, f"{asked.kind} was called {asked.begun} times"


def _check_raised(act: Act, error: BaseException, faults: set[str]) -> None:
    if act.stop == "sibling" and isinstance(error, ExceptionGroup):
        errors = [e for e in error.exceptions if not _is_the_siblings(e)]
        for each in errors:
            _check_raised(act, each, faults)
    elif isinstance(error, GatherTimeoutError):
        assert "timeout" in act.options, "a timeout that nobody asked for"
    elif isinstance(error, QueryTimeoutError):
        assert not act.options.get("return_exceptions"), "it was to be a result"
        _check_outcome(act, _named_by(act, error), error, faults)
    elif isinstance(error, CancelledError):
        assert act.stop == "cancel", "nobody cancelled it"
    elif isinstance(error, TimeoutError) and act.stop in {"timeout", "scope"}:
        assert type(error) is TimeoutError
    else:
        is_result = act.options.get("return_exceptions")
        assert not is_result, f"was to be a result: {error!r}"
        _check_outcome(act, _named_by(act, error), error, faults)


def _is_the_siblings(error: BaseException) -> bool:
    return isinstance(error, ApplicationError) and str(error) == "of the sibling"


def _named_by(act: Act, error: BaseException) -> Asked:
    """The query that failed; its note is the last, after those of gathers inside."""
    notes = [_NOTE.match(note) for note in getattr(error, "__notes__", [])]
    numbers = [int(note[1]) for note in notes if note]
    assert numbers, f"no note names the query of {error!r}"
    return act.asked[numbers[-1] - 1]


def _check_outcome(act: Act, asked: Asked, outcome: Any, faults: set[str]) -> None:
    if not isinstance(outcome, BaseException):
        assert asked.fails is None, f"{asked.kind} did not fail"
        assert outcome == asked.answer, f"{asked.kind}: {outcome} not {asked.answer}"
        return
    try:
        _check_failure(act, asked, outcome, faults)
    except AssertionError as error:
        raise error from outcome  # whose traceback says where it is from


def _check_failure(
    act: Act, asked: Asked, outcome: BaseException, faults: set[str]
) -> None:
    said = str(outcome).lower()
    if isinstance(outcome, QueryTimeoutError):
        assert asked.timeout == outcome.timeout, "a timeout of another's"
        return
    if asked.fails is not None and asked.fails in said:
        expected = (ApplicationError, sa_exc.SQLAlchemyError)
        assert isinstance(outcome, expected), f"{outcome!r} is not the original"
    elif any(reason in said for reason in asked.may_fail):
        pass
    elif _sqlstate(outcome) == _QUERY_CANCELED:
        assert "cancel" in faults, f"{asked.kind} was cancelled by nobody"
    elif "snapshot" in act.options:
        lost = isinstance(outcome, SnapshotLostError) or (
            isinstance(outcome, SnapshotUnsupportedError) and outcome.may_pass
        )
        assert lost or is_loss(outcome), f"{asked.kind} may not raise {outcome!r}"
        cut = any(each.kind == "own timeout" or each.timeout for each in act.asked)
        assert cut or faults & LOSSES, f"nothing was lost, and {outcome!r}"
        assert not act.repeatable, f"it was not all tried again: {outcome!r}"
    else:
        _check_loss(asked, outcome, faults)


def _check_loss(asked: Asked, outcome: BaseException, faults: set[str]) -> None:
    assert is_loss(outcome), f"{asked.kind} may not raise {outcome!r}"
    assert faults & LOSSES, f"{asked.kind}: nothing was lost, and {outcome!r}"
    assert not asked.repeatable, f"{asked.kind} was not tried again: {outcome!r}"
    assert asked.begun != 0, f"{asked.kind} had not begun: {outcome!r}"


def is_loss(error: BaseException) -> bool:
    """Whether the connection was lost, or could not be made."""
    if isinstance(error, OSError):
        return True
    if isinstance(error, sa_exc.DBAPIError) and error.connection_invalidated:
        return True
    return _sqlstate(error).startswith(_LOSSES)


def _sqlstate(error: BaseException) -> str:
    original = getattr(error, "orig", None) or error
    return str(getattr(original, "sqlstate", None) or "")


class Ledger:
    """Which writes must be there, which must not, and which may be.

    Attributes:
        unknown: How many writes may or may not be there.
        known: How many must be, or must not.
    """

    def __init__(self) -> None:
        self.unknown = 0
        self.known = 0
        self._there: set[int] = set()

    def check(self, step: Step, lowest: int, found: set[int]) -> None:
        """Compare the rows from ``lowest`` on, which this step wrote."""
        must: set[int] = set()
        may: set[int] = set()
        for act in step.acts:
            for position, asked in enumerate(act.asked):
                fate = _fate(act, position, step)
                must |= set(asked.writes) if fate == "committed" else set()
                may |= set(asked.writes) if fate == "unknown" else set()
                half = set(asked.writes) & found
                assert half in (set(), set(asked.writes)), f"half of {asked.kind}"
        assert must <= found, f"reported as committed, and not there: {must - found}"
        assert found <= must | may, f"there, and reported as not: {found - must - may}"
        self._there |= found
        self.unknown += len(may)
        self.known += len(must)

    def check_all(self, found: set[int]) -> None:
        """Compare all rows with those that the steps left."""
        assert found == self._there, f"changed later: {found ^ self._there}"


def _fate(act: Act, position: int, step: Step) -> str:
    """Whether a write was committed, as far as its caller was told."""
    outcome = act.report.queries[position].outcome if act.report else "not started"
    if outcome == "returned":
        return "committed"
    if outcome == "cancelled":
        return "unknown"
    if outcome == "raised" and _says_unknown(act, position, step):
        return "unknown"
    return "not committed"


def _says_unknown(act: Act, position: int, step: Step) -> bool:
    error = act.results.get(position)
    ended_by = act.report.raised if act.report else None
    if error is None and ended_by is not None:
        asked = act.asked[position]
        if isinstance(ended_by, Exception) and _is_of(act, ended_by, asked):
            error = ended_by
    if error is None:  # a result of a gather that was stopped, which nobody has seen
        return bool(LOSSES & {name for name, _, _ in step.faults})
    label = repr(act.report.queries[position].label) if act.report else ""
    return any(
        UNKNOWN in note or (COMMITTED in note and label in note)
        for note in getattr(error, "__notes__", [])
    )


def _is_of(act: Act, error: Exception, asked: Asked) -> bool:
    if isinstance(error, (GatherTimeoutError, QueryTimeoutError)):
        return False
    return _named_by(act, error) is asked
