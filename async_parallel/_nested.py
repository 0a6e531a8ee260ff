"""Sessions on a connection that is in a transaction already."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ._pool import is_gone
from ._sessions import Sessions
from .errors import SnapshotUnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from sqlalchemy import orm
    from sqlalchemy.engine import Connection

    from ._job import Job
    from ._snapshot import Snapshot


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
        if self._savepoints and self._backend.transactions_are_snapshots:
            self.in_snapshot = True
        self._writes = job is not None and not job.batch.read_only
        self._mode = "create_savepoint" if self._savepoints else "rollback_only"

    def share_snapshot(self, options: Snapshot) -> None:  # noqa: ARG002
        """Check that all of the gather sees one state, which it does or does not."""
        if not self.in_snapshot:
            raise SnapshotUnsupportedError(
                self.shown,
                "it is made inside a query, on whose connection a transaction has begun"
                " already. Pass snapshot=True to the gather that the query is of",
            )

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


class SnapshotSessions(Sessions):
    """Sessions for queries of one gather, on a connection that sees its snapshot.

    For SQLAlchemy the connection stays in AUTOCOMMIT: it neither begins nor ends the
    transaction, which is the lane's.

    Args:
        outer: As they were before.
        guarded: Whether a query that fails must leave the transaction as it was.
    """

    outermost = False

    def __init__(self, outer: Sessions, *, guarded: bool) -> None:
        self.__dict__.update(outer.__dict__)
        self.in_snapshot = True
        self._guarded = guarded
        self._reader: orm.Session | None = None

    def open(
        self,
        connection: Connection,
        make: Callable[..., orm.Session] | None = None,
        **options: Any,
    ) -> orm.Session:
        options.setdefault("join_transaction_mode", "create_savepoint")
        return super().open(connection, make, **options)

    def reader(self, connection: Connection) -> orm.Session | None:
        """One session for statement after statement; each leaves it closed, and new."""
        if self._guarded:
            return None
        reader = self._reader
        if reader is None or reader.bind is not connection or reader.in_transaction():
            reader = self._reader = super().reader(connection)
        return reader

    def unusable(self, connection: Connection, options: Any) -> bool:  # noqa: ARG002
        """Whether it is gone; what was changed about it is seen to when it is left."""
        return is_gone(connection)

    @contextlib.contextmanager
    def begin(
        self,
        connection: Connection,
        *,
        read_only: bool,  # noqa: ARG002
    ) -> Generator[dict[str, Any]]:
        """Have each session inside a savepoint, which it may roll back."""
        if not connection.in_transaction():
            connection.begin()  # nothing is sent
        yield {"join_transaction_mode": "create_savepoint"}
