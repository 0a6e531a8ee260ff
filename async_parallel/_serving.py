"""Synchronous code in a greenlet on an event loop, that awaits without a thread.

The request's greenlet and the task below it share one context, so what a view sets in
a context variable is seen on both sides. The greenlet is of a class of its own: inside
an async view SQLAlchemy still refuses implicit IO, as it does under any other server.
"""

from __future__ import annotations

import contextvars
import functools
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from greenlet import getcurrent, greenlet

from ._greenlets import Greenlets, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from ._client import Client
    from ._workers import Workers

T = TypeVar("T")


class ServedRequest:
    """What a request is served with.

    Attributes:
        workers: Where its functions that may block run.
        client: Who asked.
        stream: What its response is made of, if that is an async iterator.
        begun: Whether one of its functions has run in a worker.
        waiting: How many of its workers wait for the loop.
    """

    __slots__ = ("begun", "client", "stream", "waiting", "workers")

    def __init__(self, workers: Workers, client: Client) -> None:
        self.workers = workers
        self.client = client
        self.stream: Any = None
        self.begun = False
        self.waiting = 0

    async def run_off_loop(self, function: Callable[[], None]) -> None:
        """Run ``function``, which raises nothing, in a worker."""
        begun, self.begun = self.begun, True
        await self.workers.run(function, begun=begun, inside=self.waiting > 0)


served_request: contextvars.ContextVar[ServedRequest] = contextvars.ContextVar(
    "served_request"
)
"""The request that this code is part of, under ``ASGIAdapter``."""


class _Serving(Worker):
    """The greenlet of one request."""


def serving_greenlets() -> Greenlets:
    """Greenlets for requests, in which ``await_here`` and ``off_loop`` work."""
    return Greenlets(_Serving)


async def serve(function: Callable[..., T], *args: Any) -> T:
    """Run ``function`` in a greenlet on the running loop, and return its result."""
    greenlets = serving_greenlets()
    call = _Outcome(functools.partial(function, *args))
    try:
        await greenlets.run(call)
    finally:
        greenlets.end()
    return call.get()


def is_serving() -> bool:
    """Whether this code runs in a request's greenlet, on the event loop."""
    return isinstance(getcurrent(), _Serving)


def await_here(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run ``coroutine`` in this greenlet, suspending it wherever that waits.

    Synchronous code that the coroutine calls may use ``await_here`` again, which is
    how an async view can read the request's body.
    """
    step: Callable[[Any], Any] = coroutine.send
    argument: Any = None
    while True:
        try:
            yielded = step(argument)
        except StopIteration as stop:
            value: T = stop.value
            return value
        try:
            argument = _event_loop().switch(_Yielded(yielded))
            step = coroutine.send
        except BaseException as error:  # noqa: BLE001 - belongs to the coroutine
            argument = error
            step = coroutine.throw


def off_loop(function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """Call ``function`` where it may block, with this context, and wait for it.

    That is a worker thread if this is a request's greenlet, and right here if it is
    not. A function that has begun is always waited for: nothing of the request goes
    on beside it.
    """
    if not is_serving():
        return function(*args, **kwargs)
    context = contextvars.copy_context()
    try:
        return off_loop_in(context, function, *args, **kwargs)
    finally:
        restore(context)


def off_loop_in(
    context: contextvars.Context,
    function: Callable[..., T],
    /,
    *args: Any,
    **kwargs: Any,
) -> T:
    """Do the same in ``context``, which several calls in a row may share."""
    if not is_serving():
        return context.run(function, *args, **kwargs)
    call = _Outcome(functools.partial(function, *args, **kwargs))
    run = functools.partial(context.run, call)
    await_here(served_request.get().run_off_loop(run))
    return call.get()


def restore(context: contextvars.Context) -> None:
    """Set in the current context what was set in a copy of it."""
    for variable, value in context.items():
        if variable.get(_UNSET) is not value:
            variable.set(value)


def _event_loop() -> greenlet:
    parent = getcurrent().parent
    if parent is None:
        raise RuntimeError("This does not run in a greenlet on an event loop.")
    return parent


_UNSET = object()


class _Yielded:
    """Hands what a coroutine yielded on to the event loop."""

    __slots__ = ("_yielded",)

    def __init__(self, yielded: Any) -> None:
        self._yielded = yielded

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield self._yielded)


class _Outcome(Generic[T]):
    """What a function returns or raises; a future cannot hold a ``StopIteration``."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._values: list[T] = []
        self._error: BaseException | None = None

    def __call__(self) -> None:
        try:
            self._values.append(self._function())
        except BaseException as error:  # noqa: BLE001 - raised by get()
            self._error = error

    def get(self) -> T:
        if self._error is not None:
            raise self._error
        return self._values[0]
