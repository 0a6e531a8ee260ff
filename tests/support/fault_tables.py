"""Two tables, and what a query on them may answer, raise and write."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

if TYPE_CHECKING:
    from collections.abc import Sequence

ITEMS = 20
NOBODY = -1
# What is said at the COMMIT of a transaction that a timeout inside it ended; the latter
# where its connection was lost at the same time.
CUT_OFF = ("can't reconnect", "so nothing was committed")


class Base(DeclarativeBase):
    """The base of the mapped classes."""


class Item(Base):
    """What is read; never changed."""

    __tablename__ = "items"

    id: Mapped[int] = mapped_column(primary_key=True)


class Written(Base):
    """A row for each write that was committed, and one with the id 0."""

    __tablename__ = "written"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    # What refers to no item fails when it is committed, and not before.
    item_id: Mapped[int] = mapped_column(
        ForeignKey("items.id", deferrable=True, initially="DEFERRED")
    )


class ApplicationError(Exception):
    """An error of a function that is a query."""


@dataclass
class Asked:
    """One query, and all that may come of it.

    Attributes:
        kind: The name of what made it.
        query: What is given to the gather.
        answer: What it returns.
        fails: What the message of its error says; ``None`` if it does not fail.
        may_fail: The same of errors that it may raise or not.
        writes: The ids that are there if, and only if, it succeeded.
        repeatable: Whether a second try on another connection would answer.
        inside: Whether it is part of a gather inside a query, on that one's connection.
        timeout: Seconds that it has by itself, if it has any.
        begun: How often its function was called; ``None`` where it is no function.
    """

    kind: str
    query: Any
    answer: Any = None
    fails: str | None = None
    may_fail: Sequence[str] = ()
    writes: list[int] = field(default_factory=list)
    repeatable: bool = True
    inside: bool = False
    timeout: float | None = None
    begun: int | None = None
