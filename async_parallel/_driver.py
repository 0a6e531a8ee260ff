"""Calls of a driver itself, where SQLAlchemy has none that is as cheap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import exc as sa_exc
from sqlalchemy.util import await_only

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection


def driver_of(connection: Connection) -> Any:
    """The driver's own connection."""
    return connection.connection.driver_connection


def send(connection: Connection, sql: str) -> None:
    """Send statements in one round trip, and prepare nothing of them.

    Raises:
        DBAPIError: As for ``translated``.
    """
    translated(connection, driver_of(connection).execute, sql)


def translated(connection: Connection, call: Callable[..., Any], *args: Any) -> Any:
    """What a call of the driver gives; inside a greenlet.

    Raises:
        DBAPIError: Its errors, as SQLAlchemy raises them: a connection that was lost,
            or met a cancel, is invalidated.
    """
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


def sqlstate(error: BaseException) -> str:
    """The code of what the server says, or nothing.

    https://www.postgresql.org/docs/current/errcodes-appendix.html
    """
    original = error.orig if isinstance(error, sa_exc.StatementError) else error
    code = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    return str(code or "")
