"""The shapes that a result may have, by the names of SQLAlchemy's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from ._query import Query, items, unique
from ._signatures import Shapes, typed_as
from ._sources import Kind, name_of
from .errors import QueryTypeError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    import sqlalchemy as sa
    from sqlalchemy.engine import Result, RowMapping
    from sqlalchemy.sql import Executable

    from ._signatures import ShapeOptions

T = TypeVar("T")


@typed_as(Shapes.rows)
def rows(
    statement: Executable,
    *,
    label: str | None = None,
    timeout: float | None = None,
    bind: str | None = None,
) -> Query[list[sa.Row[Any]]]:
    """All rows, also where there is one column: ``list[Row]``.

    Args:
        statement: Any SQLAlchemy statement that returns rows.
        label: As for ``Query``.
        timeout: As for ``Query``.
        bind: As for ``Query``.

    Raises:
        QueryTypeError: ``statement`` is not a statement.
        ValueError: ``timeout`` is not positive.
    """
    return _shaped(statement, _rows, label=label, timeout=timeout, bind=bind)


@typed_as(Shapes.scalars)
def scalars(
    statement: Executable,
    *,
    label: str | None = None,
    timeout: float | None = None,
    bind: str | None = None,
) -> Query[list[Any]]:
    """The first entity or column of each row: ``list`` of values.

    Args:
        statement: Any SQLAlchemy statement that returns rows.
        label: As for ``Query``.
        timeout: As for ``Query``.
        bind: As for ``Query``.

    Raises:
        QueryTypeError: ``statement`` is not a statement.
        ValueError: ``timeout`` is not positive.
    """
    return _shaped(statement, _scalars, label=label, timeout=timeout, bind=bind)


def mappings(
    statement: Executable,
    *,
    label: str | None = None,
    timeout: float | None = None,
    bind: str | None = None,
) -> Query[list[RowMapping]]:
    """Each row as a read-only mapping of column name to value: ``list[RowMapping]``.

    Args:
        statement: Any SQLAlchemy statement that returns rows.
        label: As for ``Query``.
        timeout: As for ``Query``.
        bind: As for ``Query``.

    Raises:
        QueryTypeError: ``statement`` is not a statement.
        ValueError: ``timeout`` is not positive.
    """
    return _shaped(statement, _mappings, label=label, timeout=timeout, bind=bind)


@typed_as(Shapes.first)
def first(
    statement: Executable,
    *,
    label: str | None = None,
    timeout: float | None = None,
    bind: str | None = None,
) -> Query[Any]:
    """The first item or ``None``: the value of one column, the ``Row`` of several.

    No ``LIMIT`` is added, as with ``Result.first``: add ``.limit(1)`` to a statement
    that finds many rows.

    Args:
        statement: Any SQLAlchemy statement that returns rows.
        label: As for ``Query``.
        timeout: As for ``Query``.
        bind: As for ``Query``.

    Raises:
        QueryTypeError: ``statement`` is not a statement.
        ValueError: ``timeout`` is not positive.
    """
    return _shaped(statement, _first, label=label, timeout=timeout, bind=bind)


@typed_as(Shapes.one)
def one(
    statement: Executable,
    *,
    label: str | None = None,
    timeout: float | None = None,
    bind: str | None = None,
) -> Query[Any]:
    """Exactly one item: the value of one column, the ``Row`` of several.

    The query fails with SQLAlchemy's ``NoResultFound`` or ``MultipleResultsFound``
    where there is not exactly one.

    Args:
        statement: Any SQLAlchemy statement that returns rows.
        label: As for ``Query``.
        timeout: As for ``Query``.
        bind: As for ``Query``.

    Raises:
        QueryTypeError: ``statement`` is not a statement.
        ValueError: ``timeout`` is not positive.
    """
    return _shaped(statement, _one, label=label, timeout=timeout, bind=bind)


@typed_as(Shapes.one_or_none)
def one_or_none(
    statement: Executable,
    *,
    label: str | None = None,
    timeout: float | None = None,
    bind: str | None = None,
) -> Query[Any]:
    """One item, or ``None`` where there is no row.

    The query fails with SQLAlchemy's ``MultipleResultsFound`` where there are more.

    Args:
        statement: Any SQLAlchemy statement that returns rows.
        label: As for ``Query``.
        timeout: As for ``Query``.
        bind: As for ``Query``.

    Raises:
        QueryTypeError: ``statement`` is not a statement.
        ValueError: ``timeout`` is not positive.
    """
    return _shaped(statement, _one_or_none, label=label, timeout=timeout, bind=bind)


@typed_as(Shapes.scalar)
def scalar(
    statement: Executable,
    *,
    label: str | None = None,
    timeout: float | None = None,
    bind: str | None = None,
) -> Query[Any]:
    """The first column of the first row, or ``None`` where there is no row.

    Args:
        statement: Any SQLAlchemy statement that returns rows.
        label: As for ``Query``.
        timeout: As for ``Query``.
        bind: As for ``Query``.

    Raises:
        QueryTypeError: ``statement`` is not a statement.
        ValueError: ``timeout`` is not positive.
    """
    return _shaped(statement, _scalar, label=label, timeout=timeout, bind=bind)


@typed_as(Shapes.scalar_one)
def scalar_one(
    statement: Executable,
    *,
    label: str | None = None,
    timeout: float | None = None,
    bind: str | None = None,
) -> Query[Any]:
    """The first column of exactly one row.

    The query fails with SQLAlchemy's ``NoResultFound`` or ``MultipleResultsFound``
    where there is not exactly one.

    Args:
        statement: Any SQLAlchemy statement that returns rows.
        label: As for ``Query``.
        timeout: As for ``Query``.
        bind: As for ``Query``.

    Raises:
        QueryTypeError: ``statement`` is not a statement.
        ValueError: ``timeout`` is not positive.
    """
    return _shaped(statement, _scalar_one, label=label, timeout=timeout, bind=bind)


def _shaped(
    statement: object,
    fetch: Callable[[Result[Any]], T],
    **options: Unpack[ShapeOptions],
) -> Query[T]:
    query: Query[T] = Query(cast("Executable", statement), **options)
    if query.kind is not Kind.STATEMENT:
        raise QueryTypeError(
            statement,
            name_of(statement),
            "a shape such as scalars() or first() takes a SQLAlchemy statement;"
            " a function returns its own shape, so pass it as it is",
        )
    query.fetch = fetch
    return query


def _rows(result: Result[Any]) -> list[sa.Row[Any]]:
    return cast("list[sa.Row[Any]]", unique(result).all())


def _scalars(result: Result[Any]) -> list[Any]:
    return cast("list[Any]", unique(result).scalars().all())


def _mappings(result: Result[Any]) -> list[RowMapping]:
    return cast("list[RowMapping]", unique(result).mappings().all())


def _first(result: Result[Any]) -> Any:
    return items(result).first()


def _one(result: Result[Any]) -> Any:
    return items(result).one()


def _one_or_none(result: Result[Any]) -> Any:
    return items(result).one_or_none()


def _scalar(result: Result[Any]) -> Any:
    return unique(result).scalar()


def _scalar_one(result: Result[Any]) -> Any:
    return unique(result).scalar_one()
