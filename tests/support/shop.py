"""A small schema for the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import ForeignKey, create_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
)

if TYPE_CHECKING:
    from sqlalchemy.engine import URL


class Base(DeclarativeBase):
    """The base of the mapped classes."""


class User(Base):
    """Someone who orders."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    orders: Mapped[list[Order]] = relationship(
        back_populates="user", order_by="Order.id"
    )


class Order(Base):
    """What someone ordered."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    total: Mapped[int]
    user: Mapped[User] = relationship(back_populates="orders")


USERS = 3
ORDERS_EACH = 2


def make_shop(url: str | URL) -> None:
    """Create the tables of an empty database, with three users of two orders each."""
    engine = create_engine(url)
    try:
        Base.metadata.drop_all(engine)
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            for number in range(1, USERS + 1):
                user = User(id=number, name=f"user {number}")
                user.orders = [
                    Order(id=10 * number + place, total=100 * number + place)
                    for place in range(ORDERS_EACH)
                ]
                session.add(user)
            session.commit()
    finally:
        engine.dispose()
