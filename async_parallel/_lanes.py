"""Lanes: who may use a connection, in which order, and when to open one more."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from time import perf_counter, thread_time
from typing import TYPE_CHECKING

from ._deadlock import is_stuck
from ._greenlets import Greenlets
from ._lane import Lane
from .errors import LaneDeadlockError, LaneTimeoutError, QueueFullError

if TYPE_CHECKING:
    from ._batch import Batch
    from ._job import Job
    from ._sessions import Sessions

# A gather begins on this many lanes at once. More open only while queries wait and
# the loop is idle, that is, while the database is what is waited for: where the loop
# is the bottleneck, more lanes add cost and nothing else.
_LANES_AT_ONCE = 5
_GROWTH_INTERVAL = 0.002
_LATE = 0.001
_BUSY = 0.5
# Seconds without a turn for anyone, after which the lanes are waiting for the database,
# whatever else the loop is busy with.
_STALL = 0.05


class Lanes:
    """The lanes of one engine, and the gathers that wait for them.

    Gathers are served in turn; within a gather, first come, first served. In a turn a
    gather gets one query for each lane: a small one is through in one turn, and the
    results of few lie about unfinished, which would be what the garbage collector
    spends its time on.

    Args:
        sessions: Opens connections, and sessions on them.
        limit: How many lanes there may be at once.
        timeout: How long in seconds a gather may wait while none of its queries runs.
        max_waiting: How many queries may wait, over all gathers.

    Attributes:
        waiting: How many queries wait for a lane.
        loop: The event loop that they run on.
    """

    def __init__(
        self,
        sessions: Sessions,
        *,
        limit: int,
        timeout: float,
        max_waiting: float = math.inf,
        root: Lanes | None = None,
    ) -> None:
        self.sessions = sessions
        self.root = root or self
        self.greenlets: Greenlets = Greenlets() if root is None else root.greenlets
        self.limit = limit
        self.timeout = timeout
        self.waiting = 0
        self._max_waiting = max_waiting
        self._queue: deque[Batch] = deque()
        self._lanes: set[Lane] = set()
        self._started = 0
        self._taken_at = 0.0
        self.loop = asyncio.get_running_loop()
        self._growth: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None

    def inside(self, outer: Job | None) -> Lanes:
        """Where a gather made inside the query ``outer`` runs.

        On that query's own lane, if it is one of these and still runs ``outer``; a
        task that the query left behind is no longer inside. Else on the lane of the
        query around that, so that a query never waits for a second one of these.
        """
        while outer is not None:
            lane = outer.lane
            if lane is not None and lane.runs(outer) and lane.lanes.root is self.root:
                if lane.inner is None:
                    lane.inner = Lanes(
                        lane.sessions_inside(),
                        limit=1,
                        timeout=math.inf,
                        root=self.root,
                    )
                return lane.inner
            outer = outer.batch.outer
        return self

    def refuse_deadlock(self, batch: Batch) -> None:
        """Abort ``batch``, made inside a query, where it would wait for ever.

        Until it ends, that query holds a lane of another database.
        """
        outer = batch.outer
        holder = None if outer is None else outer.lane
        if outer is None or holder is None or holder.lanes.root is self.root:
            return
        if holder.lanes.loop is not self.loop:
            return  # what it holds is another thread's to look at
        holder.wait_for(self, batch)
        if is_stuck(self, batch):
            batch.abort(
                LaneDeadlockError(
                    outer.query.label, self.limit, len(self._lanes), self.waiting
                )
            )

    @property
    def all(self) -> frozenset[Lane]:
        """The lanes that there are now."""
        return frozenset(self._lanes)

    @property
    def in_use(self) -> int:
        """How many lanes there are now."""
        return len(self._lanes)

    @property
    def idle(self) -> bool:
        """Whether no query waits that may run now."""
        self._drop_aborted()
        return not self._queue

    def others_wait(self, batch: Batch) -> bool:
        """Whether another gather than ``batch`` waits for a lane."""
        return any(other is not batch and other.ready for other in self._queue)

    def admit(self, count: int) -> None:
        """Count ``count`` queries of one gather as waiting, unless they are too many.

        A gather is admitted, however large, where no other waits.

        Raises:
            QueueFullError: They are.
        """
        free = self.limit - len(self._lanes)
        if self.waiting and self.waiting + count - free > self._max_waiting:
            raise QueueFullError(
                int(self._max_waiting), self.limit, len(self._lanes), self.waiting
            )
        self.waiting += count

    def enqueue(self, batch: Batch) -> None:
        """Let ``batch`` take part in the turns."""
        if batch.queued or not batch.ready:
            return
        batch.queued = True
        self._queue.append(batch)
        self._fill()

    def take(self, lane: Lane) -> Job | None:
        """The job whose turn it is, now that of ``lane``; ``None`` if none waits."""
        self._drop_aborted()
        if not self._queue:
            return None
        batch = self._queue[0]
        job = batch.take(lane)
        batch.turn += 1
        self._taken_at = batch.last_turn
        if not batch.ready:
            self._leave_queue()
        elif batch.turn >= len(self._lanes):
            batch.turn = 0
            self._queue.rotate(-1)
        return job

    def discard(self, lane: Lane) -> None:
        """Forget a lane that has ended."""
        self._lanes.discard(lane)
        self._fill()  # it may have been cancelled before it began

    async def stop(self) -> None:
        """Abort every gather, and wait until every lane has ended."""
        running = [lane.job.batch for lane in self._lanes if lane.job is not None]
        for batch in [*self._queue, *running]:
            batch.abort(asyncio.CancelledError())
        await self.drain()

    async def drain(self) -> None:
        """Wait until every lane has ended, and stop the timers."""
        while self._lanes:
            await asyncio.wait([lane.task for lane in self._lanes])
        for timer in (self._growth, self._watch):
            if timer is not None:
                timer.cancel()
        if self.root is self:
            self.greenlets.end()

    def _drop_aborted(self) -> None:
        while self._queue and not self._queue[0].ready:
            self._leave_queue()

    def _leave_queue(self) -> None:
        self._queue.popleft().queued = False

    def _fill(self) -> None:
        while not self.idle and len(self._lanes) < min(_LANES_AT_ONCE, self.limit):
            self._add_lane()
        if self._queue:
            self._arm()

    def _add_lane(self) -> None:
        lane = Lane(self, number=self._started + 1)
        job = self.take(lane)
        if job is not None:
            self._started += 1
            self._lanes.add(lane)
            lane.start(job)

    def _arm(self) -> None:
        if self._growth is None and len(self._lanes) < self.limit:
            self._growth = self.loop.call_later(
                _GROWTH_INTERVAL, self._grow, perf_counter(), thread_time()
            )
        if self._watch is None and self.timeout < math.inf:
            self._watch = self.loop.call_later(self.timeout, self._expire)

    def _grow(self, armed_at: float, used_before: float) -> None:
        self._growth = None
        passed, used = perf_counter() - armed_at, thread_time() - used_before
        idle = passed < _GROWTH_INTERVAL + _LATE and used < _BUSY * passed
        if idle or perf_counter() - self._taken_at > _STALL:
            for _ in range(min(len(self._lanes) or 1, self.limit - len(self._lanes))):
                self._add_lane()
        if self._queue:
            self._arm()

    def _expire(self) -> None:
        self._watch = None
        now = perf_counter()
        for batch in list(self._queue):
            if batch.starving and now - batch.last_turn >= self.timeout:
                batch.abort(
                    LaneTimeoutError(
                        self.timeout, self.limit, len(self._lanes), self.waiting
                    )
                )
        waits = [batch.last_turn for batch in self._queue if batch.starving]
        if waits:
            delay = min(waits) + self.timeout - now
            self._watch = self.loop.call_later(delay, self._expire)
        elif self._queue:
            self._watch = self.loop.call_later(self.timeout, self._expire)
