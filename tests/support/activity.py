"""What one application of many does on a PostgreSQL server."""

from __future__ import annotations

import contextlib
import time
import uuid
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

ADVISORY_LOCK = 20_317
"""What the queries wait for that shall end when a test says so."""


class Activity:
    """The server's sessions of an application, by its name.

    Args:
        url: The server, for a synchronous driver.
        options: Settings for the application's sessions, as libpq takes them.

    Attributes:
        url: What the application connects to.
    """

    def __init__(self, url: str, options: str = "") -> None:
        self._name = f"test-{uuid.uuid4().hex[:12]}"
        query = {"application_name": self._name}
        if options:
            query["options"] = options
        named = make_url(url).update_query_dict(query)
        self.url = named.render_as_string(hide_password=False)
        self._engine = create_engine(
            url, poolclass=NullPool, isolation_level="AUTOCOMMIT"
        )

    def count(self, condition: str = "true") -> int:
        """How many sessions there are where ``condition``."""
        with self._engine.connect() as connection:
            return self._count(connection, condition)

    def wait_for(
        self, number: int, condition: str = "true", *, seconds: float = 10
    ) -> None:
        """Wait until there are ``number`` sessions where ``condition``."""
        deadline = time.monotonic() + seconds
        with self._engine.connect() as connection:
            while (count := self._count(connection, condition)) != number:
                assert time.monotonic() < deadline, f"{count} sessions, {condition}"
                time.sleep(0.01)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep waiting whoever wants the advisory lock."""
        with self._engine.connect() as connection:
            lock = {"lock": ADVISORY_LOCK}
            connection.execute(text("SELECT pg_advisory_lock(:lock)"), lock)
            yield

    def terminate(self) -> None:
        """End what is left, so that no other test sees it."""
        with self._engine.connect() as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = :name"
                ),
                {"name": self._name},
            )

    def _count(self, connection: Connection, condition: str) -> int:
        statement = text(
            "SELECT count(*) FROM pg_stat_activity"
            f" WHERE application_name = :name AND {condition}"
        )
        count: int = connection.scalar(statement, {"name": self._name})
        return count
