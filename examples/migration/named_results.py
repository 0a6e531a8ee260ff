"""Stored futures: results by key."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from async_parallel import run_in_parallel

from .shop import Customer, Visit, db, executor


def count_customers() -> int:
    """Run in a thread."""
    return db.session.query(Customer).count()


def paths() -> list[str]:
    """The same."""
    return sorted(db.session.scalars(select(Visit.path).distinct()))


def before() -> dict[str, Any]:
    """Store each future under a key, which must be free in the whole process."""
    executor.submit_stored("customers", count_customers)
    executor.submit_stored("paths", paths)
    return {key: executor.futures.pop(key).result() for key in ("customers", "paths")}


def after() -> dict[str, Any]:
    """Name each query; the results have the same names."""
    return run_in_parallel(
        {
            "customers": lambda session: session.query(Customer).count(),
            "paths": select(Visit.path).distinct().order_by(Visit.path),
        }
    )
