"""``concurrent.futures.ThreadPoolExecutor``, without an extension."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from flask import current_app
from sqlalchemy import func, select

from async_parallel import run_in_parallel, scalar_one

from .shop import Order, Product, db

if TYPE_CHECKING:
    from flask import Flask


def count(app: Flask, model: type[Order | Product]) -> int:
    """Push a context by hand, so that ``db.session`` is one of the thread."""
    with app.app_context():
        return db.session.scalar(select(func.count(model.id))) or 0


def before() -> dict[str, Any]:
    """Take the application along, as ``current_app`` does not go into a thread."""
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - as Flask documents it
    with ThreadPoolExecutor(max_workers=2) as pool:
        orders = pool.submit(count, app, Order)
        products = pool.submit(count, app, Product)
        return {"orders": orders.result(), "products": products.result()}


def after() -> dict[str, Any]:
    """Need no thread, so no context that has to be taken there."""
    orders, products = run_in_parallel(
        scalar_one(select(func.count(Order.id))),
        scalar_one(select(func.count(Product.id))),
    )
    return {"orders": orders, "products": products}
