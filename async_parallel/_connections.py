"""Connections of one engine, as lanes hold them: in AUTOCOMMIT, refusing writes."""

from __future__ import annotations

import asyncio
import contextlib
from time import monotonic
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.util import await_only

from ._libpq import shown
from ._pool import LanePool, is_changed, is_torn
from ._recovery import Reachability, is_temporary
from ._waiting import until_done

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

    from ._backends import Backend

_WAS_READ_ONLY = "async_parallel.was_read_only"
_SPOILED = "async_parallel.spoiled"
_CLOSING = "_terminate_graceful_close"
_CLOSING_TIMEOUT = 3.0  # SQLAlchemy's own is 2 s
_STOPS = "async_parallel.stops"
_MOST_STOPS = 50
_FIRST_HELD_AT = "async_parallel.first_held_at"


class Connections:
    """Takes connections from an engine's pool for lanes, and gives them back.

    What awaits here runs inside a lane's greenlet.

    Args:
        engine: Where connections come from.
        backend: What differs between databases.
        owned: Whether the engine was made here, so that each of its connections is
            already in AUTOCOMMIT and read-only. Else both are set while a lane holds
            a connection, and undone before it goes back.
        limit: How many connections may be in use at once.
        max_age: Seconds after which a connection is closed instead of used again;
            ``None`` for never.

    Attributes:
        owned: As given.
        bounds: Whether the server was told of any connection when to end statements.
    """

    bounds = False

    def __init__(
        self,
        engine: AsyncEngine,
        backend: Backend,
        *,
        owned: bool,
        limit: int,
        max_age: float | None = None,
    ) -> None:
        self.engine = engine
        self.limit = limit
        self.owned = owned
        self._backend = backend
        self._max_age = max_age
        self._reachability = Reachability()

    @property
    def shown(self) -> str:
        """The database's URL for a message, without its passwords."""
        return shown(self.engine.url)

    @property
    def wanted(self) -> bool:
        """Whether somebody beside the lanes waits for a connection."""
        pool = self.engine.sync_engine.pool
        return isinstance(pool, LanePool) and pool.is_wanted

    def connect(self) -> Connection:
        """Take a connection from the pool: in AUTOCOMMIT, and refusing writes.

        Where the database was lost, wait for it some seconds.
        """
        try:
            connection = self._take()
        except Exception as error:  # noqa: BLE001 - raised there, if it is to stay
            connection = self._reconnect(error)
        if not self._reachability.is_well:
            self._reachability.connected()
        return connection

    def _reconnect(self, error: Exception) -> Connection:
        """Connect after a failure, as soon as it works, or raise what it fails with."""
        pauses = self._reachability.pauses()
        while True:
            pause = next(pauses, None) if is_temporary(error) else None
            if pause is None:
                raise error
            await_only(self._reachability.wait(pause))
            try:
                connection = self._take()
            except Exception as again:  # noqa: BLE001 - raised above
                error = again
            else:
                self._reachability.connected()
                return connection

    def disconnect(self, connection: Connection) -> None:
        """Give a connection back as it was taken, or close it."""
        try:
            gone = connection.invalidated or connection.closed
            if not gone and self._is_spoiled(connection):
                connection.invalidate()
                gone = True
            ours = self.owned or gone
            if not ours and not self._was_read_only(connection):
                self._set(connection, self._backend.read_write)
        except (SQLAlchemyError, OSError):  # lost, when all was done
            connection.invalidate()
        except BaseException:
            connection.invalidate()
            raise
        finally:
            pool = self.engine.sync_engine.pool
            if isinstance(pool, LanePool):
                pool.take_back(connection)
            else:
                connection.close()

    def spoil(self, connection: Connection) -> None:
        """Have ``connection`` closed instead of used again."""
        if not (connection.invalidated or connection.closed):
            connection.info[_SPOILED] = True

    def unusable(self, connection: Connection, options: Any) -> bool:
        """Whether no further query may run on ``connection``, which had ``options``."""
        if connection.invalidated or connection.closed:
            return True
        return self._is_spoiled(connection) or is_changed(connection, options)

    async def probe(self) -> None:
        """Connect once, so that what is wrong shows."""
        async with self.engine.connect():
            pass
        self._reachability.connected()

    async def close(self) -> None:
        """Close the connections of an engine that was made here."""
        if self.owned:
            await self.engine.dispose()

    def abandon(self) -> object:
        """Forget the connections without closing them, and return what holds them."""
        pool = self.engine.sync_engine.pool
        self.engine.sync_engine.dispose(close=False)
        return pool

    def bound(self, connection: Connection, seconds: float | None) -> None:
        """Have the server itself end statements that run longer than ``seconds``.

        For where no cancel arrives: the network is cut, the process killed, or the
        server behind a balancer another one. Only the first time, and where ``seconds``
        change, does it cost a round trip, so that it cannot be what is left of a
        deadline; and a connection of another's engine, or pool, is left as it is.
        """
        if self.owned and isinstance(self.engine.sync_engine.pool, LanePool):
            self.bounds = True
            self._backend.bound(connection, seconds)

    def interrupt(self, connection: Connection) -> None:
        """Stop what ``connection`` runs, where cancelling the task alone does not."""
        is_async = connection.dialect.is_async  # else nothing runs while this does
        if is_async and not (connection.closed or connection.invalidated):
            self._backend.interrupt(connection)

    def interrupt_again(self, connection: Connection) -> bool:
        """Stop what ``connection`` still runs, though its task was cancelled.

        Returns:
            Whether the server was asked to.
        """
        gone = connection.closed or connection.invalidated
        if gone or not self._backend.interrupt_again(connection):
            return False
        self.spoil(connection)  # the next query is not to be met by it
        return True

    def settle(self, connection: Connection, *, reads: bool) -> None:
        """Wait until a statement that was cancelled has ended on the server.

        Where the server does not say so in time, or had to be asked twice, where the
        statement may have left something behind, such as a ``SET``, and after many of
        them, of which each may have left a prepared statement, the connection is
        closed.
        """
        if connection.closed or connection.invalidated or is_torn(connection):
            return
        stops = connection.info[_STOPS] = connection.info.get(_STOPS, 0) + 1
        whole = reads and stops < _MOST_STOPS and self._backend.settle(connection)
        if not whole or _SPOILED in connection.info:
            connection.invalidate()

    def terminate(self, connection: Connection) -> None:
        """Cut ``connection`` off, which ends whatever waits for its server."""
        if not connection.closed and not connection.invalidated:
            self._backend.terminate(connection)

    def _take(self) -> Connection:
        connection = self._take_any()
        if self._max_age is not None:
            while self._is_old(connection, self._max_age):
                self.disconnect(connection)
                connection = self._take_any()
        return connection

    def _take_any(self) -> Connection:
        engine = self.engine.sync_engine
        if isinstance(engine.pool, LanePool):
            return engine.pool.lend(engine)
        connection = engine.connect()
        if self.owned:
            return connection
        try:
            connection = connection.execution_options(isolation_level="AUTOCOMMIT")
            if not self._was_read_only(connection):
                self._set(connection, self._backend.read_only)
        except BaseException:
            connection.close()
            raise
        return connection

    def _is_spoiled(self, connection: Connection) -> bool:
        if self._max_age is not None and self._is_old(connection, self._max_age):
            return True
        return _SPOILED in connection.info

    @staticmethod
    def _is_old(connection: Connection, max_age: float) -> bool:
        now = monotonic()
        since: float = connection.info.setdefault(_FIRST_HELD_AT, now)
        return now - since >= max_age

    def _was_read_only(self, connection: Connection) -> bool:
        """Whether a connection of the user's refused writes before a lane held it."""
        known: dict[str, bool] = connection.info  # lives as long as the connection
        if _WAS_READ_ONLY not in known:
            answer = connection.exec_driver_sql(self._backend.is_read_only).scalar()
            connection.rollback()
            known[_WAS_READ_ONLY] = bool(answer)
        return known[_WAS_READ_ONLY]

    @staticmethod
    def _set(connection: Connection, sql: str) -> None:
        connection.exec_driver_sql(sql)
        connection.rollback()  # ends what SQLAlchemy began; nothing is sent


async def closings_ended() -> None:
    """Wait for the connections that SQLAlchemy is closing in tasks of its own.

    It leaves them to themselves where a second cancel, such as that of a timeout inside
    a query, meets it there.
    """
    closing = [
        task
        for task in asyncio.all_tasks()
        if getattr(task.get_coro(), "__name__", "") == _CLOSING
    ]
    if closing:
        ended = asyncio.ensure_future(asyncio.wait(closing, timeout=_CLOSING_TIMEOUT))
        with contextlib.suppress(asyncio.CancelledError):
            await until_done(ended)
