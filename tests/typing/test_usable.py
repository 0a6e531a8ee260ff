"""Code of an application, without a hint of what is inferred, that must not be refused.

Checked with the lowest SQLAlchemy too, where less is inferred: there too a result is
what it is, or ``Any``. Run as a test it only has to compile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from async_parallel import (
    Query,
    QueryGatherer,
    first,
    gather_queries,
    one,
    rows,
    run_in_parallel,
    scalar,
    scalar_one,
    scalars,
)

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session


class Base(DeclarativeBase):
    """The tables of this module."""


class User(Base):
    """An entity."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def find(session: Session) -> User:
    """A function."""
    return session.get_one(User, 1)


async def count(session: AsyncSession) -> int:
    """An async function."""
    return (await session.execute(select(func.count(User.id)))).scalar_one()


PAIRS = select(User.id, User.name)


async def view() -> list[str]:
    """Every kind of query, one by one."""
    users, ids, pairs, told = await gather_queries(
        select(User), select(User.id), PAIRS, text("SELECT 1")
    )
    user, total, more, fewer, named = await gather_queries(
        find, count, select(User), PAIRS, rows(PAIRS)
    )
    answer: list[str] = [each.name for each in [*users, user, *more]]
    answer += [name for _, name in pairs]
    answer += [row[1] for row in [*fewer, *named]]
    answer += ["#" * key for key in ids] + ["#" * total]
    answer += [str(row) for row in told]
    return answer


async def shapes() -> list[str]:
    """Every shape."""
    one_user, pair, names, many, total, user = await gather_queries(
        first(select(User)),
        one(PAIRS),
        scalars(select(User.name)),
        scalar(select(func.count())),
        scalar_one(select(func.count())),
        Query(select(User), timeout=1),
    )
    answer: list[str] = [each.name for each in user]
    answer += names
    answer += [pair[1], "#" * total]
    if one_user is not None:
        answer.append(one_user.name)
    if many is not None:
        answer.append("#" * many)
    return answer


async def collections(gatherer: QueryGatherer) -> list[str]:
    """Lists and mappings."""
    by_key = await gather_queries({"new": select(User), "old": select(User)})
    pairs = await gather_queries([PAIRS, PAIRS])
    answer: list[str] = [user.name for user in by_key["new"]]
    answer += [row[1] for row in pairs[0]]
    async for key, users in gatherer.as_completed({"new": select(User)}):
        answer += [key, *[user.name for user in users]]
    for result in await gatherer.gather([select(User)], return_exceptions=True):
        if not isinstance(result, BaseException):
            answer += [user.name for user in result]
    return answer


def synchronous(session: Session) -> list[str]:
    """Legacy queries."""
    users, total = run_in_parallel([session.query(User).all, session.query(User).count])
    pairs, user = run_in_parallel(session.query(User.id, User.name), find)
    answer: list[str] = [each.name for each in users] * total
    answer += [row[1] for row in pairs] + [user.name]
    return answer


def test_it_compiles() -> None:
    """That it is accepted, the type checkers say."""
    assert view.__doc__
