"""What the code that people have calls on its own session, for any other session."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import sqlalchemy as sa
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
        arguments: What the method is called with, by position and by name.
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        # A partial of a partial is one of the method, with the arguments of both.
        partial = functools.partial(method)
        bound: Any = partial.func
        self.query: LegacyQuery[Any] = bound.__self__
        self.method: str = bound.__name__
        self.arguments = partial.args, partial.keywords
        self.__qualname__ = f"query({_entities(self.query)}).{self.method}"

    @property
    def statement(self) -> ClauseElement:
        """What it asks, as ``select()`` says it."""
        return self.query.statement

    @property
    def writes(self) -> bool:
        """Whether it changes something, or locks the rows that it reads."""
        return self.method in _WRITING or self.locks

    @property
    def locks(self) -> bool:
        """Whether it locks the rows that it reads."""
        return _locks(self.query)

    def __call__(self, session: orm.Session) -> Any:
        """What the method returns, called on ``session``.

        Raises:
            QueryTypeError: The method makes a part of a statement, and runs nothing.
        """
        query = self.query.with_session(session)
        try:
            args, keywords = self.arguments
            value = getattr(query, self.method)(*args, **keywords)
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


class ExtensionCall:
    """A function of a session that calls a method of Flask-SQLAlchemy's object on it.

    Those methods ask ``db.session``, and here the session of the query.

    Args:
        method: One of ``METHODS``, or a partial of one.

    Attributes:
        method: Its name.
        arguments: What it is called with, by position and by name.
    """

    METHODS: ClassVar = {"first_or_404", "get_or_404", "one_or_404", "paginate"}

    def __init__(self, method: Callable[..., Any]) -> None:
        partial = functools.partial(method)
        bound: Any = partial.func
        self._extension: Any = bound.__self__
        self._function: Callable[..., Any] = bound.__func__
        self.method: str = bound.__name__
        self.arguments = partial.args, partial.keywords
        asked = f"({_entities(self.statement)})" if any(self.arguments) else ""
        self.__qualname__ = f"{type(self._extension).__name__}.{self.method}{asked}"

    @classmethod
    def takes(cls, method: object) -> bool:
        """Whether ``method`` is one of ``METHODS``, of Flask-SQLAlchemy's object."""
        owner = getattr(method, "__self__", None)
        return (
            getattr(method, "__name__", None) in cls.METHODS
            and isinstance(getattr(owner, "session", None), orm.scoped_session)
            and hasattr(owner, "engines")
        )

    @property
    def statement(self) -> ClauseElement:
        """What it asks, to find its database by."""
        args, keywords = self.arguments
        named = [keywords.get(name) for name in ("entity", "statement", "select")]
        asked = next(one for one in (*args, *named, sa.null()) if one is not None)
        return asked if isinstance(asked, ClauseElement) else sa.select(asked)

    @property
    def locks(self) -> bool:
        """Whether it locks the rows that it reads."""
        return bool(self.arguments[1].get("with_for_update")) or _locks(self.statement)

    writes = locks

    def __call__(self, session: orm.Session) -> Any:
        """What the method returns, called on ``session``."""
        make: Any = lambda: session  # noqa: E731
        own = SimpleNamespace(session=orm.scoped_session(make))
        args, keywords = self.arguments
        value = self._function(own, *args, **keywords)
        # A Pagination asks for the next page on the session that the application has.
        asked: dict[str, Any] = getattr(value, "_query_args", {})
        if asked.get("session") is session:
            asked["session"] = self._extension.session()
        return value


def _entities(query: Any) -> str:
    described: list[dict[str, Any]] = getattr(query, "column_descriptions", [])
    return ", ".join(str(column["name"] or column["expr"]) for column in described)


def _locks(query: Any) -> bool:
    # There is no public name for what with_for_update() says.
    return getattr(query, "_for_update_arg", None) is not None
