"""From a URL to a read-only ``AsyncEngine`` that costs one round trip a statement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool
from sqlalchemy.util import asbool

from . import _sqlite
from ._backends import Backend, CockroachDB, PostgreSQL, SQLite
from ._libpq import asyncpg_connect_args, shown
from ._pool import LanePool
from .errors import UnsupportedDatabaseError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import URL

_ASYNC_DRIVERS = {"postgresql": "asyncpg", "sqlite": "aiosqlite"}
# The synchronous drivers whose URLs mean the same database to the async driver.
_SYNC_DRIVERS = {
    "postgresql": {"psycopg2", "psycopg", "psycopg2cffi", "pg8000", "psycopg_async"},
    "sqlite": {"pysqlite"},
}

_BACKENDS: dict[str, Backend] = {
    "postgresql": PostgreSQL(),
    "cockroachdb": CockroachDB(),
    "sqlite": SQLite(),
}


def backend_of(engine: AsyncEngine) -> Backend:
    """The backend of an engine that the caller made.

    Raises:
        UnsupportedDatabaseError: None of PostgreSQL, CockroachDB and SQLite, a private
            in-memory SQLite database, or a pool whose sessions share one connection.
    """
    name = engine.dialect.name
    if name not in _BACKENDS:
        raise _unsupported(engine.url)
    if name == "sqlite":
        _refuse_private_memory(engine.url)
    if not isinstance(engine.pool, (AsyncAdaptedQueuePool, NullPool)):
        raise UnsupportedDatabaseError(
            shown(engine.url),
            f"its {type(engine.pool).__name__} has one connection for all, and each"
            " query needs one of its own. Leave poolclass out.",
        )
    return _BACKENDS[name]


def make_engine(
    url: str | URL, max_connections: int, options: Mapping[str, Any]
) -> AsyncEngine:
    """An ``AsyncEngine`` in AUTOCOMMIT whose connections refuse to write.

    PostgreSQL gets the read-only setting with the connection's first message, SQLite
    a pragma on connecting; neither costs a query anything. The pool never makes
    anyone wait: lanes are admitted before, and there are as many as connections.

    Args:
        url: A database URL. A sync one is turned into its async twin.
        max_connections: The size of the pool.
        options: Further arguments of ``create_async_engine``.

    Raises:
        UnsupportedDatabaseError: No async driver for it, a private in-memory SQLite
            database, or a parameter that asyncpg does not know.
    """
    url = async_url(url)
    arguments: dict[str, Any] = {
        "isolation_level": "AUTOCOMMIT",
        "skip_autocommit_rollback": True,
        **options,
    }
    if "poolclass" not in arguments:
        pool = {"pool_size": max_connections, "max_overflow": 0, "pool_use_lifo": True}
        arguments = {"poolclass": LanePool, **pool, **arguments}
    connect_args: dict[str, Any] = dict(arguments.pop("connect_args", {}))
    if url.get_backend_name() == "postgresql":
        url, connect_args = asyncpg_connect_args(url, connect_args)
        settings = connect_args.setdefault("server_settings", {})
        settings["default_transaction_read_only"] = "on"
    else:
        connect_args.setdefault("async_creator_fn", _sqlite.connect)
    engine = create_async_engine(url, connect_args=connect_args, **arguments)
    if url.get_backend_name() == "sqlite":
        event.listen(engine.sync_engine, "connect", _make_sqlite_read_only)
    return engine


def find_engine(
    url_or_engine: str | URL | AsyncEngine,
    max_connections: int,
    options: Mapping[str, Any],
) -> tuple[AsyncEngine, bool, int]:
    """The engine, whether it was made here, and how many connections it may have.

    Raises:
        UnsupportedDatabaseError: See ``make_engine``.
    """
    if isinstance(url_or_engine, AsyncEngine):
        return url_or_engine, False, _pool_limit(url_or_engine, max_connections)
    engine = make_engine(url_or_engine, max_connections, options)
    return engine, True, max_connections


def _pool_limit(engine: AsyncEngine, wanted: int) -> int:
    """``wanted`` connections, or as many as the pool of ``engine`` allows if less."""
    pool: Any = engine.sync_engine.pool
    overflow = getattr(pool, "_max_overflow", -1)  # there is no public name
    return wanted if overflow < 0 else min(wanted, pool.size() + overflow)


def check_url(url: str | URL) -> None:
    """Check that ``make_engine`` can use ``url``; nothing is made.

    Raises:
        UnsupportedDatabaseError: It cannot.
        ArgumentError: It is no URL.
    """
    url = async_url(url)
    if url.get_backend_name() == "postgresql":
        asyncpg_connect_args(url, {})


def async_url(url: str | URL) -> URL:
    """The URL of the same database for its async driver.

    Raises:
        UnsupportedDatabaseError: There is none, or SQLite's private ``:memory:``.
    """
    url = make_url(url)
    backend, _, driver = url.drivername.partition("+")
    if backend == "postgres":
        backend = "postgresql"
    wanted = _ASYNC_DRIVERS.get(backend)
    if wanted is None or driver not in {"", wanted, *_SYNC_DRIVERS[backend]}:
        raise _unsupported(url)
    if backend == "sqlite":
        _refuse_private_memory(url)
    return url.set(drivername=f"{backend}+{wanted}")


def _refuse_private_memory(url: URL) -> None:
    name, query = url.database or ":memory:", url.query
    if ":memory:" not in name and query.get("mode") != "memory":
        return
    if query.get("cache") == "shared" and asbool(query.get("uri", False)):
        return
    raise UnsupportedDatabaseError(
        shown(url),
        "each connection would see an empty database of its own. Name a file, as in"
        " 'sqlite:///app.db', or the shared cache:"
        " 'sqlite:///file::memory:?cache=shared&uri=true'.",
    )


def _unsupported(url: URL) -> UnsupportedDatabaseError:
    known = ", ".join(
        f"{backend} (with {driver})" for backend, driver in _ASYNC_DRIVERS.items()
    )
    return UnsupportedDatabaseError(
        shown(url),
        f"there is no async driver for {url.drivername!r} here. There is for: {known}.",
    )


def _make_sqlite_read_only(dbapi_connection: Any, _record: object) -> None:
    cursor = dbapi_connection.cursor()
    cursor.execute(SQLite.read_only)
    cursor.close()
