"""Results in the caller's own session, as if its queries had been run there."""

from __future__ import annotations

import copy
import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import InstanceState
from sqlalchemy.orm.attributes import get_history, set_committed_value
from sqlalchemy.orm.base import PassiveFlag
from sqlalchemy.orm.collections import collection_adapter
from sqlalchemy.orm.query import Query as LegacyQuery

from ._detached import release
from ._sources import isa, name_of
from .errors import UnattachableError, UncommittedChangesError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ._job import Job
    from ._query import Query

    State = InstanceState[Any]
    Key = tuple[type[Any], tuple[Any, ...], Any]

AnySession = (
    orm.Session | orm.scoped_session[Any] | AsyncSession | async_scoped_session[Any]
)
"""What ``into`` may be."""


def find_session(into: object) -> orm.Session:
    """The session behind what was given as ``into``, in the context of who gave it.

    Raises:
        TypeError: It is no session.
    """
    session: Any = into
    if isa(session, (orm.scoped_session, async_scoped_session)):
        session = session.registry()
    if isa(session, AsyncSession):
        session = session.sync_session
    if not isa(session, orm.Session):
        raise TypeError(
            f"into must be a session, such as db.session, and {name_of(into)} is not."
        )
    return session  # type: ignore[no-any-return]


def attach(session: orm.Session, jobs: Sequence[Job]) -> None:
    """Attach the entities of all results to ``session``; nothing is sent.

    Each entity is there once. One that the session has already is the session's: what
    is loaded or changed of it stays, what is not is taken from the result.

    Raises:
        UnattachableError: An entity of a query's own session is new or changed.
        UncommittedChangesError: The session has changed an entity otherwise than it
            was committed meanwhile, or has deleted it. Nothing is attached.
    """
    found = _Found(session)
    try:
        for job in jobs:
            _map(job.value, functools.partial(found.add, job.query))
        found.refuse_conflicts()
    except (UnattachableError, UncommittedChangesError) as error:
        committed = ", ".join(job.label for job in jobs if job.committed)
        if committed:
            error.add_note(f"async_parallel: committed all the same: {committed}")
        raise
    found.attach()
    for job in jobs:
        job.value = _map(job.value, found.instead_of)


class _Found:
    """The entities of some results, and which one is kept of each.

    Args:
        session: Where they are to go.
    """

    def __init__(self, session: orm.Session) -> None:
        self._session = session
        self._queries: dict[State, Query[Any]] = {}
        self._kept: dict[Any, Any] = {}
        self._written, self._deleted = _flushed(session)

    def add(self, query: Query[Any], part: Any) -> Any:
        """Note an entity of a result, and what was loaded with it; return it."""
        waiting = [] if isa(part, LegacyQuery) else [part]
        while waiting:
            state: State = sa.inspect(waiting.pop())
            if state in self._queries or state.session is self._session:
                continue
            key = _key(state, query)
            self._queries[state] = query
            if key not in self._kept:
                known = self._session.identity_map.get(key)
                self._kept[key] = state.object if known is None else known
            for _, related in _loaded_relationships(state):
                waiting += [entity for entity in related if entity is not None]
        return part

    def refuse_conflicts(self) -> None:
        """Refuse what the session has uncommitted and a result has otherwise.

        Raises:
            UncommittedChangesError: There is such an entity.
        """
        to_delete = self._session.deleted
        for state, query in self._queries.items():
            kept: State = sa.inspect(self._kept[state.key])
            changed: tuple[str, ...] = ()
            if kept.session is self._session:
                is_deleted = kept.object in to_delete
                changed = tuple(_conflicts(kept, state)) if kept.modified else ()
            else:
                is_deleted = kept.key in self._deleted
            if is_deleted or changed:
                name, identity = state.class_.__name__, state.identity or ()
                raise UncommittedChangesError(name, identity, changed, query.label)

    def attach(self) -> None:
        """Have the session own what is kept, and that know nothing else."""
        moved: list[Any] = []
        for state in self._queries:
            kept = self._kept[state.key]
            if kept is state.object:
                moved.append(kept)
            else:
                self._fill(sa.inspect(kept), state)
        for entity in moved:
            state = sa.inspect(entity)
            release(state)
            for key, related in list(_loaded_relationships(state)):
                if any(self.instead_of(other) is not other for other in related):
                    self._relate(state, key, related)
        self._session.add_all(moved)

    def instead_of(self, part: Any) -> Any:
        """What is in the session in place of ``part`` of a result."""
        if isa(part, LegacyQuery):
            return part.with_session(self._session)
        if part is None:
            return None
        state: State = sa.inspect(part)
        return self._kept[state.key] if state in self._queries else part

    def _fill(self, kept: State, state: State) -> None:
        """Give ``kept`` what it has not loaded, as a query in its session would."""
        for key in kept.mapper.column_attrs.keys() & state.dict.keys():
            if self._lacks(kept, key):
                set_committed_value(kept.object, key, state.dict[key])
        for key, related in _loaded_relationships(state):
            if key in kept.mapper.relationships and self._lacks(kept, key):
                self._relate(kept, key, related)
        # As merge() does, for mutable types, whose values learn of their new parent.
        kept.manager.dispatch._sa_event_merge_wo_load(kept, None)  # noqa: SLF001

    def _lacks(self, kept: State, key: str) -> bool:
        if key in kept.dict:
            return False
        if key in kept.expired_attributes and kept in self._written:
            return False  # what is committed is older than what the session wrote
        return not _history(kept, key).has_changes()

    def _relate(self, state: State, key: str, related: list[Any]) -> None:
        instead: Any = [self.instead_of(entity) for entity in related]
        is_list = state.mapper.relationships[key].uselist
        set_committed_value(state.object, key, instead if is_list else instead[0])


def _flushed(session: orm.Session) -> tuple[set[State], set[Key]]:
    """What the session's transaction has written, and the keys of what it deleted."""
    written: set[State] = set()
    deleted: set[Key] = set()
    transaction: Any = session.get_nested_transaction() or session.get_transaction()
    while transaction is not None:
        # There is no public word for it, and no flush is sent twice.
        written |= {*transaction._new, *transaction._dirty}  # noqa: SLF001
        deleted |= {state.key for state in transaction._deleted}  # noqa: SLF001
        transaction = transaction.parent
    return written, deleted


def _key(state: State, query: Query[Any]) -> Key:
    """What identifies an entity that a query has left as it is in the database."""
    reason = None
    if state.session is not None:
        reason = "it is attached to another session"
    elif state.key is None:
        reason = (
            "it is new, and not in the database (a test gives one with its primary key"
            " to make_transient_to_detached() before it is an answer)"
        )
    elif state.was_deleted:
        reason = "the query has deleted it"
    elif state.modified:
        loaded = state.mapper.attrs.keys() & state.dict.keys()
        names = sorted(key for key in loaded if _history(state, key).has_changes())
        if names:
            reason = f"the query has changed {', '.join(map(repr, names))} of it"
    if reason is not None or state.key is None:
        raise UnattachableError(state.class_.__name__, query.label, str(reason))
    return state.key


def _conflicts(kept: State, state: State) -> Iterator[str]:
    """What the session changed, where the database has changed too, and otherwise."""
    for key in sorted(kept.mapper.column_attrs.keys() & state.dict.keys()):
        before = _history(kept, key).deleted
        equal = kept.mapper.column_attrs[key].columns[0].type.compare_values
        theirs = state.dict[key]
        if before and not equal(before[0], theirs):
            ours = kept.dict.get(key)
            if isinstance(ours, sa.ClauseElement) or not equal(ours, theirs):
                yield key
    for key, related in _loaded_relationships(state):
        history = _history(kept, key)
        if not history.has_changes():
            continue
        committed = _identities(related)
        before = [*(history.unchanged or ()), *(history.deleted or ())]
        ours = [*(history.unchanged or ()), *(history.added or ())]
        if committed not in (_identities(before), _identities(ours)):
            yield key


def _identities(entities: Iterable[Any]) -> set[Key | None]:
    return {sa.inspect(entity).key for entity in entities if entity is not None}


def _history(state: State, key: str) -> Any:
    return get_history(state.object, key, PassiveFlag.PASSIVE_NO_INITIALIZE)


def _loaded_relationships(state: State) -> Iterator[tuple[str, list[Any]]]:
    """Each relationship that is loaded, with its entities as a list."""
    for key, relationship in state.mapper.relationships.items():
        if key in state.dict:
            value = state.dict[key]
            yield (
                key,
                list(collection_adapter(value)) if relationship.uselist else [value],
            )


def _map(value: Any, swap: Callable[[Any], Any], around: tuple[int, ...] = ()) -> Any:
    """``value`` with ``swap`` of each entity in it; itself where that changes nothing.

    Looks into rows, lists, tuples, sets, mappings, dataclasses and paginations.
    """
    if isa(value, LegacyQuery) or _is_entity(value):
        return swap(value)
    taken = _take_apart(value)
    if taken is None or id(value) in around:
        return value
    parts, put_together = taken
    mapped = [_map(part, swap, (*around, id(value))) for part in parts]
    if all(new is old for new, old in zip(mapped, parts, strict=True)):
        return value
    return put_together(mapped)


def _is_entity(value: Any) -> bool:
    return isinstance(sa.inspect(value, raiseerr=False), InstanceState)


def _take_apart(value: Any) -> tuple[list[Any], Callable[[list[Any]], Any]] | None:
    """The parts of a container, and what makes another one like it of others."""
    if isa(value, (sa.Row, sa.RowMapping)):
        restore, (class_, state) = value.__reduce__()  # as it is pickled
        return list(state["_data"]), lambda parts: restore(
            class_, {**state, "_data": tuple(parts)}
        )
    if isa(value, tuple):
        return list(value), getattr(value, "_make", tuple)
    if isa(value, frozenset):
        return list(value), frozenset
    if isa(value, (list, set)):
        return list(value), lambda parts: _refill(value, parts)
    if isa(value, dict):
        return [*value, *value.values()], lambda parts: _refill(
            value, zip(parts[: len(value)], parts[len(value) :], strict=True)
        )
    return _take_object_apart(value)


def _take_object_apart(
    value: Any,
) -> tuple[list[Any], Callable[[list[Any]], Any]] | None:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
    elif isa(getattr(value, "items", None), list) and hasattr(value, "per_page"):
        names = list(vars(value))  # of Flask-SQLAlchemy, its query among them
    else:
        return None

    def put_together(parts: list[Any]) -> Any:
        new = copy.copy(value)
        for name, part in zip(names, parts, strict=True):
            object.__setattr__(new, name, part)  # frozen ones too
        return new

    return [getattr(value, name) for name in names], put_together


def _refill(value: Any, parts: Iterable[Any]) -> Any:
    """A container like ``value``, of ``parts``; for an entity's own a plain one."""
    builtin: Any = next(kind for kind in (list, set, dict) if isa(value, kind))
    new: Any = builtin() if hasattr(value, "_sa_adapter") else copy.copy(value)
    new.clear()
    (new.extend if builtin is list else new.update)(parts)
    return new
