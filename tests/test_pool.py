"""The pool that lends its connections to lanes without a checkout."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from shop import User
from sqlalchemy import event, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from wire import CountingProxy

from async_parallel import _pool

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from async_parallel import QueryGatherer

PID = select(text("pg_backend_pid()"))


@pytest.fixture
def gatherer(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> QueryGatherer:
    """A gatherer with two connections."""
    return make_gatherer(postgres, max_connections=2)


def count(gatherer: QueryGatherer, name: str) -> list[int]:
    """A list that grows with each pool event of this name."""
    seen: list[int] = []
    event.listen(gatherer.engine.sync_engine, name, lambda *_: seen.append(1))
    return seen


async def test_lanes_use_connections_without_a_checkout_each(
    gatherer: QueryGatherer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between checks the pool is not asked, and what is parked counts as checked in."""
    monkeypatch.setattr(_pool, "_CHECK_INTERVAL", 3600)
    (first,) = await gatherer.gather(PID)
    pool: Any = gatherer.engine.sync_engine.pool
    get, asked = pool._do_get, []

    def count_and_get() -> Any:
        asked.append(1)
        return get()

    monkeypatch.setattr(pool, "_do_get", count_and_get)
    for _ in range(10):
        assert await gatherer.gather(PID) == (first,)
    assert asked == []
    status = gatherer.engine.pool.status()
    assert "Connections in pool: 1" in status
    assert "Current Checked out connections: 0" in status


async def test_a_connection_passes_the_pools_checks_again_after_a_while(
    gatherer: QueryGatherer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the interval a connection that is too old is replaced."""
    monkeypatch.setattr(_pool, "_CHECK_INTERVAL", 0)
    (first,) = await gatherer.gather(PID)
    assert await gatherer.gather(PID) == (first,)
    pool: Any = gatherer.engine.sync_engine.pool
    pool._recycle = 0
    (second,) = await gatherer.gather(PID)
    assert second != first


async def test_others_get_what_is_parked(gatherer: QueryGatherer) -> None:
    """A session of the application gets a parked connection, and opens none."""
    pids = {tuple(pid) for pid in await gatherer.gather(PID, PID)}
    async with (
        AsyncSession(gatherer.engine) as one,
        AsyncSession(gatherer.engine) as two,
    ):
        assert {(await one.scalar(PID),), (await two.scalar(PID),)} == pids


async def test_who_waits_for_a_connection_gets_the_next_one(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """A lane checks its connection in where somebody waits at the pool."""
    gatherer = make_gatherer(postgres, max_connections=1)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def hold(session: AsyncSession) -> Any:
        begun.set()
        await go_on.wait()
        return await session.scalar(PID)

    async def other() -> Any:
        async with AsyncSession(gatherer.engine) as session:
            return await session.scalar(PID)

    holding = asyncio.create_task(gatherer.gather(hold))
    await begun.wait()
    waiting = asyncio.create_task(other())
    await asyncio.sleep(0)
    go_on.set()
    (pid,) = await holding
    assert await asyncio.wait_for(waiting, timeout=10) == pid


@pytest.mark.parametrize("name", ["checkout", "checkin", "reset", "engine_connect"])
async def test_who_listens_to_the_pool_misses_nothing(
    name: str, gatherer: QueryGatherer
) -> None:
    """Where pool events are listened to, each lane causes them."""
    await gatherer.gather(PID)
    seen = count(gatherer, name)
    for _ in range(3):
        await gatherer.gather(PID)
    assert len(seen) >= 3
    pool: Any = gatherer.engine.sync_engine.pool
    assert not pool._parked


async def test_who_listens_to_statements_misses_nothing(
    gatherer: QueryGatherer,
) -> None:
    """A listener that comes later hears what runs on a parked connection."""
    await gatherer.gather(PID)
    seen = count(gatherer, "before_cursor_execute")
    await gatherer.gather(PID)
    assert seen == [1]


async def test_a_lost_connection_sends_all_parked_ones_through_the_checks(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """After a restart of the server one query is repeated, and all get answers."""
    async with CountingProxy(postgres) as proxy:
        gatherer = make_gatherer(proxy.url, max_connections=4)
        before = await gatherer.gather([PID] * 4)
        killer = make_gatherer(postgres)
        pids = ", ".join(str(pid) for (pid,) in before)
        end = text(f"SELECT pg_terminate_backend(p) FROM unnest(ARRAY[{pids}]) p")
        await killer.gather(end)
        # One query, so that its second try could meet another parked connection.
        assert (await gatherer.gather(PID))[0] not in before
        for _ in range(3):
            after = await gatherer.gather([PID] * 4)
            assert not {pid for (pid,) in after} & {pid for (pid,) in before}


async def test_disposing_of_the_engine_closes_what_is_parked(
    gatherer: QueryGatherer, backends: Callable[[str], int]
) -> None:
    """``dispose()`` closes all, and a lane that runs meanwhile spoils no count."""
    await gatherer.gather(PID, PID)

    async def dispose(session: AsyncSession) -> Any:
        await gatherer.engine.dispose()
        return await session.scalar(PID)

    (pid,) = await gatherer.gather(dispose)
    assert backends("true") <= 1
    assert await gatherer.gather(PID) != ([pid],)
    status = gatherer.engine.pool.status()
    assert "Current Checked out connections: 0" in status


async def test_what_a_query_sets_on_its_connection_is_gone_for_the_next(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Execution options and listeners of a ``Connection`` reach no other query."""
    gatherer, heard = make_gatherer(postgres, max_connections=1), []

    async def translate(session: AsyncSession) -> None:
        options = {"schema_translate_map": {None: "elsewhere"}}
        await session.connection(execution_options=options)

    def listen(session: Session) -> None:
        connection = session.connection()
        event.listen(connection, "before_cursor_execute", lambda *_: heard.append(1))

    for spoil in (translate, listen):
        await gatherer.gather(spoil)
        assert len((await gatherer.gather(select(User)))[0]) == 3
        _, users = await gatherer.gather(spoil, select(User))  # on one lane
        assert len(users) == 3
    assert heard == []


async def test_who_wants_a_ping_gets_one_for_each_lane(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """With ``pool_pre_ping`` nothing is parked, so a dead connection is noticed."""
    gatherer = make_gatherer(
        postgres, max_connections=1, engine_options={"pool_pre_ping": True}
    )
    ((pid,),) = await gatherer.gather(PID)
    await make_gatherer(postgres).gather(text(f"SELECT pg_terminate_backend({pid})"))
    (value,) = await gatherer.gather(lambda session: session.scalar(PID))
    assert value != pid


async def test_what_others_found_dead_is_not_lent(
    gatherer: QueryGatherer, postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """A session of the application that meets a dead connection warns the lanes too."""
    pids = [pid for (pid,) in await gatherer.gather(PID, PID)]
    end = text("SELECT pg_terminate_backend(p) FROM unnest(CAST(:pids AS int[])) p")
    await make_gatherer(postgres).gather(end.bindparams(pids=pids))
    async with AsyncSession(gatherer.engine) as session:
        with pytest.raises(DBAPIError):
            await session.scalar(PID)
    values = await gatherer.gather([lambda session: session.scalar(PID)] * 2)
    assert not set(values) & set(pids)


async def test_a_session_of_the_application_gets_its_turn(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Lanes that are never out of work let others have a connection nevertheless."""
    gatherer = make_gatherer(postgres, max_connections=1)
    served = asyncio.Event()

    async def gather_on() -> None:
        while not served.is_set():
            await gatherer.gather([PID] * 5)

    busy = [asyncio.create_task(gather_on()) for _ in range(3)]
    await asyncio.sleep(0)
    async with AsyncSession(gatherer.engine) as session:
        assert await asyncio.wait_for(session.scalar(PID), timeout=10)
    served.set()
    await asyncio.gather(*busy)


async def test_a_function_that_closes_its_connection_harms_nobody(
    gatherer: QueryGatherer,
) -> None:
    """The pool is as before, and the next query has another one."""

    def close(session: Session) -> None:
        session.connection().close()

    assert await gatherer.gather(close) == (None,)
    assert await gatherer.gather(PID)
    pool: Any = gatherer.engine.sync_engine.pool
    assert pool.checkedout() == 0
    assert not pool._lent
