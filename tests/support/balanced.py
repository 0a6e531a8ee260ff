"""Two servers behind one name, and snapshots of both with one name."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any, ClassVar, Self

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy.ext.asyncio import create_async_engine

if TYPE_CHECKING:
    from types import TracebackType

    from restartable import RestartableServer
    from sqlalchemy.ext.asyncio import AsyncEngine

# A server gives its numbers in turn; it has some more than it takes connections.
_MOST_CONNECTIONS = 300
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ"
_TRANSACTIONS = "DO $$BEGIN FOR _ IN 1..{count} LOOP COMMIT; END LOOP; END$$"
# More than there were on the second server, which can so be brought to the same number.
_AHEAD = 1000


class Balancer:
    """Leads to each of two servers in turn.

    Args:
        servers: The servers.

    Attributes:
        url: What the engine believes to connect to.
        engine: An engine whose connections it leads.
        second: Who is led to the second server waits until it is set.
    """

    url: ClassVar = "postgresql+asyncpg://postgres@balancer/postgres"

    def __init__(self, servers: tuple[RestartableServer, RestartableServer]) -> None:
        self._turns = itertools.cycle(servers)
        self._first = servers[0]
        self.second = asyncio.Event()
        self.engine: AsyncEngine = create_async_engine(
            self.url, async_creator=self.connect
        )

    async def connect(self, *_args: Any, **_options: Any) -> Any:
        """A driver's connection, for ``async_creator`` of another engine."""
        server = next(self._turns)
        if server is not self._first:
            await self.second.wait()
            return await _connect(server)
        connection = await _connect(server)
        try:
            await connection.execute(_TRANSACTIONS.format(count=_AHEAD))
        except BaseException:
            connection.terminate()
            raise
        return connection


class Twin:
    """A snapshot on one server that has the name of one on another; a context manager.

    A name says which of a server's processes made it, in which of its transactions.

    Args:
        server: Where it shall be.
        virtual: The number of the transaction on the other server, as ``pg_locks``
            has it.
    """

    def __init__(self, server: RestartableServer, virtual: str) -> None:
        process, transaction = map(int, virtual.split("/"))
        self._server = server
        self._process, self._transaction = process, transaction
        self._connection: Any = None

    async def __aenter__(self) -> Self:
        try:
            transaction = await self._find()
            await self._connection.execute("ROLLBACK")
            # One more for the statement itself, and one for what is exported then.
            missing = self._transaction - transaction - 2
            assert missing >= 0, "the second server is ahead"
            await self._connection.execute(_TRANSACTIONS.format(count=missing))
            assert await self._export() == (self._process, self._transaction)
        except BaseException:
            await self._connection.close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._connection.close()

    async def _find(self) -> int:
        """Connect to the process, and return the number of its transaction."""
        for _ in range(_MOST_CONNECTIONS):
            self._connection = await _connect(self._server)
            process, transaction = await self._export()
            if process == self._process:
                return transaction
            await self._connection.close()
        raise AssertionError("no process has the number of the other server's")

    async def _export(self) -> tuple[int, int]:
        await self._connection.execute(_BEGIN)
        name: str = await self._connection.fetchval("SELECT pg_export_snapshot()")
        process, transaction, _ = name.split("-")
        return int(process, 16), int(transaction, 16)


async def _connect(server: RestartableServer) -> Any:
    return await asyncpg.connect(
        host="127.0.0.1", port=server.port, user="postgres", database="postgres"
    )
