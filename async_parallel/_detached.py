"""What a detached entity says when an attribute is read that was not loaded."""

from __future__ import annotations

import functools
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
    guards: dict[type, _Guards] = {}
    for state in session.identity_map.all_states():
        class_guards = guards.get(state.class_)
        if class_guards is None:
            class_guards = guards[state.class_] = _Guards(query)
        if state.callables:
            class_guards.update(state.callables)
        # Where the ORM looks for what loads an attribute of one instance, before it
        # asks the class: attributes.AttributeImpl._fire_loader_callables().
        state.callables = class_guards


class _Guards(dict[str, Any]):
    """A loader for every attribute of the instances of one class.

    Holds the loaders that single instances had, for deferred columns. They load the
    attribute of any instance, so all may share them, and none takes one away.
    """

    def __init__(self, query: Query[Any]) -> None:
        super().__init__()
        self._query = query

    def __contains__(self, key: object) -> bool:
        return True

    def __getitem__(self, key: str) -> Callable[..., Any]:
        return functools.partial(self._load, key)

    def __delitem__(self, key: str) -> None:
        """Keep it: others may need it."""

    def pop(self, key: str, default: Any = None) -> Any:  # noqa: ARG002
        """Keep it: others may need it."""
        return default

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickled entity leaves its query behind.
        return dict, (dict(self.items()),)

    def _load(self, key: str, state: InstanceState[Any], passive: PassiveFlag) -> Any:
        loader: Any = self.get(key) or state.manager[key].impl.callable_
        if loader is None:
            return LoaderCallableStatus.ATTR_EMPTY
        try:
            return loader(state, passive)
        except DetachedInstanceError as error:
            entity = state.class_.__name__
            option = "selectinload" if key in state.mapper.relationships else "undefer"
            raise DetachedAttributeError(
                entity,
                key,
                self._query.label,
                f"add .options({option}({entity}.{key})) to the query",
            ) from error
