"""``QueryGatherer``: shapes, order, context, failure, cancellation, limits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from shop import User
from sqlalchemy import select, text

if TYPE_CHECKING:
    from async_parallel import QueryGatherer


async def test_results_come_in_the_order_of_the_arguments(
    gatherer: QueryGatherer,
) -> None:
    """Positional queries give a tuple in their order."""
    assert await gatherer.gather(
        select(User.id).where(User.id == 3), select(User.id).where(User.id == 1)
    ) == ([3], [1])
