"""Five queries, one after another."""

from __future__ import annotations

from typing import Any

from async_parallel import gather_queries, run_in_parallel

from .shop import Customer, Order, Product, Review, Visit, db


def before() -> dict[str, Any]:
    """Wait for the sum of them."""
    customers = db.session.query(Customer).all()
    products = db.session.query(Product).filter_by(price=20).all()
    orders = db.session.query(Order).order_by(Order.id.desc()).limit(5).all()
    reviews = db.session.query(Review).filter_by(stars=5).all()
    visits = db.session.query(Visit).all()
    return answer(customers, products, orders, reviews, visits)


def after() -> dict[str, Any]:
    """Wait for the slowest of them."""
    return answer(
        *run_in_parallel(
            [
                db.session.query(Customer).all,
                db.session.query(Product).filter_by(price=20).all,
                db.session.query(Order).order_by(Order.id.desc()).limit(5).all,
                db.session.query(Review).filter_by(stars=5).all,
                db.session.query(Visit).all,
            ]
        )
    )


async def after_in_async_view() -> dict[str, Any]:
    """The same under an ASGI server."""
    return answer(
        *await gather_queries(
            db.session.query(Customer).all,
            db.session.query(Product).filter_by(price=20).all,
            db.session.query(Order).order_by(Order.id.desc()).limit(5).all,
            db.session.query(Review).filter_by(stars=5).all,
            db.session.query(Visit).all,
        )
    )


def answer(
    customers: list[Customer],
    products: list[Product],
    orders: list[Order],
    reviews: list[Review],
    visits: list[Visit],
) -> dict[str, Any]:
    """What the view says of the rows."""
    return {
        "customers": [customer.name for customer in customers],
        "products": [product.name for product in products],
        "latest": [order.id for order in orders],
        "praised": [review.product_id for review in reviews],
        "visits": len(visits),
    }
