"""Starlette with raw asyncpg: no ORM, no SQLAlchemy."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import asyncpg  # type: ignore[import-untyped, unused-ignore]
from shelves import CONNECTIONS, SLEEP, SQL, URL
from sqlalchemy.engine import make_url
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Hold the pool."""
    dsn = make_url(URL).set(drivername="postgresql")
    dsn_text = dsn.render_as_string(hide_password=False)
    async with asyncpg.create_pool(
        dsn_text, min_size=CONNECTIONS, max_size=CONNECTIONS
    ) as app.state.pool:
        yield


async def queries(request: Request) -> JSONResponse:
    """Five small queries."""
    fetch = request.app.state.pool.fetch
    shelves = await asyncio.gather(*(fetch(SQL, shelf) for shelf in range(5)))
    total = sum(item["price"] for shelf in shelves for item in shelf)
    return JSONResponse({"total": total})


async def sleep(request: Request) -> JSONResponse:
    """Five queries of 100 ms."""
    fetch = request.app.state.pool.fetch
    done = await asyncio.gather(*(fetch(SLEEP) for _ in range(5)))
    return JSONResponse({"total": len(done)})


routes = [Route("/queries", queries), Route("/sleep", sleep)]
app = Starlette(routes=routes, lifespan=lifespan)
