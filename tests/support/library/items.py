"""What can be read: single-table inheritance, trees, many to many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, Column, Enum, ForeignKey, String, func, select
from sqlalchemy.ext.associationproxy import AssociationProxy, association_proxy
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.ext.orderinglist import ordering_list
from sqlalchemy.orm import Mapped, column_property, mapped_column, relationship

from library.base import Model, Role, db

if TYPE_CHECKING:
    from library.lending import Copy, Review
    from library.people import Author

item_tag = db.Table(
    "item_tag",
    Column("item_id", ForeignKey("item.id"), primary_key=True),
    Column("tag_id", ForeignKey("tag.id"), primary_key=True),
)
book_language = db.Table(
    "book_language",
    Column("item_id", ForeignKey("item.id"), primary_key=True),
    Column("code", ForeignKey("language.code"), primary_key=True),
)


class Genre(Model):
    """A tree of genres; a branch of it comes along three deep."""

    __tablename__ = "genre"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("genre.id"))
    parent: Mapped[Genre | None] = relationship(
        back_populates="children", remote_side="Genre.id"
    )
    children: Mapped[list[Genre]] = relationship(
        back_populates="parent", order_by="Genre.id", lazy="joined", join_depth=3
    )


class Publisher(Model):
    """Who sells items."""

    __tablename__ = "publisher"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    details: Mapped[dict[str, Any]] = mapped_column(JSON)
    items: Mapped[list[Item]] = relationship(
        back_populates="publisher", order_by="Item.id"
    )


class Series(Model):
    """Items in an order."""

    __tablename__ = "series"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    items: Mapped[list[Item]] = relationship(
        back_populates="series",
        order_by="Item.place",
        collection_class=ordering_list("place"),
    )


class Tag(Model):
    """A word for items."""

    __tablename__ = "tag"

    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str]
    items: Mapped[list[Item]] = relationship(
        secondary=item_tag, back_populates="tags", order_by="Item.id"
    )

    def __init__(self, word: str = "", **values: Any) -> None:
        super().__init__(word=word, **values)


class Language(Model):
    """A language."""

    __tablename__ = "language"

    code: Mapped[str] = mapped_column(String(2), primary_key=True)
    name: Mapped[str]


class Item(Model):
    """What can be lent, of any kind."""

    __tablename__ = "item"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    title: Mapped[str]
    year: Mapped[int]
    publisher_id: Mapped[int | None] = mapped_column(ForeignKey("publisher.id"))
    genre_id: Mapped[int | None] = mapped_column(ForeignKey("genre.id"))
    series_id: Mapped[int | None] = mapped_column(ForeignKey("series.id"))
    place: Mapped[int | None]
    publisher: Mapped[Publisher | None] = relationship(
        back_populates="items", lazy="joined"
    )
    genre: Mapped[Genre | None] = relationship()
    series: Mapped[Series | None] = relationship(back_populates="items")
    tags: Mapped[list[Tag]] = relationship(
        secondary=item_tag, back_populates="items", order_by=Tag.id, lazy="selectin"
    )
    contributions: Mapped[list[Contribution]] = relationship(
        back_populates="item", order_by="Contribution.author_id"
    )
    copies: Mapped[list[Copy]] = relationship(back_populates="item", order_by="Copy.id")
    reviews: Mapped[list[Review]] = relationship(
        back_populates="item", order_by="Review.id"
    )
    words: AssociationProxy[list[str]] = association_proxy("tags", "word")

    __mapper_args__ = {  # noqa: RUF012 - as SQLAlchemy has it
        "polymorphic_on": "kind",
        "polymorphic_identity": "item",
    }

    @hybrid_property
    def decade(self) -> int:
        """The first year of its ten."""
        return self.year - self.year % 10


class Book(Item):
    """A book."""

    isbn: Mapped[str | None]
    pages: Mapped[int | None]
    editions: Mapped[list[Edition]] = relationship(
        back_populates="book", order_by="Edition.number"
    )
    languages: Mapped[list[Language]] = relationship(
        secondary=book_language, order_by=Language.code, lazy="selectin"
    )

    __mapper_args__ = {"polymorphic_identity": "book"}  # noqa: RUF012


class Magazine(Item):
    """A magazine."""

    issue: Mapped[int | None]

    __mapper_args__ = {"polymorphic_identity": "magazine"}  # noqa: RUF012


class Film(Item):
    """A film."""

    minutes: Mapped[int | None]
    director: Mapped[str | None]

    __mapper_args__ = {"polymorphic_identity": "film"}  # noqa: RUF012


class Edition(Model):
    """One printing of a book; the key has two columns."""

    __tablename__ = "edition"

    book_id: Mapped[int] = mapped_column(ForeignKey("item.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    year: Mapped[int]
    book: Mapped[Book] = relationship(back_populates="editions")


class Contribution(Model):
    """What an author did for an item: an association object."""

    __tablename__ = "contribution"

    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"), primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"), primary_key=True)
    role: Mapped[Role] = mapped_column(Enum(Role))
    item: Mapped[Item] = relationship(back_populates="contributions")
    author: Mapped[Author] = relationship(back_populates="contributions")


class GenreSize(Model):
    """A class that is mapped to a query: how many items a genre has."""

    __table__ = (
        select(Genre.id.label("genre_id"), func.count(Item.id).label("items"))
        .outerjoin(Item, Item.genre_id == Genre.id)
        .group_by(Genre.id)
        .subquery("genre_size")
    )
    __mapper_args__ = {  # noqa: RUF012
        "primary_key": [__table__.c.genre_id],
    }


Publisher.item_count = column_property(
    select(func.count(Item.id))
    .where(Item.publisher_id == Publisher.id)
    .correlate_except(Item)
    .scalar_subquery()
)
