"""``job``: a decorated function that submits itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from async_parallel import run_in_parallel

from .shop import Customer, Product, db, executor

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@executor.job  # type: ignore[untyped-decorator]
def customer_names() -> list[str]:
    """Run in a thread when ``submit`` is called."""
    return [customer.name for customer in db.session.query(Customer)]


@executor.job  # type: ignore[untyped-decorator]
def product_names() -> list[str]:
    """The same."""
    return [product.name for product in db.session.query(Product)]


def before() -> dict[str, Any]:
    """Submit both, then wait for both."""
    customers = customer_names.submit()
    products = product_names.submit()
    return {"customers": customers.result(), "products": products.result()}


def names_of_customers(session: Session) -> list[str]:
    """A plain function, easy to call in a test."""
    return [customer.name for customer in session.query(Customer)]


def names_of_products(session: Session) -> list[str]:
    """The same."""
    return [product.name for product in session.query(Product)]


def after() -> dict[str, Any]:
    """Give both to one call."""
    customers, products = run_in_parallel(names_of_customers, names_of_products)
    return {"customers": customers, "products": products}
