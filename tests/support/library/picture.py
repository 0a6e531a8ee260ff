"""What was loaded, as plain values that can be compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from flask_sqlalchemy.pagination import Pagination
from sqlalchemy.orm import InstanceState


def picture(  # noqa: PLR0911 - one for each kind
    value: Any, seen: dict[int, Any] | None = None
) -> Any:
    """``value`` with all that was loaded with it, as far as that leads.

    Entities become their class, identity, and each attribute that is loaded; one that
    was met before becomes a name for it, so that it must be the same one again.
    """
    seen = {} if seen is None else seen
    if isinstance(value, Pagination):
        parts = [value.page, value.per_page, value.total, value.pages, value.items]
        return ["Pagination", picture(parts, seen)]
    if isinstance(value, BaseException):
        return [type(value).__name__, str(value)]
    if isinstance(value, sa.Row):
        return ["Row", [*value._fields], picture([*value], seen)]
    if isinstance(value, Mapping):
        items = [(key, picture(item, seen)) for key, item in value.items()]
        return ["Mapping", *sorted(items, key=lambda item: str(item[0]))]
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, *(picture(item, seen) for item in value)]
    state: Any = sa.inspect(value, raiseerr=False)
    if isinstance(state, InstanceState):
        return _entity(value, state, seen)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [type(value).__name__, picture(dataclasses.asdict(value), seen)]
    return type(value).__name__, value


def _entity(value: Any, state: InstanceState[Any], seen: dict[int, Any]) -> Any:
    known = seen.get(id(value))
    if known is not None:
        return known[0]
    name = [type(value).__name__, f"#{len(seen)}", picture([*(state.identity or ())])]
    seen[id(value)] = name, value
    loaded = {
        key: item for key, item in state.dict.items() if key in state.mapper.attrs
    }
    unloaded = ["unloaded", *sorted(state.unloaded)]
    return [name, unloaded, picture(loaded, seen)]
