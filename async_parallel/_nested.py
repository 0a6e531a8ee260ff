"""Sessions on a connection that a query is already using."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ._sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from sqlalchemy import orm
    from sqlalchemy.engine import Connection

    from ._job import Job


class NestedSessions(Sessions):
    """Sessions for a gather inside a query, on that query's own connection.

    Each is inside a savepoint where there is a transaction, so that a failure leaves
    the outer query's transaction usable.
    """

    outermost = False

    def __init__(
        self, outer: Sessions, connection: Connection, job: Job | None
    ) -> None:
        self.__dict__.update(outer.__dict__)
        self._connection = connection
        self._savepoints = job is not None and not job.plain
        self._writes = job is not None and not job.batch.read_only
        self._mode = "create_savepoint" if self._savepoints else "rollback_only"

    def connect(self) -> Connection:
        return self._connection

    def disconnect(self, connection: Connection) -> None:
        """Leave it to the outer query."""

    def open(
        self,
        connection: Connection,
        make: Callable[..., orm.Session] | None = None,
        **options: Any,
    ) -> orm.Session:
        options.setdefault("join_transaction_mode", self._mode)
        return super().open(connection, make, **options)

    def reader(self, connection: Connection) -> orm.Session | None:
        # In the outer query's transaction a failure must not end what is around it.
        return None if self._savepoints else super().reader(connection)

    def _commit(
        self,
        connection: Connection,  # noqa: ARG002
        session: orm.Session,
        job: Job,  # noqa: ARG002
    ) -> None:
        session.commit()  # to the outer transaction, which may yet be rolled back

    @contextlib.contextmanager
    def begin(
        self, connection: Connection, *, read_only: bool
    ) -> Generator[dict[str, Any]]:
        """Leave the transaction to the outer query; where that writes, refuse to."""
        options = {"join_transaction_mode": self._mode}
        if not (read_only and self._writes):
            yield options
            return
        savepoint = connection.begin_nested()
        connection.exec_driver_sql(self._backend.read_only_inside)
        try:
            yield options
        finally:
            if not (connection.invalidated or connection.closed):
                savepoint.rollback()
                if self._backend.read_only_outlives_rollback:
                    connection.exec_driver_sql(self._backend.read_write)
