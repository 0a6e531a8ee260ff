"""Quart: ``uvicorn examples.elsewhere.with_quart:app``."""

from __future__ import annotations

from typing import Any

from quart import Quart

from async_parallel import QueryGatherer

from .shop import DATABASE_URL, LATEST, REVENUE, TOTALS

app = Quart(__name__)
gatherer = QueryGatherer(DATABASE_URL)


@app.after_serving
async def close() -> None:
    """Close the connections when the server ends."""
    await gatherer.aclose()


@app.get("/")
async def dashboard() -> dict[str, Any]:
    """Three queries at once."""
    latest, totals, revenue = await gatherer.gather(LATEST, TOTALS, REVENUE)
    return {
        "latest": [order.id for order in latest],
        "totals": dict(totals),
        "revenue": revenue,
    }
