"""aiosqlite connections that a cancel leaves with nothing running."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import aiosqlite
from aiosqlite.context import Result

from ._waiting import wait_for_end

if TYPE_CHECKING:
    from collections.abc import Callable
    from queue import SimpleQueue

T = TypeVar("T")

_FETCHED_AT_ONCE = 64  # aiosqlite's own default


class Connection(aiosqlite.Connection):
    """A connection whose thread is idle when a cancelled call has returned.

    aiosqlite forgets the call and lets its thread work on. Interrupting is not enough:
    SQLite ignores it when the statement is still in the thread's queue.
    """

    stopped: asyncio.Future[Any] | None = None
    """Done when the thread has ended; ``None`` before it is told to."""

    def stop(self) -> asyncio.Future[Any] | None:
        # Told twice, it would never answer the second time: the thread has gone.
        if self.stopped is None:
            self.stopped = super().stop()  # pyright: ignore[reportUnknownMemberType]
        return None if self.stopped is None else asyncio.shield(self.stopped)

    def cursor(self) -> Result[aiosqlite.Cursor]:
        return Result(self._make_cursor())

    async def _make_cursor(self) -> aiosqlite.Cursor:
        return _Cursor(self, await self._execute(self._conn.cursor))

    def close_soon(self, cursor: sqlite3.Cursor) -> None:
        """Have the thread close ``cursor`` before anything else that it is told."""
        if self.stopped is None:
            calls = cast("SimpleQueue[Any]", self._tx)  # pyright: ignore[reportUnknownMemberType]
            calls.put_nowait((None, cursor.close))

    async def _execute(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        call = _Call(functools.partial(fn, *args, **kwargs))
        try:
            result: T = await super()._execute(call)  # type: ignore[no-untyped-call]
        except asyncio.CancelledError:
            call.wanted = False
            with contextlib.suppress(ValueError):  # it is closed already
                while call.running:
                    self._conn.interrupt()
                    await _one_millisecond()
            await self._close_cursor(fn)
            raise
        return result

    async def _close_cursor(self, fn: Callable[..., Any]) -> None:
        # An open cursor of an unfinished statement keeps the file locked, after its
        # connection is closed too, for as long as a traceback refers to it.
        cursor = getattr(fn, "__self__", None)
        if isinstance(cursor, sqlite3.Cursor):
            closing = asyncio.ensure_future(super()._execute(cursor.close))  # type: ignore[no-untyped-call]
            with contextlib.suppress(asyncio.CancelledError, ValueError, sqlite3.Error):
                await wait_for_end(closing)


class _Cursor(aiosqlite.Cursor):
    """A cursor whose closing nobody waits for.

    SQLAlchemy logs whatever ends that, a cancel too, as an error. And it is one round
    trip to the thread of the four that a query takes.
    """

    async def close(self) -> None:
        connection = cast("Connection", self._conn)
        connection.close_soon(self._cursor)


class _Call:
    """A call on its way to the connection's thread."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self.wanted = True
        self.running = False

    def __call__(self) -> Any:
        self.running = True
        try:
            return self._function() if self.wanted else None
        finally:
            self.running = False


async def _one_millisecond() -> None:
    # A further cancel changes nothing: what runs must end first.
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0.001)


def _open(database: str, **options: Any) -> sqlite3.Connection:
    # SQLite would make an empty file, which hides a wrong path from who only reads.
    if not options.get("uri") and not Path(database).exists():
        raise sqlite3.OperationalError(
            f"unable to open database file: there is no {Path(database).absolute()}"
        )
    connection: sqlite3.Connection = sqlite3.connect(database, **options)
    return connection


async def connect(database: str, **options: Any) -> aiosqlite.Connection:
    """Connect as ``aiosqlite.connect`` does; leave nothing behind when cancelled.

    Unlike that, refuse a file that does not exist.
    """
    connector = functools.partial(_open, database, **options)
    connection = Connection(connector, _FETCHED_AT_ONCE)
    # As SQLAlchemy does where it connects itself: a connection that nobody closes must
    # not keep the interpreter from exiting.
    connection._thread.daemon = True  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    connecting = asyncio.ensure_future(connection)
    try:
        return await wait_for_end(connecting)
    except BaseException:
        if connecting.exception() is None:
            await connection.close()
        elif connection.stopped is not None:  # aiosqlite does not wait for it
            await connection.stopped
        raise
