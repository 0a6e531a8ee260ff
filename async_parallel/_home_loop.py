"""The one event loop of the process on which engines, lanes and async views run."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from ._blocking import BlockingWatch
from ._forks import keep_for_ever, watch
from ._portal import Portal, refuse_patched_process, refuse_uwsgi_without_threads
from ._remote import RemoteCall
from ._serving import restore
from ._waiting import running_loop
from .errors import GathererClosedError, HomeLoopError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Future

T = TypeVar("T")


class Tenant(Protocol):
    """What lives on the home loop and cannot move."""

    def abandon(self) -> object:
        """Start afresh, closing nothing; return what was left behind."""


class HomeLoop:
    """Which loop is home, and how to get there from anywhere else.

    Home is the loop that was adopted, such as the ASGI server's. Where none was, it
    is the portal's: a loop in a thread of its own, started when it is first needed,
    so after a server has forked. A forked child forgets its parent's home.

    Args:
        owner: How errors name who this is for.
        portal: Whether a portal may be started. Without, home is the loop of the
            first caller.
        debug: Asked when a loop becomes home: whether to name what blocks it.
    """

    def __init__(
        self, owner: str, *, portal: bool, debug: Callable[[], bool] | None = None
    ) -> None:
        self._owner = owner
        self._may_start_portal = portal
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._portal: Portal | None = None
        self._debug = debug
        self._watch: BlockingWatch | None = None
        self._pid = os.getpid()
        self._tenants: weakref.WeakSet[Tenant] = weakref.WeakSet()
        watch(self)

    def join(self, tenant: Tenant) -> None:
        """Have ``tenant`` told when home is lost and it must start afresh."""
        self._tenants.add(tenant)

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """Home, or ``None`` where there is none yet, or none any more."""
        if self._pid != os.getpid():  # forked without Python's knowledge
            self.after_fork()
        loop = self._loop
        return None if loop is None or loop.is_closed() else loop

    @property
    def has_portal(self) -> bool:
        """Whether home is a portal's loop."""
        return self.loop is not None and self._portal is not None

    def adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make ``loop`` home; what lived on another one must have been closed."""
        refuse_patched_process()
        if self.loop is not loop:
            self._forget()
            self._loop = loop
            self._watch_blocking(loop, threading.get_ident())

    def ensure(self) -> asyncio.AbstractEventLoop:
        """Home; where there is none, the portal is started or the caller's adopted.

        Raises:
            HomeLoopError: The loop that was home is closed, or uwsgi runs without
                threads.
            PatchedProcessError: gevent or eventlet patched this process.
        """
        loop = self.loop
        if loop is not None:
            return loop
        if not self._may_start_portal:
            return self._adopt_first()
        refuse_patched_process()
        refuse_uwsgi_without_threads()
        with self._lock:
            if self.loop is None:
                self._forget()
                self._portal = Portal()
                self._loop = self._portal.loop
                self._watch_blocking(self._portal.loop, self._portal.thread)
            return self._portal.loop if self._portal else self._require()

    def stop(self) -> None:
        """Stop the portal and wait for its thread; forget an adopted loop."""
        with self._lock:
            portal = self._portal
            self._forget()  # what was made meanwhile starts afresh
        if portal is not None:
            portal.stop()

    async def carry(
        self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any
    ) -> T:
        """Await ``function(*args)`` on the home loop, from whichever loop this is.

        On a foreign loop the caller's context goes along, and a cancel is forwarded
        once; then this waits until all is clean over there.
        """
        here, home = asyncio.get_running_loop(), self.ensure()
        if here is home:
            return await function(*args)
        call = RemoteCall(home, contextvars.copy_context(), function, args, self._owner)
        return await call.wait()

    def block_on(
        self,
        function: Callable[..., Coroutine[Any, Any, T]],
        *args: Any,
        meanwhile: Callable[[Future[T]], None] | None = None,
    ) -> T:
        """Run ``function(*args)`` on the home loop and return its result.

        Blocks the calling thread; inside a greenlet on an event loop it suspends only
        the greenlet. The caller's context goes along, and what the coroutine sets in
        it comes back.

        Args:
            function: The coroutine function.
            args: Its arguments.
            meanwhile: What the thread does until the outcome is there.

        Raises:
            HomeLoopError: Called in a coroutine, whose loop it would block.
        """
        context = contextvars.copy_context()
        if running_loop() is not None:
            if not in_greenlet():
                raise HomeLoopError(
                    "run_in_parallel() would block the event loop, so it cannot be"
                    " called in async code. Write 'await gather_queries(...)'; in a"
                    " view that is marked 'nonblocking', take the mark off."
                )
            task = asyncio.get_running_loop().create_task(
                self.carry(function, *args), context=context
            )
            try:
                return await_only(task)
            finally:
                restore(context)
        call = RemoteCall(self.ensure(), context, function, args, self._owner)
        try:
            if meanwhile is not None:
                meanwhile(call.outcome)
            return call.result()
        finally:
            restore(context)

    def _adopt_first(self) -> asyncio.AbstractEventLoop:
        if self._loop is not None:
            raise HomeLoopError(
                f"The event loop that {self._owner} was used on is closed, and its"
                " connections with it. Make one for each loop, and close it before the"
                " loop ends: 'async with QueryGatherer(...) as gatherer'."
            )
        self.adopt(asyncio.get_running_loop())
        return self._require()

    def _require(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise GathererClosedError(self._owner)
        return self._loop

    def after_fork(self) -> None:
        """Forget the parent's home, in a forked child."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._lock = threading.Lock()  # the parent's may be held for ever
        watch, self._watch = self._watch, None  # its thread is the parent's
        keep_for_ever([self._loop, self._portal, watch, self._forget()])

    def _watch_blocking(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        if self._debug is not None and self._debug():
            self._watch = BlockingWatch(loop, thread)

    def _forget(self) -> list[object]:
        was_home, self._loop, self._portal = self._loop, None, None
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        if was_home is None:
            return []
        return [tenant.abandon() for tenant in list(self._tenants)]
