"""Requests to end a query that reach the server late end nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg  # type: ignore[import-untyped]
import pytest
from faults import LATE
from sqlalchemy import text
from sqlalchemy.exc import PendingRollbackError

from async_parallel import Query, QueryGatherer, _lane, scalar
from async_parallel.errors import (
    GatherTimeoutError,
    QueryTimeoutError,
    SnapshotLostError,
)

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

ENDLESS = text("SELECT pg_sleep(600)")
PID = scalar(text("SELECT pg_backend_pid()"))
# For longer than all requests are on their way.
AWHILE = scalar(text("SELECT 'slept' || pg_sleep(1)"))


@pytest.fixture(autouse=True)
def _late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each request be on its way for so long that it is made again."""
    cancel = asyncpg.connect_utils._cancel

    async def late(**options: Any) -> None:
        await asyncio.sleep(LATE)
        await cancel(**options)

    monkeypatch.setattr(asyncpg.connect_utils, "_cancel", late)


async def test_the_next_query_has_another_connection(
    postgres_gatherer: QueryGatherer,
) -> None:
    """As a request may still be on its way to the one that was asked again."""
    (before,) = await postgres_gatherer.gather(PID)
    with pytest.raises(GatherTimeoutError):
        await postgres_gatherer.gather(ENDLESS, timeout=0.1)
    assert await postgres_gatherer.gather(AWHILE, PID) != ("slept", before)


async def test_a_function_goes_on_after_a_gather_inside_it_was_stopped(
    postgres_gatherer: QueryGatherer,
) -> None:
    """On the connection that both have, where only one request was made."""

    async def function(session: AsyncSession) -> Any:
        with pytest.raises(GatherTimeoutError):
            await postgres_gatherer.gather(ENDLESS, timeout=0.1)
        return await session.scalar(AWHILE.source)

    assert await postgres_gatherer.gather(function) == ("slept",)


async def after_one_that_is_stopped(gatherer: QueryGatherer) -> Any:
    """What comes of a query that has to use the connection of such a one."""
    stopped, outcome = await gatherer.gather(
        Query(ENDLESS, timeout=0.1),
        AWHILE,
        snapshot=True,
        max_concurrency=1,
        return_exceptions=True,
    )
    assert isinstance(stopped, QueryTimeoutError)
    return outcome


async def test_the_next_query_of_a_snapshot_is_not_met(
    postgres_gatherer: QueryGatherer,
) -> None:
    """It has to use the same connection."""
    assert await after_one_that_is_stopped(postgres_gatherer) == "slept"


async def test_who_goes_on_after_the_last_request_has_lost_the_connection(
    postgres_gatherer: QueryGatherer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is told by another error than that of a query that somebody stopped."""
    monkeypatch.setattr(_lane, "_CANCEL_GRACE", 0.1)

    async def function(session: AsyncSession) -> Any:
        with pytest.raises(GatherTimeoutError):
            await postgres_gatherer.gather(ENDLESS, timeout=0.1)
        return await session.scalar(AWHILE.source)

    with pytest.raises(PendingRollbackError):
        await postgres_gatherer.gather(function)
    lost = await after_one_that_is_stopped(postgres_gatherer)
    assert isinstance(lost, SnapshotLostError)
