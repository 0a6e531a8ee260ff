"""``map``: one function for many arguments."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from async_parallel import run_in_parallel, scalar_one

from .shop import Order, db, one_thread


def before() -> dict[str, Any]:
    """Call it for each, in one thread: two would enter the same context at once."""

    def pieces(customer: int) -> int:
        statement = select(func.sum(Order.pieces)).filter_by(customer_id=customer)
        total: int = db.session.execute(statement).scalar_one()
        return total

    return {"pieces": list(one_thread.map(pieces, range(1, 6)))}


def after() -> dict[str, Any]:
    """Make a statement for each. Fifteen run at once, the others wait."""

    def pieces(customer: int) -> Any:
        statement = select(func.sum(Order.pieces)).filter_by(customer_id=customer)
        return scalar_one(statement)

    return {"pieces": run_in_parallel([pieces(customer) for customer in range(1, 6)])}
