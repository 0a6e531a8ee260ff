"""Flask with ``asyncio.gather`` under other adapters from WSGI to ASGI."""

from __future__ import annotations

from typing import Any

import by_hand
from a2wsgi import WSGIMiddleware
from asgiref.wsgi import WsgiToAsgi  # type: ignore[import-untyped, unused-ignore]
from flask import Flask
from shelves import CONNECTIONS, URL
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

engine = create_async_engine(URL, pool_size=CONNECTIONS, max_overflow=0)
sessions = async_sessionmaker(engine, expire_on_commit=False)
app = Flask(__name__)


@app.get("/queries")
async def queries() -> dict[str, int]:
    """Five small queries."""
    return await by_hand.queries(sessions)


@app.get("/sleep")
async def sleep() -> dict[str, int]:
    """Five queries of 100 ms."""
    return await by_hand.sleep(sessions)


application: Any = app
adapter: Any = WsgiToAsgi
wsgi_to_asgi = adapter(application)
by_a2wsgi = WSGIMiddleware(application, workers=40)
