"""Litestar: ``uvicorn examples.elsewhere.with_litestar:app``."""

from __future__ import annotations

from typing import Any

from litestar import Litestar, get

from async_parallel import QueryGatherer

from .shop import DATABASE_URL, LATEST, REVENUE, TOTALS

gatherer = QueryGatherer(DATABASE_URL)


@get("/")
async def dashboard() -> dict[str, Any]:
    """Three queries at once."""
    latest, totals, revenue = await gatherer.gather(LATEST, TOTALS, REVENUE)
    return {
        "latest": [order.id for order in latest],
        "totals": dict(totals),
        "revenue": revenue,
    }


app = Litestar([dashboard], lifespan=[gatherer])  # which closes it
