"""A pool that lends its connections to lanes again and again at little cost."""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

from sqlalchemy.pool import AsyncAdaptedQueuePool

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.pool import ConnectionPoolEntry

# Seconds after which a connection passes all of the pool's checks again: its age, what
# was invalidated, and the ping where one is wanted.
_CHECK_INTERVAL = 1.0

BOUND = "async_parallel.statement_timeout"
"""Where a connection's ``info`` has the limit that a lane has set for it, in ms."""

_lends: contextvars.ContextVar[bool] = contextvars.ContextVar("_lends", default=False)


class Holders:
    """Which task has which connection of a pool in use."""

    def __init__(self) -> None:
        self._tasks: dict[ConnectionPoolEntry, weakref.ref[asyncio.Task[Any]]] = {}

    def add(self, entry: ConnectionPoolEntry) -> None:
        """Note that the running task has taken ``entry``."""
        task = _running_task()
        if task is not None:
            self._tasks[entry] = weakref.ref(task)

    def discard(self, entry: ConnectionPoolEntry) -> None:
        """Note that ``entry`` has been given back."""
        self._tasks.pop(entry, None)

    def has_current(self) -> bool:
        """Whether the running task has one in use."""
        task = _running_task() if self._tasks else None
        return task is not None and any(
            holder() is task for holder in self._tasks.values()
        )


def _running_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs on this thread
        return None


class LanePool(AsyncAdaptedQueuePool):
    """SQLAlchemy's pool, which also lends a ``Connection`` without a checkout.

    A checkout and what the first statement on a new ``Connection`` sets up cost a fifth
    of a small query. A connection that a lane gives back is parked with all of that,
    for the next lane. It counts as checked in, and others get it when they need it.

    Attributes:
        holders: Who has a connection in use that was checked out.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.holders = Holders()
        self._parked: deque[tuple[Connection, float]] = deque()
        # When each was checked, and the options that it had.
        self._lent: dict[Connection, tuple[float, Any]] = {}
        self._wanted = 0
        self._invalidated_at = self._invalidate_time

    def lend(self, engine: Engine) -> Connection:
        """A connection for a lane, which gives it back by ``take_back``."""
        now = monotonic()
        if self._invalidate_time != self._invalidated_at or self._is_watched(engine):
            self._invalidated_at = self._invalidate_time
            self._check_in_parked()
        while self._parked:
            connection, checked_at = self._parked.pop()
            if now - checked_at < _CHECK_INTERVAL:
                break
            connection.close()
        else:
            token = _lends.set(True)
            try:
                connection, checked_at = engine.connect(), now
            finally:
                _lends.reset(token)
        self._lent[connection] = checked_at, connection.get_execution_options()
        return connection

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for a connection to be checked in."""
        return self._wanted > 0

    def take_back(self, connection: Connection) -> None:
        """Park ``connection``, or check it in where that makes a difference."""
        checked_at, options = self._lent.pop(connection, (None, None))
        if connection.invalidated:
            self._check_in_parked()  # they may be dead too; the pool knows by now
        elif connection.closed:
            return
        elif checked_at is None:
            connection.invalidate()  # of a pool that was disposed of meanwhile
        elif not (
            self._wanted
            or self._is_watched(connection.engine)
            or is_changed(connection, options)
        ):
            self._parked.append((connection, checked_at))
            return
        connection.close()

    def dispose(self) -> None:
        self._check_in_parked()
        super().dispose()

    def checkedin(self) -> int:
        return super().checkedin() + len(self._parked)

    def checkedout(self) -> int:
        return super().checkedout() - len(self._parked)

    def _do_get(self) -> ConnectionPoolEntry:
        if self._parked and not super().checkedin():
            self._parked.popleft()[0].close()
        self._wanted += 1
        try:
            entry = super()._do_get()
        finally:
            self._wanted -= 1
        if entry.info.get(BOUND, 0) > 0 and not _lends.get():
            entry.invalidate(soft=True)  # whoever takes it here gets a new one
        self.holders.add(entry)
        return entry

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        self.holders.discard(record)
        super()._do_return_conn(record)

    def _is_watched(self, engine: Engine) -> bool:
        """Whether each checkout matters: to who listens to it, or wants a ping."""
        pool: Any = self.dispatch
        return bool(
            self._pre_ping
            or pool.checkout
            or pool.checkin
            or pool.reset
            or engine.dispatch.engine_connect
        )

    def _check_in_parked(self) -> None:
        while self._parked:
            self._parked.pop()[0].close()


def is_torn(connection: Connection) -> bool:
    """Whether a cancel has cut the invalidation of ``connection`` off half way.

    Then the pool counts it as given back, and it looks as if it were in use.
    """
    gone = connection.invalidated or connection.closed
    return not (gone or connection.connection.is_valid)


def is_gone(connection: Connection) -> bool:
    """Whether nothing can run on ``connection`` any more."""
    return connection.invalidated or connection.closed or is_torn(connection)


def is_changed(connection: Connection, options: Any) -> bool:
    """Whether ``connection`` got other options than these, or listeners of its own.

    Both would be there for whoever has it next.
    """
    private: Any = connection  # there is no public way to ask for listeners
    listened: bool = private._has_events  # noqa: SLF001
    return listened or connection.get_execution_options() is not options
