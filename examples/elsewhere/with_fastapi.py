"""FastAPI: ``uvicorn examples.elsewhere.with_fastapi:app``."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from async_parallel import QueryGatherer

from .shop import DATABASE_URL, LATEST, REVENUE, TOTALS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

gatherer = QueryGatherer(DATABASE_URL)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Close the connections when the server ends."""
    async with gatherer:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def dashboard() -> dict[str, Any]:
    """Three queries at once."""
    latest, totals, revenue = await gatherer.gather(LATEST, TOTALS, REVENUE)
    return {
        "latest": [order.id for order in latest],
        "totals": dict(totals),
        "revenue": revenue,
    }
