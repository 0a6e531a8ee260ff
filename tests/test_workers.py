"""Threads for synchronous functions: bounded, and one for each request at a time."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import TYPE_CHECKING, Any

import pytest

from async_parallel._client import Client
from async_parallel._serving import ServedRequest
from async_parallel._workers import Worker, Workers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    """Two threads."""
    workers = Workers(2)
    yield workers
    assert await workers.shut_down(10) == 0


async def test_there_are_no_more_than_allowed(workers: Workers) -> None:
    """A third request waits until one of two gives its worker back."""
    first, second = await workers.take(), await workers.take()
    third = asyncio.create_task(workers.take())
    await asyncio.sleep(0)
    assert not third.done()
    workers.give_back(first)
    assert await third is first
    workers.give_back(first)
    workers.give_back(second)


async def test_who_waits_first_is_served_first(workers: Workers) -> None:
    """Also before one who comes just when a worker is given back."""
    held = [await workers.take() for _ in range(2)]
    waiting = [asyncio.create_task(workers.take()) for _ in range(3)]
    await asyncio.sleep(0)
    for worker in held:
        workers.give_back(worker)
    late = asyncio.create_task(workers.take())
    assert [await waiting[0], await waiting[1]] == held
    assert not waiting[2].done()
    for worker in held:
        workers.give_back(worker)
    for task in (waiting[2], late):
        workers.give_back(await task)


@pytest.mark.parametrize("lent", [False, True])
async def test_who_is_cancelled_while_waiting_keeps_nothing(
    lent: bool,  # noqa: FBT001 - a parameter of the test
    workers: Workers,
) -> None:
    """Whether or not a worker was just lent to him."""
    held = [await workers.take() for _ in range(2)]
    waiting = asyncio.create_task(workers.take())
    await asyncio.sleep(0)
    if lent:
        workers.give_back(held.pop())
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    for worker in held:
        workers.give_back(worker)
    for worker in [await workers.take(), await workers.take()]:
        workers.give_back(worker)


async def test_a_cancel_is_raised_when_the_function_has_ended(workers: Workers) -> None:
    """Nothing of a request goes on beside it."""
    begun, go_on = threading.Event(), threading.Event()
    ended: list[bool] = []

    def hold() -> None:
        begun.set()
        go_on.wait()
        ended.append(True)

    worker = await workers.take()
    task = asyncio.create_task(worker.run(hold))
    await asyncio.to_thread(begun.wait)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]
    workers.give_back(worker)


async def test_a_function_that_waits_lets_others_run_on_its_thread(
    workers: Workers,
) -> None:
    """Until what it waits for is there."""
    worker = await workers.take()
    outcome: concurrent.futures.Future[object] = concurrent.futures.Future()
    threads: list[threading.Thread] = []

    def note() -> None:
        threads.append(threading.current_thread())

    def outer() -> None:
        note()
        worker.work_until_done(outcome)
        note()

    running = asyncio.create_task(worker.run(outer))
    for _ in range(3):
        await worker.run(note)
    assert not running.done()
    outcome.set_result(None)
    await running
    assert len(threads) == 5
    assert len(set(threads)) == 1
    workers.give_back(worker)


async def test_the_shutdown_says_how_many_are_left() -> None:
    """It waits, and not for ever; who waits for a thread gets an error."""
    workers = Workers(1)
    worker: Worker = await workers.take()
    waiting = asyncio.create_task(workers.take())
    await asyncio.sleep(0)
    assert await workers.shut_down(0.01) == 1
    for late in (waiting, asyncio.create_task(workers.take())):
        with pytest.raises(RuntimeError, match="shuts down"):
            await late
    workers.give_back(worker)


def request_with(workers: Workers) -> ServedRequest:
    """A request that has no worker yet."""
    request = ServedRequest()
    request.workers = workers
    request.client = Client(never, asyncio.get_running_loop(), [])
    return request


async def never() -> Any:
    """Receive nothing."""
    await asyncio.Event().wait()


async def test_threads_of_one_request_that_ask_at_once_cost_one_worker(
    workers: Workers,
) -> None:
    """And each is given back once."""
    request, ran = request_with(workers), []
    others = [await workers.take() for _ in range(2)]
    asking = [
        asyncio.create_task(request.run_off_loop(lambda: ran.append(1)))
        for _ in range(3)
    ]
    await asyncio.sleep(0)
    asking.pop(0).cancel()  # who comes next goes on
    workers.give_back(others.pop())
    async with asyncio.timeout(10):
        await asyncio.gather(*asking)
    assert len(ran) == 2
    request.end()
    workers.give_back(others.pop())
    assert len(set(workers._idle)) == len(workers._idle) == 2
    assert not workers._lent


@pytest.mark.parametrize("waits", [False, True])
async def test_who_asks_when_the_request_is_through_gives_its_worker_back(
    workers: Workers,
    *,
    waits: bool,
) -> None:
    """A thread may outlive its request; nobody would come for its worker."""
    request, ran = request_with(workers), []
    await request.run_off_loop(lambda: ran.append(1))
    if waits:  # since before the end, for all are lent
        request.give_worker_back()
        others = [await workers.take() for _ in range(2)]
        late = asyncio.create_task(request.run_off_loop(lambda: ran.append(2)))
        await asyncio.sleep(0)
        request.end()
        for worker in others:
            workers.give_back(worker)
        await late
    else:
        request.end()
        await request.run_off_loop(lambda: ran.append(2))
    assert ran == [1, 2]
    assert len(set(workers._idle)) == len(workers._idle)
    assert not workers._lent
