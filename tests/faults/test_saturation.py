"""A database that is asked for fifty times what it can do, and what comes after."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from async_parallel.errors import LaneTimeoutError, OverloadError, QueueFullError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from async_parallel import QueryGatherer

    Make = Callable[..., QueryGatherer]

CONNECTIONS = 2
# Fifty times as many as can be answered at once.
GATHERS = 50 * CONNECTIONS
SHORT = text("SELECT 7 FROM pg_sleep(0.002)")


@pytest.fixture
async def make(postgres: str, make_gatherer: Make) -> AsyncIterator[Make]:
    """Makes gatherers of few connections, and looks whether they have recovered."""
    made: list[QueryGatherer] = []

    def make(**options: Any) -> QueryGatherer:
        options = {"max_connections": CONNECTIONS, **options}
        made.append(make_gatherer(postgres, **options))
        return made[-1]

    yield make
    for gatherer in made:
        await check_recovered(gatherer)


async def check_recovered(gatherer: QueryGatherer) -> None:
    """Nobody waits, no lane is in use, and all lanes answer at once."""
    lanes = gatherer._runner._lanes
    assert lanes is not None
    assert (lanes.waiting, lanes.in_use, len(lanes._queue)) == (0, 0, 0)
    barrier = asyncio.Barrier(lanes.limit)

    async def meet(_session: AsyncSession) -> int:
        return await barrier.wait()

    places = await gatherer.gather([meet] * lanes.limit)
    assert sorted(places) == list(range(lanes.limit))


async def ask(gatherer: QueryGatherer, gathers: int, queries: int) -> Counter[Any]:
    """Gather so often at once: how often each answer came, or type of error."""
    calls = [gatherer.gather([SHORT] * queries) for _ in range(gathers)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    return Counter(
        type(outcome) if isinstance(outcome, BaseException) else str(outcome)
        for outcome in outcomes
    )


async def test_all_are_answered_where_all_may_wait(make: Make) -> None:
    """Fifty times the capacity is answered, each gather rightly."""
    answers = await ask(make(), GATHERS, 5)
    assert answers == {str([[(7,)]] * 5): GATHERS}


async def test_what_may_not_wait_is_refused(make: Make) -> None:
    """As many as may wait are answered; the others learn at once that they are not."""
    gatherer = make(max_waiting=40)
    for _ in range(3):
        outcomes = await ask(gatherer, GATHERS, 1)
        refused = outcomes.pop(QueueFullError)
        assert outcomes == {str([[(7,)]]): GATHERS - refused}
        assert 0 < refused <= GATHERS - 40 - CONNECTIONS


async def test_who_waits_too_long_is_refused(make: Make) -> None:
    """Each is answered, or refused because no lane became free in time."""
    gatherer = make(lane_timeout=0.05)
    outcomes = await ask(gatherer, 3 * GATHERS, 1)
    refused = outcomes.pop(LaneTimeoutError)
    assert outcomes == {str([[(7,)]]): 3 * GATHERS - refused}
    assert issubclass(LaneTimeoutError, OverloadError)
    assert refused > 0


async def test_who_came_first_is_served_first(make: Make) -> None:
    """On one connection gathers begin in the order in which they were made."""
    gatherer = make(max_connections=1)
    begun: list[int] = []
    calls = [gatherer.gather(noting(begun, number)) for number in range(GATHERS)]
    await asyncio.gather(*calls)
    assert begun == list(range(GATHERS))


async def test_a_large_gather_holds_up_nobody(make: Make) -> None:
    """Between two of its turns each of the small ones that wait has one."""
    gatherer = make()
    begun: list[int] = []
    large = gatherer.gather([noting(begun, 0)] * GATHERS)
    small = [gatherer.gather(noting(begun, number)) for number in range(1, 31)]
    await asyncio.gather(large, *small)
    last = max(begun.index(number) for number in range(1, 31))
    assert begun[:last].count(0) <= 4 * CONNECTIONS


async def test_who_leaves_the_queue_holds_up_nobody(make: Make) -> None:
    """Where every second one that waits is cancelled, the others keep their turn."""
    gatherer = make(max_connections=1)
    begun: list[int] = []
    tasks = [
        asyncio.create_task(gatherer.gather(noting(begun, number)))
        for number in range(GATHERS)
    ]
    await asyncio.sleep(0)  # they wait now
    for task in tasks[1::2]:
        task.cancel()
    await asyncio.wait(tasks)
    assert begun == list(range(0, GATHERS, 2))
    assert [task.cancelled() for task in tasks] == [False, True] * (GATHERS // 2)


async def test_a_refused_gather_has_run_nothing(make: Make) -> None:
    """Not even the queries for which there would have been room."""
    gatherer = make(max_waiting=1)
    begun: list[int] = []
    calls = [gatherer.gather([noting(begun, number)] * 5) for number in range(20)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    answered = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, list)]
    assert 0 < len(answered) < 20
    assert Counter(begun) == dict.fromkeys(answered, 5)


def noting(begun: list[int], number: int) -> Callable[[Session], None]:
    """A short query that notes when it begins."""

    def query(session: Session) -> None:
        begun.append(number)
        session.execute(SHORT)

    return query
