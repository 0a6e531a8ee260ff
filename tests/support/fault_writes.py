"""Queries that write, or try to, at random."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from fault_reads import Reads
from fault_tables import CUT_OFF, NOBODY, ApplicationError, Asked, Item, Written
from sqlalchemy import insert, select, text

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from async_parallel import QueryGatherer

    Make = Callable[[random.Random], Asked]


class Queries(Reads):
    """Makes queries of every kind for one gatherer.

    Args:
        gatherer: For the gathers inside queries.
        slow: The SQL that takes so many seconds to select a number.
        deferred: Whether the database checks foreign keys, when it commits.

    Attributes:
        next_id: What the next write inserts; no id is used twice.
    """

    def __init__(
        self,
        gatherer: QueryGatherer,
        slow: Callable[[float, int], str],
        *,
        deferred: bool,
    ) -> None:
        super().__init__(gatherer, slow)
        self.next_id = 1
        self._refused: list[Make] = [
            *[self._text_write, self._flushed_write, self._pending_write]
        ]
        self._writing: list[Make] = [
            *[self._insert, self._sync_write, self._async_write] * 2,
            *[self._slow_write, self._nested_write, self._timed_write],
        ]
        self._failing_writes: list[Make] = [
            *[self._undone_write, self._known_write],
            *([self._deferred_error] if deferred else []),
        ]

    def make(self, rng: random.Random, *, failures: bool, write: bool) -> Asked:
        """A query at random, for a gather that writes or does not."""
        kinds: list[Make] = [*self.reading, *(self._writing * 2 if write else [])]
        if failures:
            kinds += self.failing
            kinds += self._failing_writes if write else self._refused
        asked = rng.choice(kinds)(rng)
        if write:
            asked.repeatable = False
        return asked

    def new_id(self) -> int:
        """An id that nothing has written."""
        self.next_id += 1
        return self.next_id - 1

    def _text_write(self, _rng: random.Random) -> Asked:
        values = f"VALUES ({self.new_id()}, 1)"
        sql = text(f"INSERT INTO written (id, item_id) {values}")
        return Asked("refused text", sql, fails="read-only")

    def _flushed_write(self, _rng: random.Random) -> Asked:
        number = self.new_id()

        def body(session: Session) -> None:
            session.add(Written(id=number, item_id=1))
            session.flush()

        return self.as_function(Asked("refused flush", None, fails="read-only"), body)

    def _pending_write(self, _rng: random.Random) -> Asked:
        number = self.new_id()

        async def body(session: AsyncSession) -> None:
            await session.scalar(select(Item.id))
            session.add(Written(id=number, item_id=1))

        return self.as_async(Asked("refused add", None, fails="read-only"), body)

    def _insert(self, rng: random.Random) -> Asked:
        number = self.new_id()
        statement = insert(Written).values(id=number, item_id=1)
        if rng.random() < 0.5:
            returning = statement.returning(Written.id)
            return Asked("returning", returning, [number], writes=[number])
        return Asked("insert", statement, 1, writes=[number])

    def _sync_write(self, _rng: random.Random) -> Asked:
        number = self.new_id()

        def body(session: Session) -> int:
            session.add(Written(id=number, item_id=1))
            return number

        return self.as_function(Asked("def write", None, number, writes=[number]), body)

    def _async_write(self, rng: random.Random) -> Asked:
        number, again = self.new_id(), rng.random() < 0.5

        async def body(session: AsyncSession) -> int:
            session.add(Written(id=number, item_id=1))
            await session.flush()
            if again:
                await session.scalar(select(Written.id).where(Written.id == number))
            return number

        return self.as_async(Asked("async write", None, number, writes=[number]), body)

    def _slow_write(self, rng: random.Random) -> Asked:
        number, sql = self.new_id(), self.delay(rng)

        def body(session: Session) -> int:
            session.execute(insert(Written).values(id=number, item_id=1))
            session.execute(text(sql))
            return number

        return self.as_function(
            Asked("slow write", None, number, writes=[number]), body
        )

    def _timed_write(self, rng: random.Random) -> Asked:
        number, seconds = self.new_id(), rng.choice([0, 0.002, 0.005])
        sql = self.delay(rng)

        async def body(session: AsyncSession) -> int:
            await session.execute(insert(Written).values(id=number, item_id=1))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await session.execute(text(sql))
            return number

        asked = Asked("timed write", None, number, writes=[number])
        asked.may_fail = CUT_OFF
        return self.as_async(asked, body)

    def _nested_write(self, rng: random.Random) -> Asked:
        outer, inner, undone = self.new_id(), self.new_id(), self.new_id()

        async def body(session: AsyncSession) -> str:
            await session.execute(insert(Written).values(id=outer, item_id=1))
            gather = self.gatherer.gather
            await gather(insert(Written).values(id=inner, item_id=1), read_only=False)
            try:
                await gather(self._undone(undone), read_only=False)
            except ApplicationError:
                return "written"
            raise AssertionError("the gather inside did not fail")

        asked = Asked("nested write", None, "written", writes=[outer, inner])
        return self.as_async(asked, body)

    def _undone_write(self, _rng: random.Random) -> Asked:
        asked = Asked("undone write", None, fails="of the application")
        return self.as_function(asked, self._undone(self.new_id()))

    @staticmethod
    def _undone(number: int) -> Callable[[Session], None]:
        def body(session: Session) -> None:
            session.execute(insert(Written).values(id=number, item_id=1))
            raise ApplicationError("of the application")

        return body

    def _known_write(self, _rng: random.Random) -> Asked:
        statement = insert(Written).values(id=0, item_id=1)
        return Asked("known write", statement, fails="unique")

    def _deferred_error(self, _rng: random.Random) -> Asked:
        number = self.new_id()
        statement = insert(Written).values(id=number, item_id=NOBODY)
        return Asked("deferred error", statement, fails="foreign key")
