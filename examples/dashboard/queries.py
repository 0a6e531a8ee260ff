"""The five panels of the dashboard: one query each."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from sqlalchemy import Integer, cast, extract, func, select

from async_parallel import Query, mappings

from .shop import LAST_DAY, Customer, Order, OrderLine, Product

if TYPE_CHECKING:
    from sqlalchemy.engine import RowMapping

    Panel = Query[list[RowMapping]]

WAIT = 0.1
"""Seconds that each query waits, as it does for a database across a network."""

WAITED = select(func.pg_sleep(WAIT)).scalar_subquery().is_not(None)
"""Waits, once a query: it refers to no row, so databases evaluate it once."""

YEAR_START = LAST_DAY.replace(month=1, day=1)
MONTH_AGO = LAST_DAY - dt.timedelta(days=29)
TOP = 7


def revenue_by_month() -> Panel:
    """The revenue of each month of the year."""
    month = cast(extract("month", Order.placed_on), Integer).label("month")
    return mappings(
        select(month, func.sum(Order.total_cents).label("cents"))
        .where(WAITED, Order.placed_on >= YEAR_START, Order.status != "cancelled")
        .group_by(month)
        .order_by(month)
    )


def best_products() -> Panel:
    """The products that sold best in the last 30 days."""
    cents = func.sum(OrderLine.quantity * OrderLine.unit_price_cents).label("cents")
    sales = (
        select(OrderLine.product_id, func.sum(OrderLine.quantity).label("sold"), cents)
        .join(OrderLine.order)
        .where(Order.placed_on >= MONTH_AGO, Order.status != "cancelled")
        .group_by(OrderLine.product_id)
        .order_by(cents.desc(), OrderLine.product_id)
        .limit(TOP)
        .subquery()
    )
    return mappings(
        select(Product.name, Product.category, sales.c.sold, sales.c.cents)
        .join(sales, sales.c.product_id == Product.id)
        .where(WAITED)
        .order_by(sales.c.cents.desc(), Product.id)
    )


def best_customers() -> Panel:
    """The customers that spent most this year."""
    cents = func.sum(Order.total_cents).label("cents")
    spent = (
        select(Order.customer_id, func.count().label("orders"), cents)
        .where(Order.placed_on >= YEAR_START, Order.status != "cancelled")
        .group_by(Order.customer_id)
        .order_by(cents.desc(), Order.customer_id)
        .limit(TOP)
        .subquery()
    )
    return mappings(
        select(Customer.name, Customer.city, spent.c.orders, spent.c.cents)
        .join(spent, spent.c.customer_id == Customer.id)
        .where(WAITED)
        .order_by(spent.c.cents.desc(), Customer.id)
    )


def orders_by_status() -> Panel:
    """How many of the orders of the last 30 days are where."""
    orders = func.count().label("orders")
    return mappings(
        select(Order.status, orders)
        .where(WAITED, Order.placed_on >= MONTH_AGO)
        .group_by(Order.status)
        .order_by(orders.desc(), Order.status)
    )


def latest_orders() -> Panel:
    """The orders that came in last, and how many lines they have."""
    lines = select(func.count()).where(OrderLine.order_id == Order.id)
    return mappings(
        select(
            Order.id,
            Customer.name,
            Order.status,
            lines.scalar_subquery().label("lines"),
            Order.total_cents.label("cents"),
        )
        .join(Order.customer)
        .where(WAITED)
        .order_by(Order.id.desc())
        .limit(TOP)
    )


PANELS = {
    "revenue by month": revenue_by_month(),
    "best products": best_products(),
    "best customers": best_customers(),
    "orders by status": orders_by_status(),
    "latest orders": latest_orders(),
}
"""The queries of the page, by the label that reports give them."""
