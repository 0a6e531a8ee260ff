"""What differs between databases, for a lane."""

from __future__ import annotations

import asyncio
import contextlib
import math
import sqlite3
from typing import TYPE_CHECKING, Any

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy.util import await_only

from . import _sqlite
from ._driver import driver_of, sqlstate, translated
from ._libpq import shown
from ._pool import BOUND
from ._postgres_snapshot import CockroachDBSnapshot, PostgreSQLSnapshot
from ._sqlite_snapshot import SQLiteSnapshot
from .errors import SnapshotUnsupportedError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Connection
    from sqlalchemy.exc import DBAPIError

    from ._snapshot import DatabaseSnapshot, Snapshot

# Seconds that the server has to end a statement that was cancelled.
_SETTLE_TIMEOUT = 2.0
# Seconds that the server waits longer than we do before it ends a statement.
_BOUND_MARGIN = 1.0
_LONGEST_BOUND = 2_000_000  # the server counts milliseconds in 31 bits
# The limit that there was before is noted on the server, and stays where it is shorter.
# Behind a pooler, which has other connections to the server, nothing is set: it would
# be for anybody.
_SET_BOUND = """
    SELECT set_config('async_parallel.statement_timeout', own, false),
        set_config('statement_timeout', CASE
            WHEN {limit} = 0 OR own::bigint BETWEEN 1 AND {limit} THEN own
            ELSE '{limit}' END, false)
    FROM (
        SELECT coalesce(nullif(
            current_setting('async_parallel.statement_timeout', true), ''), setting)
            AS own
        FROM pg_settings WHERE name = 'statement_timeout' AND pg_backend_pid() = {pid}
    ) AS known
"""
_UNBOUNDED = -1


class Backend:
    """What differs between databases, for a lane.

    Attributes:
        read_only: Makes the session refuse writes, in transactions and outside.
        read_write: Lets it write.
        read_only_inside: Makes it refuse them up to the end of a savepoint.
        is_read_only: Asks whether it refuses them.
        read_only_outlives_rollback: Whether what a transaction changes of that stays.
        transactions_are_snapshots: Whether all statements of one see the same state.
    """

    read_only: str
    read_only_outlives_rollback = False
    transactions_are_snapshots = False
    read_write: str
    read_only_inside: str
    is_read_only: str

    def begin(self, connection: Connection, *, read_only: bool) -> None:
        """Begin a transaction on a connection that is in AUTOCOMMIT."""
        raise NotImplementedError

    def end(self, connection: Connection) -> None:
        """Return a connection to AUTOCOMMIT after its transaction ended."""
        raise NotImplementedError

    def snapshot(self, options: Snapshot, url: URL) -> DatabaseSnapshot:  # noqa: ARG002
        """A snapshot, not yet taken, for the connections of one gather.

        Raises:
            SnapshotUnsupportedError: There is none.
        """
        reason = "there is none of its kind here. Ask one query after another"
        raise SnapshotUnsupportedError(shown(url), reason)

    def refused_write(self, error: DBAPIError) -> bool:
        """Whether ``error`` says that the session is read-only."""
        raise NotImplementedError

    def bound(self, connection: Connection, seconds: float | None) -> None:
        """Have the server itself end statements after ``seconds``, where it can."""

    def interrupt(self, connection: Connection) -> None:
        """Stop what runs on the server, where cancelling the task alone does not."""

    def interrupt_again(self, connection: Connection) -> bool:  # noqa: ARG002
        """Do so where the server may have missed it; tell whether it was asked to."""
        return False

    def settle(self, connection: Connection) -> bool:  # noqa: ARG002
        """Wait until a cancelled statement has ended; tell whether all is well."""
        return False

    def terminate(self, connection: Connection) -> None:
        """Cut the connection off without a word to the server."""


class PostgreSQL(Backend):
    """PostgreSQL by any async driver."""

    read_only = "SET default_transaction_read_only = on"
    read_write = "SET default_transaction_read_only = off"
    read_only_inside = "SET LOCAL transaction_read_only = on"
    is_read_only = "SELECT current_setting('default_transaction_read_only')::bool"
    _READ_ONLY_SQL_TRANSACTION = "25006"

    def begin(self, connection: Connection, *, read_only: bool) -> None:  # noqa: ARG002
        # The dialect's own call only notes the level; it is sent with the BEGIN.
        # Connection.execution_options() would pile up a reset for each query.
        dialect = connection.dialect
        level = dialect.default_isolation_level or "READ COMMITTED"
        dbapi = _dbapi(connection)
        dialect.set_isolation_level(dbapi, level)
        connection.begin()
        # The dialect sends BEGIN before the first statement, which is the user's. Sent
        # now, it costs the same, and shows a dead connection while all may be repeated.
        start = getattr(dbapi, "_start_transaction", None)
        if start is not None:
            translated(connection, start)

    def end(self, connection: Connection) -> None:
        connection.dialect.set_isolation_level(_dbapi(connection), "AUTOCOMMIT")

    def snapshot(self, options: Snapshot, url: URL) -> DatabaseSnapshot:
        return PostgreSQLSnapshot(options, url)

    def refused_write(self, error: DBAPIError) -> bool:
        return sqlstate(error) == self._READ_ONLY_SQL_TRANSACTION

    def bound(self, connection: Connection, seconds: float | None) -> None:
        limit = 0
        if seconds is not None and seconds < _LONGEST_BOUND:
            limit = math.ceil((seconds + _BOUND_MARGIN) * 1_000)
        if connection.info.get(BOUND, 0) in {limit, _UNBOUNDED}:
            return
        driver = driver_of(connection)
        sql = _SET_BOUND.format(limit=limit, pid=driver.get_server_pid())
        answer = translated(connection, driver.execute, sql)
        connection.info[BOUND] = limit if answer == "SELECT 1" else _UNBOUNDED

    def interrupt_again(self, connection: Connection) -> bool:
        # The server forgets a request that comes before the statement does, as each is
        # on a connection of its own. Unless asyncpg has asked before, it is no cancel
        # that it waits for; there is no public way to know, nor to ask.
        driver = driver_of(connection)
        protocol: Any = getattr(driver, "_protocol", None)
        ask = getattr(driver, "_cancel_current_command", None)
        if protocol is None or ask is None or not protocol._is_cancelling():  # noqa: SLF001
            return False
        ask(asyncio.get_running_loop().create_future())
        return True

    def settle(self, connection: Connection) -> bool:
        # Cancelled, asyncpg asks the server to end the statement, and can be used again
        # when that has answered. There is no public way to wait for that alone.
        driver = driver_of(connection)
        protocol: Any = getattr(driver, "_protocol", None)
        wait = getattr(protocol, "_wait_for_cancellation", None)
        # Where it does not ask, the cancel came between two messages: what it has
        # prepared may keep a snapshot open that the next statement would have ended.
        if wait is None or not protocol._is_cancelling():  # noqa: SLF001
            return False
        try:
            await_only(asyncio.wait_for(wait(), _SETTLE_TIMEOUT))
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            driver.terminate()
        return not driver.is_closed()

    def terminate(self, connection: Connection) -> None:
        driver = driver_of(connection)
        if hasattr(driver, "terminate"):  # asyncpg
            driver.terminate()


class CockroachDB(PostgreSQL):
    """CockroachDB, which speaks as PostgreSQL does."""

    def snapshot(self, options: Snapshot, url: URL) -> DatabaseSnapshot:  # noqa: ARG002
        return CockroachDBSnapshot()


class SQLite(Backend):
    """SQLite by aiosqlite, whose every call is a hop to the connection's thread."""

    read_only = "PRAGMA query_only = 1"
    read_write = "PRAGMA query_only = 0"
    read_only_inside = read_only
    is_read_only = "PRAGMA query_only"
    read_only_outlives_rollback = True
    transactions_are_snapshots = True
    _SQLITE_READONLY = 8

    def begin(self, connection: Connection, *, read_only: bool) -> None:
        # Python's sqlite3 sends no BEGIN for a SELECT, so two of them in one session
        # could see two states; hence BEGIN by hand. A writer takes its lock at once,
        # because SQLite refuses to upgrade a reader while another one writes.
        _dbapi(connection).isolation_level = ""
        connection.begin()
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    def end(self, connection: Connection) -> None:
        _dbapi(connection).isolation_level = None

    def snapshot(self, options: Snapshot, url: URL) -> DatabaseSnapshot:  # noqa: ARG002
        return SQLiteSnapshot(url)

    def refused_write(self, error: DBAPIError) -> bool:
        code = getattr(error.orig, "sqlite_errorcode", 0)
        return code & 0xFF == self._SQLITE_READONLY

    def settle(self, connection: Connection) -> bool:
        # Ours returns from a cancelled call when its thread is idle, the cursor closed.
        driver = driver_of(connection)
        return isinstance(driver, _sqlite.Connection) and driver.stopped is None

    def interrupt(self, connection: Connection) -> None:
        driver = driver_of(connection)
        if driver is not None:
            # aiosqlite declares it async; it awaits nothing, and no task is here
            # that could.
            with contextlib.suppress(ValueError, sqlite3.ProgrammingError):  # it closes
                for _ in driver.interrupt().__await__():
                    pass


def _dbapi(connection: Connection) -> Any:
    return connection.connection.dbapi_connection
