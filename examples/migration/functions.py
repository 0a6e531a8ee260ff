"""``submit`` of a function with arguments."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from async_parallel import run_in_parallel

from .shop import Order, Review, db, executor

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def latest_orders(customer: int) -> list[int]:
    """Use ``db.session``, which in a thread of the executor is another one."""
    query = db.session.query(Order).filter_by(customer_id=customer)
    return [order.id for order in query.order_by(Order.id.desc()).limit(3)]


def average_stars(product: int) -> float:
    """The same for reviews."""
    reviews: list[Review] = Review.query.filter_by(product_id=product).all()
    return sum(review.stars for review in reviews) / len(reviews)


def before() -> dict[str, Any]:
    """Hand the arguments to ``submit``."""
    orders = executor.submit(latest_orders, 1)
    stars = executor.submit(average_stars, product=2)
    return {"orders": orders.result(), "stars": stars.result()}


def latest_orders_of(session: Session, *, customer: int) -> list[int]:
    """Use the session that it is given, which is its own."""
    query = session.query(Order).filter_by(customer_id=customer)
    return [order.id for order in query.order_by(Order.id.desc()).limit(3)]


def average_stars_of(session: Session, *, product: int) -> float:
    """The same for reviews."""
    reviews = session.query(Review).filter_by(product_id=product).all()
    return sum(review.stars for review in reviews) / len(reviews)


def after() -> dict[str, Any]:
    """Hand them to ``partial``."""
    orders, stars = run_in_parallel(
        partial(latest_orders_of, customer=1), partial(average_stars_of, product=2)
    )
    return {"orders": orders, "stars": stars}
