"""Which failures a second try may answer, and how long to wait before it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from time import monotonic
from typing import TYPE_CHECKING

from sqlalchemy import exc as sa_exc

from ._driver import sqlstate
from .errors import SnapshotLostError, SnapshotUnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator

# A statement runs at most so often: connections that a restart killed are all
# replaced at the first failure, so a third try is for a second restart.
MOST_TRIES = 3

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_SERIALIZATION_FAILURE, _DEADLOCK_DETECTED = "40001", "40P01"
_TRANSACTION_TIMEOUT = "25P04"  # the server's own limit, which would pass again
_CONNECTION_EXCEPTION = "08"  # a class
_TEMPORARY = {
    "53300",  # too many connections
    "57P01",  # the server shuts down
    "57P02",  # it crashed
    "57P03",  # it starts up
}

# Seconds between two tries; with all of them a restart of some seconds is outlasted.
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 0.25
_MOST_CONNECTS = 40
_PATIENCE = 5.0


def pause_before_repeat(error: sa_exc.StatementError, tries: int) -> float | None:
    """Seconds to wait before a read that failed is run again.

    ``None`` where a second try would fail as the first did. A lost connection, and a
    plan that a migration made stale, cost no wait; a serialization failure and a
    deadlock cost a random one, so that those who met do not meet again.

    Args:
        error: What the read failed with.
        tries: How often it has run.
    """
    if tries >= MOST_TRIES or sqlstate(error) == _TRANSACTION_TIMEOUT:
        return None
    if is_loss(error) or _is_stale_plan(error):
        return 0.0
    if sqlstate(error) in {_SERIALIZATION_FAILURE, _DEADLOCK_DETECTED}:
        return _jittered(tries)
    return None


def pause_before_all_again(error: Exception, tries: int) -> float | None:
    """The same for all queries that see one snapshot, of which one has failed.

    Also where the snapshot was gone when a connection was to join.
    """
    if isinstance(error, sa_exc.StatementError):
        return pause_before_repeat(error, tries)
    if not isinstance(error, (SnapshotUnsupportedError, SnapshotLostError)):
        return None
    return _jittered(tries) if error.may_pass and tries < MOST_TRIES else None


def is_loss(error: sa_exc.StatementError) -> bool:
    """Whether a statement failed because its connection is gone, or about to be.

    SQLAlchemy asks the driver whether it is closed, which a server that has just said
    that it shuts down has not done yet.
    """
    return (
        getattr(error, "connection_invalidated", False)
        or isinstance(error.orig, ConnectionError)
        or _is_temporary_state(sqlstate(error))
    )


def _is_stale_plan(error: sa_exc.StatementError) -> bool:
    # The dialect has dropped it from its cache by now, and says so.
    return type(error.orig).__name__ == "InvalidCachedStatementError"


def _jittered(tries: int) -> float:
    """Half to all of a pause that doubles with each try."""
    pause = min(_FIRST_PAUSE * 2.0 ** (tries - 1), _LONGEST_PAUSE)
    return pause * random.uniform(0.5, 1)  # noqa: S311 - not for secrets


class Reachability:
    """Whether a database can be reached, as known from connecting to it.

    Who connects while a database restarts or fails over waits for it, for some
    seconds from the beginning of the outage; later ones fail at once. So does the
    first connection of all: then it is not an outage, but a mistake.

    Attributes:
        is_well: Whether the last attempt has succeeded.
    """

    def __init__(self) -> None:
        self.is_well = False
        self._worked = False
        self._lost_at: float | None = None
        self._back = asyncio.Event()

    def connected(self) -> None:
        """Note that the database answers."""
        self.is_well = self._worked = True
        self._lost_at = None
        self._back.set()

    def pauses(self) -> Iterator[float]:
        """Seconds to wait before each further try of one connection."""
        for tries in range(1, _MOST_CONNECTS):
            now = monotonic()
            self.is_well = False
            if self._lost_at is None:
                self._lost_at = now
                self._back = asyncio.Event()
            if not self._worked or now - self._lost_at > _PATIENCE:
                return
            yield _jittered(tries)

    async def wait(self, pause: float) -> None:
        """Wait ``pause`` seconds, or until somebody else has connected."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._back.wait()


def is_temporary(error: Exception) -> bool:
    """Whether connecting failed in a way that passes by itself."""
    original = error.orig if isinstance(error, sa_exc.DBAPIError) else error
    if isinstance(original, TimeoutError):
        return False  # it has taken long enough
    return isinstance(original, OSError) or _is_temporary_state(sqlstate(error))


def _is_temporary_state(state: str) -> bool:
    return state in _TEMPORARY or state.startswith(_CONNECTION_EXCEPTION)
