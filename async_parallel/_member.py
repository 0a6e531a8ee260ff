"""The part that a lane has in the snapshot of the gather that it serves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ._nested import SnapshotSessions

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from ._job import Job
    from ._lanes import Lanes
    from ._sessions import Sessions
    from ._shared_snapshot import SharedSnapshot

_LEAVE_GRACE = 2.0  # seconds for one round trip


class _TooLate(Exception):  # noqa: N818 - it never leaves the lane
    """Nobody may join the snapshot any more; the query is for those who have."""


class SnapshotMember:
    """What a lane has to do with snapshots.

    Attributes:
        lanes: The lanes that it is one of.
        job: What it runs now.
        task: What runs it.
    """

    lanes: Lanes
    job: Job | None
    task: asyncio.Task[None]
    _begun: bool
    _connection: Connection | None
    _sessions: Sessions
    _snapshot: SharedSnapshot | None = None
    _recalled = False

    def recall(self, job: Job) -> None:
        """Have ``job`` put back, with which the lane only joins a snapshot yet."""
        joins = job is self.job and self._snapshot is None
        if joins and not (job.cancelled or self._recalled):
            self._recalled = True
            if self._connection is not None:  # closing it would wait in the same queue
                self._sessions.terminate(self._connection)
            if self._begun:
                self.task.cancel()

    @property
    def doing(self) -> str:
        """What it does for its job now: ``"connecting"`` or ``"running"``."""
        return "connecting" if self._connection is None else "running"

    def sees(self, snapshot: SharedSnapshot) -> bool:
        """Whether what runs here sees ``snapshot``."""
        return self._snapshot is snapshot

    def _bound(self, job: Job, connection: Connection) -> None:
        """Have the server end what ``job`` asks it, should we not be able to."""
        if self._sessions.outermost:  # else it would be undone with what is around it
            self._sessions.bound(connection, job.server_timeout)

    def _can_put_back(self, job: Job, error: BaseException) -> bool:
        """Whether another lane, which sees the snapshot already, may run ``job``."""
        snapshot = job.batch.snapshot
        if snapshot is None or snapshot.leader is self or job.cancelled:
            return False
        if job.batch.error is not None:
            return False
        if self._connection is None and isinstance(error, Exception):
            return True
        return self._recalled or isinstance(error, _TooLate)

    def _enter(
        self, job: Job, snapshot: SharedSnapshot, connection: Connection
    ) -> None:
        """Have ``connection`` see ``snapshot``, that of the job's gather."""
        if not snapshot.enter(self, job, connection):
            raise _TooLate
        self._snapshot = snapshot
        guarded = snapshot.must_outlive(job)
        self._sessions = SnapshotSessions(self._sessions, guarded=guarded)
        if snapshot.database.stays_open:  # its own query is sent first
            self.lanes.loop.call_soon(self.lanes.enqueue, job.batch)
        else:
            self.lanes.enqueue(job.batch)
            snapshot.let_join(self)

    def _leave(self) -> None:
        """End the transaction of the snapshot that the lane sees, if it sees one."""
        snapshot, self._snapshot = self._snapshot, None
        sessions = self._sessions = self.lanes.sessions
        connection = self._connection
        if snapshot is not None and connection is not None:
            # Its job is done, so nobody could cancel it any more.
            loop = asyncio.get_running_loop()
            last_resort = loop.call_later(_LEAVE_GRACE, sessions.terminate, connection)
            try:
                snapshot.leave(self, connection)
            finally:
                last_resort.cancel()
