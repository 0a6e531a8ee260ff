"""Many cancels, one after another: each leaves nothing, and the next meets no other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from sqlalchemy import text

from async_parallel import QueryGatherer, scalar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

CANCELS = 40
LANES = 3
ENDLESS = text("SELECT pg_sleep(600) /* of a cancelled gather */")
PID = scalar(text("SELECT pg_backend_pid()"))


def endless(session: Session) -> None:
    """Run until stopped, in synchronous style."""
    session.execute(ENDLESS)


async def endless_async(session: AsyncSession) -> None:
    """Run until stopped."""
    await session.execute(ENDLESS)


async def cancel_once(
    gather: Awaitable[Any], begun: Callable[[], Awaitable[None]]
) -> None:
    """Cancel a task that waits for ``gather``."""
    task = asyncio.ensure_future(gather)
    await begun()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def cancel_twice(
    gather: Awaitable[Any], begun: Callable[[], Awaitable[None]]
) -> None:
    """Cancel it again before it has ended."""
    task = asyncio.ensure_future(gather)
    await begun()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def leave_scope(
    gather: Awaitable[Any], begun: Callable[[], Awaitable[None]]
) -> None:
    """Cancel an AnyIO scope around it, which cancels again and again until it ends."""
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                await gather

            tasks.start_soon(wait)
            await begun()
            scope.cancel()
    assert scope.cancelled_caught


@pytest.mark.parametrize("cancel", [cancel_once, cancel_twice, leave_scope])
@pytest.mark.parametrize(
    ("query", "times"),
    [(ENDLESS, CANCELS), (endless, CANCELS // 4), (endless_async, CANCELS // 4)],
    ids=["statement", "function", "async function"],
)
async def test_no_query_is_left_after_any_of_them(
    query: Any,
    times: int,
    cancel: Callable[..., Awaitable[None]],
    postgres: str,
    make_gatherer: Callable[..., QueryGatherer],
    backends: Callable[[str], int],
) -> None:
    """When the cancel is raised, the server runs nothing, and a new gather works."""
    gatherer = make_gatherer(postgres, max_connections=LANES)
    ours = "query LIKE '%of a cancelled gather%' AND state <> 'idle'"

    async def begun() -> None:
        while await asyncio.to_thread(backends, ours) < LANES:
            pass

    for _ in range(times):
        await cancel(gatherer.gather([query] * LANES), begun)
        assert await asyncio.to_thread(backends, ours) == 0
    assert all(await gatherer.gather([PID] * LANES))
