"""Greenlets that are used again."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from typing import Any

import greenlet
import pytest
from sqlalchemy.util import await_only

from async_parallel._greenlets import Greenlets

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


async def answer(value: Any) -> Any:
    """Wait for a turn of the loop, then return ``value``."""
    await asyncio.sleep(0)
    return value


async def test_a_greenlet_rests_until_the_next_function() -> None:
    """Functions one after another run in one greenlet, those at once in several."""
    greenlets, used = Greenlets(), []

    def work() -> None:
        await_only(answer(1))
        used.append(greenlet.getcurrent())

    for _ in range(3):
        await greenlets.run(work)
    await asyncio.gather(greenlets.run(work), greenlets.run(work))
    assert len(used) == 5
    assert len(set(used)) == 2
    greenlets.end()


def test_who_drives_it_may_be_another_each_time() -> None:
    """It returns to the greenlet of the task that runs it now."""
    greenlets, drivers = Greenlets(), []

    def step() -> None:
        running = greenlets.run(lambda: drivers.append(greenlet.getcurrent().parent))
        with pytest.raises(StopIteration):
            running.send(None)

    step()
    other = greenlet.greenlet(step)
    other.switch()
    step()
    assert drivers == [greenlet.getcurrent(), other, greenlet.getcurrent()]
    greenlets.end()


async def test_a_function_awaits_and_sees_the_arguments_and_the_context() -> None:
    """What a function awaits returns to it, under the context of who runs it."""
    greenlets, seen = Greenlets(), []

    def work(*args: int) -> None:
        seen.append((await_only(answer(args)), variable.get()))

    for name in ("a", "b"):
        variable.set(name)
        await asyncio.create_task(greenlets.run(work, 1, 2))
    assert seen == [((1, 2), "a"), ((1, 2), "b")]
    greenlets.end()


async def test_an_error_reaches_who_awaits_and_the_greenlet_is_used_again() -> None:
    """An error of what is awaited reaches the function, its own reaches the caller."""
    greenlets, used = Greenlets(), []

    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError("awaited")

    def work() -> None:
        used.append(greenlet.getcurrent())
        try:
            await_only(fail())
        except LookupError as error:
            raise ValueError("own") from error

    for _ in range(2):
        with pytest.raises(ValueError, match="own") as caught:
            await greenlets.run(work)
        assert isinstance(caught.value.__cause__, LookupError)
    assert used[0] is used[1]
    greenlets.end()


async def test_a_cancel_reaches_the_function_where_it_awaits() -> None:
    """A cancelled task throws the cancel into its function."""
    greenlets, started, seen = Greenlets(), asyncio.Event(), []

    async def wait() -> None:
        started.set()
        await asyncio.Event().wait()

    def work() -> None:
        try:
            await_only(wait())
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    task = asyncio.create_task(greenlets.run(work))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"]
    greenlets.end()


async def test_a_resting_greenlet_holds_nothing() -> None:
    """The function and its arguments are let go at its end."""

    class Thing:
        """Something that a weak reference can watch."""

    greenlets, thing = Greenlets(), Thing()
    watched = weakref.ref(thing)
    await greenlets.run(lambda _: None, thing)
    del thing
    assert watched() is None
    greenlets.end()


async def test_the_end_leaves_no_greenlet() -> None:
    """Resting greenlets are gone after the end, and without one when dropped."""
    for end in (True, False):
        greenlets = Greenlets()
        used: list[greenlet.greenlet] = []
        await greenlets.run(lambda used=used: used.append(greenlet.getcurrent()))
        if end:
            greenlets.end()
            assert used[0].dead
        watched = weakref.ref(used.pop())
        del greenlets
        gc.collect()
        assert watched() is None


async def test_not_all_of_a_burst_stay_at_rest() -> None:
    """Each would keep its stack, for a day that may never come."""
    greenlets = Greenlets()
    together = asyncio.Barrier(100)

    def meet() -> None:
        await_only(together.wait())

    await asyncio.gather(*(greenlets.run(meet) for _ in range(100)))
    assert len(greenlets._resting) == 64
    greenlets.end()
