"""``asyncio.gather`` over a session a query, as it is written by hand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from shelves import SLEEP, Item, entities
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Executable

Sessions = async_sessionmaker[AsyncSession]


async def rows(sessions: Sessions, statement: Executable) -> Sequence[Any]:
    """Run one query in a session of its own."""
    async with sessions() as session:
        result = await session.execute(statement)
        return result.scalars().all()


async def queries(sessions: Sessions) -> dict[str, int]:
    """Five small queries at once."""
    shelves: list[Sequence[Item]] = await asyncio.gather(
        *(rows(sessions, entities(shelf)) for shelf in range(5))
    )
    return {"total": sum(item.price for shelf in shelves for item in shelf)}


async def sleep(sessions: Sessions) -> dict[str, int]:
    """Five queries of 100 ms at once."""
    done = await asyncio.gather(*(rows(sessions, text(SLEEP)) for _ in range(5)))
    return {"total": len(done)}
