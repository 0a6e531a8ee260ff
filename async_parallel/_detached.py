"""What a detached entity says when an attribute is read that was not loaded."""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sqlalchemy.orm import RelationshipProperty
from sqlalchemy.orm.base import LoaderCallableStatus
from sqlalchemy.orm.exc import DetachedInstanceError

from ._sources import isa
from .errors import DetachedAttributeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy.orm import InstanceState, Session
    from sqlalchemy.orm.base import PassiveFlag

    from ._query import Query


class _Labelled(Protocol):
    """What has the name of a query."""

    @property
    def label(self) -> str: ...


class _Pickled(NamedTuple):
    """A query that stayed behind."""

    label: str


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
        if state.expired_attributes:
            state.expired_attributes = _Expired(state, query)


def release(state: InstanceState[Any]) -> None:
    """Forget the query that loaded an entity, which a session is to own again."""
    if isinstance(state.callables, _Guards):
        state.callables = dict(state.callables.items())
    if isinstance(state.expired_attributes, _Expired):
        state.expired_attributes = set(state.expired_attributes)


class _Guards(dict[str, Any]):
    """A loader for every attribute of the instances of one class.

    Holds the loaders that single instances had, for deferred columns. They load the
    attribute of any instance, so all may share them, and none takes one away.
    """

    def __init__(self, query: _Labelled) -> None:
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
        # A pickled entity leaves its query behind, and keeps the name of it.
        return _unpickle, (self._query.label, dict(self.items()))

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
                f"add .options({_way_to(state)}{option}({entity}.{key})) to the query",
            ) from error


class _Expired(set[str]):
    """The names of attributes that the row of an instance did not have.

    Such are the columns of a subclass, where its base was asked for. The ORM looks for
    a name here before it asks a loader, and then for all that it may load with that:
    state.InstanceState._load_expired().
    """

    def __init__(self, state: InstanceState[Any], query: _Labelled) -> None:
        super().__init__(state.expired_attributes)
        self._state = weakref.ref(state)
        self._query = query
        self._key = ""

    def __contains__(self, key: object) -> bool:
        self._key = str(key)
        return super().__contains__(key)

    def intersection(self, *others: Iterable[Any]) -> set[str]:
        state = self._state()
        if state is not None and state.session is None:
            entity = state.class_.__name__
            option = f"{_way_to(state)}selectin_polymorphic({_asked(state)}[{entity}])"
            raise DetachedAttributeError(
                entity,
                self._key,
                self._query.label,
                f"add .options({option}) to the query"
                if state.mapper.inherits
                else "refresh it in the function that returns it",
            )
        return super().intersection(*others)

    def __reduce__(self) -> tuple[Any, ...]:
        return set, ([*self],)


def _asked(state: InstanceState[Any]) -> str:
    """The class that was asked for, which an option names where no way leads to it."""
    steps: Any = state.load_path.path
    return f"{steps[0].class_.__name__}, " if len(steps) == 1 else ""


def _unpickle(label: str, loaders: dict[str, Any]) -> _Guards:
    guards = _Guards(_Pickled(label))
    guards.update(loaders)
    return guards


def _way_to(state: InstanceState[Any]) -> str:
    """The options that lead from what was asked for to an entity loaded with it."""
    path: Any = state.load_path.path
    steps: list[Any] = [step for step in path if isa(step, RelationshipProperty)]
    names = [f"{step.parent.class_.__name__}.{step.key}" for step in steps]
    return "".join(f"defaultload({name})." for name in names)
