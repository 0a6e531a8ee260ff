"""Synchronous code in a greenlet on an event loop, that awaits without a thread.

The request has one context, which is not that of the task below: a worker thread may
enter it while the greenlet is suspended, even if the task is cancelled meanwhile. The
greenlet is of a class of its own: inside an async view SQLAlchemy still refuses
implicit IO, as it does under any other server.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from greenlet import getcurrent, greenlet

from ._greenlets import Greenlets
from ._greenlets import Worker as GreenletWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from ._client import Client
    from ._workers import Worker, Workers

T = TypeVar("T")


class ServedRequest:
    """What a request is served with.

    Attributes:
        client: Who asked.
        workers: Where its worker is taken from.
        stream: What its response is made of, if that is an async iterator.
        worker: Where its synchronous functions run, once there was one.
        cancelled: The cancel that came while it was being torn down. It waits until
            that is over, or what the other functions give back would be lost.
    """

    client: Client
    workers: Workers
    # What most requests never change is the class's, so that a request costs less.
    stream: Any = None
    worker: Worker | None = None
    cancelled: asyncio.CancelledError | None = None
    _is_through = False
    _taking: asyncio.Lock | None = None

    async def run_off_loop(self, function: Callable[[], None]) -> None:
        """Run ``function``, which raises nothing, in the request's worker."""
        worker = self.worker or await self._take_worker()
        is_own = worker is self.worker
        try:
            await worker.run(function)
        except asyncio.CancelledError as error:
            if not _tears_down():
                raise
            self.cancelled = error
        finally:
            if not is_own:
                self.workers.give_back(worker)

    async def _take_worker(self) -> Worker:
        """The request's worker; one for a function, if the request is through."""
        # Threads of the application's may ask at once, and when the request is through.
        self._taking = taking = self._taking or asyncio.Lock()
        async with taking:
            if self.worker is None:
                worker = await self.workers.take()
                if self._is_through:
                    return worker
                self.worker = worker
            return self.worker

    def give_worker_back(self) -> None:
        """Let another request have the worker, for nothing more is to run in it."""
        self._is_through = True
        if self.worker is not None:
            worker, self.worker = self.worker, None
            self.workers.give_back(worker)

    def end(self) -> asyncio.Task[None] | None:
        """Let everything go.

        Returns:
            What still listens to the client, and has been cancelled; to be waited for.
        """
        self.give_worker_back()
        return self.client.end()


served_request: contextvars.ContextVar[ServedRequest] = contextvars.ContextVar(
    "served_request"
)
"""The request that this code is part of, under ``ASGIAdapter``."""


class _Serving(GreenletWorker):
    """The greenlet of one request."""


def serving_greenlets() -> Greenlets:
    """Greenlets for requests, in which ``await_here`` and ``off_loop`` work."""
    return Greenlets(_Serving)


async def serve(function: Callable[..., T], *args: Any) -> T:
    """Run ``function`` in a greenlet on the running loop, and return its result."""
    greenlets = serving_greenlets()
    call = _Outcome(functools.partial(function, *args))
    context = contextvars.copy_context()
    try:
        await greenlets.run(call, context=context)
    finally:
        greenlets.end()
        restore(context)
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
    """Call ``function`` where it may block, in this context, and wait for it.

    That is the request's worker if this is a request's greenlet, and right here if it
    is not. A function that has begun is always waited for: nothing of the request goes
    on beside it. The context is the same object, so what one function sets, another
    may reset by its token.
    """
    current = getcurrent()
    if not isinstance(current, _Serving):
        return function(*args, **kwargs)
    call = _Outcome(functools.partial(function, *args, **kwargs))
    context: Any = current.gr_context
    await_here(served_request.get().run_off_loop(functools.partial(context.run, call)))
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


def _tears_down() -> bool:
    """Whether Flask has this called because a context ends."""
    # To note it where each begins and ends would cost all requests something.
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_name not in _TEARDOWNS:
        frame = frame.f_back
    return frame is not None


_TEARDOWNS = {"do_teardown_request", "do_teardown_appcontext"}
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
