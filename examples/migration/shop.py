"""What the views share, as it was before: the models, the session, the executor."""

from __future__ import annotations

from flask_executor import Executor  # type: ignore[import-untyped]
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from async_parallel import AsyncParallel


class Base(DeclarativeBase):
    """What Flask-SQLAlchemy makes ``db.Model`` of."""


db = SQLAlchemy(model_class=Base)
executor = Executor()
# For methods of the view's own session, which two threads must not use at once.
one_thread = Executor(name="one")
parallel = AsyncParallel()  # what is new


class Customer(db.Model):  # type: ignore[name-defined, misc]
    """Who orders."""

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Product(db.Model):  # type: ignore[name-defined, misc]
    """What is ordered."""

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    price: Mapped[int]


class Order(db.Model):  # type: ignore[name-defined, misc]
    """A number of products for a customer."""

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey(Customer.id))
    product_id: Mapped[int] = mapped_column(ForeignKey(Product.id))
    pieces: Mapped[int]


class Review(db.Model):  # type: ignore[name-defined, misc]
    """What a customer thinks of a product."""

    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey(Product.id))
    stars: Mapped[int]


class Visit(db.Model):  # type: ignore[name-defined, misc]
    """A page that was looked at."""

    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str]


def make_rows() -> None:
    """Make the tables of the current application's database, and some rows."""
    db.drop_all()
    db.create_all()
    db.session.add_all(Customer(id=i, name=f"customer {i}") for i in range(1, 6))
    db.session.add_all(
        Product(id=i, name=f"product {i}", price=10 * i) for i in range(1, 8)
    )
    db.session.flush()
    db.session.add_all(
        Order(customer_id=1 + i % 5, product_id=1 + i % 7, pieces=1 + i % 3)
        for i in range(60)
    )
    db.session.add_all(Review(product_id=1 + i % 7, stars=1 + i % 5) for i in range(30))
    db.session.add_all(Visit(path=f"/product/{1 + i % 7}") for i in range(40))
    db.session.commit()
