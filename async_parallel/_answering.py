"""Answers in the place of a database."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from sqlalchemy import ClauseElement, Select, orm

from ._legacy import ExtensionCall, LegacyCall
from ._query import Query
from ._sessions import Sessions
from ._sources import classify, describe, isa, unwrap
from .errors import UnansweredQueryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy.engine import Connection

    from ._job import Job

    _Call = LegacyCall | ExtensionCall
    _Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Answers(Sessions):
    """Sessions that open no connection: each query has an answer, or fails.

    Args:
        outer: As they were before.
        answers: By statement, function, ``Query`` or label: what the query returns, or
            the exception that it raises. A statement is also for ``all()`` of a legacy
            query that says the same, and a function or method for partials of it. The
            first that fits counts.

    Raises:
        QueryTypeError: A key could be none of these, so that it would answer nothing.
    """

    outermost = False

    def __init__(self, outer: Sessions, answers: Mapping[Any, Any]) -> None:
        self.__dict__.update(outer.__dict__)
        for key in answers:
            _as_known(key)
        self._answers = answers

    def share_snapshot(self, options: object) -> None:
        """Let it be: answers are of one state."""

    def connect(self) -> Any:
        return _Nowhere()

    def disconnect(self, connection: Connection) -> None:
        """Do nothing, as there is none."""

    def unusable(self, connection: Connection, options: Any) -> bool:  # noqa: ARG002
        return False

    def reader(self, connection: Connection) -> None:
        """None, so that each query comes to ``transaction``."""

    def transaction(
        self,
        connection: Connection,  # noqa: ARG002
        job: Job,
        call: Callable[[Job, Any], Any],  # noqa: ARG002
    ) -> Any:
        for key, answer in self._answers.items():
            if _is_for(key, job.query):
                if isa(answer, type) and issubclass(answer, BaseException):
                    raise answer
                if isa(answer, BaseException):
                    raise answer
                return answer
        raise UnansweredQueryError(job.query.label, map(_shown, self._answers))

    def spoil(self, connection: Connection) -> None:
        """Do nothing, as there is none."""

    async def probe(self) -> None:
        """Do nothing: who answers is there."""


class _Nowhere:
    """What a lane takes for a connection."""

    closed = invalidated = False
    is_valid = True

    @property
    def connection(self) -> _Nowhere:
        return self

    def get_execution_options(self) -> dict[str, Any]:
        return {}


def _as_known(key: Any) -> Any:
    """What a key of the answers stands for."""
    if isa(key, Query):
        return key.source
    if ExtensionCall.takes(unwrap(key)):
        return ExtensionCall(key)
    # A function may want arguments that the query of a view has bound already.
    is_function = callable(key) and not isa(key, (type, orm.Query))
    if isa(key, (str, ClauseElement)) or (is_function and not _is_of_query(key)):
        return key
    return classify(key)[0]


def _is_of_query(function: Any) -> bool:
    return isa(getattr(unwrap(function), "__self__", None), orm.Query)


def _is_for(key: Any, query: Query[Any]) -> bool:
    if isa(key, str):
        return bool(key == query.label)
    known, source = _as_known(key), query.source
    if isa(source, LegacyCall):
        return _is_for_legacy(known, source)
    if isa(source, ExtensionCall):
        return isa(known, ExtensionCall) and _is_call(known, source)
    if isinstance(known, ClauseElement) and isinstance(source, ClauseElement):
        return known is source or _is_same(known, source)
    if isinstance(known, ClauseElement) or isinstance(source, ClauseElement):
        return False
    return known in (source, unwrap(source)) or _is_partial(known, source)


def _is_for_legacy(known: Any, call: LegacyCall) -> bool:
    """Whether a legacy query is what is known, or what its ``select()`` says."""
    statement: Any = call.statement
    if isa(known, LegacyCall):
        return _is_call(known, call) and _is_same(known.statement, statement)
    if call.method != "all" or not isa(known, Select):
        return False
    return _is_same(known.set_label_style(statement.get_label_style()), statement)


def _is_partial(known: Any, source: Any) -> bool:
    """Whether they are partials of one function, with the same arguments."""
    if not (isa(known, functools.partial) and isa(source, functools.partial)):
        return False
    given = source.args, source.keywords
    same = _are_same((known.args, known.keywords), given)
    return same and bool(known.func == source.func)


def _is_call(known: _Call, call: _Call) -> bool:
    """Whether they are one call; without arguments, what is known is each of them."""
    if known.method != call.method:
        return False
    return not any(known.arguments) or _are_same(known.arguments, call.arguments)


def _are_same(known: _Arguments, call: _Arguments) -> bool:
    (args, keywords), (given, named) = known, call
    if len(args) != len(given) or keywords.keys() != named.keys():
        return False
    pairs = [*zip(args, given, strict=True)]
    pairs += [(value, named[name]) for name, value in keywords.items()]
    return all(_is_equal(*pair) for pair in pairs)


def _is_equal(known: Any, given: Any) -> bool:
    if isinstance(known, ClauseElement) and isinstance(given, ClauseElement):
        return _is_same(known, given)
    try:
        return known is given or bool(known == given)
    except Exception:  # noqa: BLE001 - of an argument's own, such as an array's
        return False


def _is_same(known: ClauseElement, source: ClauseElement) -> bool:
    try:
        return known.compare(source)
    except AttributeError:  # how SQLAlchemy compares one entity with another
        return False


def _shown(key: Any) -> str:
    if isa(key, str):
        return str(key)
    return key.label if isa(key, Query) else describe(_as_known(key))
