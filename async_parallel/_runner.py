"""What of a gatherer lives on its home loop: lanes, gathers that run, connections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ._lanes import Lanes

if TYPE_CHECKING:
    from ._batch import Batch, Job
    from ._calls import GatherCall
    from ._home_loop import HomeLoop
    from ._sessions import Sessions


class Runner:
    """Runs gathers; everything here is called on the home loop.

    Args:
        sessions: Opens connections, and sessions on them.
        home: The home loop; where it is replaced, all starts afresh.
        limit: How many lanes there may be at once.
        lane_timeout: Seconds that a gather may wait without getting a turn.
    """

    def __init__(
        self, sessions: Sessions, home: HomeLoop, *, limit: int, lane_timeout: float
    ) -> None:
        self._sessions = sessions
        self._home = home
        self._generation = home.generation
        self._limit = limit
        self._lane_timeout = lane_timeout
        self._lanes: Lanes | None = None
        self._batches: set[Batch] = set()
        self._abandoned: list[object] = []

    @property
    def is_open(self) -> bool:
        """Whether it has run anything, so that there may be connections."""
        return self._lanes is not None

    async def run(self, call: GatherCall) -> list[Job]:
        """Run a gather; the jobs have its results."""
        batch, jobs = call.begin()
        timer: asyncio.TimerHandle | None = None
        if call.timeout is not None:
            timer = asyncio.get_running_loop().call_later(
                call.timeout, batch.time_out, call.timeout
            )
        self._batches.add(batch)
        try:
            batch.submit(jobs, self._renewed().inside(call.outer))
            await batch.wait()
        finally:
            self._batches.discard(batch)
            if timer is not None:
                timer.cancel()
            if call.reports is not None:
                call.reports.append(batch.report())
        return jobs

    async def open(self) -> None:
        """Connect once."""
        self._renewed()
        await self._sessions.probe()

    async def close(self, grace: float, closed: BaseException) -> None:
        """Wait ``grace`` seconds for what runs, abort the rest, disconnect."""
        drained = asyncio.ensure_future(self._renewed().drain())
        await asyncio.wait([drained], timeout=grace)
        for batch in list(self._batches):
            batch.abort(closed)
        await drained
        await self._sessions.close()

    def _renewed(self) -> Lanes:
        """The lanes: new ones in a forked child, or where home was replaced."""
        if self._generation != self._home.generation:
            self._generation = self._home.generation
            # Kept alive: their finalisers would close what the parent still uses.
            self._abandoned += [self._lanes, self._sessions.abandon()]
            self._lanes = None
            self._batches = set()
        if self._lanes is None:
            self._lanes = Lanes(
                self._sessions, limit=self._limit, timeout=self._lane_timeout
            )
        return self._lanes
