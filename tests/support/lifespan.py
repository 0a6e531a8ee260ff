"""The lifespan of an ASGI application, as a server speaks it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping


class Lifespan:
    """A server's lifespan: startup when entered, shutdown when left.

    Attributes:
        answers: What the application answered and nobody has looked at.
    """

    def __init__(self, app: Callable[..., Any]) -> None:
        self._app = app
        self._to_app: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self.answers: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()

    async def __aenter__(self) -> None:
        answer = await self.start()
        assert answer == {"type": "lifespan.startup.complete"}

    async def __aexit__(self, *_: object) -> None:
        answer = await self._tell("shutdown")
        assert answer == {"type": "lifespan.shutdown.complete"}
        await self._task

    async def start(self) -> MutableMapping[str, Any]:
        """What the application answers to the startup."""
        self._task = asyncio.create_task(
            self._app({"type": "lifespan"}, self._to_app.get, self.answers.put)
        )
        return await self._tell("startup")

    async def _tell(self, event: str) -> MutableMapping[str, Any]:
        await self._to_app.put({"type": f"lifespan.{event}"})
        return await self.answers.get()
