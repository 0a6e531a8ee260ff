"""Every error that this package raises by itself.

A query that fails keeps its own exception; these are for what stands around it::

    AsyncParallelError
    ├── QueryTypeError (TypeError): what was given is not a query
    │   └── BindConflictError: it reads tables of several databases
    ├── ReadOnlyError (InvalidRequestError): a write in a read-only gather
    ├── DetachedAttributeError (DetachedInstanceError): an attribute was not loaded
    ├── UnattachableError (InvalidRequestError): a result belongs elsewhere
    ├── UncommittedChangesError (InvalidRequestError): that session has other changes
    ├── GatherTimeoutError (TimeoutError): the gather passed its deadline
    ├── QueryTimeoutError (TimeoutError): a query passed its own deadline
    ├── OverloadError (TimeoutError): more is asked than the database answers
    │   ├── LaneTimeoutError: no lane became free in time
    │   ├── LaneDeadlockError: queries of several databases wait for each other
    │   └── QueueFullError: too many queries wait already
    ├── HoldAndWaitError (RuntimeError): the caller holds what its gather waits for
    ├── SnapshotUnsupportedError (InvalidRequestError): there is no snapshot for all
    ├── SnapshotLostError (InvalidRequestError): it has gone before its time
    ├── UnansweredQueryError (LookupError): a test has no answer for a query
    ├── GathererClosedError (RuntimeError): a call after aclose()
    ├── HomeLoopError (RuntimeError): the call cannot run where it stands
    ├── PatchedProcessError (RuntimeError): gevent or eventlet is in the way
    └── ConfigurationError (RuntimeError): the application's settings
        ├── UnsupportedDatabaseError (ArgumentError): no async driver, no sessions
        ├── BindNotFoundError (LookupError): a bind that is not configured
        └── ExtensionNotFoundError: no app, or no extension on it
"""

from __future__ import annotations

import builtins
import math
from typing import TYPE_CHECKING

from sqlalchemy import exc as sa_exc
from sqlalchemy.orm import exc as orm_exc

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "AsyncParallelError",
    "BindConflictError",
    "BindNotFoundError",
    "ConfigurationError",
    "DetachedAttributeError",
    "ExtensionNotFoundError",
    "GatherTimeoutError",
    "GathererClosedError",
    "HoldAndWaitError",
    "HoldAndWaitWarning",
    "HomeLoopError",
    "LaneDeadlockError",
    "LaneTimeoutError",
    "OverloadError",
    "PatchedProcessError",
    "QueryTimeoutError",
    "QueryTypeError",
    "QueueFullError",
    "ReadOnlyError",
    "SnapshotLostError",
    "SnapshotUnsupportedError",
    "UnansweredQueryError",
    "UnattachableError",
    "UncommittedChangesError",
    "UnsupportedDatabaseError",
]


class AsyncParallelError(Exception):
    """The base of every error of this package."""


class QueryTypeError(AsyncParallelError, TypeError):
    """What was given is not a query; the message says what to write instead.

    Attributes:
        given: The type of what was given.
        remedy: What to write instead.
    """

    def __init__(self, given: object, what: str, remedy: str) -> None:
        self.given: type = type(given)
        self.remedy = remedy
        super().__init__(f"{what} is not a query: {remedy}.")


class BindConflictError(QueryTypeError):
    """A query reads tables of several databases, and none of them has all.

    Attributes:
        query: The label of the query.
        binds: The names of its tables, by the name of their bind.
    """

    def __init__(
        self, given: object, query: str, binds: Mapping[str, Iterable[str]]
    ) -> None:
        self.query = query
        self.binds: dict[str, list[str]] = {
            bind: sorted(binds[bind]) for bind in sorted(binds)
        }
        places = "; ".join(
            f"{', '.join(map(repr, tables))} in {bind!r}"
            for bind, tables in self.binds.items()
        )
        super().__init__(
            given,
            f"{query!r}, over tables of several binds ({places}),",
            "no database has them all, so ask each for its own in a query by itself"
            " and put them together in Python, or name the bind that has them all:"
            " bind=...",
        )


class ReadOnlyError(AsyncParallelError, sa_exc.InvalidRequestError):
    """A query of a read-only gather tried to write or to lock; nothing was written.

    Where the database itself refused, its error is the ``__cause__``.

    Attributes:
        query: The label of the query.
    """

    def __init__(self, query: str, *, locks: bool = False) -> None:
        self.query = query
        does = "locks rows, as only who writes needs to" if locks else "writes"
        super().__init__(
            f"Query {query!r} {does}, but the gather is read-only, so nothing was"
            " written. Write in a session of your own, or pass read_only=False:"
            " each query is then committed by itself."
        )


class DetachedAttributeError(AsyncParallelError, orm_exc.DetachedInstanceError):
    """An attribute was read that its query had not loaded.

    Attributes:
        entity: The name of the mapped class.
        attribute: The name of the attribute.
        query: The label of the query that loaded the entity.
    """

    def __init__(self, entity: str, attribute: str, query: str, remedy: str) -> None:
        self.entity = entity
        self.attribute = attribute
        self.query = query
        super().__init__(
            f"'{entity}.{attribute}' was not loaded by query {query!r}, and the results"
            f" of a gather are detached from their session: {remedy}, or have the"
            " results in your own session, by gathering with into=db.session."
        )


class UnattachableError(AsyncParallelError, sa_exc.InvalidRequestError):
    """An entity in a result cannot go into the session that ``into`` names.

    Attributes:
        entity: The name of the mapped class.
        query: The label of the query that returned it.
    """

    def __init__(self, entity: str, query: str, reason: str) -> None:
        self.entity = entity
        self.query = query
        super().__init__(
            f"Query {query!r} returned an entity of {entity} that 'into' cannot attach"
            f" to another session: {reason}. Return entities as they are in the"
            " database, and change them in the session that they are attached to."
        )


class UncommittedChangesError(AsyncParallelError, sa_exc.InvalidRequestError):
    """The session that ``into`` names has an entity otherwise than a query found it.

    Nothing was attached, and the session is as it was.

    Attributes:
        entity: The name of the mapped class.
        identity: Its primary key.
        attributes: What the session has changed, and somebody else has committed
            otherwise; none where the session has deleted it.
        query: The label of the query that found it.
    """

    def __init__(
        self,
        entity: str,
        identity: tuple[object, ...],
        attributes: tuple[str, ...],
        query: str,
    ) -> None:
        self.entity = entity
        self.identity = identity
        self.attributes = attributes
        self.query = query
        key = identity[0] if len(identity) == 1 else identity
        names = ", ".join(map(repr, attributes))
        what = f"has changed {names} of" if names else "has deleted"
        found = "with other values, committed since" if names else "in the database"
        super().__init__(
            f"The session that 'into' names {what} {entity} {key!r}, which is not"
            f" committed, and query {query!r} found it {found}. Commit or roll back"
            " before the gather, or leave 'into' out and read detached results."
        )


class GatherTimeoutError(AsyncParallelError, TimeoutError):
    """The gather was not done within its ``timeout``; what still ran was cancelled.

    Attributes:
        timeout: The limit in seconds.
        finished: The labels of the queries that had finished.
        running: The labels of the queries that were running.
        waiting: The labels of the queries that had not begun.
    """

    def __init__(
        self,
        timeout: float,
        finished: Sequence[str],
        running: Sequence[str],
        waiting: Sequence[str],
    ) -> None:
        self.timeout = timeout
        self.finished = finished
        self.running = running
        self.waiting = waiting
        super().__init__(
            f"The gather was not done after {timeout:g} s:"
            f" {_count(finished, 'finished')}, {_count(running, 'still running')},"
            f" {_count(waiting, 'waiting for a lane')}. Raise timeout, allow more"
            " connections, or look at the plans of the slow queries."
        )


class QueryTimeoutError(AsyncParallelError, builtins.TimeoutError):
    """A query was not done within its own ``timeout``; it was cancelled.

    Attributes:
        query: The label of the query.
        timeout: The limit in seconds.
        state: What it was doing: ``"waiting"`` for a lane, ``"connecting"`` or
            ``"running"``.
    """

    def __init__(self, query: str, timeout: float, state: str) -> None:
        self.query = query
        self.timeout = timeout
        self.state = state
        doing = "waiting for a lane" if state == "waiting" else state
        super().__init__(
            f"Query {query!r} was not done after {timeout:g} s: it was still {doing}."
            " Raise its timeout, or look at its plan and at the queries beside it."
        )


class OverloadError(AsyncParallelError, sa_exc.TimeoutError, builtins.TimeoutError):
    """More queries are asked than the database answers; later it may be better.

    The extension answers it with 503, unless the application handles it.

    Attributes:
        limit: The lanes, that is connections, allowed at once.
        in_use: The lanes that were running queries.
        waiting: The queries that waited, over all gathers.
        retry_after: Whole seconds after which to try again.
    """

    def __init__(
        self, what: str, limit: int, in_use: int, waiting: int, retry_after: int = 1
    ) -> None:
        self.limit = limit
        self.in_use = in_use
        self.waiting = waiting
        self.retry_after = retry_after
        super().__init__(
            f"{what}: {in_use} of {limit} lanes are in use and {waiting} queries wait."
            " Raise max_connections if the database allows it, or send fewer queries"
            " at once."
        )


class LaneTimeoutError(OverloadError):
    """A gather waited longer than ``lane_timeout`` for a connection.

    Attributes:
        timeout: The limit in seconds.
    """

    def __init__(self, timeout: float, limit: int, in_use: int, waiting: int) -> None:
        self.timeout = timeout
        what = f"No lane became free within the lane_timeout of {timeout:g} s"
        super().__init__(what, limit, in_use, waiting, retry_after=math.ceil(timeout))


class LaneDeadlockError(OverloadError):
    """A gather inside a query would wait for a lane that never becomes free.

    All lanes of its database are held by queries that themselves wait, in gathers
    inside them, for lanes of a database whose lanes wait for this one.

    Attributes:
        query: The label of the query that the gather is inside of.
    """

    def __init__(self, query: str, limit: int, in_use: int, waiting: int) -> None:
        self.query = query
        what = (
            f"Query {query!r} holds a lane of one bind, and the gather inside it waits"
            " for one of another, whose queries all wait for the first in the same way,"
            " so none would go on: gather from both beside each other, not one inside"
            " the other"
        )
        super().__init__(what, limit, in_use, waiting)


class QueueFullError(OverloadError):
    """As many queries wait as may; the gather was refused, and nothing of it ran.

    Attributes:
        max_waiting: How many may wait.
    """

    def __init__(self, max_waiting: int, limit: int, in_use: int, waiting: int) -> None:
        self.max_waiting = max_waiting
        what = f"No more than max_waiting={max_waiting} queries may wait"
        super().__init__(what, limit, in_use, waiting)


class HoldAndWaitError(AsyncParallelError, RuntimeError):
    """The caller of a gather holds a connection, or changes, that the gather needs."""


class HoldAndWaitWarning(RuntimeWarning):
    """The same as ``HoldAndWaitError``, where it is to be a warning."""


class SnapshotUnsupportedError(AsyncParallelError, sa_exc.InvalidRequestError):
    """The database cannot show one state to all queries of a gather.

    Attributes:
        url: The URL of the database, its password hidden.
        may_pass: Whether it may have one when asked again.
    """

    def __init__(self, url: str, reason: str, *, may_pass: bool = False) -> None:
        self.url = url
        self.may_pass = may_pass
        super().__init__(
            f"{url} gives the queries of this gather no common snapshot: {reason}, or"
            " ask all that must agree in one statement or in one function, or leave"
            " snapshot out."
        )


class SnapshotLostError(AsyncParallelError, sa_exc.InvalidRequestError):
    """A query does not see its gather's snapshot any more.

    Attributes:
        query: The label of the query.
        may_pass: Whether it may not happen again.
    """

    def __init__(self, query: str, reason: str, *, may_pass: bool = True) -> None:
        self.query = query
        self.may_pass = may_pass
        super().__init__(
            f"Query {query!r} has no part in the snapshot of its gather: {reason}."
            f" Gather again{'' if may_pass else ', without what has ended it'}."
        )


class UnansweredQueryError(AsyncParallelError, LookupError):
    """A test answers queries in the place of a database, and has none for this one.

    Attributes:
        query: The label of the query.
        answered: The statements, functions and labels that have an answer.
    """

    def __init__(self, query: str, answered: Iterable[str]) -> None:
        self.query = query
        self.answered: list[str] = list(answered)
        other = f"{query!r} (another of that name)"
        shown = (other if name == query else repr(name) for name in self.answered)
        names = ", ".join(shown) or "none"
        super().__init__(
            f"Query {query!r} has no answer. Answered are: {names}. Add its result, or"
            " the exception that it raises, to the answers, by its statement, its"
            f" function or its label: {{{query!r}: ...}}."
        )


class GathererClosedError(AsyncParallelError, RuntimeError):
    """The gatherer, or the extension, was closed before the call or during it."""

    def __init__(self, gatherer: str) -> None:
        super().__init__(
            f"{gatherer} is closed. Make a new one, or call aclose() later."
        )


class HomeLoopError(AsyncParallelError, RuntimeError):
    """The call cannot run on the thread or event loop where it was made."""


class PatchedProcessError(AsyncParallelError, RuntimeError):
    """The process is patched by gevent or eventlet.

    Attributes:
        library: The name of the library.
    """

    def __init__(self, library: str) -> None:
        self.library = library
        super().__init__(
            f"{library} has patched this process, and asyncio cannot run beside it."
            " Use gunicorn's gthread workers (--worker-class gthread --threads 16),"
            f" or ASGIAdapter under an ASGI server, instead of {library}."
        )


class ConfigurationError(AsyncParallelError, RuntimeError):
    """A setting is missing or cannot be used."""


class UnsupportedDatabaseError(ConfigurationError, sa_exc.ArgumentError):
    """The database has no async driver here, or cannot serve several sessions.

    Attributes:
        url: The URL, its password hidden.
    """

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        super().__init__(f"{url} cannot be used: {reason}")


class BindNotFoundError(ConfigurationError, LookupError):
    """No bind of this name is configured.

    Attributes:
        bind: The name that was asked for.
        known: The names that are configured.
    """

    def __init__(self, bind: str, known: Iterable[str]) -> None:
        self.bind = bind
        self.known: list[str] = sorted(known)
        names = ", ".join(map(repr, self.known)) or "none"
        super().__init__(
            f"There is no bind {bind!r}. Configured: {names}."
            " Add it to ASYNC_PARALLEL_BINDS."
        )


class ExtensionNotFoundError(ConfigurationError):
    """There is no current app, or ``AsyncParallel`` was not initialised on it."""


def _count(labels: Sequence[str], state: str, shown: int = 5) -> str:
    if not labels:
        return f"none {state}"
    more = ", …" if len(labels) > shown else ""
    return f"{len(labels)} {state} ({', '.join(map(repr, labels[:shown]))}{more})"
