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

from async_parallel import _greenlets
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


def meet(together: asyncio.Barrier) -> None:
    """Wait for the others."""
    await_only(together.wait())


async def burst(greenlets: Greenlets, size: int) -> None:
    """Have so many run at once."""
    together = asyncio.Barrier(size)
    await asyncio.gather(*(greenlets.run(meet, together) for _ in range(size)))


def pass_time(greenlets: Greenlets) -> int:
    """Do what is done after a while; return how many are at rest then."""
    assert greenlets._timer is not None
    greenlets._timer.cancel()
    greenlets._end_unwanted()
    return len(greenlets._resting)


async def test_as_many_rest_as_have_run_at_once() -> None:
    """To make them anew for each burst costs more than all that they do."""
    greenlets = Greenlets()
    await burst(greenlets, 200)
    assert len(greenlets._resting) == 200
    pass_time(greenlets)  # in which they came to rest
    for _ in range(3):
        await burst(greenlets, 100)
        assert pass_time(greenlets) == 100
    assert pass_time(greenlets) == 64
    assert greenlets._timer is None
    await burst(greenlets, 60)
    assert greenlets._timer is None
    greenlets.end()


async def test_what_a_burst_leaves_ends_when_nobody_wants_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each would keep its stack, for a day that may never come."""
    monkeypatch.setattr(_greenlets, "_PATIENCE", 0.001)
    greenlets = Greenlets()
    await burst(greenlets, 200)
    async with asyncio.timeout(20):
        while greenlets._timer is not None:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)
    assert len(greenlets._resting) == 64
    greenlets.end()


async def test_not_all_of_that_end_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else has a turn meanwhile."""
    monkeypatch.setattr(_greenlets, "_MOST_AT_ONCE", 50)
    greenlets = Greenlets()
    await burst(greenlets, 200)
    assert [pass_time(greenlets) for _ in range(3)] == [150, 100, 64]
    greenlets.end()


async def test_the_fewest_at_rest_count_not_the_last() -> None:
    """A burst may come again, and smaller things between."""
    greenlets = Greenlets()
    await burst(greenlets, 200)
    pass_time(greenlets)
    await burst(greenlets, 100)
    await burst(greenlets, 1)
    assert pass_time(greenlets) == 100
    greenlets.end()


async def test_what_is_to_be_done_later_keeps_nobodys_context() -> None:
    """The first too many at rest is of a request like any other."""

    class Thing:
        """Something that a weak reference can watch."""

    greenlets, watched = Greenlets(), []
    things: contextvars.ContextVar[Thing] = contextvars.ContextVar("things")
    together = asyncio.Barrier(70)

    async def run() -> None:
        thing = Thing()
        things.set(thing)
        watched.append(weakref.ref(thing))
        await greenlets.run(meet, together)

    await asyncio.gather(*(asyncio.create_task(run()) for _ in range(70)))
    await asyncio.sleep(0)
    assert greenlets._timer is not None
    gc.collect()
    assert [thing for thing in watched if thing() is not None] == []
    greenlets.end()


async def test_what_runs_at_the_end_may_rest_but_not_all_of_it() -> None:
    """Nobody is there any more who would end it."""
    greenlets, together = Greenlets(), asyncio.Barrier(101)
    running = [asyncio.ensure_future(greenlets.run(meet, together)) for _ in range(100)]
    await asyncio.sleep(0)
    greenlets.end()
    await together.wait()
    await asyncio.gather(*running)
    assert (len(greenlets._resting), greenlets._timer) == (64, None)
    greenlets.end()


async def test_nothing_is_to_be_done_after_the_end() -> None:
    """A server may go on without the application."""
    greenlets = Greenlets()
    await burst(greenlets, 70)
    timer = greenlets._timer
    assert timer is not None
    greenlets.end()
    assert timer.cancelled()
    assert not greenlets._resting
