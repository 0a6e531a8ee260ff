"""A schema of what entities may be besides plain: for the tests of ``into``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, ForeignKey, create_engine
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    attribute_keyed_dict,
    composite,
    mapped_column,
    relationship,
)

if TYPE_CHECKING:
    from sqlalchemy.engine import URL


class Base(DeclarativeBase):
    """The base of the mapped classes."""


@dataclass(frozen=True)
class Place:
    """Where something is."""

    shelf: str
    board: int


class Paper(Base):
    """Something to keep; a row has a version, a place and notes that may change."""

    __tablename__ = "papers"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    title: Mapped[str]
    version: Mapped[int] = mapped_column()
    place: Mapped[Place] = composite(mapped_column("shelf"), mapped_column("board"))
    notes: Mapped[dict[str, Any]] = mapped_column(MutableDict.as_mutable(JSON()))
    pages: Mapped[dict[int, Page]] = relationship(
        collection_class=attribute_keyed_dict("number"), back_populates="paper"
    )
    first_pages: Mapped[list[Page]] = relationship(
        primaryjoin="and_(Page.paper_id == Paper.id, Page.number == 1)", viewonly=True
    )

    __mapper_args__ = {  # noqa: RUF012 - as SQLAlchemy has it
        "polymorphic_on": "kind",
        "polymorphic_identity": "paper",
        "version_id_col": version,
    }


class Letter(Paper):
    """A paper that somebody gets."""

    __tablename__ = "letters"

    id: Mapped[int] = mapped_column(ForeignKey("papers.id"), primary_key=True)
    receiver: Mapped[str]

    __mapper_args__ = {"polymorphic_identity": "letter"}  # noqa: RUF012


class Page(Base):
    """A part of a paper; its key is of two columns."""

    __tablename__ = "pages"

    paper_id: Mapped[int] = mapped_column(ForeignKey("papers.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    paper: Mapped[Paper] = relationship(back_populates="pages")


def make_archive(url: str | URL) -> None:
    """Create the tables: paper 1 and letter 2, of two pages each."""
    engine = create_engine(url)
    try:
        Base.metadata.drop_all(engine)
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            for number, class_ in enumerate((Paper, Letter), 1):
                more = {"receiver": "Ada"} if class_ is Letter else {}
                paper = class_(id=number, title=f"title {number}", notes={}, **more)
                paper.place = Place("A", number)
                paper.pages = {
                    page: Page(number=page, text=f"text {page}") for page in (1, 2)
                }
                session.add(paper)
            session.commit()
    finally:
        engine.dispose()


def drop_archive(url: str | URL) -> None:
    """Drop the tables."""
    engine = create_engine(url)
    try:
        Base.metadata.drop_all(engine)
    finally:
        engine.dispose()
