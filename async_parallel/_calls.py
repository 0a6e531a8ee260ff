"""One call of a gather: its arguments, checked, and the shape of its answer."""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from sqlalchemy import Row

from ._attaching import find_session
from ._batch import Batch
from ._job import Job
from ._lane import current_job
from ._query import as_query, refuse_writes
from ._serving import served_request
from ._snapshot import Snapshot
from ._sources import check_positive, isa
from .errors import QueryTypeError
from .instrumentation import recorder

if TYPE_CHECKING:
    from typing import Self

    from sqlalchemy import orm

    from ._attaching import AnySession
    from ._client import Client
    from ._query import Query
    from .instrumentation import GatherReport


class GatherOptions(TypedDict, total=False):
    """What may be said of a gather, and does not change the type of its answer."""

    max_concurrency: int | None
    timeout: float | None
    read_only: bool
    snapshot: bool | Snapshot
    into: AnySession | None


class BoundOptions(GatherOptions, total=False):
    """The same, by those who also name the database."""

    bind: str | None


@dataclass(slots=True, kw_only=True)
class GatherCall:
    """What a caller asked for, and the context it asked from."""

    queries: Sequence[Query[Any]]
    keys: Sequence[Any] | None
    arrange: Callable[[list[Any]], Any]
    max_concurrency: int | None
    timeout: float | None
    return_exceptions: bool
    read_only: bool
    snapshot: Snapshot | None
    into: orm.Session | None
    on_finished: Callable[[Job], None] | None
    context: contextvars.Context
    outer: Job | None
    client: Client | None
    reports: list[GatherReport] | None
    bind: str | None = None

    @classmethod
    def parse(
        cls,
        arguments: tuple[Any, ...],
        *,
        read_only: bool,
        snapshot: bool | Snapshot = False,
        into: AnySession | None = None,
        on_finished: Callable[[Job], None] | None = None,
        defaults: Mapping[str, Any],
        **limits: Any,
    ) -> Self:
        """Check the queries, before anything runs.

        Args:
            arguments: The queries, as they were given.
            read_only: Whether writes are refused.
            snapshot: Whether all are to see one state.
            into: The session that entities are attached to.
            on_finished: Called with each job that has run to its end.
            defaults: Of the limits that are not given.
            limits: ``max_concurrency``, ``timeout``, ``return_exceptions``.

        Raises:
            QueryTypeError: One of them cannot be a query.
            ReadOnlyError: One of them writes, and ``read_only`` is true.
            TypeError: ``into`` is no session, or ``snapshot`` no ``Snapshot``.
            ValueError: A limit that is not positive, or a snapshot, and ``read_only``
                is false.
        """
        _fill(limits, defaults)
        given, keys, arrange = _unpack(arguments)
        labels = [None] * len(given) if keys is None else [str(key) for key in keys]
        queries: list[Query[Any]] = []
        try:
            for query, label in zip(given, labels, strict=True):
                queries.append(as_query(query, label))
        except QueryTypeError as error:
            error.add_note(f"async_parallel: query {len(queries) + 1} of {len(given)}")
            _close_coroutines(given)
            raise
        if read_only:
            refuse_writes(queries)
        return cls(
            queries=queries,
            keys=keys,
            arrange=arrange,
            read_only=read_only,
            snapshot=_snapshot(snapshot, read_only=read_only) if snapshot else None,
            into=None if into is None else find_session(into),
            on_finished=on_finished,
            context=contextvars.copy_context(),
            outer=current_job.get(None),
            client=_client() if read_only else None,
            reports=recorder(),
            **limits,
        )

    def begin(self) -> tuple[Batch, list[Job]]:
        """The batch and the jobs, on the loop that will run them."""
        batch = Batch(
            read_only=self.read_only,
            max_concurrency=self.max_concurrency,
            return_exceptions=self.return_exceptions,
            size=len(self.queries),
            on_finished=self.on_finished,
            outer=self.outer,
            timeout=self.timeout,
        )
        batch.bind = self.bind
        copy = self.context.copy
        jobs = [
            Job(batch, position, query, copy())
            for position, query in enumerate(self.queries)
        ]
        return batch, jobs

    @property
    def repeatable(self) -> bool:
        """Whether all of it can run again, as if it had not run before.

        Only where one snapshot is to be for all; else each query is for itself.
        """
        return (
            self.snapshot is not None
            and self.on_finished is None
            and all(query.repeatable for query in self.queries)
        )

    def key(self, job: Job) -> Any:
        """How the caller knows a job: by the key of a mapping, or by position."""
        return job.position if self.keys is None else self.keys[job.position]


def _close_coroutines(given: Sequence[Any]) -> None:
    for coroutine in filter(inspect.iscoroutine, given):
        coroutine.close()  # else Python warns that it was never awaited


def _fill(limits: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    check_positive(max_concurrency=limits["max_concurrency"], timeout=limits["timeout"])
    for name, default in defaults.items():
        if limits[name] is None:
            limits[name] = default


def _snapshot(given: object, *, read_only: bool) -> Snapshot:
    if given is not True and not isinstance(given, Snapshot):
        raise TypeError(f"snapshot must be True, False or a Snapshot, not {given!r}")
    if not read_only:
        raise ValueError("A snapshot is only for reading: leave out read_only=False.")
    return Snapshot() if given is True else given


def _client() -> Client | None:
    """For whom the caller works, and whoever goes with him."""
    request = served_request.get(None)
    return None if request is None else request.client


def _unpack(
    arguments: tuple[Any, ...],
) -> tuple[Sequence[Any], Sequence[Any] | None, Callable[[list[Any]], Any]]:
    only: Any = arguments[0] if len(arguments) == 1 else None
    if isa(only, Mapping):
        keys = list(only)
        return (
            list(only.values()),
            keys,
            lambda results: dict(zip(keys, results, strict=True)),
        )
    if isa(only, list):
        return only, None, list
    if isa(only, tuple) and not isa(only, Row):  # a Row is a result
        arguments = only
    return arguments, None, tuple
