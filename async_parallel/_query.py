"""A query and the shapes of its result. No IO."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.engine import CursorResult
from sqlalchemy.sql.ddl import ExecutableDDLElement
from sqlalchemy.sql.expression import UpdateBase

from ._sources import Kind, classify, describe, isa, name_of
from .errors import QueryTypeError, ReadOnlyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy.engine import Result, RowMapping
    from sqlalchemy.sql import Executable

T = TypeVar("T")


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

    Raises:
        QueryTypeError: ``source`` is none of these; the message says what to write.
    """

    __slots__ = ("_label", "fetch", "kind", "source")

    source: Any
    kind: Kind
    fetch: Callable[[Result[Any]], T]

    def __init__(
        self,
        source: Executable | Callable[..., Any],
        *,
        label: str | None = None,
    ) -> None:
        self.source, self.kind = classify(source)
        self.fetch = _rows_of_text if isinstance(source, sa.TextClause) else _default
        self._label = label

    @property
    def label(self) -> str:
        """The name of the query in errors and reports."""
        return self._label or describe(self.source)

    @property
    def writes(self) -> bool:
        """Whether the statement is an insert, update, delete or DDL by its type.

        A write inside ``text()`` or a function shows only when it runs.
        """
        return isinstance(self.source, (UpdateBase, ExecutableDDLElement))

    def labelled(self, label: str | None) -> Query[T]:
        """The same query with this label, unless it has one of its own."""
        if label is None or self._label is not None:
            return self
        query = copy.copy(self)
        query._label = label  # noqa: SLF001 - of this class
        return query

    def __repr__(self) -> str:
        return f"Query({self.label!r})"


def rows(
    statement: Executable, *, label: str | None = None
) -> Query[list[sa.Row[Any]]]:
    """All rows, also where there is one column: ``list[Row]``.

    Args:
        statement: Any SQLAlchemy statement that returns rows.
        label: The name of the query in errors and reports.

    Raises:
        QueryTypeError: ``statement`` is not a statement.
    """
    return _shaped(statement, _rows, label)


def scalars(statement: Executable, *, label: str | None = None) -> Query[list[Any]]:
    """The first entity or column of each row: ``list`` of values.

    Args:
        statement: Any SQLAlchemy statement that returns rows.
        label: The name of the query in errors and reports.

    Raises:
        QueryTypeError: ``statement`` is not a statement.
    """
    return _shaped(statement, _scalars, label)


def mappings(
    statement: Executable, *, label: str | None = None
) -> Query[list[RowMapping]]:
    """Each row as a read-only mapping of column name to value: ``list[RowMapping]``.

    Args:
        statement: Any SQLAlchemy statement that returns rows.
        label: The name of the query in errors and reports.

    Raises:
        QueryTypeError: ``statement`` is not a statement.
    """
    return _shaped(statement, _mappings, label)


def first(statement: Executable, *, label: str | None = None) -> Query[Any]:
    """The first item or ``None``: the value of one column, the ``Row`` of several.

    No ``LIMIT`` is added, as with ``Result.first``: add ``.limit(1)`` to a statement
    that finds many rows.

    Args:
        statement: Any SQLAlchemy statement that returns rows.
        label: The name of the query in errors and reports.

    Raises:
        QueryTypeError: ``statement`` is not a statement.
    """
    return _shaped(statement, _first, label)


def one(statement: Executable, *, label: str | None = None) -> Query[Any]:
    """Exactly one item: the value of one column, the ``Row`` of several.

    The query fails with SQLAlchemy's ``NoResultFound`` or ``MultipleResultsFound``
    where there is not exactly one.

    Args:
        statement: Any SQLAlchemy statement that returns rows.
        label: The name of the query in errors and reports.

    Raises:
        QueryTypeError: ``statement`` is not a statement.
    """
    return _shaped(statement, _one, label)


def one_or_none(statement: Executable, *, label: str | None = None) -> Query[Any]:
    """One item, or ``None`` where there is no row.

    The query fails with SQLAlchemy's ``MultipleResultsFound`` where there are more.

    Args:
        statement: Any SQLAlchemy statement that returns rows.
        label: The name of the query in errors and reports.

    Raises:
        QueryTypeError: ``statement`` is not a statement.
    """
    return _shaped(statement, _one_or_none, label)


def scalar(statement: Executable, *, label: str | None = None) -> Query[Any]:
    """The first column of the first row, or ``None`` where there is no row.

    Args:
        statement: Any SQLAlchemy statement that returns rows.
        label: The name of the query in errors and reports.

    Raises:
        QueryTypeError: ``statement`` is not a statement.
    """
    return _shaped(statement, _scalar, label)


def scalar_one(statement: Executable, *, label: str | None = None) -> Query[Any]:
    """The first column of exactly one row.

    The query fails with SQLAlchemy's ``NoResultFound`` or ``MultipleResultsFound``
    where there is not exactly one.

    Args:
        statement: Any SQLAlchemy statement that returns rows.
        label: The name of the query in errors and reports.

    Raises:
        QueryTypeError: ``statement`` is not a statement.
    """
    return _shaped(statement, _scalar_one, label)


def as_query(given: Any, label: str | None = None) -> Query[Any]:
    """``given`` as a ``Query``; ``label`` applies where it has none of its own.

    Raises:
        QueryTypeError: ``given`` is not a query; the message says what to write.
    """
    if not isa(given, Query):
        return Query(given, label=label)
    return given.labelled(label)  # type: ignore[no-any-return]


def refuse_writes(queries: Iterable[Query[Any]]) -> None:
    """Refuse statements that are writes by their type.

    Raises:
        ReadOnlyError: One of ``queries`` is an insert, update, delete or DDL.
    """
    for query in queries:
        if query.writes:
            raise ReadOnlyError(query.label)


def _shaped(
    statement: object, fetch: Callable[[Result[Any]], T], label: str | None
) -> Query[T]:
    query: Query[T] = Query(cast("Executable", statement), label=label)
    if query.kind is not Kind.STATEMENT:
        raise QueryTypeError(
            statement,
            name_of(statement),
            "a shape such as scalars() or first() takes a SQLAlchemy statement;"
            " a function returns its own shape, so pass it as it is",
        )
    query.fetch = fetch
    return query


def _unique(result: Result[Any]) -> Result[Any]:
    # Set by the ORM where joinedload() met a collection; then unique() is required,
    # and nowhere else does it agree with Session.execute().
    if getattr(result, "_unique_filter_state", None) is not None:
        return result.unique()
    return result


def _rows(result: Result[Any]) -> list[sa.Row[Any]]:
    return cast("list[sa.Row[Any]]", _unique(result).all())


def _scalars(result: Result[Any]) -> list[Any]:
    return cast("list[Any]", _unique(result).scalars().all())


def _mappings(result: Result[Any]) -> list[RowMapping]:
    return cast("list[RowMapping]", _unique(result).mappings().all())


def _items(result: Result[Any]) -> Any:
    # Not keys(), which leaves out what has no name of its own, such as an alias.
    width = len(cast("Any", result)._metadata._keys)  # noqa: SLF001
    return _unique(result).scalars() if width == 1 else _unique(result)


def _default(result: Result[Any]) -> Any:
    return _items(result).all() if has_rows(result) else _row_count(result)


def _rows_of_text(result: Result[Any]) -> Any:
    return result.all() if has_rows(result) else _row_count(result)


def has_rows(result: Result[Any]) -> bool:
    """Whether the statement was one that returns rows, be there any or not."""
    # The results of the ORM are no cursor results, and always have rows.
    return not isinstance(result, CursorResult) or result.returns_rows


def _row_count(result: Result[Any]) -> int:
    return cast("CursorResult[Any]", result).rowcount


def _first(result: Result[Any]) -> Any:
    return _items(result).first()


def _one(result: Result[Any]) -> Any:
    return _items(result).one()


def _one_or_none(result: Result[Any]) -> Any:
    return _items(result).one_or_none()


def _scalar(result: Result[Any]) -> Any:
    return _unique(result).scalar()


def _scalar_one(result: Result[Any]) -> Any:
    return _unique(result).scalar_one()
