"""Threads for synchronous functions: bounded, and never waiting for themselves."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from async_parallel._workers import Workers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    """Two threads."""
    workers = Workers(2)
    yield workers
    assert await workers.shut_down(10) == 0


def first(workers: Workers, function: Callable[[], object]) -> asyncio.Task[None]:
    """The first function of a request."""
    return _run(workers, function, begun=False, inside=False)


def later(workers: Workers, function: Callable[[], object]) -> asyncio.Task[None]:
    """A later one."""
    return _run(workers, function, begun=True, inside=False)


def _run(
    workers: Workers, function: Callable[[], object], *, begun: bool, inside: bool
) -> asyncio.Task[None]:
    def run() -> None:
        function()

    return asyncio.create_task(workers.run(run, begun=begun, inside=inside))


async def test_no_more_begin_than_there_are_threads(workers: Workers) -> None:
    """A third request waits until one of two has ended."""
    meeting, go_on = threading.Barrier(3), threading.Event()
    order: list[str] = []

    def hold() -> None:
        meeting.wait()
        go_on.wait()
        order.append("held")

    holding = [first(workers, hold) for _ in range(2)]
    await asyncio.to_thread(meeting.wait)
    third = first(workers, lambda: order.append("third"))
    patience = asyncio.get_running_loop().create_future()
    # Longer than a later function would have to wait.
    asyncio.get_running_loop().call_later(0.2, patience.set_result, None)
    await patience
    assert order == []
    go_on.set()
    await asyncio.gather(*holding, third)
    assert sorted(order) == ["held", "held", "third"]


async def test_what_a_request_holds_comes_back(workers: Workers) -> None:
    """All threads wait for what a later function of another request gives back."""
    given_back = threading.Event()
    waiting = [first(workers, given_back.wait) for _ in range(4)]
    await later(workers, given_back.set)
    await asyncio.gather(*waiting)


async def test_a_function_inside_another_gets_a_thread_at_once(
    workers: Workers,
) -> None:
    """The other one's thread does nothing but wait for it."""
    ended = threading.Event()
    holding = [first(workers, ended.wait) for _ in range(2)]
    await _run(workers, ended.set, begun=True, inside=True)
    await asyncio.gather(*holding)


async def test_a_cancel_is_raised_when_the_function_has_ended(workers: Workers) -> None:
    """Nothing of a request goes on beside it."""
    begun, go_on = threading.Event(), threading.Event()
    ended: list[bool] = []

    def hold() -> None:
        begun.set()
        go_on.wait()
        ended.append(True)

    task = first(workers, hold)
    await asyncio.to_thread(begun.wait)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]


async def test_the_shutdown_says_what_still_runs(workers: Workers) -> None:
    """It waits, and not for ever."""
    go_on, begun = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        go_on.wait()

    task = first(workers, hold)
    await asyncio.to_thread(begun.wait)
    assert await workers.shut_down(0.01) == 1
    go_on.set()
    await task
