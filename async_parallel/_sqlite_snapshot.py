"""One snapshot for several connections on SQLite, by its write lock."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy.util import asbool, await_only

from ._driver import driver_of, translated
from ._libpq import shown
from ._waiting import wait_for_end
from .errors import SnapshotUnsupportedError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Connection

# Seconds that the thread of a connection waits for the lock at once, and then rests.
# SQLite tries again ever more seldom; where writers follow each other closely, often.
_TRY = 0.01
_REST = 0.002
_PATIENCE = 5.0  # sqlite3's own default


class SQLiteSnapshot:
    """By a lock that keeps writers out while the readers begin."""

    stays_open: ClassVar = False
    ends_with_leader = False
    survives_errors: ClassVar = True
    # A transaction begins to read with its first statement.
    _BEGIN = "BEGIN; SELECT 1 FROM sqlite_master LIMIT 1;"

    def __init__(self, url: URL) -> None:
        self.identifier: str | None = None
        self._lock = _WriteLock(url)
        if self._lock.in_memory:
            raise SnapshotUnsupportedError(
                shown(url),
                "the connections of a shared cache see each other's changes. Use a"
                " file",
            )

    def take(self, connection: Connection, *, shared: bool) -> None:
        driver = driver_of(connection)
        is_locked = shared and translated(connection, self._lock.take, driver)
        try:
            self.join(connection)
        except BaseException:
            self.seal()
            raise
        self.identifier = "lock" if is_locked else None

    def join(self, connection: Connection) -> None:
        driver = driver_of(connection)
        translated(connection, driver.executescript, self._BEGIN)

    def seal(self) -> None:
        await_only(self._lock.release())

    def is_seen_by(self, connection: Connection) -> bool:
        driver = driver_of(connection)
        return bool(driver.in_transaction)

    def leave(self, connection: Connection) -> None:
        driver = driver_of(connection)
        translated(connection, driver.rollback)


class _WriteLock:
    """The write lock of one file, on a connection of its own.

    That lives in the thread of a reader's connection, for as long as the lock is held.
    The reader's own could not give the lock up and keep what it sees.

    Args:
        url: Of the database.

    Attributes:
        in_memory: Whether there is no file.
    """

    def __init__(self, url: URL) -> None:
        self._url = url
        self._file = _file(url)
        self.in_memory = self._file is None
        # Who may not write, may not lock either.
        query = url.query
        immutable = query.get("immutable", "0")
        self._forbidden = query.get("mode") == "ro" or asbool(str(immutable))
        self._connection: sqlite3.Connection | None = None
        self._driver: Any = None

    async def take(self, driver: Any) -> bool:
        """Take the lock in the thread of ``driver``; false where it cannot be written.

        Raises:
            SnapshotUnsupportedError: There are further files.
            OperationalError: sqlite3's own: others hold it for too long.
        """
        if self._forbidden:
            return False
        deadline = monotonic() + _PATIENCE
        self._driver = driver
        try:
            while True:
                try:
                    return bool(await driver._execute(self._begin, driver))  # noqa: SLF001
                except sqlite3.OperationalError as error:
                    if not _is_busy(error) or monotonic() > deadline:
                        raise
                await asyncio.sleep(_REST * random.uniform(0.5, 1))  # noqa: S311
        except BaseException:
            await self.release()
            raise

    async def release(self) -> None:
        """Give the lock up, also when cancelled; nothing where it was not taken."""
        driver, self._driver = self._driver, None
        if driver is None:
            return
        try:
            # Behind what takes it, which a cancel may have left on its way.
            ending = asyncio.ensure_future(driver._execute(self._end))  # noqa: SLF001
            await wait_for_end(ending)
        except ValueError:  # the thread has ended
            self._end()

    def _begin(self, driver: Any) -> bool:
        files = driver._conn.execute("PRAGMA database_list").fetchall()  # noqa: SLF001
        if len([name for _, name, _ in files if name != "temp"]) > 1:
            raise SnapshotUnsupportedError(
                shown(self._url),
                "it has other files attached, and each of them has states of its own."
                " Gather from each by itself",
            )
        if self._connection is None:
            self._connection = sqlite3.connect(
                f"{self._file}?mode=rw",
                uri=True,
                timeout=_TRY,
                isolation_level=None,
                check_same_thread=False,
            )
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_READONLY:
                self._end()
                return False
            raise
        return True

    def _end(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()  # which rolls back


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def _file(url: URL) -> str | None:
    """The URI of the database's file; ``None`` where it is in memory."""
    name = url.database or ":memory:"
    if ":memory:" in name or url.query.get("mode") == "memory":
        return None
    if name.startswith("file:") and asbool(str(url.query.get("uri", "0"))):
        return name.partition("?")[0]
    return Path(name).absolute().as_uri()
