"""The small views in FastAPI."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI

ANSWER = {"message": "hello", "items": [1, 2, 3]}
asgi = FastAPI()


@asgi.get("/json")
async def view() -> dict[str, Any]:
    """Answer at once."""
    return ANSWER


@asgi.get("/items/{number}")
async def item(number: int) -> dict[str, Any]:
    """Answer at once, on a path with a variable."""
    return ANSWER if number else {}


@asgi.get("/sync")
def sync_view() -> dict[str, Any]:
    """Answer at once, in a thread."""
    return ANSWER


@asgi.get("/sleep")
async def sleep() -> dict[str, Any]:
    """Answer after a second."""
    await asyncio.sleep(1)
    return ANSWER
