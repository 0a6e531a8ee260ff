"""For the tests of an application: one connection, answers without a database, counts.

The fixture ``recorded_gathers`` comes with the package, as a plugin of pytest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

from ._answering import Answers
from ._binds import DEFAULT, find_binds, find_engines
from ._engine import make_engine
from ._flask_context import flush_sessions, is_current
from ._gather import QueryGatherer
from ._isolation import isolated
from ._one_connection import HeldConnection, OneConnection
from ._sources import isa, name_of
from .errors import ConfigurationError
from .instrumentation import record_into

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from ._binds import StandIn
    from ._one_connection import AnyConnection
    from .instrumentation import GatherReport

__all__ = [
    "FakeGatherer",
    "RecordedGathers",
    "answers",
    "on_connection",
    "recording",
    "rolled_back",
]


@contextlib.contextmanager
def on_connection(
    target: Any, connection: AnyConnection, *, bind: str | None = None
) -> Generator[None]:
    """Run every gather on one connection, inside the transaction of a test.

    So it sees what the test has not committed, and what it writes is rolled back with
    the rest. The queries run one after another, each inside a savepoint, so that a
    failure leaves the transaction usable; results, errors and the refusal to write are
    as ever. With ``read_only=False`` a query commits to its savepoint. Functions that
    wait for each other wait for ever.

    A synchronous driver's connection is used on the home loop's thread while the test
    waits, async functions included; there a timeout ends a gather between two queries
    only. An asynchronous one must be that of the home loop.

    Args:
        target: The Flask application, its ``AsyncParallel``, or a ``QueryGatherer``.
        connection: A ``Connection`` or ``AsyncConnection``, or a session, scoped or
            not, which is flushed before each gather.
        bind: The database of the application that is meant. Default: with the session
            of Flask-SQLAlchemy or -Lite, each database on the connection that it has
            of that; else the default one.

    Raises:
        TypeError: ``target`` or ``connection`` is something else.
        ConfigurationError: ``AsyncParallel`` is not initialised on the application.
        HomeLoopError: An asynchronous connection, and no event loop runs here.
        UnsupportedDatabaseError: It is one of a database that cannot be used.
    """
    held = HeldConnection(connection)

    def choose(app: Any) -> dict[str, StandIn]:
        engines = find_engines(app)
        if held.spans(engines) and bind in {None, *engines}:
            names = engines if bind is None else [bind]
            return {name: _on(held.of(engines[name])) for name in names}
        return {bind or DEFAULT: _on(held)}

    with _replaced(target, _on(held), choose):
        yield


@contextlib.contextmanager
def rolled_back(app: Any) -> Generator[None]:
    """Roll back what a test does in the databases of Flask-SQLAlchemy or -Lite.

    What a view commits too: meanwhile each of the databases is one connection, in a
    transaction, and where a session commits or rolls back, a savepoint ends. Gathers
    from them run ``on_connection`` of it. Whoever would end the transaction itself
    gets an ``AsyncParallelError``.

    In an application context, its ``db.session`` is flushed before each gather, and
    Flask gives it to the views as well. Without one they have sessions of their own,
    as they have when they are served. A ``db.engine`` is that connection, and has
    ``connect()`` and ``begin()``, but no ``raw_connection()``.

    Not rolled back are: other databases, such as those that only
    ``ASYNC_PARALLEL_BINDS`` names; asynchronous sessions of -Lite; and engines, and
    sessions bound to one, that were taken before.

    Args:
        app: The Flask application, with ``AsyncParallel``.

    Raises:
        TypeError: It is no application.
        ConfigurationError: Neither of the two, or no ``AsyncParallel``, is initialised
            on the application; it has only asynchronous engines, or one in AUTOCOMMIT;
            a session of -Lite has been used before in this application context; or
            this is entered already.
    """
    with isolated(app) as connections:
        flush = flush_sessions if is_current(app) else None
        held = {
            name or DEFAULT: _on(HeldConnection(connection, flush=flush))
            for name, connection in connections.items()
        }
        with _replaced(app, None, lambda _: held):
            yield


def _on(held: HeldConnection) -> StandIn:
    unused = make_engine(f"{held.backend}:///unused", 1, {})
    return unused, lambda outer: OneConnection(outer, held)


@contextlib.contextmanager
def answers(
    target: Any, given: Mapping[Any, Any], *, bind: str | None = None
) -> Generator[None]:
    """Answer queries without a database.

    Order, failure, ``return_exceptions``, reports and all else of a gather are as ever.
    A query that has no answer fails with an ``UnansweredQueryError``.

    Args:
        target: The Flask application, its ``AsyncParallel``, or a ``QueryGatherer``.
        given: What each query returns, in its shape, or the exception that it raises.
            The keys are statements, which are compared by what they say, also with a
            legacy query of which ``all()`` is asked for; legacy queries and their
            methods, functions, partials of them, ``Query`` objects, or the labels of
            queries. The first that fits counts.
        bind: The database of the application that is meant. Default: all of them.

    Raises:
        QueryTypeError: A key is none of these.
        TypeError: ``target`` is something else.
        ConfigurationError: ``AsyncParallel`` is not initialised on the application.
    """
    unused = make_engine("sqlite:///unused", 1, {})
    answering: StandIn = (unused, lambda outer: Answers(outer, given))

    def choose(app: Any) -> dict[str, StandIn]:
        names = {DEFAULT, *find_binds(app)} if bind is None else {bind}
        return dict.fromkeys(names, answering)

    with _replaced(target, answering, choose):
        yield


class FakeGatherer(QueryGatherer):
    """A ``QueryGatherer`` that answers queries without a database.

    Args:
        given: As for ``answers``.
    """

    def __init__(self, given: Mapping[Any, Any]) -> None:
        super().__init__("sqlite:///answers")  # which is never opened
        self.replace_sessions(lambda outer: Answers(outer, given))


class RecordedGathers(Sequence["GatherReport"]):
    """A report of each gather that was made, in order of ending.

    Args:
        reports: The list that fills.
    """

    def __init__(self, reports: list[GatherReport]) -> None:
        self._reports = reports

    def __len__(self) -> int:
        return len(self._reports)

    @overload
    def __getitem__(self, index: int) -> GatherReport: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[GatherReport]: ...
    def __getitem__(self, index: int | slice) -> GatherReport | Sequence[GatherReport]:
        return self._reports[index]

    def __repr__(self) -> str:
        return f"<RecordedGathers: {self._told()}>"

    def expect(self, *queries: int) -> None:
        """Assert how many queries each gather had, one number a gather.

        Raises:
            AssertionError: There were others; the message names them.
        """
        sizes = tuple(len(report.queries) for report in self)
        if sizes != queries:
            expected = _gathers_of(queries)
            raise AssertionError(f"Expected {expected}; there were {self._told()}.")

    def _told(self) -> str:
        told = _gathers_of([len(report.queries) for report in self])
        lines = [
            f"\n  gather {number}: {', '.join(repr(q.label) for q in report.queries)}"
            for number, report in enumerate(self, 1)
        ]
        return told + "".join(lines)


@contextlib.contextmanager
def recording() -> Generator[RecordedGathers]:
    """Record the gathers that this context makes, to say how many were expected.

    What the fixture ``recorded_gathers`` does for a whole test.
    """
    reports: list[GatherReport] = []
    with record_into(reports):
        yield RecordedGathers(reports)


def _gathers_of(sizes: Sequence[int]) -> str:
    if not sizes:
        return "no gathers"
    plural = "gathers" if len(sizes) > 1 else "gather"
    queries = "query" if sizes[-1] == 1 else "queries"
    return f"{len(sizes)} {plural} of {', '.join(map(str, sizes))} {queries}"


@contextlib.contextmanager
def _replaced(
    target: Any, alone: StandIn | None, choose: Callable[[Any], Mapping[str, StandIn]]
) -> Generator[None]:
    extension, app = target, None
    if alone is not None and isa(target, QueryGatherer):
        before = target.replace_sessions(alone[1])
        try:
            yield
        finally:
            target.put_back(before)
        return
    if isa(getattr(target, "extensions", None), dict):
        app = target
        extension = app.extensions.get("async_parallel")
        if extension is None:
            raise ConfigurationError(
                f"AsyncParallel is not initialised on {app.name!r}. Write"
                " 'AsyncParallel(app)' where the app is made."
            )
    if not hasattr(extension, "stand_in"):
        raise TypeError(
            "The target must be a Flask application, its AsyncParallel or a"
            f" QueryGatherer, and {name_of(target)} is none."
        )
    with extension.stand_in(choose, app):
        yield
