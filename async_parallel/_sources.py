"""What a query may be made of, and what is refused. No IO."""

from __future__ import annotations

import enum
import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.engine import FilterResult, Result
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm.attributes import QueryableAttribute
from sqlalchemy.orm.query import Query as LegacyQuery
from sqlalchemy.sql import Executable
from sqlalchemy.sql.expression import FromClause

from ._legacy import ExtensionCall, LegacyCall
from .errors import QueryTypeError

if TYPE_CHECKING:
    from typing_extensions import TypeIs

_SESSIONS = (orm.Session, orm.scoped_session, AsyncSession, async_scoped_session)
_RESULTS = (Result, FilterResult)  # the latter: scalars(), mappings(), async ones
_SHOWN = 60
_STATEMENT = (
    "pass a statement such as select(User), or a function; where it is the result of a"
    " query, drop the ()"
)
_EXECUTED = (
    "it is the result of a query that was already executed, so drop the ():"
    " db.session.query(User).all"
)

# isinstance() that does not narrow: a generic would become one of unknown arguments.
isa: Callable[[object, Any], bool] = isinstance


class Kind(enum.Enum):
    """How a lane runs a query."""

    STATEMENT = enum.auto()
    LEGACY = enum.auto()
    FUNCTION = enum.auto()
    ASYNC_FUNCTION = enum.auto()


def classify(source: object) -> tuple[Any, Kind]:
    """What a lane is to run for ``source``, and how.

    Raises:
        QueryTypeError: ``source`` cannot be a query; the message says what to write.
    """
    if isinstance(source, LegacyQuery):
        return LegacyCall(source.all), Kind.LEGACY
    if isinstance(source, Executable):
        return source, Kind.STATEMENT
    if _is_selectable(source) or isa(source, (type, *_SESSIONS)):
        raise _refusal(source)
    if not callable(source):
        raise _refusal(source)
    return _function(source)


def _function(
    source: Callable[..., Any],
) -> tuple[Callable[..., Any], Kind]:
    bound_to = getattr(unwrap(source), "__self__", None)
    if isinstance(bound_to, LegacyQuery):
        return LegacyCall(source), Kind.LEGACY
    if ExtensionCall.takes(unwrap(source)):
        return ExtensionCall(source), Kind.LEGACY
    if isinstance(bound_to, _SESSIONS):
        raise QueryTypeError(
            source,
            f"{name_of(source)}, a method of a session,",
            "a session cannot be shared between queries, so pass the statement itself,"
            " or a function that takes the query's own session",
        )
    if inspect.isasyncgenfunction(source) or inspect.isgeneratorfunction(source):
        raise QueryTypeError(
            source,
            f"{name_of(source)}, a generator function,",
            "the session is closed when a query ends, so return a list",
        )
    if isa(source, functools.partial):
        _check_partial(source)
    try:
        inspect.signature(source).bind(None)
    except TypeError as mismatch:
        raise QueryTypeError(
            source,
            name_of(source),
            "it cannot be called with a session as its one argument"
            f" ({mismatch}); write def f(session): ... and use that session, or bind"
            " the other arguments with functools.partial",
        ) from None
    except ValueError:
        pass  # no signature, as some C functions: the call itself will tell
    if _is_async(source):
        return source, Kind.ASYNC_FUNCTION
    return source, Kind.FUNCTION


def _check_partial(partial: Any) -> None:
    try:
        first = next(iter(inspect.signature(partial.func).parameters), None)
    except ValueError:  # no signature
        return
    if partial.args and first == "session":
        raise QueryTypeError(
            partial,
            name_of(partial),
            f"functools.partial gives {_shorten(repr(partial.args[0]))} for its first"
            " argument, which is the query's session; give the others by name",
        )


def unwrap(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function inside of what ``functools.partial`` made."""
    unwrapped: Any = function
    while isa(unwrapped, functools.partial):
        unwrapped = unwrapped.func
    return unwrapped  # type: ignore[no-any-return]


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(unwrap(function), "__call__", None)  # noqa: B004 - its kind, not whether
    )


def check_returned(value: Any, label: str) -> None:
    """Refuse what a function returned where it cannot outlive its session.

    Raises:
        QueryTypeError: ``value`` is a coroutine, an open ``Result``, a generator, or
            a legacy ``orm.Query`` that was not executed.
    """
    if isa(value, CoroutineType):
        value.close()
        remedy = "it returned a coroutine: write 'return await ...' in an async def"
    elif isa(value, _RESULTS):
        remedy = (
            "it returned an open Result, and its session is closed: return result.all()"
        )
    elif isa(value, LegacyQuery):
        remedy = "it returned an orm.Query that was not run: return query.all()"
    elif isa(value, (Generator, AsyncGenerator)):
        remedy = "it returned a generator, and its session is closed: return a list"
    else:
        return
    raise QueryTypeError(value, f"Function {label}", remedy)


def check_positive(**limits: float | None) -> None:
    """Refuse limits that are not positive.

    Raises:
        ValueError: One of ``limits`` is neither ``None`` nor greater than 0.
    """
    for name, value in limits.items():
        number = isa(value, (int, float)) and not isa(value, bool)
        if value is not None and not (number and value > 0):
            raise ValueError(
                f"{name} must be a number greater than 0, and it is {value!r}."
                f" Leave {name} out to get its default."
            )


def _refusal(given: Any) -> QueryTypeError:
    what, remedy = name_of(given), _STATEMENT
    if isa(given, str):
        remedy = f"wrap it in text(): text({_shorten(given)!r})"
    elif isa(given, CoroutineType):
        given.close()  # else Python warns that it was never awaited
        what = f"The coroutine {given.__qualname__}()"
        remedy = "pass the function itself, without calling it, or the statement"
    elif isa(given, Awaitable):
        remedy = "pass the function or the statement, not what awaits it"
    elif isa(given, _RESULTS):
        remedy = "the statement was already executed: pass the statement itself"
    elif isa(given, (list, tuple)):
        what, remedy = f"A {type(given).__name__} among the queries", _EXECUTED
        if any(
            isa(item, (Executable, LegacyQuery)) or callable(item) for item in given
        ):
            remedy = "give its queries one by one: gather_queries(*queries)"
    elif isa(given, _SESSIONS):
        remedy = "pass a statement, or a function that takes the query's own session"
    elif _is_selectable(given):
        remedy = f"write select({_shorten(_entity_name(given))})"
    elif given is None or sa.inspect(given.__class__, raiseerr=False) is not None:
        remedy = _EXECUTED
    return QueryTypeError(given, what, remedy)


def _is_selectable(given: object) -> TypeIs[Any]:
    if isinstance(given, (orm.Mapper, FromClause, QueryableAttribute)):
        return True
    return isinstance(given, type) and sa.inspect(given, raiseerr=False) is not None


def _entity_name(given: Any) -> str:
    if isa(given, QueryableAttribute):
        return str(given)
    if isa(given, orm.Mapper):
        return str(given.class_.__name__)
    return str(getattr(given, "__name__", None) or getattr(given, "name", given))


def name_of(given: object) -> str:
    if isinstance(given, type):
        return f"The class {given.__name__}"
    if isinstance(given, str):
        return f"The str {_shorten(given)!r}"
    if isinstance(given, FromClause):
        return f"The table {_entity_name(given)!r}"
    name = getattr(unwrap(given) if callable(given) else given, "__qualname__", None)
    return f"{name}" if name else f"{type(given).__name__} {_shorten(repr(given))}"


def describe(source: Executable | Callable[..., Any]) -> str:
    if isinstance(source, Executable):
        try:
            return _shorten(" ".join(str(source).split()))
        except Exception:  # noqa: BLE001 - what is wrong with it, its run will tell
            return f"a {type(source).__name__}"
    function = unwrap(source)
    return str(getattr(function, "__qualname__", None) or type(function).__name__)


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
