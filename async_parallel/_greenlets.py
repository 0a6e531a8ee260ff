"""Synchronous code that awaits, in greenlets that are used again.

A function runs in a greenlet, and what it hands to its parent is awaited by the task
that drives it, as by ``greenlet_spawn`` of SQLAlchemy. There each call makes a
greenlet, for which CPython maps a fresh stack: as costly as a dozen switches, a tenth
of a small query or request. Here one that is through with its function rests until the
next.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit, getcurrent, greenlet

if TYPE_CHECKING:
    from collections.abc import Callable


# Each keeps its stack, some 20 KiB, so a burst of requests shall not keep all for good:
# where more than so many rest, those that nobody wanted for some seconds end, as idle
# threads of AnyIO do; so few at once that the loop is held for 3 ms, at 6 µs each.
_MANY_AT_REST = 64
_PATIENCE = 10.0
_MOST_AT_ONCE = 500


class Greenlets:
    """The resting greenlets of one event loop.

    As many rest as ran at once in the last seconds.

    Args:
        kind: Their class. Default: one in which SQLAlchemy may await, by
            ``sqlalchemy.util.await_only``.
    """

    def __init__(self, kind: type[Worker] | None = None) -> None:
        self._kind = kind or _SQLAlchemyWorker
        self._resting: list[Worker] = []
        self._unwanted = 0  # the fewest that were at rest since the timer was set
        self._timer: asyncio.TimerHandle | None = None
        self._has_ended = False

    async def run(
        self,
        function: Callable[..., None],
        *args: Any,
        context: contextvars.Context | None = None,
        translate: Callable[[BaseException], BaseException] | None = None,
    ) -> None:
        """Call ``function(*args)`` in a greenlet, awaiting here what it awaits.

        Args:
            function: What to call.
            args: Its arguments.
            context: What it runs in. Default: the context of the caller.
            translate: Makes what the function sees of an exception in what it awaits.
        """
        resting = self._resting
        worker = resting.pop() if resting else self._make()
        if self._timer is not None:
            self._unwanted = min(self._unwanted, len(resting))
        driver = getcurrent()
        if worker.parent is not driver:
            worker.parent = driver
        worker.gr_context = driver.gr_context if context is None else context
        awaitable = worker.switch((function, args))
        while awaitable is not _AT_REST:
            try:
                value = await awaitable
            except BaseException as error:  # noqa: BLE001 - belongs to the function
                awaitable = worker.throw(translate(error) if translate else error)
            else:
                awaitable = worker.switch(value)
        worker.gr_context = None  # it would keep what is set in it until the next
        resting.append(worker)
        if self._timer is None and len(resting) > _MANY_AT_REST:
            self._limit_rest()
        if worker.raised is not None:
            raised, worker.raised = worker.raised, None
            raise raised

    def end(self) -> None:
        """End the resting ones; what still runs may rest, up to a number."""
        self._has_ended = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._resting:
            self._end_one()

    def _make(self) -> Worker:
        worker = self._kind(_work)
        worker.switch()  # to its rest: what it is called with it holds until its end
        return worker

    def _limit_rest(self) -> None:
        """See that not all of many rest for good."""
        if self._has_ended:
            self._end_one()
            return
        self._unwanted = len(self._resting)
        # An empty context: that of who happens to be the first too many would be kept.
        self._timer = asyncio.get_running_loop().call_later(
            _PATIENCE, self._end_unwanted, context=contextvars.Context()
        )

    def _end_unwanted(self) -> None:
        self._timer = None
        many = len(self._resting) - _MANY_AT_REST
        for _ in range(min(many, self._unwanted, _MOST_AT_ONCE)):
            self._end_one()
        if len(self._resting) > _MANY_AT_REST:
            self._limit_rest()

    def _end_one(self) -> None:
        worker = self._resting.pop()
        worker.parent = getcurrent()
        worker.switch(None)


class Worker(greenlet):
    """A greenlet that runs one function after another."""

    raised: BaseException | None = None


_AT_REST: Any = object()
_current: Callable[[], Any] = getcurrent


class _SQLAlchemyWorker(Worker):
    __sqlalchemy_greenlet_provider__ = True


def _work() -> None:
    # At rest no local may hold the greenlet that this runs in: it would never be freed.
    while (call := _current().parent.switch(_AT_REST)) is not None:
        function, args = call
        try:
            function(*args)
        except GreenletExit:
            raise  # nobody is left who would drive it
        except BaseException as error:  # noqa: BLE001 - raised by the driver
            _current().raised = error
        del call, function, args
