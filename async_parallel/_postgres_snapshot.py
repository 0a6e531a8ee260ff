"""One snapshot for several connections on PostgreSQL, and on CockroachDB."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from ._driver import driver_of, send, sqlstate, translated
from ._libpq import shown
from .errors import SnapshotUnsupportedError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Connection

    from ._snapshot import Snapshot

# When a server started, to the microsecond, tells it from all others. Before PostgreSQL
# 14 that is a float, which might be shown with fewer digits than it has.
_SERVER = "extract(epoch from pg_postmaster_start_time())::numeric"
_STANDBY = "pg_is_in_recovery()"
_NAME = "pg_export_snapshot()"
_EXPORT = (_NAME, _SERVER, _STANDBY, "pg_backend_pid()")
_EXPORTED = re.compile(r"[0-9A-F]+-[0-9A-F]+-\d+(/[\d.]+/[ft]/\d+)?")
_KNOWN = "async_parallel.server"


class _Server(NamedTuple):
    """Where a connection leads.

    Attributes:
        started: What tells it from all others.
        is_standby: Whether it is one; one that was promoted since is taken for one.
    """

    started: str
    is_standby: bool


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
            unknown = sqlstate(error) in self._UNKNOWN
            if unknown or sqlstate(error) == self._DIVISION_BY_ZERO:
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
        driver = driver_of(connection)
        server: _Server | None = connection.info.get(_KNOWN)
        found: str | None = None
        if hasattr(driver, "add_log_listener"):  # asyncpg
            export = _EXPORT if server is None else (_NAME,)
            found = translated(connection, _export_by_message, driver, begin, export)
        else:
            send(connection, begin)
        if found is None:  # or who stands between passes no messages on
            columns = ", ".join(f"({column})::text" for column in _EXPORT)
            row = connection.exec_driver_sql(f"SELECT concat_ws('/', {columns})")
            found = str(row.scalar_one())
        self.identifier, *told = found.split("/")
        if server is None or told:
            server = self._server_of(connection, *told)
        self._server = server.started
        # There replay, waiting to remove rows, looks once for those who may need them.
        # Who joins later is not among them, and loses the rows when the others have
        # gone: without an error.
        self.ends_with_leader = server.is_standby

    @staticmethod
    def _server_of(
        connection: Connection, started: str, standby: str, pid: str
    ) -> _Server:
        server = _Server(started, is_standby=standby.startswith("t"))
        driver = driver_of(connection)
        if hasattr(driver, "get_server_pid") and driver.get_server_pid() == int(pid):
            connection.info[_KNOWN] = server  # nobody stands between, to change it
        return server

    @staticmethod
    def _begin(isolation: str, mode: str = "NOT DEFERRABLE") -> str:
        return f"BEGIN ISOLATION LEVEL {isolation.upper()} READ ONLY {mode}"

    def _explain(self, error: Exception) -> None:
        if sqlstate(error) == self._UNSUPPORTED:
            raise SnapshotUnsupportedError(
                shown(self._url),
                f"it answers {str(error).splitlines()[0]!r}. Ask for another isolation"
                " level",
            ) from error


class CockroachDBSnapshot:
    """By the time, which all servers of a cluster agree upon.

    https://www.cockroachlabs.com/docs/stable/as-of-system-time
    """

    stays_open: ClassVar = True
    ends_with_leader = False
    survives_errors: ClassVar = False

    def __init__(self) -> None:
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


def _is_in_transaction(connection: Connection) -> bool:
    driver = driver_of(connection)
    if hasattr(driver, "is_in_transaction"):  # asyncpg
        return bool(driver.is_in_transaction())
    return bool(driver.info.transaction_status)  # psycopg, where 0 is idle


async def _export_by_message(
    driver: Any, begin: str, export: tuple[str, ...]
) -> str | None:
    """Begin a transaction and say what ``export`` is in it, in one round trip.

    asyncpg returns no rows of several statements that are sent at once, but passes the
    server's messages on before the end of the statement that made them.
    """
    told: list[str] = []

    def listen(_driver: object, message: Any) -> None:
        if message.severity_en == "INFO" and _EXPORTED.fullmatch(message.message):
            told.append(message.message)

    driver.add_log_listener(listen)
    try:
        # One argument for each costs less than an expression of all, and few less than
        # many: nothing of a block is ever prepared.
        form = "/".join("%" for _ in export)
        say = f"RAISE INFO '{form}', {', '.join(export)}"
        await driver.execute(f"{begin}; DO $$BEGIN {say}; END$$")
    finally:
        driver.remove_log_listener(listen)
    return told[-1] if told else None
