"""Opening connections for lanes, and sessions on those connections."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_sessionmaker
from sqlalchemy.util import await_only

from ._detached import guard
from ._libpq import shown
from ._pool import LanePool, is_changed
from ._reader import reading
from ._sources import Kind
from .errors import ReadOnlyError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from sqlalchemy import exc as sa_exc
    from sqlalchemy import orm
    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

    from ._batch import Job
    from ._engine import Backend

_WAS_READ_ONLY = "async_parallel.was_read_only"
_SPOILED = "async_parallel.spoiled"


class Sessions:
    """Connections of one engine, and fresh sessions on them.

    All of it runs inside a lane's greenlet.

    Args:
        engine: Where connections come from.
        backend: What differs between databases.
        owned: Whether the engine was made here, so that each of its connections is
            already in AUTOCOMMIT and read-only. Else both are set while a lane holds
            a connection, and undone before it goes back.
        maker: The user's ``async_sessionmaker``, for session subclasses and options.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        backend: Backend,
        *,
        owned: bool,
        maker: async_sessionmaker[Any] | None = None,
    ) -> None:
        self._engine = engine
        self._backend = backend
        self._owned = owned
        options = dict(maker.kw) if maker is not None else {}
        for name in ("bind", "binds"):
            options.pop(name, None)
        self._class: type[AsyncSession] = (
            maker.class_ if maker is not None else AsyncSession
        )
        # A committed query's results must stay readable once they are detached.
        self._options: dict[str, Any] = {**options, "expire_on_commit": False}
        self._sync_options = dict(self._options)
        self._make: Callable[..., orm.Session] = (
            self._sync_options.pop("sync_session_class", None)
            or self._class.sync_session_class
        )
        self._make_reader = reading(self._make)
        # The facade is made only for who would see it: an async function, or a
        # subclass that does something when it is made.
        self._facade_is_plain = self._class.__init__ is AsyncSession.__init__

    @property
    def shown(self) -> str:
        """The database's URL for a message, without its passwords."""
        return shown(self._engine.url)

    def connect(self) -> Connection:
        """Take a connection from the pool: in AUTOCOMMIT, and refusing writes."""
        engine = self._engine.sync_engine
        if isinstance(engine.pool, LanePool):
            return engine.pool.lend(engine)
        connection = engine.connect()
        if self._owned:
            return connection
        try:
            connection = connection.execution_options(isolation_level="AUTOCOMMIT")
            if not self._was_read_only(connection):
                self._set(connection, self._backend.read_only)
        except BaseException:
            connection.close()
            raise
        return connection

    def spoil(self, connection: Connection) -> None:
        """Have ``connection`` closed instead of used again."""
        connection.info[_SPOILED] = True

    def unusable(self, connection: Connection, options: Any) -> bool:
        """Whether no further query may run on ``connection``, which had ``options``."""
        if connection.invalidated or connection.closed:
            return True
        return _SPOILED in connection.info or is_changed(connection, options)

    @property
    def wanted(self) -> bool:
        """Whether somebody beside the lanes waits for a connection."""
        pool = self._engine.sync_engine.pool
        return isinstance(pool, LanePool) and pool.is_wanted

    def disconnect(self, connection: Connection) -> None:
        """Give a connection back as it was taken, or close it."""
        try:
            gone = connection.invalidated or connection.closed
            if not gone and _SPOILED in connection.info:
                connection.invalidate()
                gone = True
            ours = self._owned or gone
            if not ours and not self._was_read_only(connection):
                self._set(connection, self._backend.read_write)
        except BaseException:
            connection.invalidate()
            raise
        finally:
            pool = self._engine.sync_engine.pool
            if isinstance(pool, LanePool):
                pool.take_back(connection)
            else:
                connection.close()

    def open(
        self,
        connection: Connection,
        make: Callable[..., orm.Session] | None = None,
        **options: Any,
    ) -> orm.Session:
        """A fresh session on ``connection``, made by ``make`` or as ever."""
        make = make or self._make
        if self._facade_is_plain:
            return make(bind=connection, **{**self._sync_options, **options})
        options["sync_session_class"] = make
        return self._open_async(connection, **options).sync_session

    def reader(self, connection: Connection) -> orm.Session | None:
        """A fresh session for one statement in AUTOCOMMIT on ``connection``.

        ``None`` where the application does something at the beginning of each
        transaction, such as ``SET LOCAL``, or has a level of its own set: then there
        must be one.
        """
        watched = connection.engine.dispatch
        dbapi: Any = connection.connection.dbapi_connection
        if not connection.dialect.detect_autocommit_setting(dbapi) or (
            watched.begin or watched.rollback or watched.commit
        ):
            return None
        session = self.open(connection, self._make_reader)
        if not session.dispatch.after_begin:
            return session
        session.close()
        return None

    def transaction(
        self, connection: Connection, job: Job, call: Callable[[Job, Any], Any]
    ) -> Any:
        """Run ``call(job, session)`` in a transaction of its own.

        It is rolled back at the end, or committed where writing is allowed.
        """
        with self.begin(connection, read_only=job.batch.read_only) as options:
            return self._in_session(connection, job, call, options)

    async def probe(self) -> None:
        """Connect once, so that what is wrong shows."""
        async with self._engine.connect():
            pass

    async def close(self) -> None:
        """Close the connections of an engine that was made here."""
        if self._owned:
            await self._engine.dispose()

    def abandon(self) -> object:
        """Forget the connections without closing them, and return what holds them."""
        pool = self._engine.sync_engine.pool
        self._engine.sync_engine.dispose(close=False)
        return pool

    def interrupt(self, connection: Connection) -> None:
        """Stop what ``connection`` runs, where cancelling the task alone does not."""
        if not connection.closed and not connection.invalidated:
            self._backend.interrupt(connection)

    def terminate(self, connection: Connection) -> None:
        """Cut ``connection`` off, which ends whatever waits for its server."""
        if not connection.closed and not connection.invalidated:
            self._backend.terminate(connection)

    def refused_write(self, error: sa_exc.DBAPIError) -> bool:
        """Whether ``error`` says that the database refused to write."""
        return self._backend.refused_write(error)

    def _in_session(
        self,
        connection: Connection,
        job: Job,
        call: Callable[[Job, Any], Any],
        options: dict[str, Any],
    ) -> Any:
        facade: AsyncSession | None = None
        if job.query.kind is Kind.ASYNC_FUNCTION:
            facade = self._open_async(connection, **options)
        session = facade.sync_session if facade else self.open(connection, **options)
        begun = connection.get_transaction()
        try:
            value = call(job, facade or session)
            if not job.batch.read_only:
                session.commit()
            elif _has_changes(session):
                raise ReadOnlyError(job.query.label)
            guard(session, job.query)
            return value
        finally:
            if job.batch.read_only and begun is not None and not begun.is_active:
                self.spoil(connection)  # it was committed, with whatever it had SET
            if facade is not None:
                await_only(facade.close())
            else:
                session.close()

    def _open_async(self, connection: Connection, **options: Any) -> AsyncSession:
        bind = AsyncConnection(self._engine, sync_connection=connection)
        return self._class(bind=bind, **{**self._options, **options})

    @contextlib.contextmanager
    def begin(
        self, connection: Connection, *, read_only: bool
    ) -> Generator[dict[str, Any]]:
        try:
            if connection.in_transaction():
                connection.rollback()  # what a reader began; nothing is sent
            if not read_only:
                self._set(connection, self._backend.read_write)
            self._backend.begin(connection, read_only=read_only)
            # The session commits and rolls back what was begun here, as its own.
            yield {"join_transaction_mode": "control_fully"}
        finally:
            if not (connection.invalidated or connection.closed):
                self._end(connection, read_only=read_only)

    def _end(self, connection: Connection, *, read_only: bool) -> None:
        try:
            if connection.in_transaction():
                connection.rollback()
            self._backend.end(connection)
            if not read_only or self._backend.read_only_outlives_rollback:
                self._set(connection, self._backend.read_only)
        except BaseException:
            connection.invalidate()  # in an unknown state, so nobody may have it
            raise

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


def _has_changes(session: orm.Session) -> bool:
    """Whether a flush would write; what nobody flushes would be lost in silence."""
    if session.new or session.deleted:
        return True
    return any(session.is_modified(entity) for entity in session.dirty)
