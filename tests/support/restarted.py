"""An application for the tests of a database that restarts."""

from __future__ import annotations

import os
from typing import Any

from flask import Flask
from sqlalchemy import column, literal, select, text, values
from sqlalchemy.orm import Session

from async_parallel import AsyncParallel, gather_queries, run_in_parallel, scalar
from async_parallel.asgi import ASGIAdapter

app = Flask(__name__)
app.config["ASYNC_PARALLEL_DATABASE_URI"] = os.environ["TEST_DATABASE"]
app.config["ASYNC_PARALLEL_MAX_CONNECTIONS"] = 5
# What comes in during an outage waits, however slow the machine is afterwards.
app.config["ASYNC_PARALLEL_MAX_WAITING"] = 100_000
parallel = AsyncParallel(app)


def queries() -> dict[str, Any]:
    """What a second try answers, if the first one's connection is lost."""
    numbers = values(column("number"), name="numbers").data([(1,), (2,)])
    legacy = Session().query(numbers.c.number)
    return {
        "text": text("SELECT 1"),
        "scalar": scalar(select(literal(1))),
        "slow": scalar(text("SELECT 1 FROM pg_sleep(0.005)")),
        "all": legacy.all,
        "count": legacy.count,
    }


def check(results: dict[str, Any]) -> str:
    """Answer, if the results are right."""
    expected = {"text": [(1,)], "scalar": 1, "slow": 1, "all": [(1,), (2,)], "count": 2}
    assert results == expected, results
    return "right"


@app.get("/async")
async def on_the_loop() -> str:
    """Gather in an async view."""
    return check(await gather_queries(queries()))


@app.get("/sync")
def in_a_thread() -> str:
    """The same in a synchronous view."""
    return check(run_in_parallel(queries()))


@app.errorhandler(Exception)
def tell(error: Exception) -> tuple[str, int]:
    """Say what went wrong."""
    return f"{type(error).__name__}: {error} {getattr(error, '__notes__', '')}", 500


asgi = ASGIAdapter(app)
