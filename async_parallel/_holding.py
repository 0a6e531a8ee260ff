"""What the caller of a gather holds, that the gather will wait for or not see."""

from __future__ import annotations

import inspect
import warnings
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import sqlalchemy as sa
from sqlalchemy import event, orm
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from ._pool import Holders, LanePool
from .errors import HoldAndWaitError, HoldAndWaitWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncEngine
    from sqlalchemy.pool import ConnectionPoolEntry

    Database = tuple[Any, ...]
    AnySession = orm.Session | AsyncSession

HoldAndWait = Literal["ignore", "warn", "error"]
"""What is done about a caller that holds what its gather waits for."""

_CHANGED = "async_parallel.changed"
_PACKAGE = str(Path(__file__).parent)


class HoldingCheck:
    """Looks at what a caller holds before it gathers.

    A caller in a transaction of its own, who waits for further connections of the same
    pool, may be one of many, and then each waits for the others. And what it has not
    committed, the queries of its gather do not see.

    Args:
        engine: The gatherer's.
        action: What is done about it.
        sessions: Finds the caller's sessions, where that is known.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        action: HoldAndWait,
        sessions: Callable[[], Iterable[AnySession]],
    ) -> None:
        self._action = action
        self._sessions = sessions
        self._database = _database(engine.url)
        pool = engine.sync_engine.pool
        self._engine = engine
        self._holders = None if isinstance(pool, LanePool) else Holders()
        if action == "ignore":
            return
        if self._holders is not None:
            event.listen(pool, "checkout", self._checked_out)
            event.listen(pool, "checkin", self._checked_in)
        listen_to_sessions()

    def look(self) -> None:
        """Warn, or refuse to gather.

        Raises:
            HoldAndWaitError: The caller holds something, and is to be refused.
        """
        if self._action == "ignore":
            return
        if self._holds_connection():
            self._object(
                "The caller has a connection of this engine in use while it gathers,"
                " and the gather needs others of the same pool: where all are held by"
                " such callers, each waits for the others. End that session first, or"
                " let the gather run its queries"
            )
        if any(self._is_changed(session) for session in self._sessions()):
            self._object(
                "The caller's session has changes that are not committed, and the"
                " queries of a gather, each in a session of its own, do not see them."
                " Commit first, or run what must see them in that session"
            )

    def _checked_out(
        self, _dbapi: object, record: ConnectionPoolEntry, _proxy: object
    ) -> None:
        if self._holders is not None:
            self._holders.add(record)

    def _checked_in(self, _dbapi: object, record: ConnectionPoolEntry) -> None:
        if self._holders is not None:
            self._holders.discard(record)

    def _holds_connection(self) -> bool:
        pool = self._engine.sync_engine.pool
        holders = pool.holders if isinstance(pool, LanePool) else self._holders
        return holders is not None and holders.has_current()

    def _is_changed(self, session: AnySession) -> bool:
        sync = session.sync_session if isinstance(session, AsyncSession) else session
        changed = [*sync.new, *sync.deleted, *filter(sync.is_modified, sync.dirty)]
        if self._database in _databases(sync, map(type, changed)):
            return True
        begun_in, databases = sync.info.get(_CHANGED, (None, ()))
        transaction = sync.get_transaction()
        if transaction is None or begun_in is None or begun_in() is not transaction:
            return False
        return self._database in databases

    def _object(self, message: str) -> None:
        if self._action == "error":
            raise HoldAndWaitError(f"{message}.")
        warnings.warn(f"{message}.", HoldAndWaitWarning, stacklevel=_callers_level())


def listen_to_sessions() -> None:
    """Have sessions note what they change, from now on."""
    for name, note in _NOTES.items():
        if not event.contains(orm.Session, name, note):
            event.listen(orm.Session, name, note)


def _note_flush(session: orm.Session, _context: object) -> None:
    changed = map(type, [*session.new, *session.dirty, *session.deleted])
    _note(session, _databases(session, changed))


def note_statement(state: orm.ORMExecuteState) -> None:
    """Remember that a session writes."""
    if state.is_insert or state.is_update or state.is_delete:
        mapper = state.bind_mapper
        if mapper is not None:
            _note(state.session, _databases(state.session, [mapper.class_]))
        elif isinstance(state.statement, sa.ClauseElement):
            bind = state.session.get_bind(clause=state.statement)
            _note(state.session, {_database(bind.engine.url)})


def _note(session: orm.Session, databases: set[Database]) -> None:
    """Remember where a transaction has changed something, as long as it lasts."""
    transaction = session.get_transaction()
    if transaction is None:  # its first statement is about to begin it
        if not session.autobegin:
            return
        transaction = session.begin()
    known: tuple[Any, set[Database]] | None = session.info.get(_CHANGED)
    if known is not None and known[0]() is transaction:
        databases |= known[1]
    session.info[_CHANGED] = weakref.ref(transaction), databases


_NOTES: dict[str, Callable[..., None]] = {
    "after_flush": _note_flush,
    "do_orm_execute": note_statement,
}


def _databases(session: orm.Session, classes: Iterable[type]) -> set[Database]:
    found: set[Database] = set()
    for class_ in set(classes):
        try:
            bind = session.get_bind(cast("Any", class_))
        except SQLAlchemyError:  # it has none yet, and so can have changed nothing
            continue
        found.add(_database(bind.engine.url))
    return found


def _database(url: URL) -> Database:
    """What two URLs of the same database have in common, whatever their drivers."""
    return url.get_backend_name(), url.host, url.port, url.database


def _callers_level() -> int:
    """How far up the stack the first frame is that is not of this package."""
    level, frame = 0, inspect.currentframe()
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    return level
