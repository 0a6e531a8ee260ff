"""``result(timeout=...)``: wait for so long and no longer."""

from __future__ import annotations

from concurrent.futures import wait
from typing import Any

from sqlalchemy import text

from async_parallel import run_in_parallel
from async_parallel.errors import GatherTimeoutError

from .shop import db, executor

# Some seconds of work, so that nobody waits for ever where it is not stopped.
SLOW = text(
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)"
    " SELECT count(*) FROM n"
)


def work() -> None:
    """Run in a thread."""
    db.session.execute(SLOW)


def before() -> dict[str, Any]:
    """Give up. The thread and its query go on, and the next one waits for them."""
    future = executor.submit(work)
    try:
        future.result(timeout=0.01)
    except TimeoutError:
        wait([future])  # for the example's sake: leave nothing behind
        return {"done": False}
    return {"done": True}


def after() -> dict[str, Any]:
    """Stop. When the error is raised, the server runs the query no more."""
    try:
        run_in_parallel(SLOW, timeout=0.01)
    except GatherTimeoutError:
        return {"done": False}
    return {"done": True}
