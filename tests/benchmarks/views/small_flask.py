"""Four small Flask views, and Flask under each adapter from WSGI to ASGI."""

from __future__ import annotations

import asyncio
from typing import Any

from flask import Flask

ANSWER = {"message": "hello", "items": [1, 2, 3]}


def make_app() -> Flask:
    """An application, as it is under any adapter."""
    app = Flask(__name__)

    @app.get("/json")
    async def view() -> dict[str, Any]:
        return ANSWER

    @app.get("/items/<int:number>")
    async def item(number: int) -> dict[str, Any]:
        return ANSWER if number else {}

    @app.get("/sync")
    def sync_view() -> dict[str, Any]:
        return ANSWER

    @app.get("/sleep")
    async def sleep() -> dict[str, Any]:
        await asyncio.sleep(1)
        return ANSWER

    return app
