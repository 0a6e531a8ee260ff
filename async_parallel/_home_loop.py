"""The one event loop of the process on which engines, lanes and async views run."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from ._remote import RemoteCall
from ._serving import restore
from .errors import GathererClosedError, HomeLoopError, PatchedProcessError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


class HomeLoop:
    """Which loop is home, and how to get there from anywhere else.

    Home is the loop that was adopted, such as the ASGI server's. Where none was, it
    is the portal's: a loop in a thread of its own, started when it is first needed,
    so after a server has forked. A forked child forgets its parent's home.

    Args:
        owner: How errors name who this is for.
        portal: Whether a portal may be started. Without, home is the loop of the
            first caller.
    """

    def __init__(self, owner: str, *, portal: bool) -> None:
        self._owner = owner
        self._may_start_portal = portal
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._portal: _Portal | None = None
        self._pid = os.getpid()
        self._inherited: list[object] = []
        self.generation = 0
        """Grows when home is forgotten: what was bound to the old loop is lost."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """Home, or ``None`` where there is none yet, or none any more."""
        if self._pid != os.getpid():
            self._forget_parent()
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
        _refuse_uwsgi_without_threads()
        with self._lock:
            if self.loop is None:
                self._forget()
                self._portal = _Portal()
                self._loop = self._portal.loop
            return self._portal.loop if self._portal else self._require()

    def stop(self) -> None:
        """Stop the portal and wait for its thread; forget an adopted loop."""
        with self._lock:
            portal = self._portal if self._pid == os.getpid() else None
            self._forget()
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
        self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any
    ) -> T:
        """Run ``function(*args)`` on the home loop and return its result.

        Blocks the calling thread; inside a greenlet on an event loop it suspends only
        the greenlet. The caller's context goes along, and what the coroutine sets in
        it comes back.

        Raises:
            HomeLoopError: Called in a coroutine, whose loop it would block.
        """
        context = contextvars.copy_context()
        if _running_loop() is not None:
            if not in_greenlet():
                raise HomeLoopError(
                    "This blocks, and it was called in a coroutine: the event loop"
                    " could do nothing else, not even answer it. In async code"
                    " write 'await gather_queries(...)' instead of"
                    " 'run_in_parallel(...)'."
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
            return call.outcome.result()
        except KeyboardInterrupt:
            call.cancel()
            concurrent.futures.wait([call.outcome])
            raise
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

    def _forget(self) -> None:
        if self._loop is not None:
            self.generation += 1
        self._loop = self._portal = None

    def _forget_parent(self) -> None:
        # Kept alive: a finaliser would touch the selector that the parent still uses.
        self._inherited += [self._loop, self._portal]
        self._lock = threading.Lock()  # the parent's may be held for ever
        self._pid = os.getpid()
        self._forget()


class _Portal:
    """A thread that runs an event loop until it is stopped."""

    def __init__(self) -> None:
        started = threading.Event()
        self._started = started
        self._thread = threading.Thread(
            target=self._main, name="async_parallel portal", daemon=True
        )
        self.loop: asyncio.AbstractEventLoop
        self._thread.start()
        started.wait()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    def _main(self) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        self._started.set()
        await self._stopped.wait()


def refuse_patched_process() -> None:
    """Refuse to run beside gevent's or eventlet's replacements of the standard library.

    Raises:
        PatchedProcessError: ``socket`` is patched.
    """
    gevent: Any = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("socket"):
        raise PatchedProcessError("gevent")
    eventlet: Any = sys.modules.get("eventlet.patcher")
    if eventlet is not None and eventlet.is_monkey_patched("socket"):
        raise PatchedProcessError("eventlet")


def _refuse_uwsgi_without_threads() -> None:
    # The module exists only inside a uwsgi worker.
    uwsgi: Any = sys.modules.get("uwsgi")
    if uwsgi is None:
        return
    options = {name.decode() if isinstance(name, bytes) else name for name in uwsgi.opt}
    if not options & {"enable-threads", "threads"}:
        raise HomeLoopError(
            "uwsgi runs without threads, and the event loop needs one. Start it with"
            " --enable-threads."
        )


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
