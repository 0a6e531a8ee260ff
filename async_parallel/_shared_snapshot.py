"""One snapshot of one gather: which lane takes it, which join, and until when."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from time import perf_counter
from typing import TYPE_CHECKING

from sqlalchemy import exc as sa_exc
from sqlalchemy.util import await_only

from ._pool import is_gone
from .errors import SnapshotLostError, SnapshotUnsupportedError
from .instrumentation import SnapshotReport

if TYPE_CHECKING:
    from collections.abc import Generator

    from sqlalchemy.engine import Connection

    from ._batch import Batch
    from ._job import Job
    from ._lanes import Lanes
    from ._member import SnapshotMember
    from ._snapshot import DatabaseSnapshot

_logger = logging.getLogger("async_parallel")

# Seconds that the lane which holds the snapshot waits for others on their way before it
# runs their queries itself. In a pool that is not the gatherer's own, or in PgBouncer's
# queue, they may be waiting for what another gather holds, which waits for this one.
_SHORT_PATIENCE = 0.5
_PATIENCE = 5.0

# Beside the lane that leads one other joins; more do once that has joined while no
# query was answered, or after so many seconds. To join and to leave cost a round trip
# each, as much as a query that is answered at once.
_FIRST_LANES = 2
_WIDENING = 0.002

LOST = "the connection that held it was lost"


class SharedSnapshot:
    """The snapshot of one gather, and the lanes that see it.

    The lane that gets the first query *leads*: it takes the snapshot, runs that query,
    and stays until none of the gather's waits. Others *join* when they get one. So no
    lane is needed but the first, and none waits for another that may never come.

    Args:
        database: The snapshot in the database.

    Attributes:
        database: The same.
        leader: The lane that takes it; ``None`` while there is none. Where its
            connection is lost, one that has joined.
        is_lost: Whether nobody sees it any more, though queries wait.
    """

    def __init__(self, database: DatabaseSnapshot) -> None:
        self.database = database
        self.leader: SnapshotMember | None = None
        self.is_lost = False
        self._inside: set[SnapshotMember] = set()
        self._batch: Batch | None = None
        self._refusal: SnapshotUnsupportedError | None = None
        self._is_taken = self._is_sealed = False
        self._is_wide = not database.stays_open
        self._widening: asyncio.TimerHandle | None = None
        self._has_answered = self._is_handed_over = False
        self._lanes = 0
        self._cost_s = 0.0
        self._joining: dict[Job, SnapshotMember] = {}
        self._arrival: asyncio.Future[None] | None = None

    @property
    def open(self) -> bool:
        """Whether a lane that does not see it yet may run a query of the gather."""
        if self.leader is None:
            return True
        if self.database.identifier is None or self._is_sealed:
            return False
        return self._is_wide or len(self._inside) + len(self._joining) < _FIRST_LANES

    def admit(self, job: Job, lane: SnapshotMember) -> None:
        """Note that ``lane`` got ``job``, and has to take the snapshot or to join."""
        if self.leader is None:
            self.leader = lane
        elif not lane.sees(self):
            self._joining[job] = lane

    def goes_on(self, job: Job) -> bool:
        """Note that ``job`` has run, and tell whether its lane sees the snapshot.

        Where that could not take it, another may lead.
        """
        self.arrived(job)
        if self.leader is job.lane and not self._is_taken:
            self.leader = None
        is_inside = job.lane is not None and job.lane.sees(self)
        self._has_answered |= is_inside
        return is_inside

    def arrived(self, job: Job) -> None:
        """Note that the lane of ``job`` joined, or will not."""
        self._joining.pop(job, None)
        self._tell()

    def enter(self, lane: SnapshotMember, job: Job, connection: Connection) -> bool:
        """Have ``connection`` see it, by taking it or by joining; unless too late."""
        is_inside = True
        with self._timed():
            try:
                if self.leader is lane:
                    shared = job.batch.spreads and lane.lanes.limit > 1
                    self.database.take(connection, shared=shared)
                    self._is_taken = True
                else:
                    is_inside = self._join(job, connection)
                    if not is_inside:
                        self._end(connection)
            except Exception:
                self._end(connection)
                raise
        if not is_inside:
            return False
        self.arrived(job)
        self._inside.add(lane)
        self._lanes += 1
        if self._batch is None:
            self._batch = job.batch
            lanes = lane.lanes
            self._widening = lanes.loop.call_later(_WIDENING, self._widen, lanes)
        elif not self._has_answered:
            self._is_wide = True
        return True

    def _widen(self, lanes: Lanes) -> None:
        """Let all join, whatever has been answered by now."""
        self._is_wide = True
        if self._batch is not None:
            lanes.enqueue(self._batch)

    def _join(self, job: Job, connection: Connection) -> bool:
        if self._is_sealed:
            return False
        try:
            self.database.join(connection)
        except SnapshotUnsupportedError as error:
            if not error.may_pass:
                raise
            # Perhaps because the query of who leads has failed, which then says more;
            # and who leads in its place sees the snapshot.
            if not self._is_handed_over:
                job.batch.name(job, error)
                self._refusal = error
            self._admit_nobody()
            return False
        return self.database.stays_open or not self._is_sealed

    def must_outlive(self, job: Job) -> bool:
        """Whether others of the gather need the snapshot, though ``job`` may fail."""
        return (
            self.leader is job.lane
            and job.batch.return_exceptions
            and not self.database.survives_errors
        )

    def _end(self, connection: Connection) -> bool:
        """End the transaction, and tell whether it was well up to now.

        A connection that cannot is closed.
        """
        if is_gone(connection):
            return False
        try:
            if connection.in_transaction():
                connection.rollback()  # SQLAlchemy's; nothing is sent
            is_well = self.database.is_seen_by(connection)
            self.database.leave(connection)
        except (sa_exc.SQLAlchemyError, OSError):  # nothing of it is anybody's result
            connection.invalidate()
            return False
        except BaseException:
            connection.invalidate()
            raise
        return is_well

    def check(self, job: Job, connection: Connection) -> None:
        """Check that ``job``, which has run, has seen the snapshot to its end.

        Raises:
            SnapshotLostError: It may not have, or has ended the transaction itself.
        """
        if self.is_lost:
            raise SnapshotLostError(job.query.label, LOST)
        if not is_gone(connection) and not self.database.is_seen_by(connection):
            reason = "it has ended the transaction"
            raise SnapshotLostError(job.query.label, reason, may_pass=False)

    def let_join(self, lane: SnapshotMember) -> None:
        """Wait for those who join, where that must not last."""
        if self.leader is lane and not self.database.stays_open:
            with self._timed():
                try:
                    while self._joining:
                        await_only(self._wait(lane))
                finally:
                    self._seal()

    def has_next(
        self, lane: SnapshotMember, job: Job, connection: Connection | None
    ) -> bool:
        """Whether ``lane``, which has run ``job``, is to run another; else it leaves.

        Who leads stays until none waits, so that others may join. Who has joined makes
        room where other gathers wait.
        """
        batch = job.batch
        is_broken = self._is_broken(job, connection)
        if is_broken:
            self._hand_over(lane)
        leads = self.leader is lane
        if not leads and (is_broken or lane.lanes.others_wait(batch)):
            return False
        # Where each failure is a result, who leads answers the others alone.
        ends = leads and not (is_broken or batch.return_exceptions)
        while True:
            if ends and self._refusal is not None:
                batch.abort(self._refusal)
            if batch.has_room:
                return True
            if leads and self._joining:
                await_only(self._wait(lane))
            elif leads and self.database.ends_with_leader and self._inside - {lane}:
                await_only(self._next_arrival())
            else:
                return False

    def _is_broken(self, job: Job, connection: Connection | None) -> bool:
        """Whether ``connection``, on which ``job`` has run, sees it no more."""
        if connection is None or is_gone(connection):
            return True
        if job.error is None:
            return False  # check() has looked
        if job.plain and not self.database.survives_errors:
            return True  # there was no savepoint
        return not self.database.is_seen_by(connection)

    def leave(self, lane: SnapshotMember, connection: Connection) -> None:
        """Note that ``lane`` leaves it, and end its transaction."""
        if not self.database.ends_with_leader:
            self._inside.discard(lane)  # now, so that it is not made to lead
        with self._timed():
            try:
                if self.leader is lane:
                    self._seal()
            finally:
                is_well = self._end(connection)
                self._inside.discard(lane)
                self._tell()
        if self.leader is lane and self.database.ends_with_leader and not is_well:
            self._fail()

    def _hand_over(self, lane: SnapshotMember) -> None:
        """Have another lane stay to the end, if there is one that can."""
        self._inside.discard(lane)
        if self.leader is lane:
            self._admit_nobody()
            if not self.database.ends_with_leader:
                self.leader = next(iter(self._inside), lane)
            self.is_lost = self.leader is lane
            if not self.is_lost:
                self._is_handed_over, self._refusal = True, None

    def _fail(self) -> None:
        """Have the gather fail, of which some may have seen something else."""
        if self._lanes > 1 and self._batch is not None:
            label = self._batch.jobs[0].query.label
            self._batch.abort(SnapshotLostError(label, LOST))

    def _tell(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def _next_arrival(self) -> None:
        """Wait until a lane has joined, or left."""
        self._arrival = asyncio.get_running_loop().create_future()
        await self._arrival

    async def _wait(self, lane: SnapshotMember) -> None:
        """Wait until one of the lanes on the way has arrived, but not for long."""
        self._arrival = asyncio.get_running_loop().create_future()
        for patience in (_SHORT_PATIENCE, _PATIENCE):
            await asyncio.wait([self._arrival], timeout=patience)
            if self._arrival.done():
                return
            for job, joining in list(self._joining.items()):
                connects = joining.doing == "connecting" and lane.lanes.sessions.owned
                if patience == _PATIENCE or not connects:
                    self._admit_nobody()
                    joining.recall(job)

    def _seal(self) -> None:
        self._admit_nobody()
        self.database.seal()

    def _admit_nobody(self) -> None:
        self._is_sealed = True
        if self._widening is not None:
            self._widening.cancel()

    @contextlib.contextmanager
    def _timed(self) -> Generator[None]:
        """Count the time of the block as what the snapshot costs."""
        begun = perf_counter()
        try:
            yield
        finally:
            self._cost_s += perf_counter() - begun

    def report(self) -> SnapshotReport:
        """What it was, and what it cost."""
        return SnapshotReport(
            identifier=self.database.identifier,
            lanes=self._lanes,
            cost_s=self._cost_s,
        )

    def log(self) -> None:
        """Say the same in the log."""
        _logger.debug(
            "A gather saw one snapshot (%s) on %d connections; it took them %.1f ms.",
            self.database.identifier or "not shared",
            self._lanes,
            1000 * self._cost_s,
        )
