"""A legacy ``orm.Query``, and what is to be called of it, for any session."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sqlalchemy import orm
from sqlalchemy.sql import ClauseElement

from .errors import QueryTypeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm.query import Query as LegacyQuery

# The last five change the collection of a relationship that is lazy="dynamic".
_WRITING = {"update", "delete", "add", "add_all", "append", "extend", "remove"}


class LegacyCall:
    """A function of a session that calls a method of a legacy query on it.

    The query itself, and the session that it came from, stay as they are.

    Args:
        method: A bound method of the query, or a partial of one.

    Attributes:
        query: The query.
        method: The name of its method.
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        # A partial of a partial is one of the method, with the arguments of both.
        partial = functools.partial(method)
        bound: Any = partial.func
        self.query: LegacyQuery[Any] = bound.__self__
        self.method: str = bound.__name__
        self._args = partial.args
        self._keywords = partial.keywords
        entities = [str(column["name"]) for column in self.query.column_descriptions]
        self.__qualname__ = f"query({', '.join(entities)}).{self.method}"

    @property
    def writes(self) -> bool:
        """Whether it changes something, or locks the rows that it reads."""
        query: Any = self.query
        # There is no public name for what with_for_update() says.
        return self.method in _WRITING or query._for_update_arg is not None  # noqa: SLF001

    def __call__(self, session: orm.Session) -> Any:
        """What the method returns, called on ``session``.

        Raises:
            QueryTypeError: The method makes a part of a statement, and runs nothing.
        """
        query = self.query.with_session(session)
        try:
            value = getattr(query, self.method)(*self._args, **self._keywords)
            if isinstance(value, Iterator):
                return [*value]
        finally:
            # What the method returned may hold it, as a Pagination does to find the
            # next page: with the session that the application gave it.
            query.session = self._session()
        if isinstance(value, ClauseElement):
            raise QueryTypeError(
                value,
                self.__qualname__,
                "it makes a part of a statement and runs nothing: pass select() of what"
                " it returns",
            )
        return value

    def _session(self) -> Any:
        owner: Any = getattr(self.query, "instance", None)  # of a dynamic relationship
        # Not its property, which flushes.
        return self.query.session if owner is None else orm.object_session(owner)
