"""What type checkers infer; checked by mypy and pyright, and run as a test."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_type

from sqlalchemy import Row, RowMapping, Select, func, insert, select, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.orm.query import Query as LegacyQuery

import async_parallel
from async_parallel import (
    Query,
    QueryGatherer,
    first,
    gather_queries,
    mappings,
    one,
    one_or_none,
    rows,
    run_in_parallel,
    scalar,
    scalar_one,
    scalars,
)

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

WRITER = Path(__file__).with_name("write_signatures.py")


class Base(DeclarativeBase):
    """The tables of this module."""


class User(Base):
    """An entity."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Order(Base):
    """Another entity."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)


def find(session: Session) -> User:
    """A function with one result."""
    return session.get_one(User, 1)


def count(session: Session) -> int:
    """A function with another result."""
    return session.query(User).count()


async def name(session: AsyncSession) -> str:
    """An async function."""
    return (await session.get_one(User, 1)).name


async def other_name(session: AsyncSession) -> str:
    """Another with the same result."""
    return (await session.get_one(User, 2)).name


USERS = select(User)
IDS = select(User.id)
PAIRS = select(User.id, User.name)
LEGACY: LegacyQuery[User] = LegacyQuery([User])
TOTAL: Query[int] = scalar_one(select(func.count(User.id)))


def test_shapes_are_typed_queries() -> None:
    """Each shape is a ``Query`` of what it returns."""
    told = text("SELECT 1")
    assert_type(rows(PAIRS), Query[list[Row[int, str]]])
    assert_type(rows(told), Query[list[Row[*tuple[Any, ...]]]])
    assert_type(scalars(USERS), Query[list[User]])
    assert_type(scalars(PAIRS), Query[list[int]])
    assert_type(scalars(told), Query[list[Any]])
    assert_type(mappings(told), Query[list[RowMapping]])
    assert_type(first(USERS), Query[User | None])
    assert_type(first(PAIRS), Query[Row[int, str] | None])
    assert_type(one(USERS, label="user", timeout=1, bind="x"), Query[User])
    assert_type(one(told), Query[Any])
    assert_type(one_or_none(IDS), Query[int | None])
    assert_type(scalar(select(func.count())), Query[int | None])
    assert_type(scalar_one(PAIRS), Query[int])


def test_a_query_is_typed_by_its_source() -> None:
    """A ``Query`` has the result that its source has without it."""
    assert_type(Query(USERS), Query[list[User]])
    assert_type(Query(PAIRS, timeout=1), Query[list[Row[int, str]]])
    assert_type(Query(LEGACY), Query[list[User]])
    assert_type(Query(LEGACY.count), Query[int])
    assert_type(Query(find, label="user", bind="reports"), Query[User])
    assert_type(Query(name), Query[str])
    assert_type(Query(insert(User)), Query[Any])


async def _each_kind() -> None:
    assert_type(await gather_queries(), tuple[()])
    assert_type(await gather_queries(USERS), tuple[list[User]])
    assert_type(await gather_queries(PAIRS), tuple[list[Row[int, str]]])
    assert_type(await gather_queries(IDS, LEGACY), tuple[list[int], list[User]])
    assert_type(await gather_queries(find, name), tuple[User, str])
    assert_type(
        await gather_queries(LEGACY.all, LEGACY.first, LEGACY.count),
        tuple[list[User], User | None, int],
    )
    assert_type(await gather_queries(text("SELECT 1"), TOTAL), tuple[list[Any], int])
    assert_type(
        await gather_queries(insert(User).returning(User.id), read_only=False),
        tuple[list[int]],
    )
    assert_type(await gather_queries(update(User), read_only=False), tuple[Any, ...])


async def _positions() -> None:
    assert_type(
        await gather_queries(PAIRS, USERS, PAIRS, TOTAL, bind="reports", timeout=1),
        tuple[list[Row[int, str]], list[User], list[Row[int, str]], int],
    )
    assert_type(
        await gather_queries(USERS, PAIRS, rows(PAIRS), IDS, find, name, TOTAL, IDS),
        tuple[
            list[User],
            list[Any],
            list[Row[int, str]],
            list[int],
            User,
            str,
            int,
            list[int],
        ],
    )
    assert_type(
        await gather_queries(IDS, IDS, IDS, IDS, IDS, IDS, IDS, IDS, IDS),
        tuple[Any, ...],
    )
    assert_type(await gather_queries(*[USERS, USERS]), tuple[Any, ...])


async def _collections(
    statements: list[Select[User]], functions: list[Callable[[Session], User]]
) -> None:
    assert_type(await gather_queries(statements), list[list[User]])
    assert_type(await gather_queries([USERS, USERS]), list[list[User]])
    assert_type(await gather_queries([PAIRS, PAIRS]), list[list[Row[int, str]]])
    assert_type(await gather_queries([USERS, PAIRS]), list[Any])
    assert_type(await gather_queries([USERS, TOTAL]), list[Any])
    assert_type(await gather_queries([IDS, select(User.name)]), list[Any])
    assert_type(await gather_queries([LEGACY, LEGACY]), list[list[User]])
    assert_type(await gather_queries([TOTAL, TOTAL]), list[int])
    assert_type(await gather_queries(functions), list[User])
    assert_type(await gather_queries([find, find]), list[User])
    assert_type(await gather_queries([find, count]), list[Any])
    assert_type(await gather_queries([name, other_name]), list[str])
    assert_type(await gather_queries({1: USERS, 2: USERS}), dict[int, list[User]])
    assert_type(
        await gather_queries({"a": rows(PAIRS)}), dict[str, list[Row[int, str]]]
    )
    assert_type(await gather_queries({"a": PAIRS}), dict[str, Any])
    assert_type(await gather_queries({"a": TOTAL}), dict[str, int])
    assert_type(await gather_queries({"a": USERS, "b": TOTAL}), dict[str, Any])
    assert_type(await gather_queries({"a": find, "b": count}), dict[str, Any])


async def _exceptions(*, either: bool) -> None:
    assert_type(
        await gather_queries(USERS, TOTAL, return_exceptions=True),
        tuple[list[User] | BaseException, int | BaseException],
    )
    assert_type(
        await gather_queries([USERS, USERS], return_exceptions=True),
        list[list[User] | BaseException],
    )
    assert_type(
        await gather_queries({"a": find}, return_exceptions=True), dict[str, Any]
    )
    assert_type(await gather_queries(USERS, return_exceptions=False), tuple[list[User]])
    assert_type(await gather_queries(USERS, return_exceptions=either), tuple[Any, ...])
    assert_type(await gather_queries([USERS], return_exceptions=either), list[Any])


def _synchronous(session: Session) -> list[str]:
    assert_type(run_in_parallel(USERS, find), tuple[list[User], User])
    assert_type(run_in_parallel([LEGACY.all, LEGACY.all]), list[list[User]])
    assert_type(run_in_parallel({"a": USERS}, timeout=1), dict[str, list[User]])
    users, orders = run_in_parallel(
        [session.query(User).all, session.query(Order).count]
    )
    names: list[str] = [user.name for user in users] * (orders + 1)
    return names


async def _without_flask(gatherer: QueryGatherer) -> None:
    assert_type(
        await gatherer.gather(USERS, PAIRS), tuple[list[User], list[Row[int, str]]]
    )
    assert_type(await gatherer.gather([TOTAL], timeout=1), list[int])
    assert_type(
        gatherer.as_completed([USERS]), AsyncGenerator[tuple[int, list[User]], None]
    )
    assert_type(
        gatherer.as_completed({"a": TOTAL}, return_exceptions=True),
        AsyncGenerator[tuple[str, int | BaseException], None],
    )
    assert_type(
        gatherer.as_completed(USERS, TOTAL), AsyncGenerator[tuple[int, Any], None]
    )


async def _rows_unpack() -> None:
    pairs, found = await gather_queries(PAIRS, first(PAIRS))
    for key, value in pairs:
        assert_type(key, int)
        assert_type(value, str)
    if found is not None:
        assert_type(found.name, Any)


async def _mistakes(gatherer: QueryGatherer) -> None:
    await gather_queries("SELECT 1")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await gather_queries(USERS, time=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await gatherer.gather(USERS, bind="a")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


CHECKED_BY_TYPE_CHECKERS: list[Callable[..., Any]] = [
    _each_kind,
    _positions,
    _collections,
    _exceptions,
    _synchronous,
    _without_flask,
    _rows_unpack,
    _mistakes,
]


def test_the_functions_stay_what_they_are() -> None:
    """What type checkers are told changes neither a function nor its documentation."""
    assert inspect.iscoroutinefunction(gather_queries)
    assert inspect.iscoroutinefunction(QueryGatherer.gather)
    assert inspect.isasyncgenfunction(QueryGatherer.as_completed)
    for function in (gather_queries, run_in_parallel, QueryGatherer.gather, rows):
        assert function.__doc__
        assert "timeout" in inspect.signature(function).parameters


def test_the_stub_is_what_is_written() -> None:
    """The generated overloads are those that their script writes."""
    subprocess.run([sys.executable, str(WRITER), "--check"], check=True)


def test_the_stub_is_installed() -> None:
    """Type checkers find the stub beside the modules."""
    package = Path(async_parallel.__file__).parent
    assert (package / "_signatures.pyi").is_file()
