"""Flask-SQLAlchemy's sessions on connections of a test, which rolls them back."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any
from unittest import mock

from sqlalchemy import event, orm

from ._flask_context import is_current
from ._one_connection import begin
from ._sources import isa
from .errors import AsyncParallelError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from sqlalchemy.engine import Connection, Engine

_MODE = "create_savepoint"


@contextlib.contextmanager
def isolated(app: Any) -> Generator[tuple[Mapping[str | None, Connection], Any]]:
    """Have each engine of Flask-SQLAlchemy or -Lite be one connection that rolls back.

    Args:
        app: The Flask application.

    Yields:
        The connections, by bind key; and the session of the application context that
        is active, if one is.

    Raises:
        ConfigurationError: Neither is initialised on the application, or its session
            has been in use in this context.
    """
    db = app.extensions.get("sqlalchemy")
    with app.app_context():
        maker: Any = getattr(db, "sessionmaker", None)  # of -Lite
        if isa(getattr(db, "session", None), orm.scoped_session):
            maker = db.session.session_factory
        elif not isa(maker, orm.sessionmaker):
            raise ConfigurationError(
                f"There is no Flask-SQLAlchemy on {app.name!r}. Give the connection or"
                " session that is rolled back to on_connection()."
            )
        engines: dict[str | None, Any] = db.engines
    with contextlib.ExitStack() as stack:
        connections = {
            name: stack.enter_context(_transaction(engine))
            for name, engine in engines.items()
        }
        replaced = dict(zip(engines.values(), connections.values(), strict=True))
        options = _options(maker.kw, replaced)
        stack.enter_context(mock.patch.dict(engines, connections))
        stack.enter_context(mock.patch.dict(maker.kw, options))
        session = None
        if is_current(app):
            session = stack.enter_context(_session(db))
        yield connections, session


@contextlib.contextmanager
def _transaction(engine: Engine) -> Generator[Connection]:
    with engine.connect() as connection, contextlib.closing(connection.begin()):
        begin(connection)
        event.listen(connection, "commit", _refuse)
        try:
            yield connection
        finally:
            event.remove(connection, "commit", _refuse)


def _options(
    options: Mapping[str, Any], connections: Mapping[Any, Connection]
) -> dict[str, Any]:
    """What a session is made with, on connections in the place of engines."""
    bind = options.get("bind")
    binds: dict[Any, Any] = options.get("binds") or {}
    return {
        "join_transaction_mode": _MODE,
        "bind": connections.get(bind, bind),
        "binds": {key: connections.get(one, one) for key, one in binds.items()},
    }


@contextlib.contextmanager
def _session(db: Any) -> Generator[Any]:
    """The session of the application context that is active, with these options."""
    session = db.session
    end = session.close
    if isa(session, orm.scoped_session):
        end = session.remove
        end()  # what it has begun would stay outside
        session = session()
    if session.join_transaction_mode != _MODE:
        raise ConfigurationError(
            "db.session has been used before rolled_back() in this application"
            " context, and would write to the database. Enter rolled_back() first."
        )
    try:
        yield session
    finally:
        end()


def _refuse(_connection: Connection) -> None:
    raise AsyncParallelError(
        "The transaction that rolled_back() is to roll back was to be committed. Commit"
        " by db.session, not by the connection."
    )
