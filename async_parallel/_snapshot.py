"""One snapshot for several connections: what is asked for, and of a database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How the queries of a gather see one state of the database.

    ``snapshot=True`` of a gather is ``snapshot=Snapshot()``.

    Attributes:
        isolation: The isolation level of the transactions, ``"repeatable read"`` or
            ``"serializable"``: with that the state is one that is also possible where
            the writers, serializable themselves, come one after another. SQLite and
            CockroachDB are serializable either way.
        deferrable: With ``"serializable"``, wait for a state that no writer which runs
            at the moment can make impossible, so that no query fails with a
            serialization failure. The wait may be long.

    Raises:
        ValueError: An isolation level that gives no snapshot, or ``deferrable``
            without ``"serializable"``.
    """

    isolation: Literal["repeatable read", "serializable"] = "repeatable read"
    deferrable: bool = False

    def __post_init__(self) -> None:
        if self.isolation not in {"repeatable read", "serializable"}:
            raise ValueError(
                "isolation must be 'repeatable read' or 'serializable', not"
                f" {self.isolation!r}"
            )
        if self.deferrable and self.isolation != "serializable":
            raise ValueError("deferrable needs isolation='serializable'")


class DatabaseSnapshot(Protocol):
    """The snapshot of one gather in the database.

    One connection takes it, others may join it, and each leaves it. All of it runs
    inside a lane's greenlet, on connections that are in AUTOCOMMIT.

    Attributes:
        identifier: By what others join it; ``None`` while, and where, nobody can.
        stays_open: Whether others may join up to ``leave`` by who took it; else only
            up to ``seal``.
        survives_errors: Whether a connection is still in it after a statement failed.
        ends_with_leader: Whether who joined sees it only while who took it does.
    """

    identifier: str | None
    ends_with_leader: bool
    stays_open: ClassVar[bool]
    survives_errors: ClassVar[bool]

    def take(self, connection: Connection, *, shared: bool) -> None:
        """Begin a transaction that sees the state of now.

        Args:
            connection: Who takes it.
            shared: Whether others are to join.
        """

    def join(self, connection: Connection) -> None:
        """Begin a transaction that sees what the one who took it sees."""

    def seal(self) -> None:
        """Let nobody else join."""

    def is_seen_by(self, connection: Connection) -> bool:
        """Whether the transaction has not been ended by a query; asks nobody."""
        ...

    def leave(self, connection: Connection) -> None:
        """End the transaction."""
