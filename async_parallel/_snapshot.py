"""One snapshot for several connections, as each kind of database has it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from sqlalchemy.util import await_only

from ._libpq import shown
from ._sqlite_lock import WriteLock
from .errors import SnapshotUnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import URL, Connection


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How the queries of a gather see one state of the database.

    ``snapshot=True`` of a gather is ``snapshot=Snapshot()``.

    Attributes:
        isolation: The isolation level of the transactions, ``"repeatable read"`` or
            ``"serializable"``: with that the state is one that is also possible where
            the writers, serializable themselves, come one after another. SQLite and
            CockroachDB are serializable either way.
        deferrable: With ``"serializable"``, wait for a state that no writer which runs
            at the moment can make impossible, so that no query fails with a
            serialization failure. The wait may be long.

    Raises:
        ValueError: An isolation level that gives no snapshot, or ``deferrable``
            without ``"serializable"``.
    """

    isolation: Literal["repeatable read", "serializable"] = "repeatable read"
    deferrable: bool = False

    def __post_init__(self) -> None:
        if self.isolation not in {"repeatable read", "serializable"}:
            raise ValueError(
                "isolation must be 'repeatable read' or 'serializable', not"
                f" {self.isolation!r}"
            )
        if self.deferrable and self.isolation != "serializable":
            raise ValueError("deferrable needs isolation='serializable'")


class DatabaseSnapshot(Protocol):
    """The snapshot of one gather in the database.

    One connection takes it, others may join it, and each leaves it. All of it runs
    inside a lane's greenlet, on connections that are in AUTOCOMMIT.

    Attributes:
        identifier: By what others join it; ``None`` while, and where, nobody can.
        stays_open: Whether others may join up to ``leave`` by who took it; else only
            up to ``seal``.
        survives_errors: Whether a connection is still in it after a statement failed.
        ends_with_leader: Whether who joined sees it only while who took it does.
    """

    identifier: str | None
    ends_with_leader: bool
    stays_open: ClassVar[bool]
    survives_errors: ClassVar[bool]

    def take(self, connection: Connection, *, shared: bool) -> None:
        """Begin a transaction that sees the state of now.

        Args:
            connection: Who takes it.
            shared: Whether others are to join.
        """

    def join(self, connection: Connection) -> None:
        """Begin a transaction that sees what the one who took it sees."""

    def seal(self) -> None:
        """Let nobody else join."""

    def is_seen_by(self, connection: Connection) -> bool:
        """Whether the transaction has not been ended by a query; asks nobody."""
        ...

    def leave(self, connection: Connection) -> None:
        """End the transaction."""


class PostgreSQLSnapshot:
    """By an exported snapshot, as ``pg_dump --jobs`` uses it.

    https://www.postgresql.org/docs/current/functions-admin.html
    #FUNCTIONS-SNAPSHOT-SYNCHRONIZATION
    """

    stays_open: ClassVar = True
    survives_errors: ClassVar = False
    _UNSUPPORTED = "0A000"  # serializable on a standby; a server that only looks alike
    # Unknown, before PostgreSQL 16 and since; and of a transaction that has just ended.
    _UNKNOWN: ClassVar = {"22023", "42704", "55000"}
    _DIVISION_BY_ZERO = "22012"

    def __init__(self, options: Snapshot, url: URL) -> None:
        self.identifier: str | None = None
        self.ends_with_leader = False
        self._options = options
        self._url = url
        self._server = ""

    def take(self, connection: Connection, *, shared: bool) -> None:
        mode = "DEFERRABLE" if self._options.deferrable else "NOT DEFERRABLE"
        begin = self._begin(self._options.isolation, mode)
        try:
            if shared:
                self._export(connection, begin)
            else:
                send(connection, begin)
        except Exception as error:
            self._explain(error)
            raise

    def join(self, connection: Connection) -> None:
        # Who imports a snapshot from a deferrable transaction must not be that itself,
        # and need not: what it has waited for is true of the snapshot.
        deferrable = self._options.deferrable
        level = "repeatable read" if deferrable else self._options.isolation
        # The name of a snapshot is unique on its server alone, and who stands between
        # may lead to several. So it must be the same one, else the division fails.
        sql = (
            f"{self._begin(level)}; SET TRANSACTION SNAPSHOT '{self.identifier}';"
            f" SELECT 1 / ({_SERVER} = {self._server})::int"
        )
        try:
            send(connection, sql)
        except Exception as error:
            unknown = _sqlstate(error) in self._UNKNOWN
            if unknown or _sqlstate(error) == self._DIVISION_BY_ZERO:
                lost = ", or the connection that took it was lost" if unknown else ""
                raise SnapshotUnsupportedError(
                    shown(self._url),
                    f"its connections lead to several servers, and a snapshot is of one"
                    f"{lost}. Name one host in the URL",
                    may_pass=unknown,
                ) from error
            self._explain(error)
            raise

    def seal(self) -> None:
        """Do nothing: the snapshot costs nobody anything."""

    def is_seen_by(self, connection: Connection) -> bool:
        return _is_in_transaction(connection)

    def leave(self, connection: Connection) -> None:
        send(connection, "ROLLBACK")

    def _export(self, connection: Connection, begin: str) -> None:
        driver: Any = connection.connection.driver_connection
        exported = f"concat_ws('/', pg_export_snapshot(), {_SERVER}, {_STANDBY})"
        found: str | None = None
        if hasattr(driver, "add_log_listener"):  # asyncpg
            found = _translated(connection, _ask_by_message, driver, begin, exported)
        else:
            send(connection, begin)
        if found is None:  # or who stands between passes no messages on
            found = str(connection.exec_driver_sql(f"SELECT {exported}").scalar_one())
        self.identifier, self._server, standby = found.split("/")
        # There replay, waiting to remove rows, looks once for those who may need them.
        # Who joins later is not among them, and loses the rows when the others have
        # gone: without an error.
        self.ends_with_leader = standby == "1"

    @staticmethod
    def _begin(isolation: str, mode: str = "NOT DEFERRABLE") -> str:
        return f"BEGIN ISOLATION LEVEL {isolation.upper()} READ ONLY {mode}"

    def _explain(self, error: Exception) -> None:
        if _sqlstate(error) == self._UNSUPPORTED:
            raise SnapshotUnsupportedError(
                shown(self._url), f"it answers {str(error).splitlines()[0]!r}"
            ) from error


class CockroachDBSnapshot:
    """By the time, which all servers of a cluster agree upon.

    https://www.cockroachlabs.com/docs/stable/as-of-system-time
    """

    stays_open: ClassVar = True
    ends_with_leader = False
    survives_errors: ClassVar = False

    def __init__(self, options: Snapshot, url: URL) -> None:  # noqa: ARG002
        self.identifier: str | None = None

    def take(self, connection: Connection, *, shared: bool) -> None:  # noqa: ARG002
        now = connection.exec_driver_sql("SELECT cluster_logical_timestamp()")
        time = str(now.scalar_one())
        self._begin(connection, time)
        self.identifier = time

    def join(self, connection: Connection) -> None:
        self._begin(connection, self.identifier)

    def seal(self) -> None:
        """Do nothing: the past stays."""

    @staticmethod
    def _begin(connection: Connection, time: str | None) -> None:
        send(connection, f"BEGIN READ ONLY AS OF SYSTEM TIME {time}")

    def is_seen_by(self, connection: Connection) -> bool:
        return _is_in_transaction(connection)

    def leave(self, connection: Connection) -> None:
        send(connection, "ROLLBACK")


class SQLiteSnapshot:
    """By a lock that keeps writers out while the readers begin."""

    stays_open: ClassVar = False
    ends_with_leader = False
    survives_errors: ClassVar = True
    # A transaction begins to read with its first statement.
    _BEGIN = "BEGIN; SELECT 1 FROM sqlite_master LIMIT 1;"

    def __init__(self, options: Snapshot, url: URL) -> None:  # noqa: ARG002
        self.identifier: str | None = None
        self._lock = WriteLock(url)
        if self._lock.in_memory:
            raise SnapshotUnsupportedError(
                shown(url),
                "the connections of a shared cache see each other's changes. Use a"
                " file",
            )

    def take(self, connection: Connection, *, shared: bool) -> None:
        driver: Any = connection.connection.driver_connection
        is_locked = shared and _translated(connection, self._lock.take, driver)
        try:
            self.join(connection)
        except BaseException:
            self.seal()
            raise
        self.identifier = "lock" if is_locked else None

    def join(self, connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        _translated(connection, driver.executescript, self._BEGIN)

    def seal(self) -> None:
        await_only(self._lock.release())

    def is_seen_by(self, connection: Connection) -> bool:
        driver: Any = connection.connection.driver_connection
        return bool(driver.in_transaction)

    def leave(self, connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        _translated(connection, driver.rollback)


# When a server started, in microseconds, tells it from all others.
_SERVER = "(extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint"
_STANDBY = "pg_is_in_recovery()::int"
_EXPORTED = re.compile(r"[0-9A-F-]+/\d+/[01]")

_KINDS: dict[str, type[PostgreSQLSnapshot | CockroachDBSnapshot | SQLiteSnapshot]] = {
    "postgresql": PostgreSQLSnapshot,
    "cockroachdb": CockroachDBSnapshot,
    "sqlite": SQLiteSnapshot,
}


def snapshot_of(database: str, url: URL, options: Snapshot) -> DatabaseSnapshot:
    """A snapshot, not yet taken, in a database of the kind that SQLAlchemy so names.

    Raises:
        SnapshotUnsupportedError: There is none.
    """
    if database not in _KINDS:
        raise SnapshotUnsupportedError(
            shown(url), f"{database} offers no snapshot for several connections here"
        )
    return _KINDS[database](options, url)


def _is_in_transaction(connection: Connection) -> bool:
    driver: Any = connection.connection.driver_connection
    if hasattr(driver, "is_in_transaction"):  # asyncpg
        return bool(driver.is_in_transaction())
    return bool(driver.info.transaction_status)  # psycopg, where 0 is idle


def send(connection: Connection, sql: str) -> None:
    """Send statements in one round trip, and prepare nothing of them."""
    driver: Any = connection.connection.driver_connection
    _translated(connection, driver.execute, sql)


async def _ask_by_message(driver: Any, first: str, exported: str) -> str | None:
    """What an expression gives after the statement ``first``, in one round trip.

    asyncpg returns no rows of several statements that are sent at once, but passes the
    server's messages on before the end of the statement that made them.
    """
    told: list[str] = []

    def listen(_driver: object, message: Any) -> None:
        if message.severity_en == "INFO" and _EXPORTED.fullmatch(message.message):
            told.append(message.message)

    driver.add_log_listener(listen)
    try:
        await driver.execute(f"{first}; DO $$BEGIN RAISE INFO '%', {exported}; END$$")
    finally:
        driver.remove_log_listener(listen)
    return told[-1] if told else None


def _translated(connection: Connection, call: Callable[..., Any], *args: Any) -> Any:
    """What a call of the driver gives, its errors as SQLAlchemy's."""
    private: Any = connection
    dbapi: Any = connection.connection.dbapi_connection
    try:
        try:
            return await_only(call(*args))
        except Exception as error:
            dbapi._handle_exception(error)  # noqa: SLF001 - raises the DBAPI's
            raise
    except BaseException as error:  # noqa: BLE001 - is wrapped, as any other
        sql = next((arg for arg in args if isinstance(arg, str)), None)
        return private._handle_dbapi_exception(error, sql, None, None, None)  # noqa: SLF001


def _sqlstate(error: Exception) -> str:
    return str(getattr(getattr(error, "orig", error), "sqlstate", ""))
