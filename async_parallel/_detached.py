"""What a detached entity says when an attribute is read that was not loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.orm.base import LoaderCallableStatus
from sqlalchemy.orm.exc import DetachedInstanceError

from .errors import DetachedAttributeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import InstanceState, Session
    from sqlalchemy.orm.base import PassiveFlag

    from ._query import Query


def guard(session: Session, query: Query[Any]) -> None:
    """Have what ``session`` loaded name the query, once it is detached.

    An entity that is attached to another session loads as ever.
    """
    for state in session.identity_map.all_states():
        # Where the ORM looks for what loads an attribute of one instance, before it
        # asks the class. https://github.com/sqlalchemy/sqlalchemy: orm/attributes.py
        state.callables = _Guards(query, state.callables)


class _Guards(dict[str, Any]):
    """A loader for every attribute of one instance; holds those that it had."""

    def __init__(self, query: Query[Any], loaders: dict[str, Any]) -> None:
        super().__init__(
            (key, _Guard(query, key, loader)) for key, loader in loaders.items()
        )
        self._query = query

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickled entity leaves its query behind.
        return dict, ({key: guard.loader for key, guard in self.items()},)

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: str) -> _Guard:
        return _Guard(self._query, key, None)

    def __delitem__(self, key: str) -> None:
        self.pop(key, None)


class _Guard:
    """Loads one attribute, or says why it cannot."""

    def __init__(
        self, query: Query[Any], key: str, loader: Callable[..., Any] | None
    ) -> None:
        self._query = query
        self._key = key
        self.loader = loader

    def __call__(self, state: InstanceState[Any], passive: PassiveFlag) -> Any:
        loader: Any = self.loader or state.manager[self._key].impl.callable_
        if loader is None:
            return LoaderCallableStatus.ATTR_EMPTY
        try:
            return loader(state, passive)
        except DetachedInstanceError as error:
            entity = state.class_.__name__
            option = "selectinload" if self._is_relationship(state) else "undefer"
            raise DetachedAttributeError(
                entity,
                self._key,
                repr(self._query.label),
                f"add .options({option}({entity}.{self._key})) to the query",
            ) from error

    def _is_relationship(self, state: InstanceState[Any]) -> bool:
        return self._key in state.mapper.relationships
