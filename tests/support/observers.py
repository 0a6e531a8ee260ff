"""What a database itself says of the queries that run on it."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

if TYPE_CHECKING:
    from collections.abc import Iterator

OBSERVED = "observed"
_ACTIVE = "state = 'active'"
_IN_TRANSACTION = "state LIKE 'idle in transaction%'"
_POLLS = 20


class Observer(Protocol):
    """Looks at a database from outside, without the event loop.

    Attributes:
        url: The URL by which the observed connect.
        endless: A statement that ends only when it is stopped.
    """

    url: str
    endless: str

    def running(self) -> int:
        """How many queries run, as far as the database can tell."""

    def left(self) -> list[str]:
        """The queries that run and the transactions that are open."""


class PostgresObserver:
    """Counts the connections of an application name."""

    endless = "SELECT pg_sleep(600)"

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url, isolation_level="AUTOCOMMIT")
        self._connection = self._engine.connect()
        observed = make_url(url).update_query_dict({"application_name": OBSERVED})
        self.url = observed.render_as_string(hide_password=False)

    def running(self) -> int:
        return len(self._select("query LIKE '%pg_sleep%' AND state = 'active'"))

    def left(self) -> list[str]:
        return self._left_soon(f"{_ACTIVE} OR {_IN_TRANSACTION}")

    def close(self) -> None:
        self._left_soon("true")  # who counts connections next shall find none
        self._connection.close()
        self._engine.dispose()

    def _left_soon(self, condition: str) -> list[str]:
        # A connection that was closed is known to the server a moment later.
        for _ in range(_POLLS):
            if not self._select(condition):
                break
            self._connection.execute(text("SELECT pg_sleep(0.01)"))
        return self._select(condition)

    def _select(self, condition: str) -> list[str]:
        sql = "SELECT state || ': ' || query FROM pg_stat_activity"
        found = self._connection.scalars(
            text(f"{sql} WHERE application_name = :name AND ({condition})"),
            {"name": OBSERVED},
        )
        return list(found)


class SQLiteObserver:
    """Tries to lock the file, which a query or a transaction on it prevents."""

    endless = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
        " SELECT max(i + id) FROM n, users"
    )

    def __init__(self, url: str) -> None:
        self.url = url
        name = make_url(url).database
        assert name is not None
        self._connection = sqlite3.connect(name, timeout=0, isolation_level=None)

    def running(self) -> int:
        return len(self.left())

    def left(self) -> list[str]:
        try:
            self._connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            return [str(error)]
        self._connection.execute("ROLLBACK")
        return []

    def close(self) -> None:
        self._connection.close()


@contextlib.contextmanager
def observing(url: str) -> Iterator[Observer]:
    """An observer of the database of ``url``."""
    kind = SQLiteObserver if url.startswith("sqlite") else PostgresObserver
    with contextlib.closing(kind(url)) as observer:
        yield observer
