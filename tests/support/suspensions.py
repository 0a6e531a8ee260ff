"""Count where an event loop's tasks suspend, and act at one of these points."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

# What a dialect is asked to do, and the phase of a query that it belongs to.
_PHASES = {
    "connect": "connecting",
    "do_execute": "executing",
    "do_rollback": "closing",
    "do_close": "closing",
    "do_terminate": "closing",
}


class Suspensions:
    """Counts each time that a task which was made meanwhile suspends.

    Attributes:
        count: How often one did, since the last ``begin``.
        phases: What queries were doing at the points where something was done.
    """

    def __init__(self) -> None:
        self.count = 0
        self.phases: set[str] = set()
        self._actions: dict[int, Callable[[], object]] = {}
        self._at_arrival = False
        self._active: Counter[str] = Counter()

    def begin(
        self, actions: dict[int, Callable[[], object]], *, at_arrival: bool = False
    ) -> None:
        """Count from 0, and call each of ``actions`` at the point of its number.

        Args:
            actions: What to call, by number of the point, from 1.
            at_arrival: Call it when what the point waits for is there, but the task
                does not know yet; else at once.
        """
        self.count = 0
        self._actions = actions
        self._at_arrival = at_arrival

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count the suspensions of the tasks that are made inside."""
        loop = asyncio.get_running_loop()
        factory = loop.get_task_factory()
        loop.set_task_factory(self._make_task)
        try:
            yield
        finally:
            loop.set_task_factory(factory)

    def watch(self, dialect: Dialect) -> None:
        """Know the phases of the queries on ``dialect``, of one engine alone."""
        for name, phase in _PHASES.items():
            setattr(dialect, name, self._inside(phase, getattr(dialect, name)))

    def _inside(self, phase: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **options: Any) -> Any:
            self._active[phase] += 1
            try:
                return method(*args, **options)
            finally:
                self._active[phase] -= 1

        return call

    def _make_task(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Any,
        **options: Any,
    ) -> asyncio.Task[Any]:
        counted = _Counted(coroutine, self._suspended)
        return asyncio.Task(counted, loop=loop, **options)

    def _suspended(self, awaited: Any) -> None:
        self.count += 1
        action = self._actions.get(self.count)
        if action is None:
            return
        self.phases.update(+self._active)
        if self._at_arrival and asyncio.isfuture(awaited):
            awaited.add_done_callback(lambda _: action())  # before the task's own
        else:
            action()


class _Counted(Coroutine[Any, Any, Any]):
    """A coroutine that says when it suspends."""

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], suspended: Callable[[Any], None]
    ) -> None:
        self._coroutine = coroutine
        self._suspended = suspended

    def send(self, value: Any) -> Any:
        awaited = self._coroutine.send(value)
        self._suspended(awaited)
        return awaited

    def throw(self, *error: Any) -> Any:
        awaited = self._coroutine.throw(*error)
        self._suspended(awaited)
        return awaited

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()
