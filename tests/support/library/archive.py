"""What was noted of the past, in a database of its own."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Column, ForeignKey, Integer, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from library.base import Model, db

ARCHIVE = "archive"

daily = db.Table(
    "daily",
    Column("day", Integer, primary_key=True),
    Column("visits", Integer),
    bind_key=ARCHIVE,
)
search_label = db.Table(
    "search_label",
    Column("search_id", ForeignKey("search.id"), primary_key=True),
    Column("label_id", ForeignKey("label.id"), primary_key=True),
    bind_key=ARCHIVE,
)


class Device(Model):
    """What someone searched on."""

    __bind_key__ = ARCHIVE
    __tablename__ = "device"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Label(Model):
    """A word for searches."""

    __bind_key__ = ARCHIVE
    __tablename__ = "label"

    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str]


class Search(Model):
    """What someone looked for; the member is in the other database."""

    __bind_key__ = ARCHIVE
    __tablename__ = "search"

    id: Mapped[int] = mapped_column(primary_key=True)
    member_id: Mapped[int]
    words: Mapped[str]
    device_id: Mapped[int] = mapped_column(ForeignKey("device.id"))
    device: Mapped[Device] = relationship(lazy="joined")
    labels: Mapped[list[Label]] = relationship(
        secondary=search_label, order_by=Label.id, lazy="selectin"
    )


class Entry(Model):
    """Something that happened: single-table inheritance."""

    __bind_key__ = ARCHIVE
    __tablename__ = "entry"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    day: Mapped[int]
    data: Mapped[dict[str, Any]] = mapped_column(JSON)

    __mapper_args__ = {  # noqa: RUF012 - as SQLAlchemy has it
        "polymorphic_on": "kind",
        "polymorphic_identity": "entry",
    }


class Lent(Entry):
    """Something was lent."""

    loan_id: Mapped[int | None]

    __mapper_args__ = {"polymorphic_identity": "lent"}  # noqa: RUF012


class Closed(Entry):
    """A branch was closed."""

    branch_id: Mapped[int | None]

    __mapper_args__ = {"polymorphic_identity": "closed"}  # noqa: RUF012


class Batch(Model):
    """What came from elsewhere: joined inheritance."""

    __bind_key__ = ARCHIVE
    __tablename__ = "batch"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    rows: Mapped[int]

    __mapper_args__ = {  # noqa: RUF012
        "polymorphic_on": "kind",
        "polymorphic_identity": "batch",
    }


class FileBatch(Batch):
    """What came in a file."""

    __tablename__ = "file_batch"

    id: Mapped[int] = mapped_column(ForeignKey("batch.id"), primary_key=True)
    path: Mapped[str]

    __mapper_args__ = {"polymorphic_identity": "file"}  # noqa: RUF012
