"""Fresh sessions on the connections of lanes, and their transactions."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy import exc as sa_exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_sessionmaker
from sqlalchemy.util import await_only

from ._batch import tell_of_doubt
from ._connections import Connections
from ._detached import guard
from ._engine import backend_of, find_engine
from ._holding import note_statement
from ._pool import is_torn
from ._reader import reading
from ._recovery import is_loss
from ._shared_snapshot import SharedSnapshot
from ._sources import Kind
from .errors import ReadOnlyError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from sqlalchemy import orm
    from sqlalchemy.engine import URL, Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

    from ._backends import Backend
    from ._job import Job
    from ._snapshot import Snapshot


def open_sessions(
    url_or_engine: str | URL | AsyncEngine,
    max_connections: int,
    engine_options: Mapping[str, Any],
    **options: Any,
) -> Sessions:
    """The sessions of a gatherer, on its engine.

    Raises:
        UnsupportedDatabaseError: The database cannot be used.
    """
    engine, owned, limit = find_engine(url_or_engine, max_connections, engine_options)
    return Sessions(engine, backend_of(engine), owned=owned, limit=limit, **options)


class Sessions(Connections):
    """Connections of one engine, and fresh sessions on them.

    All of it runs inside a lane's greenlet.

    Args:
        engine: As for ``Connections``.
        backend: As for ``Connections``.
        owned: As for ``Connections``.
        limit: As for ``Connections``.
        max_age: As for ``Connections``.
        maker: The user's ``async_sessionmaker``, for session subclasses and options.

    Attributes:
        outermost: Whether a transaction here is no part of another one.
        in_snapshot: Whether all that is asked here is asked of one state.
    """

    outermost = True
    in_snapshot = False

    def __init__(
        self,
        engine: AsyncEngine,
        backend: Backend,
        *,
        owned: bool,
        limit: int,
        max_age: float | None = None,
        maker: async_sessionmaker[Any] | None = None,
    ) -> None:
        super().__init__(engine, backend, owned=owned, limit=limit, max_age=max_age)
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

    def share_snapshot(self, options: Snapshot) -> SharedSnapshot | None:
        """A snapshot that is yet to be taken, for the lanes of one gather.

        Returns:
            ``None`` where all that it asks sees one state anyway.

        Raises:
            SnapshotUnsupportedError: There is none.
        """
        return SharedSnapshot(self._backend.snapshot(options, self.engine.url))

    def transaction(
        self, connection: Connection, job: Job, call: Callable[[Job, Any], Any]
    ) -> Any:
        """Run ``call(job, session)`` in a transaction of its own.

        It is rolled back at the end, or committed where writing is allowed.
        """
        with self.begin(connection, read_only=job.batch.read_only) as options:
            return self._in_session(connection, job, call, options)

    def is_listened(self, session: orm.Session) -> bool:
        """Whether code of the application runs inside a statement, and sees it fail."""
        if self.engine.sync_engine.dialect.dispatch.handle_error:
            return True
        listeners = session.dispatch.do_orm_execute
        return bool(listeners) and any(fn is not note_statement for fn in listeners)

    def explain(self, job: Job, error: BaseException) -> BaseException:
        """What the caller gets for ``error``: where it is a refused write, says so."""
        if (
            job.batch.read_only
            and isinstance(error, sa_exc.DBAPIError)
            and self._backend.refused_write(error)
        ):
            refusal = ReadOnlyError(job.query.label)
            refusal.__cause__ = error
            return refusal
        return error

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
        if self.outermost and not job.batch.read_only:
            # Before the application's own listeners, which may fail when all is over.
            event.listen(session, "after_commit", job.note_commit, insert=True)
        try:
            value = call(job, facade or session)
            if not job.batch.read_only:
                self._commit(connection, session, job)
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
            # Who has kept it, as a Pagination does, would begin anew on a connection
            # that is another query's by then.
            session.bind = None

    def _commit(self, connection: Connection, session: orm.Session, job: Job) -> None:
        commit(connection, session, job)

    def _open_async(self, connection: Connection, **options: Any) -> AsyncSession:
        bind = AsyncConnection(self.engine, sync_connection=connection)
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
            gone = connection.invalidated or connection.closed
            if not (gone or is_torn(connection)):
                self._end(connection, read_only=read_only)

    def _end(self, connection: Connection, *, read_only: bool) -> None:
        try:
            # Not in_transaction(), which is false where a COMMIT has failed.
            if connection.get_transaction() is not None:
                connection.rollback()
            self._backend.end(connection)
            if not read_only or self._backend.read_only_outlives_rollback:
                self._set(connection, self._backend.read_only)
        except sa_exc.SQLAlchemyError:
            # In an unknown state, so nobody may have it. Not raised: a query that was
            # committed has not failed, and one that has failed says itself with what.
            connection.invalidate()
        except BaseException:
            connection.invalidate()
            raise


def commit(connection: Connection, session: orm.Session, job: Job) -> None:
    """Commit, unless ``job`` was cancelled; once it is under way nobody cancels it."""
    if is_torn(connection):
        raise sa_exc.PendingRollbackError(  # as for one that is invalidated
            f"The connection of query {job.label} was closed in the middle of it, so"
            " nothing was committed; it can be run again."
        )
    session.flush()
    if job.cancelled:  # which the function has swallowed
        raise asyncio.CancelledError
    before, job.committed = job.committed, False  # by the function itself
    job.committing = True
    try:
        session.commit()
    except BaseException as error:
        lost = isinstance(error, sa_exc.StatementError) and is_loss(error)
        cut_off = lost or isinstance(error, asyncio.CancelledError)
        if cut_off and not job.committed:
            job.doubtful = True
            tell_of_doubt(job.label, error)
        job.committing = job.committed
        raise
    finally:
        job.committed = job.committed or before


def _has_changes(session: orm.Session) -> bool:
    """Whether a flush would write; what nobody flushes would be lost in silence."""
    if session.new or session.deleted:
        return True
    return any(session.is_modified(entity) for entity in session.dirty)
