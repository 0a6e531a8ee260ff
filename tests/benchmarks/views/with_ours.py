"""Flask with ``async_parallel``: an async view for ``ASGIAdapter``, and a sync one."""

from __future__ import annotations

from flask import Flask
from shelves import CONNECTIONS, SLEEP, URL, Item, entities
from sqlalchemy import text

from async_parallel import AsyncParallel, gather_queries, run_in_parallel
from async_parallel.asgi import ASGIAdapter

app = Flask(__name__)
app.config["ASYNC_PARALLEL_DATABASE_URI"] = URL
app.config["ASYNC_PARALLEL_MAX_CONNECTIONS"] = CONNECTIONS
AsyncParallel(app)


def total(shelves: list[list[Item]]) -> dict[str, int]:
    """What the page shows."""
    return {"total": sum(item.price for shelf in shelves for item in shelf)}


@app.get("/queries")
async def queries() -> dict[str, int]:
    """Five small queries."""
    return total(await gather_queries([entities(shelf) for shelf in range(5)]))


@app.get("/sleep")
async def sleep() -> dict[str, int]:
    """Five queries of 100 ms."""
    return {"total": len(await gather_queries([text(SLEEP)] * 5))}


@app.get("/sync/queries")
def sync_queries() -> dict[str, int]:
    """Five small queries, in a synchronous view."""
    return total(run_in_parallel([entities(shelf) for shelf in range(5)]))


@app.get("/sync/sleep")
def sync_sleep() -> dict[str, int]:
    """Five queries of 100 ms, in a synchronous view."""
    return {"total": len(run_in_parallel([text(SLEEP)] * 5))}


asgi = ASGIAdapter(app)
