"""A gather with one snapshot that is ended at any point leaves no transaction."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from observers import Observer, observing
from shop import User
from sqlalchemy import select, text
from sweep import Cancel, Deadline, Failure, Sweep

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncSession

STATEMENT = select(User.id).order_by(User.id)
IDS = [1, 2, 3]


async def ids_async(session: AsyncSession) -> Any:
    """Ask in async style."""
    return (await session.scalars(STATEMENT)).all()


async def ids_slowly(session: AsyncSession) -> Any:
    """Ask, and take longer than it takes others to join."""
    found = (await session.scalars(STATEMENT)).all()
    await asyncio.sleep(0.01)
    return found


# Taking and joining, cold and warm; a function has a savepoint besides. Who is answered
# at once is joined by one other, who takes long by all.
kinds = pytest.mark.parametrize(
    ("query", "warm"),
    [
        pytest.param(STATEMENT, False, id="statement cold"),
        pytest.param(STATEMENT, True, id="statement warm"),
        pytest.param(ids_async, True, id="async function warm"),
        pytest.param(ids_slowly, True, id="slow function warm"),
    ],
)


@kinds
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(Cancel, id="cancel"),
        pytest.param(lambda: Cancel(0), id="two cancels"),
        pytest.param(lambda: Cancel(2), id="a cancel later"),
        pytest.param(Deadline, id="deadline"),
        pytest.param(Failure, id="failure"),
    ],
)
async def test_a_snapshot_that_is_ended_at_any_point_leaves_nothing(
    query: Any, make: Callable[[], Any], observer: Observer, *, warm: bool
) -> None:
    """Neither who took the snapshot nor who joined has a transaction left."""
    sweep = Sweep(observer, [query] * 3, IDS, warm=warm, snapshot=True)
    await sweep.run(make)
    assert sweep.points >= 8
    assert "executing" in sweep.phases


@pytest.mark.parametrize("again", [None, 0])
async def test_an_endless_query_in_a_snapshot_is_stopped(
    again: int | None, postgres: str
) -> None:
    """Queries that never end by themselves are stopped, and their transactions end."""
    with observing(postgres) as observer:
        queries = [text(observer.endless)] * 2
        sweep = Sweep(observer, queries, None, warm=True, snapshot=True)
        await sweep.run(lambda: Cancel(again))
    assert sweep.all_ran


async def test_a_failure_that_is_a_result_leaves_nothing(observer: Observer) -> None:
    """Where others go on after a failure, nothing is left either."""
    sweep = Sweep(
        observer,
        [STATEMENT] * 3,
        IDS,
        warm=True,
        snapshot=True,
        return_exceptions=True,
    )
    await sweep.run(Cancel)
    assert sweep.points >= 8
