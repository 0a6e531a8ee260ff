"""Flask-SQLAlchemy's sessions on connections of a test, which rolls them back."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any, NoReturn
from unittest import mock

from sqlalchemy import event, orm
from sqlalchemy.engine import Connection

from ._driver import driver_of
from ._flask_context import callers_sessions, drop_sessions, is_current
from ._one_connection import begin
from ._sources import isa, name_of
from .errors import AsyncParallelError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from sqlalchemy.engine import Engine, NestedTransaction

_MODE = "create_savepoint"
_ENDING = re.compile(r"\s*(commit|end|abort|rollback(?!\s+to))\b", re.IGNORECASE)


@contextlib.contextmanager
def isolated(app: Any) -> Generator[Mapping[str | None, Connection]]:
    """Have each engine of Flask-SQLAlchemy or -Lite be one connection that rolls back.

    Args:
        app: The Flask application.

    Yields:
        The connections, by bind key.

    Raises:
        TypeError: It is no application.
        ConfigurationError: Neither is initialised on the application, it has only
            asynchronous engines, or a session of -Lite has been in use in this context.
    """
    if not isa(getattr(app, "extensions", None), dict):
        raise TypeError(
            f"rolled_back() takes a Flask application, and {name_of(app)} is none."
        )
    db = app.extensions.get("sqlalchemy")
    with app.app_context():
        maker: Any = getattr(db, "sessionmaker", None)  # of -Lite
        is_scoped = isa(getattr(db, "session", None), orm.scoped_session)
        if is_scoped:
            maker = db.session.session_factory
        elif not isa(maker, orm.sessionmaker):
            raise ConfigurationError(
                f"There is no Flask-SQLAlchemy on {app.name!r}. Give the connection or"
                " session that is rolled back to on_connection()."
            )
        engines: dict[str | None, Any] = db.engines
    if not engines:
        raise ConfigurationError(
            f"There is no synchronous engine on {app.name!r}, whose connection could be"
            " rolled back. Give an AsyncConnection to on_connection()."
        )
    with contextlib.ExitStack() as stack:
        if is_current(app):
            _forget_sessions(is_scoped=is_scoped)
        connections = {
            name: stack.enter_context(_transaction(engine))
            for name, engine in engines.items()
        }
        # By pool, which copies of an engine with other options have in common.
        pools = {engine.pool: connections[name] for name, engine in engines.items()}
        stack.enter_context(mock.patch.dict(engines, connections))
        stack.enter_context(mock.patch.dict(maker.kw, _options(maker.kw, pools)))
        if is_current(app):
            stack.callback(drop_sessions)
        yield connections


def _forget_sessions(*, is_scoped: bool) -> None:
    """Have the current context's sessions be made anew, on the connections."""
    if not is_scoped:  # who has one of those goes on with it
        for _ in callers_sessions():
            raise ConfigurationError(
                "A session of Flask-SQLAlchemy-Lite has been used before rolled_back()"
                " in this application context, and would write to the database. Enter"
                " rolled_back() first, or use that in a context of its own."
            )
    drop_sessions()


class EngineConnection(Connection):
    """A connection that is an engine's only one, and stands in its place.

    Who takes a connection from it is in a savepoint, which a commit or a rollback ends.
    """

    _taken: tuple[NestedTransaction, ...] = ()

    def connect(self) -> Connection:
        """This connection, as the engine's ``connect()`` gives one."""
        self._taken = (*self._taken, self.begin_nested())
        return self

    def begin(self) -> Any:
        """Of a connection that was taken its transaction; else as of an engine."""
        return self.begin_nested() if self._taken else self._begun()

    @contextlib.contextmanager
    def _begun(self) -> Generator[Connection]:
        with self.begin_nested():
            yield self

    def commit(self) -> None:
        """Keep what was done since the connection was taken."""
        self._next_savepoint().commit()
        self.connect()

    def rollback(self) -> None:
        """Undo what was done since the connection was taken."""
        self._next_savepoint().rollback()
        self.connect()

    def close(self) -> None:
        """Give back the connection that was taken, or close it."""
        if not self._taken:
            super().close()
            return
        savepoint = self._next_savepoint()
        if savepoint.is_active:
            savepoint.rollback()

    def give_back(self) -> None:
        """Have nobody have taken it."""
        self._taken = ()

    def _next_savepoint(self) -> NestedTransaction:
        if not self._taken:
            _refuse()
        *rest, last = self._taken
        self._taken = tuple(rest)
        return last

    def __getattr__(self, name: str) -> Any:
        if name in {"url", "driver", "name"}:
            return getattr(self.engine, name)
        raise AttributeError(
            f"An engine is a connection inside rolled_back(), and has no {name!r}."
        )


@contextlib.contextmanager
def _transaction(engine: Engine) -> Generator[Connection]:
    if isinstance(engine, Connection):
        raise ConfigurationError("rolled_back() is entered already on this database.")
    connection = EngineConnection(engine)
    with (
        contextlib.closing(connection),
        contextlib.closing(Connection.begin(connection)),
    ):
        begin(connection)
        # So a session that was made without our options ends a savepoint too.
        connection.begin_nested()
        for name, refuse in _REFUSALS.items():
            event.listen(connection, name, refuse)
        try:
            yield connection
        finally:
            for name, refuse in _REFUSALS.items():
                event.remove(connection, name, refuse)
            connection.give_back()
            # Whatever SQLAlchemy takes for ended: the pool's next user would commit it.
            if not connection.invalidated:
                connection.connection.rollback()


def _options(
    options: Mapping[str, Any], connections: Mapping[Any, Connection]
) -> dict[str, Any]:
    """What a session is made with, on connections in the place of engines."""
    binds: dict[Any, Any] = {"": options.get("bind"), **(options.get("binds") or {})}
    binds = {
        key: connections.get(getattr(bind, "pool", None), bind)
        for key, bind in binds.items()
    }
    return {"join_transaction_mode": _MODE, "bind": binds.pop(""), "binds": binds}


def _refuse(*_: object) -> NoReturn:
    raise AsyncParallelError(
        "The transaction that rolled_back() is to roll back was to be ended, by a"
        " connection's own commit() or rollback(), or by a statement. Let the session"
        " commit and roll back."
    )


def _refuse_ending(
    _connection: Connection, _cursor: object, statement: str, *_: object
) -> None:
    if _ENDING.match(statement):
        _refuse()


def _refuse_outside(connection: Connection, *_: object) -> None:
    # SQLite ends a transaction by itself, for RAISE(ROLLBACK) or a full disk, and then
    # to release the next savepoint would be to commit.
    driver = driver_of(connection)
    if connection.dialect.name == "sqlite" and not driver.in_transaction:
        raise AsyncParallelError(
            "SQLite has ended the transaction that rolled_back() is to roll back, as it"
            " does for ON CONFLICT ROLLBACK and RAISE(ROLLBACK). Nothing more can be"
            " written in this test."
        )


_REFUSALS: dict[str, Any] = {
    "commit": _refuse,
    "rollback": _refuse,
    "savepoint": _refuse_outside,
    "before_cursor_execute": _refuse_ending,
}
