"""What every contestant asks for: five small queries, and how it is reached."""

from __future__ import annotations

import os
from typing import Any

from sqlalchemy import Select, create_engine, func, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

SHELVES = 100
ITEMS = 10
"""Rows that each of the small queries finds."""

URL = os.environ.get("BENCH_DATABASE", "")
CONNECTIONS = int(os.environ.get("BENCH_CONNECTIONS", "15"))
"""Connections that each contestant may have."""


class Base(DeclarativeBase):
    """The base of the mapped class."""


class Item(Base):
    """Something on a shelf."""

    __tablename__ = "items"

    id: Mapped[int] = mapped_column(primary_key=True)
    shelf: Mapped[int] = mapped_column(index=True)
    name: Mapped[str]
    price: Mapped[int]


SQL = "SELECT id, shelf, name, price FROM items WHERE shelf = $1 ORDER BY id"
SLEEP = "SELECT pg_sleep(0.1)"


def entities(shelf: int) -> Select[Any]:
    """The items of a shelf, as entities."""
    return select(Item).where(Item.shelf == shelf % SHELVES).order_by(Item.id)


def columns(shelf: int) -> Select[Any]:
    """The items of a shelf, as rows of the same columns, without the ORM."""
    table = Item.__table__.c
    found = table.shelf == shelf % SHELVES
    return select(table.id, table.shelf, table.name, table.price).where(found)


def price(shelf: int) -> Select[Any]:
    """What a shelf costs: one value."""
    return select(func.sum(Item.price)).where(Item.shelf == shelf % SHELVES)


def fill(url: str) -> None:
    """Make the table, with every shelf full."""
    engine = create_engine(url)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    places = ((shelf, place) for shelf in range(SHELVES) for place in range(ITEMS))
    with Session(engine) as session:
        values = [
            {"shelf": shelf, "name": f"item {place} of {shelf}", "price": place}
            for shelf, place in places
        ]
        session.execute(insert(Item), values)
        session.commit()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE items")
    engine.dispose()
