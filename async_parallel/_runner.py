"""What of a gatherer lives on its home loop: lanes, gathers that run, connections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sqlalchemy import exc as sa_exc

from ._lanes import Lanes
from ._recovery import pause_before_all_again
from .errors import GathererClosedError

if TYPE_CHECKING:
    from ._batch import Batch
    from ._calls import GatherCall
    from ._home_loop import HomeLoop
    from ._job import Job
    from ._sessions import Sessions


MAX_CONNECTIONS = 15
"""Lanes of a gatherer unless told otherwise: SQLAlchemy's own 5 + 10 connections."""

LANE_TIMEOUT = 30.0
"""Seconds that a gather may wait without getting a turn, unless told otherwise."""

GRACE = 5.0
"""Seconds that running gathers have to finish at the end, unless told otherwise."""

MAX_WAITING = 1_000
"""Queries that may wait for a lane, over all gathers, unless told otherwise."""


class Runner:
    """Runs gathers; everything here is called on the home loop.

    Args:
        sessions: Opens connections, and sessions on them.
        home: The home loop; where it is lost, all starts afresh.
        lane_timeout: Seconds that a gather may wait without getting a turn.
        max_waiting: How many queries may wait, over all gathers.

    Attributes:
        sessions: As given.
    """

    def __init__(
        self,
        sessions: Sessions,
        home: HomeLoop,
        lane_timeout: float,
        max_waiting: int,
    ) -> None:
        self.sessions = sessions
        home.join(self)
        self._lane_timeout = lane_timeout
        self._max_waiting = max_waiting
        self._lanes: Lanes | None = None
        self._batches: set[Batch] = set()
        self._pausing: set[asyncio.Future[None]] = set()
        self._closed_by: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether it has run anything, so that there may be connections."""
        return self._lanes is not None

    async def run(self, call: GatherCall) -> list[Job]:
        """Run a gather; the jobs have its results.

        Of queries that see one snapshot none is run again alone, where its connection
        was lost: all are, in another one.
        """
        begun_at = asyncio.get_running_loop().time()
        tries = 0
        while True:
            tries += 1
            try:
                return await self._try(call, begun_at)
            except sa_exc.SQLAlchemyError as error:
                again = call.repeatable
                pause = pause_before_all_again(error, tries) if again else None
                if pause is None:
                    raise
            if call.reports is not None:
                call.reports.pop()
            await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        """Wait ``seconds``; when the gatherer is closed, raise that."""
        if self._closed_by is not None:
            raise GathererClosedError(self._closed_by)
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pausing.add(waiter)
        try:
            await asyncio.wait([waiter], timeout=seconds)
            if waiter.done():
                waiter.result()
        finally:
            self._pausing.discard(waiter)

    async def _try(self, call: GatherCall, begun_at: float) -> list[Job]:
        batch, jobs = call.begin()
        timers = _arm(call, batch, jobs, begun_at)
        self._batches.add(batch)
        client = call.client
        if client is not None and client.loop is not asyncio.get_running_loop():
            client = None  # of another server in this process
        try:
            lanes = self._open().inside(call.outer)
            if call.snapshot is not None:
                batch.snapshot = lanes.sessions.share_snapshot(call.snapshot)
            batch.submit(jobs, lanes)
            if call.outer is not None:
                lanes.refuse_deadlock(batch)
            if client is not None:
                client.watch(batch.abort)
            await batch.wait()
        finally:
            if client is not None:
                client.unwatch(batch.abort)
            self._batches.discard(batch)
            for timer in timers:
                timer.cancel()
            if batch.snapshot is not None:
                batch.snapshot.log()
            if call.reports is not None:
                call.reports.append(batch.report())
            batch.jobs = ()  # each of them holds the batch
        return jobs

    def lend(self, part: Batch) -> Lanes:
        """The lanes for a part of a gather that is over several databases."""
        self._batches.add(part)
        return self._open().inside(part.outer)

    def take_back(self, part: Batch) -> None:
        """Forget a part of a gather that has ended."""
        self._batches.discard(part)

    async def open(self) -> None:
        """Connect once."""
        self._open()
        await self.sessions.probe()

    async def close(self, grace: float, owner: str) -> None:
        """Wait ``grace`` seconds for what runs, abort the rest, disconnect."""
        self._closed_by = owner
        for waiter in self._pausing:
            waiter.set_exception(GathererClosedError(owner))
        drained = asyncio.ensure_future(self._open().drain())
        await asyncio.wait([drained], timeout=grace)
        for batch in list(self._batches):
            batch.abort(GathererClosedError(owner))  # each caller adds notes to its own
        await drained
        await self.sessions.close()

    def abandon(self) -> object:
        """Start afresh, closing nothing; return what was left behind."""
        left = [self._lanes, self._batches, self.sessions.abandon()]
        self._lanes = None
        self._batches = set()
        self._pausing = set()
        return left

    def _open(self) -> Lanes:
        if self._lanes is None:
            self._lanes = Lanes(
                self.sessions,
                limit=self.sessions.limit,
                timeout=self._lane_timeout,
                max_waiting=self._max_waiting,
            )
        return self._lanes


def _arm(
    call: GatherCall, batch: Batch, jobs: list[Job], begun_at: float
) -> list[asyncio.TimerHandle]:
    call_at = asyncio.get_running_loop().call_at
    timers = [
        call_at(begun_at + job.query.timeout, batch.expire, job, job.query.timeout)
        for job in jobs
        if job.query.timeout is not None
    ]
    if call.timeout is not None:
        timers.append(call_at(begun_at + call.timeout, batch.time_out, call.timeout))
    return timers
