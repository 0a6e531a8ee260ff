"""``submit`` of a query's own method."""

from __future__ import annotations

from typing import Any

from async_parallel import gather_queries, run_in_parallel

from .shop import Customer, Order, Product, db, one_thread


def before() -> dict[str, Any]:
    """One future for each."""
    queries = [
        db.session.query(Customer).all,
        db.session.query(Product).all,
        db.session.query(Order).count,
    ]
    futures = [one_thread.submit(query) for query in queries]
    customers, products, orders = [future.result() for future in futures]
    return answer(customers, products, orders)


def after() -> dict[str, Any]:
    """No future, no thread, no session that two of them share."""
    queries = [
        db.session.query(Customer).all,
        db.session.query(Product).all,
        db.session.query(Order).count,
    ]
    customers, products, orders = run_in_parallel(queries)
    return answer(customers, products, orders)


async def after_in_async_view() -> dict[str, Any]:
    """The same under an ASGI server."""
    queries = [
        db.session.query(Customer).all,
        db.session.query(Product).all,
        db.session.query(Order).count,
    ]
    customers, products, orders = await gather_queries(queries)
    return answer(customers, products, orders)


def answer(
    customers: list[Customer], products: list[Product], orders: int
) -> dict[str, Any]:
    """What the view says of the rows."""
    return {
        "customers": [customer.name for customer in customers],
        "products": [product.name for product in products],
        "orders": orders,
    }
