"""Context locals: ``request``, ``g`` and ``current_app`` in what runs at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import current_app, g, request

from async_parallel import run_in_parallel

from .shop import Customer, Product, db, executor

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def customer_name() -> tuple[str, str]:
    """Run in a thread, in copies of the contexts that the executor makes."""
    customer = db.session.get_one(Customer, request.args.get("id", 1))
    return current_app.name, f"{g.greeting} {customer.name}"


def before() -> dict[str, Any]:
    """Set ``g`` before it is copied."""
    g.greeting = "Dear"
    return {"greeted": executor.submit(customer_name).result()}


def name_of_customer(session: Session) -> tuple[str, str]:
    """Run in the caller's own context."""
    customer = session.get_one(Customer, request.args.get("id", 1))
    return current_app.name, f"{g.greeting} {customer.name}"


def after() -> dict[str, Any]:
    """Whatever was set, context variables of one's own too, is there."""
    g.greeting = "Dear"
    greeted, _ = run_in_parallel(name_of_customer, db.session.query(Product).count)
    return {"greeted": greeted}
