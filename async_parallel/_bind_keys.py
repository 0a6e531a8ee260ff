"""Which database a query goes to: the one that has the tables that it reads. No IO."""

from __future__ import annotations

import contextlib
import weakref
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.ddl import ExecutableDDLElement

from ._sources import Kind, isa
from .errors import BindConflictError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ._query import Query

_KEY = "bind_key"  # where Flask-SQLAlchemy notes a model's __bind_key__


class BindKeys:
    """Knows the bind of each table, and so of each query.

    Flask-SQLAlchemy writes it into the metadata of the tables. Where it does not, the
    ``binds`` of a session tell, as far as they go.

    Args:
        default: The bind of tables without one, of functions and of ``text()``.
        assigned: The binds of a session: by class, mapper or table.
    """

    def __init__(self, default: str, assigned: Mapping[Any, str]) -> None:
        self._default = default
        # Of a class and its subclass the subclass counts.
        self._assigned = sorted(assigned.items(), key=_depth, reverse=True)
        self._tables: weakref.WeakKeyDictionary[sa.Table, str] = (
            weakref.WeakKeyDictionary()
        )
        self._statements: weakref.WeakKeyDictionary[Any, str] = (
            weakref.WeakKeyDictionary()
        )

    def bind_of(self, query: Query[Any]) -> str:
        """The name of the bind that ``query`` goes to.

        Raises:
            BindConflictError: It reads tables of several, and names none.
        """
        if query.bind is not None:
            return query.bind
        if query.kind is Kind.STATEMENT:
            known = self._statements.get(query.source)
            if known is None:
                known = self._statements[query.source] = self._find(query, query.source)
            return known
        if query.kind is Kind.LEGACY:
            return self._find(query, query.source.statement)
        return self._default

    def _find(self, query: Query[Any], statement: ClauseElement) -> str:
        binds: dict[str, set[str]] = {}
        for table in tables_of(statement):
            binds.setdefault(self._bind_of_table(table), set()).add(table.fullname)
        if len(binds) > 1:
            given = getattr(query.source, "query", query.source)
            raise BindConflictError(given, query.label, binds)
        return next(iter(binds), self._default)

    def _bind_of_table(self, table: sa.Table) -> str:
        key = table.metadata.info.get(_KEY)
        if key is not None:
            return str(key)
        if not self._assigned:
            return self._default
        if table not in self._tables:
            self._tables[table] = self._assigned_to(table)
        return self._tables[table]

    def _assigned_to(self, table: sa.Table) -> str:
        # An association table has no class to be assigned by, but a foreign key does
        # not leave its database.
        together = [table]
        for member in together:
            for key, bind in self._assigned:
                if member in _tables_below(key):
                    return bind
            together += [other for other in _referred(member) if other not in together]
        return self._default


def tables_of(statement: ClauseElement) -> Iterator[sa.Table]:
    """The tables of a statement, those of its subqueries and joins included."""
    if isinstance(statement, ExecutableDDLElement):
        element = getattr(statement, "element", None)  # a table, an index, a constraint
        table = getattr(element, "table", element)
        if isinstance(table, sa.Table):
            yield table
        return
    found: list[ClauseElement] = [statement]
    # With the elements themselves, whose ids could be those of others otherwise.
    seen: dict[int, ClauseElement] = {}
    while found:
        element = found.pop()
        if id(element) in seen:  # a recursive CTE is inside itself
            continue
        seen[id(element)] = element
        if isinstance(element, sa.Table):
            yield element
            continue
        # Of a column, whose table is in no list where only WHERE or a join names it.
        table = getattr(element, "table", None)
        if isinstance(table, ClauseElement):
            found.append(table)
        found.extend(element.get_children())


def _depth(item: tuple[Any, str]) -> int:
    key = item[0]
    class_: Any = key.class_ if isa(key, orm.Mapper) else key
    return len(class_.__mro__) if isa(class_, type) else 0


def _referred(table: sa.Table) -> Iterator[sa.Table]:
    """The tables that the foreign keys of a table lead to, as far as they are known."""
    for foreign_key in table.foreign_keys:
        with contextlib.suppress(InvalidRequestError):
            yield foreign_key.column.table


def _tables_below(key: Any) -> set[Any]:
    """The tables of a class and its subclasses, or the table that it is."""
    if isinstance(key, sa.Table):
        return {key}
    classes: list[Any] = [key.class_ if isa(key, orm.Mapper) else key]
    tables: set[Any] = set()
    for class_ in classes:
        mapper: Any = sa.inspect(class_, raiseerr=False)
        if isa(mapper, orm.Mapper):
            tables.update(mapper.tables)
        classes += class_.__subclasses__()
    return tables
