"""Synchronous code that awaits, in greenlets that are used again.

A function runs in a greenlet, and what it awaits by ``sqlalchemy.util.await_only`` is
awaited by the task that drives it, as by ``greenlet_spawn`` of SQLAlchemy. There each
call makes a greenlet, for which CPython maps a fresh stack: as costly as a dozen
switches, and a tenth of a small query. Here one that is through with its function rests
until the next.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, cast

from greenlet import GreenletExit, getcurrent, greenlet

if TYPE_CHECKING:
    from collections.abc import Callable


class Greenlets:
    """The resting greenlets of one event loop."""

    def __init__(self) -> None:
        self._resting: list[_Worker] = []

    async def run(self, function: Callable[..., None], *args: Any) -> None:
        """Call ``function(*args)`` in a greenlet, awaiting here what it awaits."""
        worker = self._resting.pop() if self._resting else _Worker(_work)
        driver = getcurrent()
        worker.parent = driver
        worker.gr_context = driver.gr_context
        worker.at_rest = False
        worker.function = functools.partial(function, *args)
        awaitable = worker.switch()
        while not worker.at_rest:
            try:
                value = await awaitable
            except BaseException as error:  # noqa: BLE001 - belongs to the function
                awaitable = worker.throw(error)
            else:
                awaitable = worker.switch(value)
        raised, worker.raised = worker.raised, None
        self._resting.append(worker)
        if raised is not None:
            raise raised

    def end(self) -> None:
        """End the resting ones."""
        while self._resting:
            worker = self._resting.pop()
            worker.parent = getcurrent()
            worker.switch()


class _Worker(greenlet):
    """A greenlet that runs one function after another."""

    __sqlalchemy_greenlet_provider__ = True  # SQLAlchemy may await in it

    function: Callable[[], None] | None = None
    raised: BaseException | None = None
    at_rest = False

    def rest(self) -> greenlet:
        """Be at rest, and return who drives it."""
        self.at_rest = True
        return cast("greenlet", self.parent)


def _work() -> None:
    # At rest no local may hold the greenlet that this runs in: it would never be freed.
    while True:
        function, _current().function = _current().function, None
        if function is None:
            return
        try:
            function()
        except GreenletExit:
            raise  # nobody is left who would drive it
        except BaseException as error:  # noqa: BLE001 - raised by the driver
            _current().raised = error
        del function
        _current().rest().switch()


def _current() -> _Worker:
    return cast("_Worker", getcurrent())
