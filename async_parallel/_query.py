"""A query and the shapes of its result. No IO."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any, Generic, TypeVar, TypeVarTuple, cast, overload

import sqlalchemy as sa
from sqlalchemy.engine import CursorResult
from sqlalchemy.sql.ddl import ExecutableDDLElement
from sqlalchemy.sql.expression import UpdateBase

from ._sources import Kind, check_positive, classify, describe, isa
from .errors import ReadOnlyError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from typing import Unpack

    from sqlalchemy import orm
    from sqlalchemy.engine import Result
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.sql import Executable
    from sqlalchemy.sql.selectable import TypedReturnsRows

    from ._signatures import Rows, ShapeOptions

T = TypeVar("T")
S = TypeVar("S")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVarTuple("C")

_SELECTS = re.compile(r"\s*(select|with|values|table)\b", re.IGNORECASE)
_STREAMING = frozenset({"stream_results", "yield_per"})


class Query(Generic[T]):
    """One unit of reading, with the shape of its result.

    Statements and functions may be given to a gather as they are; a ``Query``
    names a shape or a label. Immutable, and reusable in any number of gathers.

    Args:
        source: A SQLAlchemy statement, an ``async def f(session: AsyncSession)``, a
            ``def f(session: Session)``, a legacy ``orm.Query`` or a bound method of
            one (``query.all``).
        label: The name of the query in errors and reports. Default: the function's
            name, or the beginning of the statement.
        timeout: Seconds from the call of the gather until the result must be there,
            waiting for a connection included; then this query alone fails, with a
            ``QueryTimeoutError``. A function that catches its cancel decides itself.
            Default: no limit but the gather's.
        bind: The name of the database that it goes to, of a Flask application's; for a
            function or ``text()``, which say nothing of tables. Default: that of the
            tables that it reads, else the default one.

    Raises:
        QueryTypeError: ``source`` is none of these; the message says what to write.
        ValueError: ``timeout`` is not positive.
    """

    __slots__ = ("_label", "bind", "fetch", "kind", "source", "streams", "timeout")

    source: Any
    kind: Kind
    streams: bool
    """Whether the statement asks for a cursor on the server, as ``yield_per`` does."""
    timeout: float | None
    bind: str | None
    fetch: Callable[[Result[Any]], T]

    @overload
    def __init__(
        self: Query[list[S]],
        source: TypedReturnsRows[tuple[S]],
        **options: Unpack[ShapeOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Query[Any],
        source: TypedReturnsRows[tuple[A, B, *C]],
        **options: Unpack[ShapeOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Query[list[S]],
        source: TypedReturnsRows[*tuple[S]] | orm.Query[S],
        **options: Unpack[ShapeOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Query[Rows[A, B, *C]],
        source: TypedReturnsRows[A, B, *C],
        **options: Unpack[ShapeOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Query[Rows[*tuple[Any, ...]]],
        source: sa.TextClause,
        **options: Unpack[ShapeOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        source: Callable[[AsyncSession], Awaitable[T]],
        **options: Unpack[ShapeOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        source: Callable[[orm.Session], T] | Callable[[], T],
        **options: Unpack[ShapeOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Query[Any],
        source: Executable | Callable[..., Any],
        **options: Unpack[ShapeOptions],
    ) -> None: ...
    def __init__(
        self,
        source: Executable | Callable[..., Any],
        *,
        label: str | None = None,
        timeout: float | None = None,
        bind: str | None = None,
    ) -> None:
        check_positive(timeout=timeout)
        self.timeout = timeout
        self.bind = bind
        self.source, self.kind = classify(source)
        self.fetch = _rows_of_text if isinstance(source, sa.TextClause) else _default
        self._label = label
        # Not its getter, which would be a call for each query that has none.
        options: Any = self.kind is Kind.STATEMENT and self.source._execution_options  # noqa: SLF001
        if self.kind is Kind.STATEMENT and self.source.is_dml:
            self.fetch = _fetch_of_write(self.source)
        self.streams = bool(options) and not _STREAMING.isdisjoint(options)

    @property
    def label(self) -> str:
        """The name of the query in errors and reports."""
        return self._label or describe(self.source)

    @property
    def writes(self) -> bool:
        """Whether it is an insert, update, delete or DDL by its type, or locks rows.

        A write inside ``text()`` or a function shows only when it runs.
        """
        source = self.source
        if self.kind is Kind.LEGACY:
            return bool(source.writes)
        # There is no public name for what with_for_update() says.
        return isinstance(source, (UpdateBase, ExecutableDDLElement)) or (
            getattr(source, "_for_update_arg", None) is not None
        )

    @property
    def is_opaque(self) -> bool:
        """Whether it does not say what tables it reads, as a function or ``text()``."""
        if self.kind is Kind.STATEMENT:
            return isinstance(self.source, sa.TextClause)
        return self.kind is not Kind.LEGACY

    @property
    def locks(self) -> bool:
        """Whether it locks the rows that it reads."""
        source = self.source
        if self.kind is Kind.LEGACY:
            return bool(source.locks)
        return getattr(source, "_for_update_arg", None) is not None

    @property
    def repeatable(self) -> bool:
        """Whether it only reads, so that running it twice is running it once.

        A function may do anything.
        """
        return self.kind in {Kind.STATEMENT, Kind.LEGACY}

    @property
    def selects(self) -> bool:
        """Whether the statement looks as if it read, and so leaves nothing behind."""
        if isinstance(self.source, sa.TextClause):
            return _SELECTS.match(self.source.text) is not None
        return bool(getattr(self.source, "is_select", False))

    def labelled(self, label: str | None) -> Query[T]:
        """The same query with this label, unless it has one of its own."""
        if label is None or self._label is not None:
            return self
        query = copy.copy(self)
        query._label = label  # noqa: SLF001 - of this class
        return query

    def __repr__(self) -> str:
        return f"Query({self.label!r})"


def as_query(given: Any, label: str | None = None) -> Query[Any]:
    """``given`` as a ``Query``; ``label`` applies where it has none of its own.

    Raises:
        QueryTypeError: ``given`` is not a query; the message says what to write.
    """
    if not isa(given, Query):
        return Query(given, label=label)
    return given.labelled(label)  # type: ignore[no-any-return]


def refuse_writes(queries: Iterable[Query[Any]]) -> None:
    """Refuse what writes or locks by its type.

    Raises:
        ReadOnlyError: One of ``queries`` is an insert, update, delete or DDL, or has
            ``with_for_update()``.
    """
    for query in queries:
        if query.writes:
            raise ReadOnlyError(query.label, locks=query.locks)


def unique(result: Result[Any]) -> Result[Any]:
    """The result without duplicates, where the ORM insists on it."""
    # Set by the ORM where joinedload() met a collection; then unique() is required,
    # and nowhere else does it agree with Session.execute().
    if getattr(result, "_unique_filter_state", None) is not None:
        return result.unique()
    return result


def items(result: Result[Any]) -> Any:
    """The values of one column, or the rows of several."""
    # Not keys(), which leaves out what has no name of its own, such as an alias.
    width = len(cast("Any", result)._metadata._keys)  # noqa: SLF001
    return unique(result).scalars() if width == 1 else unique(result)


def _fetch_of_write(source: Any) -> Callable[[Result[Any]], Any]:
    # Where a database makes the key, SQLAlchemy has the row returned by itself. What
    # is public of it, returning_column_descriptions, fails for some statements.
    return _default if source._returning else _row_count  # noqa: SLF001


def _default(result: Result[Any]) -> Any:
    return items(result).all() if has_rows(result) else _row_count(result)


def _rows_of_text(result: Result[Any]) -> Any:
    return result.all() if has_rows(result) else _row_count(result)


def has_rows(result: Result[Any]) -> bool:
    """Whether the statement was one that returns rows, be there any or not."""
    # The results of the ORM are no cursor results, and always have rows.
    return not isinstance(result, CursorResult) or result.returns_rows


def _row_count(result: Result[Any]) -> int:
    return cast("CursorResult[Any]", result).rowcount
