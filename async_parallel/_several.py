"""One gather over several databases: each query on the lanes of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ._attaching import attach
from ._batch import Batch
from ._calls import GatherCall
from ._job import Job
from .errors import BindNotFoundError, QueueFullError, SnapshotUnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ._bind_keys import BindKeys
    from ._gather import QueryGatherer
    from ._home_loop import HomeLoop
    from ._lane import Lane
    from ._lanes import Lanes
    from ._runner import Runner


class Gatherers:
    """Gathers queries, each from the database that has its tables.

    Args:
        find: Finds a gatherer by the name of its bind.
        bind_keys: Knows the bind of a query.
        home: The home loop of all of them.
        defaults: Of the limits that a call does not give.
    """

    def __init__(
        self,
        find: Callable[[str], QueryGatherer],
        bind_keys: BindKeys,
        home: HomeLoop,
        defaults: Mapping[str, Any],
    ) -> None:
        self._find = find
        self._bind_keys = bind_keys
        self._home = home
        self._defaults = defaults

    async def gather(self, *queries: Any, **options: Any) -> Any:
        """Do what ``QueryGatherer.gather`` does."""
        call = self._prepare(queries, options)
        if not call.queries:
            return call.arrange([])
        jobs = await self._home.carry(call.runners[0].run, call)
        if call.into is not None:
            attach(call.into, jobs)
        return call.arrange([job.outcome for job in jobs])

    def gather_blocking(self, queries: tuple[Any, ...], **options: Any) -> Any:
        """Do what ``QueryGatherer.gather_blocking`` does."""
        call = self._prepare(queries, options)
        if not call.queries:
            return call.arrange([])
        jobs = self._home.block_on(call.runners[0].run, call)
        if call.into is not None:
            attach(call.into, jobs)
        return call.arrange([job.outcome for job in jobs])

    def _prepare(
        self, queries: tuple[Any, ...], options: dict[str, Any]
    ) -> SeveralCall:
        call = SeveralCall.parse(queries, defaults=self._defaults, **options)
        names: list[str] = []
        gatherers: dict[str, QueryGatherer] = {}
        for position, query in enumerate(call.queries):
            try:
                name = self._bind_keys.bind_of(query)
                if name not in gatherers:
                    gatherers[name] = self._find(name)
            except (BindNotFoundError, TypeError) as error:
                error.add_note(
                    f"async_parallel: query {position + 1} of {len(call.queries)},"
                    f" {query.label!r}"
                )
                raise
            names.append(name)
        if call.snapshot is not None and len(gatherers) > 1:
            # Two databases have no state in common, and nobody would see from the
            # results that what was to agree does not.
            first, other = [*gatherers][:2]
            raise SnapshotUnsupportedError(
                gatherers[first].shown,
                f"some of them go to another database, that of the bind {other!r};"
                " gather those of each bind by themselves",
            )
        runners = {
            # Not public, as it is nobody else's to call.
            name: gatherer._join(call)  # pyright: ignore[reportPrivateUsage] # noqa: SLF001
            for name, gatherer in gatherers.items()
        }
        call.runners = [runners[name] for name in names]
        call.binds = names
        return call


@dataclass(slots=True, kw_only=True)
class SeveralCall(GatherCall):
    """What a caller asked for, and which database each query goes to.

    Attributes:
        runners: Who runs each query.
        binds: The names of their databases.
    """

    runners: Sequence[Runner] = field(default=())
    binds: Sequence[str] = field(default=())

    def begin(self) -> tuple[Batch, list[Job]]:
        if len(set(self.runners)) == 1:
            self.bind = self.binds[0]
            return GatherCall.begin(self)
        whole = Whole(self)
        parts = {
            runner: Part(whole, self, bind)
            for runner, bind in dict(zip(self.runners, self.binds, strict=True)).items()
        }
        whole.parts = parts
        copy = self.context.copy
        jobs = [
            Job(parts[runner], position, query, copy())
            for position, (runner, query) in enumerate(
                zip(self.runners, self.queries, strict=True)
            )
        ]
        return whole, jobs


def _options(call: GatherCall) -> dict[str, Any]:
    return {
        "read_only": call.read_only,
        "return_exceptions": call.return_exceptions,
        "size": len(call.queries),
        "outer": call.outer,
        "timeout": call.timeout,
    }


class Whole(Batch):
    """The jobs of a gather over several databases.

    It is to its caller what a ``Batch`` is; to the lanes its parts are.

    Args:
        call: What was asked for.

    Attributes:
        parts: The jobs of each database, by who runs them.
    """

    def __init__(self, call: GatherCall) -> None:
        super().__init__(max_concurrency=call.max_concurrency, **_options(call))
        self.parts: dict[Runner, Part] = {}
        self._submitted = False

    def submit(self, jobs: Sequence[Job], lanes: Lanes) -> None:  # noqa: ARG002
        """Let the lanes of each database run its ``jobs``, those of ours or others."""
        self.jobs = jobs
        self.submitted_at = perf_counter()
        for runner, part in self.parts.items():
            own = [job for job in jobs if job.batch is part]
            part_lanes = runner.lend(part)
            try:
                part.submit(own, part_lanes)
            except QueueFullError as error:
                self.abort(error)  # and then wait for the parts before
                return
            part_lanes.refuse_deadlock(part)
        self._submitted = True
        self.go_on()

    async def wait(self) -> None:
        try:
            await super().wait()
        finally:
            for runner, part in self.parts.items():
                runner.take_back(part)
            self.parts = {}

    @property
    def settled(self) -> bool:
        return all(part.settled for part in self.parts.values())

    def abort(self, error: BaseException) -> None:
        """Drop what waits and cancel what runs, in every database; once."""
        if self.error is None:
            self.error = error
            for part in self.parts.values():
                part.stop(error)
            self.wake()

    def expire(self, job: Job, timeout: float) -> None:
        job.batch.expire(job, timeout)

    def lets(self, part: Part) -> bool:
        """Whether ``max_concurrency`` lets the next job of ``part`` run now.

        Then it is the next one of all, in the order of the arguments.
        """
        if self._limit is None:
            return True
        parts = self.parts.values()
        if not self._submitted:
            return False
        if sum(other.running for other in parts) >= self._limit:
            return False
        return part.next_position <= min(other.next_position for other in parts)

    def go_on(self) -> None:
        """Let the lanes of the part whose turn it is run its next job."""
        if self._limit is not None:
            for part in self.parts.values():
                part.enqueue()


class Part(Batch):
    """The jobs of one database, in a gather over several.

    Args:
        whole: All of the gather.
        call: What was asked for.
        bind: The name of the database.
    """

    def __init__(self, whole: Whole, call: GatherCall, bind: str) -> None:
        super().__init__(max_concurrency=None, **_options(call))
        self.bind = bind
        self._whole = whole

    def submit(self, jobs: Sequence[Job], lanes: Lanes) -> None:
        try:
            super().submit(jobs, lanes)
        finally:
            self.jobs = ()  # each of them holds this

    @property
    def ready(self) -> bool:
        return super().ready and self._whole.lets(self)

    @property
    def running(self) -> int:
        """How many of its jobs run."""
        return self._running

    @property
    def next_position(self) -> float:
        """The position, in all of the gather, of the job that is next."""
        return self._waiting[0].position if self._waiting else self.size

    def enqueue(self) -> None:
        """Take part in the turns, now that it may."""
        if self._lanes is not None and self.ready and not self.queued:
            self.last_turn = perf_counter()  # until now it was not the lanes it lacked
            self._lanes.enqueue(self)
            self._lanes.refuse_deadlock(self)

    def take(self, lane: Lane) -> Job:
        job = super().take(lane)
        self._whole.go_on()
        return job

    def record(self, job: Job) -> None:
        super().record(job)
        self._whole.go_on()

    def abort(self, error: BaseException) -> None:
        """End the whole gather."""
        self._whole.abort(error)

    def stop(self, error: BaseException) -> None:
        """Drop what waits here, and cancel what runs."""
        super().abort(error)

    def wake(self) -> None:
        self._whole.wake()
