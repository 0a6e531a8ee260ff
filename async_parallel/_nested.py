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
        self, outer: Sessions, connection: Connection, *, savepoints: bool
    ) -> None:
        self.__dict__.update(outer.__dict__)
        self._connection = connection
        self._savepoints = savepoints
        self._mode = "create_savepoint" if savepoints else "rollback_only"

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
        self,
        connection: Connection,  # noqa: ARG002 - the outer query's, in a transaction
        *,
        read_only: bool,  # noqa: ARG002 - so is the transaction
    ) -> Generator[dict[str, Any]]:
        yield {"join_transaction_mode": self._mode}
