"""PostgreSQL as SQLAlchemy knows CockroachDB, with what a snapshot needs of that."""

from __future__ import annotations

import re
from typing import Any

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy import create_engine
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

_AS_OF = re.compile(r" AS OF SYSTEM TIME [0-9.]+")
# Nanoseconds, and a counter behind the point.
_CLOCK = """
CREATE OR REPLACE FUNCTION cluster_logical_timestamp() RETURNS numeric LANGUAGE sql AS
'SELECT (extract(epoch FROM clock_timestamp()) * 1000000000)::numeric(30, 10)'
"""


class _Dialect(PGDialect_asyncpg):
    """As that of the package sqlalchemy-cockroachdb is derived, under the same name."""

    name = "cockroachdb"
    supports_statement_cache = True


registry.register("cockroachdb.asyncpg", __name__, _Dialect.__name__)


def cockroach_engine(url: str, sent: list[str]) -> AsyncEngine:
    """An engine on the PostgreSQL server of ``url``, with CockroachDB's dialect.

    Args:
        url: Of the server, for a synchronous driver.
        sent: Gets what is sent without preparing it; the server gets it without the
            clause that it does not know.
    """

    class Recording(asyncpg.Connection):  # type: ignore[misc, unused-ignore]
        async def execute(self, query: str, *args: Any, **options: Any) -> Any:
            sent.append(query)
            known = _AS_OF.sub("", query)
            return await super().execute(known, *args, **options)

    return create_async_engine(
        make_url(url).set(drivername="cockroachdb+asyncpg"),
        connect_args={"connection_class": Recording},
    )


def make_clock(url: str) -> None:
    """Create the function that tells CockroachDB's time."""
    _run(url, _CLOCK)


def drop_clock(url: str) -> None:
    """Drop it."""
    _run(url, "DROP FUNCTION cluster_logical_timestamp()")


def _run(url: str, sql: str) -> None:
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(sql)
    finally:
        engine.dispose()
