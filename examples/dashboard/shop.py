"""The shop: customers, products, orders and their lines."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

LAST_DAY = dt.date(2025, 12, 31)
"""The day the dashboard looks back from; the data is always the same, so this is."""


class Base(DeclarativeBase):
    """The base of the mapped classes."""


class Customer(Base):
    """Someone who orders."""

    __tablename__ = "customers"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    city: Mapped[str]
    orders: Mapped[list[Order]] = relationship(back_populates="customer")


class Product(Base):
    """Something to order."""

    __tablename__ = "products"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    category: Mapped[str]
    price_cents: Mapped[int]


class Order(Base):
    """What a customer ordered on one day."""

    __tablename__ = "orders"
    # All that the panels read of an order, so that none of them reads the table.
    __table_args__ = (
        Index("orders_by_day", "placed_on", "status", "customer_id", "total_cents"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    placed_on: Mapped[dt.date]
    status: Mapped[str]
    total_cents: Mapped[int]
    customer: Mapped[Customer] = relationship(back_populates="orders")
    lines: Mapped[list[OrderLine]] = relationship(back_populates="order")


class OrderLine(Base):
    """One product of an order, at the price of that day."""

    __tablename__ = "order_lines"
    __table_args__ = (
        Index(
            "lines_by_order", "order_id", "product_id", "quantity", "unit_price_cents"
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    quantity: Mapped[int]
    unit_price_cents: Mapped[int]
    order: Mapped[Order] = relationship(back_populates="lines")
    product: Mapped[Product] = relationship()


class Complete(Base):
    """Written last: with this row the database is complete, without it half-made."""

    __tablename__ = "complete"

    version: Mapped[int] = mapped_column(primary_key=True)
