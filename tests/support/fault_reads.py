"""Queries that read or fail, at random."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from fault_tables import CUT_OFF, ITEMS, ApplicationError, Asked, Item
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from async_parallel import first, mappings, scalar

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncSession

    from async_parallel import QueryGatherer


class Reads:
    """Makes queries for one gatherer.

    Args:
        gatherer: For the gathers inside queries.
        slow: The SQL that takes so many seconds to select a number.

    Attributes:
        running: How many functions run now.
        most_running: How many ran at once at most.
    """

    def __init__(
        self, gatherer: QueryGatherer, slow: Callable[[float, int], str]
    ) -> None:
        self.gatherer = gatherer
        self._slow = slow
        self.running = 0
        self.most_running = 0
        self.reading = [
            *[self._statement, self._slow_statement, self._shape, self._legacy] * 2,
            *[self._sync_function, self._async_function, self._nested],
            *[self._nested_failure, self._own_timeout, self._stubborn],
        ]
        self.failing = [self._sql_error, self._sync_error, self._async_error]

    def delay(self, rng: random.Random) -> str:
        return self._slow(rng.choice([0.001, 0.002, 0.005]), 1)

    def as_function(self, asked: Asked, body: Callable[[Session], Any]) -> Asked:
        """Have ``asked`` run ``body`` as a synchronous function."""
        asked.begun, asked.repeatable = 0, False

        def run(session: Session) -> Any:
            self._enter(asked)
            try:
                return body(session)
            finally:
                self.running -= not asked.inside

        asked.query = run
        return asked

    def as_async(self, asked: Asked, body: Callable[[AsyncSession], Any]) -> Asked:
        asked.begun, asked.repeatable = 0, False

        async def run(session: AsyncSession) -> Any:
            self._enter(asked)
            try:
                return await body(session)
            finally:
                self.running -= not asked.inside

        asked.query = run
        return asked

    def _enter(self, asked: Asked) -> None:
        asked.begun = (asked.begun or 0) + 1
        self.running += not asked.inside
        self.most_running = max(self.most_running, self.running)

    def _statement(self, rng: random.Random) -> Asked:
        most = rng.randint(0, ITEMS)
        statement = select(Item.id).where(Item.id <= most).order_by(Item.id)
        return Asked("statement", statement, list(range(1, most + 1)))

    def _slow_statement(self, rng: random.Random) -> Asked:
        value = rng.randint(1, 1000)
        sql = self._slow(rng.choice([0.001, 0.003, 0.01]), value)
        return Asked("slow", text(sql), [(value,)])

    def _shape(self, rng: random.Random) -> Asked:
        number = rng.randint(1, ITEMS)
        one = select(Item.id).where(Item.id == number)
        query, answer = rng.choice(
            [
                (scalar(select(func.count(Item.id))), ITEMS),
                (first(one), number),
                (mappings(one), [{"id": number}]),
            ]
        )
        return Asked("shape", query, answer)

    def _legacy(self, rng: random.Random) -> Asked:
        number = rng.randint(1, ITEMS)
        found = Session().query(Item.id).filter(Item.id <= number).order_by(Item.id)
        query, answer = rng.choice(
            [
                (found.all, [(each,) for each in range(1, number + 1)]),
                (found.count, number),
                (found.first, (1,)),
            ]
        )
        return Asked("legacy", query, answer)

    def _sync_function(self, rng: random.Random) -> Asked:
        sql, times = self.delay(rng), rng.randint(0, 2)

        def body(session: Session) -> int:
            for _ in range(times):
                session.execute(text(sql))
            return len(session.scalars(select(Item.id)).all())

        return self.as_function(Asked("def", None, ITEMS), body)

    def _async_function(self, rng: random.Random) -> Asked:
        sql, wait = self.delay(rng), rng.choice([0, 0, 0.002])

        async def body(session: AsyncSession) -> int:
            await session.execute(text(sql))
            await asyncio.sleep(wait)  # work of its own between two statements
            return len((await session.scalars(select(Item.id))).all())

        return self.as_async(Asked("async def", None, ITEMS), body)

    def _nested(self, rng: random.Random) -> Asked:
        inner = [
            rng.choice([self._slow_statement, self._legacy, self._sync_function])(rng)
            for _ in range(rng.randint(1, 4))
        ]
        for each in inner:
            each.inside = True

        async def body(session: AsyncSession) -> Any:
            results = await self.gatherer.gather([each.query for each in inner])
            assert await session.scalar(select(func.count(Item.id))) == ITEMS
            return results

        return self.as_async(Asked("nested", None, [i.answer for i in inner]), body)

    def _nested_failure(self, rng: random.Random) -> Asked:
        inner = [self._sync_error(rng), self._slow_statement(rng)]
        inner[0].inside = True

        async def body(session: AsyncSession) -> int:
            try:
                await self.gatherer.gather([each.query for each in inner])
            except ApplicationError:
                return len((await session.scalars(select(Item.id))).all())
            raise AssertionError("the gather inside did not fail")

        return self.as_async(Asked("nested failure", None, ITEMS), body)

    def _own_timeout(self, rng: random.Random) -> Asked:
        sql, seconds = self._slow(0.01, 1), rng.choice([0, 0.002, 0.01])

        async def body(session: AsyncSession) -> str:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await session.execute(text(sql))
            return "in time"

        # Where it is to be committed, what the timeout ended cannot be.
        asked = Asked("own timeout", None, "in time", may_fail=CUT_OFF)
        return self.as_async(asked, body)

    def _stubborn(self, rng: random.Random) -> Asked:
        seconds = rng.choice([0, 0.005])

        async def body(session: AsyncSession) -> int:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(seconds)
            return len((await session.scalars(select(Item.id))).all())

        return self.as_async(Asked("stubborn", None, ITEMS), body)

    def _sql_error(self, rng: random.Random) -> Asked:
        sql = text("SELECT 1 FROM nowhere")
        return Asked("SQL error", sql, fails="nowhere")

    def _sync_error(self, rng: random.Random) -> Asked:
        reads = rng.random() < 0.5

        def body(session: Session) -> None:
            if reads:
                session.scalar(select(Item.id))
            raise ApplicationError("of the application")

        return self.as_function(
            Asked("def error", None, fails="of the application"), body
        )

    def _async_error(self, rng: random.Random) -> Asked:
        sql = self.delay(rng)

        async def body(session: AsyncSession) -> None:
            await session.execute(text(sql))
            raise ApplicationError("of the application")

        return self.as_async(
            Asked("async error", None, fails="of the application"), body
        )
