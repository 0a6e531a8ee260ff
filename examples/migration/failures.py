"""``exception()``: go on although one has failed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, text

from async_parallel import run_in_parallel

from .shop import Customer, db, executor

BROKEN = text("SELECT * FROM nowhere")


def names() -> list[str]:
    """Run in a thread."""
    return list(db.session.scalars(select(Customer.name)))


def break_down() -> None:
    """Fail in a thread."""
    db.session.execute(BROKEN)


def before() -> dict[str, Any]:
    """Ask each future. Nobody hears of an exception that nobody asks for."""
    futures = [executor.submit(names), executor.submit(break_down)]
    failed = [type(error).__name__ for f in futures if (error := f.exception())]
    return {"names": futures[0].result(), "failed": failed}


def after() -> dict[str, Any]:
    """Ask for exceptions in the place of results; else the first one is raised."""
    results = run_in_parallel(select(Customer.name), BROKEN, return_exceptions=True)
    failed = [type(error).__name__ for error in results if isinstance(error, Exception)]
    return {"names": results[0], "failed": failed}
