"""Quart with ``asyncio.gather``."""

from __future__ import annotations

import by_hand
from quart import Quart
from shelves import CONNECTIONS, URL
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

engine = create_async_engine(URL, pool_size=CONNECTIONS, max_overflow=0)
sessions = async_sessionmaker(engine, expire_on_commit=False)
app = Quart(__name__)


@app.get("/queries")
async def queries() -> dict[str, int]:
    """Five small queries."""
    return await by_hand.queries(sessions)


@app.get("/sleep")
async def sleep() -> dict[str, int]:
    """Five queries of 100 ms."""
    return await by_hand.sleep(sessions)
