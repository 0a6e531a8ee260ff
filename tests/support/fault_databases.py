"""Databases to which something happens, and what can be seen of their clients."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import asyncpg  # type: ignore[import-untyped]
from fault_tables import ITEMS, Base, Item, Written
from sqlalchemy import create_engine, make_url
from sqlalchemy.orm import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from restartable import RestartableServer

APPLICATION = "faults"
# Seconds that a server has to see that its client is gone.
_GRACE = 0.2
_OURS = f"FROM pg_stat_activity WHERE application_name = '{APPLICATION}'"
_RUNNING = f"{_OURS} AND state <> 'idle'"
# About how many steps of a recursive query SQLite does in a second.
_SQLITE_SPEED = 2_000_000


class FaultDatabase(Protocol):
    """A database to which something happens.

    Attributes:
        url: What a gatherer is given.
        threads: How many threads a connection to it has.
        deferred: Whether it checks foreign keys, when it commits.
    """

    url: str
    threads: int
    deferred: bool

    @property
    def faults(self) -> Sequence[str]:
        """What may happen to it, each as often as it is named."""

    def slow(self, seconds: float, number: int) -> str:
        """The SQL that takes so many seconds to select ``number``."""

    async def open(self) -> None:
        """Begin to look."""

    async def strike(self, fault: str, which: float) -> None:
        """Have ``fault`` happen; ``which`` chooses to whom, from 0 to 1."""

    async def check_limit(self, limit: int) -> None:
        """Check that there are no more connections than that."""

    async def check_rest(self) -> None:
        """Check that nothing of a gather is left."""

    async def written(self, lowest: int) -> set[int]:
        """Which rows there are, from that id on."""

    async def close(self) -> None:
        """End all that this began."""


def make_tables(url: str) -> None:
    """Make the tables, with what is read and the row 0."""
    engine = create_engine(url)
    try:
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add_all(Item(id=number) for number in range(1, ITEMS + 1))
            session.flush()
            session.add(Written(id=0, item_id=1))
            session.commit()
    finally:
        engine.dispose()


class FaultPostgreSQL:
    """A PostgreSQL server of the test's own."""

    faults = ("terminate",) * 40 + ("cancel",) * 40 + ("fast", "immediate")
    threads = 0
    deferred = True

    def __init__(self, server: RestartableServer) -> None:
        self._server = server
        make_tables(server.url)
        with_name = make_url(server.url).update_query_dict(
            {"application_name": APPLICATION}
        )
        self.url = with_name.render_as_string(hide_password=False)
        self._thread = ThreadPoolExecutor(1, "restarts")
        self._observer: Any = None
        self._turn = asyncio.Lock()  # the observer does one thing after another

    def slow(self, seconds: float, number: int) -> str:
        return f"SELECT {number} FROM pg_sleep({seconds})"

    async def open(self) -> None:
        # So that the thread is there before anybody counts them.
        await asyncio.get_running_loop().run_in_executor(self._thread, time.time)
        await self._observe()

    async def strike(self, fault: str, which: float) -> None:
        async with self._turn:
            if fault in {"fast", "immediate"}:
                await self._restart(fault)
            else:
                await self._signal(fault, which)

    async def _signal(self, fault: str, which: float) -> None:
        rows = await self._observer.fetch(f"SELECT pid {_OURS} ORDER BY state, pid")
        if rows:
            pid = rows[int(which * len(rows))]["pid"]
            await self._observer.fetch(f"SELECT pg_{fault}_backend({pid})")

    async def _restart(self, mode: Any) -> None:
        await self._observer.close()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._server.restart, mode)
        await self._observe()

    async def _observe(self) -> None:
        self._observer = await asyncpg.connect(
            host="127.0.0.1",
            port=self._server.port,
            user="postgres",
            statement_cache_size=0,
        )

    async def check_limit(self, limit: int) -> None:
        async with self._turn:
            count = await self._settle(f"SELECT count(*) {_OURS}", limit)
        assert count <= limit, f"{count} connections, where {limit} are allowed"

    async def check_rest(self) -> None:
        if await self._settle(f"SELECT count(*) {_RUNNING}", 0):
            rows = await self._observer.fetch(f"SELECT state, query {_RUNNING}")
            raise AssertionError(f"left on the server: {[tuple(r) for r in rows]}")

    async def _settle(self, count: str, most: int) -> int:
        """The count, once it is at most that, or as it stays."""
        end = time.monotonic() + _GRACE
        while True:
            found: int = await self._observer.fetchval(count)
            if found <= most or time.monotonic() > end:
                return found

    async def written(self, lowest: int) -> set[int]:
        sql = f"SELECT id FROM written WHERE id >= {lowest}"
        return {row["id"] for row in await self._observer.fetch(sql)}

    async def close(self) -> None:
        await self._observer.close()
        self._thread.shutdown()


class FaultSQLite:
    """A SQLite file, which others lock now and then."""

    faults = ("lock",)
    threads = 1
    deferred = False

    def __init__(self, path: str) -> None:
        self._path = path
        self.url = f"sqlite:///{path}"
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = wal")
        make_tables(self.url)

    def slow(self, seconds: float, number: int) -> str:
        last = int(seconds * _SQLITE_SPEED) + 1
        return (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE"
            f" i < {last}) SELECT {number} FROM n WHERE i = {last}"
        )

    async def open(self) -> None:
        self._observer = self._connect(_GRACE)

    def _connect(self, patience: float) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=patience, isolation_level=None)

    async def strike(self, fault: str, which: float) -> None:
        assert fault == "lock"
        with contextlib.closing(self._connect(0)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return  # a query of the gatherer writes just now
            await asyncio.sleep(which * 0.01)
            connection.execute("ROLLBACK")

    async def check_limit(self, limit: int) -> None:
        """Leave it to the count of threads, of which each connection has one."""

    async def check_rest(self) -> None:
        # It waits for the lock that a transaction that was left would hold.
        self._observer.execute("BEGIN IMMEDIATE")
        self._observer.execute("ROLLBACK")

    async def written(self, lowest: int) -> set[int]:
        sql = f"SELECT id FROM written WHERE id >= {lowest}"
        return {number for (number,) in self._observer.execute(sql)}

    async def close(self) -> None:
        self._observer.close()
