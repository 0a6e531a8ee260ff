"""Where things are."""

from __future__ import annotations

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import (
    Mapped,
    attribute_keyed_dict,
    mapped_column,
    relationship,
)

from library.base import Model


class Country(Model):
    """A country."""

    __tablename__ = "country"

    code: Mapped[str] = mapped_column(String(2), primary_key=True)
    name: Mapped[str]
    cities: Mapped[list[City]] = relationship(
        back_populates="country", order_by="City.id"
    )


class City(Model):
    """A city, with the country that is loaded with it."""

    __tablename__ = "city"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    country_code: Mapped[str] = mapped_column(ForeignKey("country.code"))
    country: Mapped[Country] = relationship(back_populates="cities", lazy="joined")
    branches: Mapped[list[Branch]] = relationship(
        back_populates="city", order_by="Branch.id"
    )


class Branch(Model):
    """A house with books in it."""

    __tablename__ = "branch"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    city_id: Mapped[int] = mapped_column(ForeignKey("city.id"))
    city: Mapped[City] = relationship(back_populates="branches", lazy="joined")
    shelves: Mapped[list[Shelf]] = relationship(
        back_populates="branch", order_by="Shelf.id", lazy="selectin"
    )
    hours: Mapped[dict[int, OpeningHours]] = relationship(
        back_populates="branch",
        collection_class=attribute_keyed_dict("weekday"),
    )


class Shelf(Model):
    """A shelf of a branch."""

    __tablename__ = "shelf"
    __table_args__ = (UniqueConstraint("branch_id", "label"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str]
    branch_id: Mapped[int] = mapped_column(ForeignKey("branch.id"))
    branch: Mapped[Branch] = relationship(back_populates="shelves")


class OpeningHours(Model):
    """When a branch is open; the key has two columns."""

    __tablename__ = "opening_hours"

    branch_id: Mapped[int] = mapped_column(ForeignKey("branch.id"), primary_key=True)
    weekday: Mapped[int] = mapped_column(primary_key=True)
    opens: Mapped[int]
    closes: Mapped[int]
    branch: Mapped[Branch] = relationship(back_populates="hours")
