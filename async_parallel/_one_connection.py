"""Every query on one connection, that of a test, inside its transaction."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import sqlite3
from typing import TYPE_CHECKING, Any

from sqlalchemy import orm
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncSession,
    async_scoped_session,
)
from sqlalchemy.util import await_only

from ._driver import driver_of
from ._nested import NestedSessions
from ._pool import is_gone
from ._sources import isa, name_of
from ._waiting import running_loop
from .errors import ConfigurationError, HomeLoopError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from sqlalchemy.engine import Engine

    from ._sessions import Sessions

AnyConnection = (
    Connection
    | orm.Session
    | orm.scoped_session[Any]
    | AsyncConnection
    | AsyncSession
    | async_scoped_session[Any]
)
"""What may hold the connection of a test."""


_MOMENT = 1e-9  # seconds; not 0, which comes before the timers that are due


class HeldConnection:
    """The connection that a test holds, or that its session does.

    Args:
        holder: The connection, or the session.
        flush: Called before it is used, where its sessions are not the holder.

    Attributes:
        backend: The name of the database's dialect.
        is_async: Whether its driver is asynchronous.

    Raises:
        TypeError: It is neither.
        HomeLoopError: It is an asynchronous one, and no event loop runs here.
    """

    def __init__(
        self, holder: AnyConnection, *, flush: Callable[[], None] | None = None
    ) -> None:
        self._flush = flush
        given: Any = holder
        if isa(given, (orm.scoped_session, async_scoped_session)):
            given = given.registry()
        self._loop: asyncio.AbstractEventLoop | None = None
        if isa(given, (AsyncConnection, AsyncSession)):
            self._loop = running_loop()
            if self._loop is None:
                raise HomeLoopError(
                    f"An {type(given).__name__} belongs to an event loop: enter"
                    " on_connection() in the coroutine that made it."
                )
            is_session = isa(given, AsyncSession)
            given = given.sync_session if is_session else given.sync_connection
        if not isa(given, (Connection, orm.Session)):
            raise TypeError(
                "on_connection() takes the connection or the session of a test, and"
                f" {name_of(holder)} is neither."
            )
        self._holder: Connection | orm.Session = given
        self._engine: Engine | None = None
        bind = given.get_bind() if isa(given, orm.Session) else given
        self.backend: str = bind.dialect.name
        self.is_async: bool = bind.dialect.is_async

    def spans(self, engines: Mapping[str, Engine]) -> bool:
        """Whether it is a session that has a connection of each of ``engines``."""
        if self.is_async or not isinstance(self._holder, orm.Session):
            return False
        return self._holder.get_bind() in engines.values()

    def of(self, engine: Engine) -> HeldConnection:
        """The connection of ``engine`` that a session holds which spans several."""
        held = copy.copy(self)
        held._engine = engine  # noqa: SLF001
        held.backend = engine.dialect.name
        return held

    def find(self) -> Connection:
        """The connection, in a transaction that sees what the session has changed.

        Raises:
            HomeLoopError: It belongs to another event loop.
            ConfigurationError: It commits each statement.
        """
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            raise HomeLoopError(
                "The connection given to on_connection() belongs to another event loop"
                " than the queries. Have the test's loop be the home loop: 'await"
                ' app.extensions["async_parallel"].make_home()\' before anything is'
                " gathered, and ask the app by ASGIAdapter; or give the connection of a"
                " synchronous driver."
            )
        if self._flush is not None:
            self._flush()
        connection = self._holder
        if isinstance(connection, orm.Session):
            connection.flush()
            given = {} if self._engine is None else {"bind": self._engine}
            connection = connection.connection(bind_arguments=given)
        begin(connection)
        return connection


class OneConnection(NestedSessions):
    """Sessions for all queries on one connection, each inside a savepoint.

    Args:
        outer: As they were before.
        held: The connection.
    """

    in_snapshot = True  # one transaction is as near to one state as it gets here

    def __init__(self, outer: Sessions, held: HeldConnection) -> None:
        self.__dict__.update(outer.__dict__)
        self.limit = 1
        self._held = held
        if not held.is_async:
            self._class = _on_sync_driver(self._class)
        self._savepoints = self._writes = True
        self._mode = "create_savepoint"

    @property
    def shown(self) -> str:
        return "the connection given to on_connection()"

    def connect(self) -> Connection:
        return self._held.find()

    def unusable(self, connection: Connection, options: Any) -> bool:  # noqa: ARG002
        return is_gone(connection)

    def settle(self, connection: Connection, *, reads: bool) -> None:  # noqa: ARG002
        if not is_gone(connection):
            self._backend.settle(connection)

    @contextlib.contextmanager
    def begin(
        self, connection: Connection, *, read_only: bool
    ) -> Generator[dict[str, Any]]:
        # A synchronous driver holds the loop up: now is when a timeout can come.
        await_only(asyncio.sleep(_MOMENT))
        with super().begin(connection, read_only=read_only) as options:
            yield options


class _OnSyncDriver(AsyncSession):
    """An ``AsyncSession`` on a synchronous driver, whose cursors cannot be awaited."""

    async def execute(self, *args: Any, **kwargs: Any) -> Any:
        return await self.run_sync(lambda session: session.execute(*args, **kwargs))

    async def stream(self, *_: Any, **__: Any) -> Any:
        raise _unavailable("stream")

    async def connection(self, *_: Any, **__: Any) -> Any:
        raise _unavailable("connection")


def _on_sync_driver(class_: type[AsyncSession]) -> type[AsyncSession]:
    if class_ is AsyncSession:
        return _OnSyncDriver
    bases: tuple[Any, ...] = (class_, _OnSyncDriver)  # what is its own comes first
    return type(class_.__name__, bases, {})


def _unavailable(method: str) -> NotImplementedError:
    return NotImplementedError(
        f"AsyncSession.{method}() needs an asynchronous driver, and on_connection() was"
        " given the connection of a synchronous one. Give it an AsyncSession or an"
        " AsyncConnection in this test."
    )


def begin(connection: Connection) -> None:
    """Have SQLAlchemy and the database be in a transaction, in which are savepoints.

    Raises:
        ConfigurationError: It commits each statement, or is of another thread.
    """
    if not connection.in_transaction():
        connection.begin()
    dbapi: Any = connection.connection.dbapi_connection
    if connection.dialect.name == "sqlite":
        _refuse_other_thread(driver_of(connection))
        # Python's driver begins with the first write, and the release of a savepoint
        # outside a transaction is a COMMIT.
        if not driver_of(connection).in_transaction:
            connection.exec_driver_sql("BEGIN")
    elif connection.dialect.detect_autocommit_setting(dbapi):
        raise ConfigurationError(
            "The connection of the test is in AUTOCOMMIT, so nothing can be rolled"
            " back. Leave its isolation_level out."
        )


def _refuse_other_thread(driver: Any) -> None:
    if not isinstance(driver, sqlite3.Connection):
        return
    try:
        driver.cursor().close()
    except sqlite3.ProgrammingError as error:
        raise ConfigurationError(
            "The SQLite connection given to on_connection() is of another thread than"
            " the home loop's. Make its engine with connect_args={'check_same_thread':"
            " False}, and poolclass=StaticPool where it is in memory."
        ) from error
