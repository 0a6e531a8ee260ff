"""The lifespan of an ASGI application, as a server speaks it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping


class Lifespan:
    """A server's lifespan: startup when entered, shutdown when left."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self._app = app
        self.to_app: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self.answers: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(
            self._app({"type": "lifespan"}, self.to_app.get, self.answers.put)
        )
        await self._tell("startup")

    async def __aexit__(self, *_: object) -> None:
        await self._tell("shutdown")
        await self._task

    async def _tell(self, event: str) -> None:
        await self.to_app.put({"type": f"lifespan.{event}"})
        assert await self.answers.get() == {"type": f"lifespan.{event}.complete"}
