"""Sessions for one statement outside any transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from shop import User
from sqlalchemy import event, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker
from wire import CountingProxy

from async_parallel._reader import reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from async_parallel import QueryGatherer


async def test_a_statement_makes_no_transaction(
    database: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """A session of a plain statement begins nothing, one of a function does."""

    class Watched(Session):
        """A session class of its own, so that other tests are not listened to."""

    maker = async_sessionmaker(sync_session_class=Watched)
    gatherer, begun = make_gatherer(database, sessionmaker=maker), []
    event.listen(Watched, "after_transaction_create", lambda *_: begun.append(1))
    assert len(await gatherer.gather([select(User), text("SELECT 1")])) == 2
    assert begun == []
    await gatherer.gather(lambda session: session.scalars(select(User)).all())
    assert begun == [1]


async def test_a_statement_is_in_a_transaction_where_its_beginning_is_listened_to(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """What an application sets for each transaction holds for statements too."""

    class Tenant(Session):
        """Sets who asks, as row-level security wants it."""

    @event.listens_for(Tenant, "after_begin")
    def set_tenant(_session: Session, _transaction: Any, connection: Any) -> None:
        connection.execute(text("SET LOCAL app.tenant = 'ada'"))

    maker = async_sessionmaker(sync_session_class=Tenant)
    tenant = select(text("current_setting('app.tenant', true)"))
    async with CountingProxy(postgres) as proxy:
        gatherer = make_gatherer(proxy.url, sessionmaker=maker, max_connections=1)
        assert await gatherer.gather([tenant]) == [["ada"]]
        plain = make_gatherer(proxy.url, max_connections=1)
        assert await plain.gather([tenant]) in ([[None]], [[""]])
        await gatherer.gather([tenant])
        before = proxy.round_trips
        await gatherer.gather([tenant] * 3)
        # BEGIN, SET LOCAL, the statement, ROLLBACK
        assert proxy.round_trips - before == 3 * 4


async def test_a_function_after_a_statement_on_one_connection(
    database: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """What a statement leaves on a lane's connection is in nobody's way."""
    gatherer = make_gatherer(database, max_connections=1)

    def names(session: Session) -> list[str]:
        return list(session.scalars(select(User.name).order_by(User.id)))

    users = select(User.name).order_by(User.id)
    results = await gatherer.gather([users, names, users, names])
    assert results == [results[0]] * 4


async def test_a_session_that_chooses_its_own_bind_is_obeyed(
    postgres: str, make_gatherer: Callable[..., QueryGatherer], tmp_path: Any
) -> None:
    """``get_bind()`` of the application decides where its sessions read."""
    from sqlalchemy import create_engine

    other = create_engine(f"{postgres}", connect_args={"application_name": "other"})

    class Routed(Session):
        """Reads from another engine."""

        def get_bind(self, *_args: Any, **_kwargs: Any) -> Any:
            return other

    maker = async_sessionmaker(sync_session_class=Routed)
    gatherer = make_gatherer(postgres, sessionmaker=maker)
    name = select(text("current_setting('application_name')"))
    assert await gatherer.gather([name]) == [["other"]]
    other.dispose()


def test_a_reading_session_is_of_the_class_of_the_application() -> None:
    """Subclasses, sessionmakers and their options apply; others are left alone."""

    class Own(Session):
        """A session class of the application."""

    maker: Any = reading(sessionmaker(class_=Own, info={"a": 1}))
    made = maker()
    assert isinstance(made, Own)
    assert made.info == {"a": 1}
    only: Any = reading(Own)
    assert only.__name__ == "Own"
    assert only.__module__ == Own.__module__

    def make(**options: Any) -> Session:
        return Own(**options)

    assert reading(make) is make


async def test_a_facade_of_the_application_reads_the_same_way(
    database: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """A subclass of ``AsyncSession`` that does something when made is made."""
    made = []

    class Facade(AsyncSession):
        """Notes that it was made."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    gatherer = make_gatherer(database, sessionmaker=async_sessionmaker(class_=Facade))
    assert len(await gatherer.gather([text("SELECT 1")] * 2)) == 2
    assert len(made) == 2


async def test_a_level_of_the_applications_own_leaves_no_transaction_open(
    postgres: str,
    make_gatherer: Callable[..., QueryGatherer],
    backends: Callable[[str], int],
) -> None:
    """With an isolation level for the engine each statement sees what is there now."""
    options = {"isolation_level": "REPEATABLE READ"}
    gatherer = make_gatherer(postgres, max_connections=1, engine_options=options)
    now = select(text("pg_current_xact_id_if_assigned()"), text("txid_current()"))
    seen = {(await gatherer.gather(now))[0][0][1] for _ in range(3)}
    assert len(seen) == 3
    assert backends("state = 'idle in transaction'") == 0
    with pytest.raises(DBAPIError):
        await gatherer.gather(text("SELECT 1/0"))
    assert await gatherer.gather(text("SELECT 1"))


async def test_a_statement_is_in_a_transaction_where_the_engine_is_listened_to(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """``begin`` of the engine is heard for each statement, and none stays open."""
    gatherer, begun = make_gatherer(postgres, max_connections=1), list[object]()
    await gatherer.gather(select(User))
    event.listen(gatherer.engine.sync_engine, "begin", begun.append)
    for _ in range(3):
        await gatherer.gather(select(User))
    assert len(begun) == 3


async def test_configuring_a_sessionmaker_later_is_for_statements_too(
    sqlite: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """``configure()`` after the gatherer was made applies to whatever runs."""

    class Own(Session):
        """A session class of its own, so that other tests are not listened to."""

    maker = sessionmaker(class_=Own)
    asynchronous: Any = async_sessionmaker(sync_session_class=maker)
    gatherer, seen = make_gatherer(sqlite, sessionmaker=asynchronous), []

    @event.listens_for(Own, "do_orm_execute")
    def note(state: Any) -> None:
        seen.append(state.session.info.get("tenant"))

    await gatherer.gather(select(User))
    maker.configure(info={"tenant": "ada"})
    await gatherer.gather(select(User))
    assert seen == [None, "ada"]
