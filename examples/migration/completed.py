"""``as_completed`` and callbacks: each result as soon as it is there."""

from __future__ import annotations

from concurrent.futures import as_completed
from contextlib import aclosing
from typing import Any

from sqlalchemy import select

from .shop import Customer, Product, db, executor, parallel


def names(model: type[Customer | Product]) -> list[str]:
    """Run in a thread."""
    return list(db.session.scalars(select(model.name).order_by(model.id)))


def before() -> dict[str, Any]:
    """Look up in a table of one's own whose the future is."""
    futures = {
        executor.submit(names, Customer): "customers",
        executor.submit(names, Product): "products",
    }
    first_of: dict[str, Any] = {}
    for future in as_completed(futures):
        first_of[futures[future]] = future.result()[0]
    return first_of


async def after() -> dict[str, Any]:
    """Get the name with the result. Who leaves the loop early ends what still runs."""
    queries = {
        "customers": select(Customer.name).order_by(Customer.id),
        "products": select(Product.name).order_by(Product.id),
    }
    first_of: dict[str, Any] = {}
    async with aclosing(parallel.gatherer().as_completed(queries)) as results:
        async for name, result in results:
            first_of[name] = result[0]
    return first_of
