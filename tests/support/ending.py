"""An application for the tests of servers that end or load again."""

from __future__ import annotations

import os

from activity import ADVISORY_LOCK
from flask import Flask
from sqlalchemy import text

from async_parallel import AsyncParallel, gather_queries, run_in_parallel
from async_parallel.asgi import ASGIAdapter

app = Flask(__name__)
app.config["ASYNC_PARALLEL_DATABASE_URI"] = os.environ["TEST_DATABASE"]
parallel = AsyncParallel(app)
QUERIES = {
    "long": [text("SELECT pg_sleep(600)")] * 2,
    "short": [text("SELECT pg_sleep(0.01)")] * 3,
    "waiting": [text(f"SELECT pg_advisory_xact_lock_shared({ADVISORY_LOCK})")] * 2,
}


@app.get("/async/<name>")
async def async_view(name: str) -> dict[str, int]:
    """Gather in an async view."""
    return {"rows": len(await gather_queries(QUERIES[name])), "pid": os.getpid()}


@app.get("/sync/<name>")
def sync_view(name: str) -> dict[str, int]:
    """Gather in a synchronous view."""
    return {"rows": len(run_in_parallel(QUERIES[name])), "pid": os.getpid()}


if "GATHER_AT_IMPORT" in os.environ:  # in the master, which then forks
    with app.app_context():
        run_in_parallel(QUERIES["short"])

asgi = ASGIAdapter(app)
