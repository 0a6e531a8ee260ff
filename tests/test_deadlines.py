"""The timeout of a single query, and what of a connection outlives a cancel."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest
from shop import User
from sqlalchemy import event, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import Session as SyncSession

from async_parallel import Query, QueryGatherer, rows, scalar, scalars
from async_parallel.errors import GatherTimeoutError, QueryTimeoutError
from async_parallel.instrumentation import record_gathers

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

ENDLESS = text("SELECT pg_sleep(600)")
PID = scalar(text("SELECT pg_backend_pid()"))
IDS = select(User.id).where(User.id == 1)


async def forever(_session: AsyncSession) -> None:
    """Run until cancelled."""
    await asyncio.Event().wait()


async def test_a_query_that_passes_its_own_timeout_fails_the_gather(
    gatherer: QueryGatherer,
) -> None:
    """The error names it, its limit and what it was doing; the others are stopped."""
    await gatherer.gather(IDS, IDS)  # else it might still be connecting
    with pytest.raises(QueryTimeoutError) as caught:
        await gatherer.gather({"slow": Query(forever, timeout=0.1), "other": forever})
    error = caught.value
    assert (error.query, error.timeout, error.state) == ("slow", 0.1, "running")
    assert str(error) == (
        "Query 'slow' was not done after 0.1 s: it was still running. Raise its"
        " timeout, or look at its plan and at the queries beside it."
    )
    assert await gatherer.gather(IDS) == ([1],)


async def test_a_query_that_catches_its_cancel_is_named_with_what_it_raises(
    gatherer: QueryGatherer,
) -> None:
    """Not only with the timeout: that it was, the error does not say."""

    async def fail(session: AsyncSession) -> None:
        try:
            await forever(session)
        except asyncio.CancelledError:
            raise LookupError from None

    await gatherer.gather(IDS, IDS)  # else it might still be connecting
    with pytest.raises(LookupError) as caught:
        await gatherer.gather({"stubborn": Query(fail, timeout=0.1), "other": forever})
    assert caught.value.__notes__ == ["async_parallel: query 1 of 2, 'stubborn'"]
    with pytest.raises(QueryTimeoutError) as timed_out:
        await gatherer.gather({"slow": Query(forever, timeout=0.1), "other": forever})
    assert timed_out.value.__notes__ == ["async_parallel: query 1 of 2, 'slow'"]


async def test_among_exceptions_as_results_it_is_one(gatherer: QueryGatherer) -> None:
    """The other queries finish; the report says that this one raised."""
    await gatherer.gather(IDS, IDS)
    with record_gathers() as gathers:
        error, ids = await gatherer.gather(
            Query(forever, timeout=0.1), IDS, return_exceptions=True
        )
    assert isinstance(error, QueryTimeoutError)
    assert ids == [1]
    assert [query.outcome for query in gathers[0].queries] == ["raised", "returned"]


async def test_waiting_for_a_lane_counts(
    sqlite: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """A query whose time is up before a lane takes it never runs."""
    gatherer = make_gatherer(sqlite, max_connections=1)
    ended = asyncio.Event()
    ran: list[str] = []

    async def hold(_session: AsyncSession) -> str:
        await ended.wait()
        return "held"

    async with aclosing(
        gatherer.as_completed(
            {"hold": hold, "late": Query(lambda _: ran.append("ran"), timeout=0.02)},
            return_exceptions=True,
        )
    ) as results:
        label, error = await anext(results)
        assert (label, type(error)) == ("late", QueryTimeoutError)
        assert error.state == "waiting"
        assert "waiting for a lane" in str(error)
        ended.set()
        assert [result async for result in results] == [("hold", "held")]
    assert ran == []


async def test_connecting_counts(make_gatherer: Callable[..., QueryGatherer]) -> None:
    """A server that accepts and says nothing costs no more than the timeout."""
    gone = asyncio.Event()

    async def say_nothing(
        _: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await gone.wait()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    gatherer = make_gatherer(f"postgresql://nobody@127.0.0.1:{port}/none")
    with pytest.raises(QueryTimeoutError) as caught:
        await gatherer.gather(Query(IDS, timeout=0.05))
    assert caught.value.state == "connecting"
    gone.set()
    server.close()


async def test_a_query_in_time_is_not_disturbed(gatherer: QueryGatherer) -> None:
    """Shapes take a timeout too, and a timer that did not fire leaves nothing."""
    results = await gatherer.gather(
        Query(IDS, timeout=60), scalars(IDS, timeout=60), rows(IDS, timeout=60)
    )
    assert results == ([1], [1], [(1,)])


@pytest.mark.parametrize("timeout", [0, -1, "soon"])
def test_a_timeout_is_positive(timeout: Any) -> None:
    """Anything else is refused where it is written."""
    with pytest.raises(ValueError, match="timeout must be a number greater than 0"):
        Query(IDS, timeout=timeout)


async def test_a_query_that_is_done_in_spite_of_its_cancel_counts_as_done(
    gatherer: QueryGatherer,
) -> None:
    """What a function returns while it is told to end is its result."""

    async def insist(_session: AsyncSession) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "done"
        return "never"

    await gatherer.gather(IDS)
    assert await gatherer.gather(Query(insist, timeout=0.1)) == ("done",)


async def pids(gatherer: QueryGatherer) -> set[int]:
    """The processes of the server that answer a gather on all three connections."""
    barrier = asyncio.Barrier(3)

    async def ask(session: AsyncSession) -> Any:
        await barrier.wait()
        return await session.scalar(text("SELECT pg_backend_pid()"))

    return set(await gatherer.gather([ask] * 3))


async def stop_by_timeout(gatherer: QueryGatherer) -> None:
    """Stop a gather by its own timeout."""
    with pytest.raises(GatherTimeoutError):
        await gatherer.gather([ENDLESS] * 3, timeout=0.05)


async def stop_by_query_timeout(gatherer: QueryGatherer) -> None:
    """Stop a query by its own timeout."""
    with pytest.raises(QueryTimeoutError):
        await gatherer.gather(Query(ENDLESS, timeout=0.05))


async def stop_by_cancel(gatherer: QueryGatherer) -> None:
    """Stop a gather by a cancel from outside."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await gatherer.gather([ENDLESS] * 3)


async def stop_by_sibling(gatherer: QueryGatherer) -> None:
    """Stop a gather by a query that fails when the others run on the server."""
    failing = text("SELECT 1 / (pg_sleep(0.05)::text = '?')::int")
    with pytest.raises(DBAPIError, match="division by zero"):
        await gatherer.gather(ENDLESS, ENDLESS, failing)


@pytest.mark.parametrize(
    "stop", [stop_by_timeout, stop_by_query_timeout, stop_by_cancel, stop_by_sibling]
)
async def test_a_statement_that_is_stopped_keeps_its_connection(
    stop: Callable[[QueryGatherer], Any],
    postgres: str,
    make_gatherer: Callable[..., QueryGatherer],
    backends: Callable[[str], int],
) -> None:
    """The server ends the statement itself; nobody has to connect again."""
    gatherer = make_gatherer(postgres, max_connections=3)
    before = await pids(gatherer)
    for _ in range(5):
        await stop(gatherer)
        assert await asyncio.to_thread(backends, "state = 'active'") == 0
    assert await pids(gatherer) == before


async def test_a_connection_whose_statement_does_not_end_is_closed(
    postgres: str, make_gatherer: Callable[..., QueryGatherer], monkeypatch: Any
) -> None:
    """Where the server does not confirm it in time, nobody else gets it."""
    from async_parallel import _backends

    monkeypatch.setattr(_backends, "_SETTLE_TIMEOUT", 0.0)
    gatherer = make_gatherer(postgres, max_connections=1)
    (before,) = await gatherer.gather(PID)
    await stop_by_query_timeout(gatherer)
    assert await gatherer.gather(PID) != (before,)


async def test_a_function_that_is_stopped_sees_a_cancel(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Its own code must not take it for an error that it may handle."""
    gatherer = make_gatherer(postgres, max_connections=1)
    seen: list[type[BaseException]] = []

    def endless(session: Session) -> None:
        try:
            session.execute(ENDLESS)
        except BaseException as error:
            seen.append(type(error))
            raise

    with pytest.raises(QueryTimeoutError):
        await gatherer.gather(Query(endless, timeout=0.05))
    assert seen == [asyncio.CancelledError]
    assert await gatherer.gather(IDS) == ([1],)


async def test_a_setting_that_was_stopped_does_not_stay(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """The server may have done it before it was told to stop."""
    gatherer = make_gatherer(postgres, max_connections=1)
    (before,) = await gatherer.gather(PID)
    setting = text("SET search_path TO nowhere")
    task = asyncio.create_task(gatherer.gather(setting))
    for _ in range(3):  # until it is on the wire
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    (path,) = await gatherer.gather(scalar(text("SHOW search_path")))
    assert "nowhere" not in path
    assert await gatherer.gather(PID) != (before,)


async def test_a_connection_is_closed_after_many_stops(
    postgres: str, make_gatherer: Callable[..., QueryGatherer], monkeypatch: Any
) -> None:
    """Each may have left a prepared statement behind."""
    from async_parallel import _connections

    monkeypatch.setattr(_connections, "_MOST_STOPS", 2)
    gatherer = make_gatherer(postgres, max_connections=1)
    (before,) = await gatherer.gather(PID)
    await stop_by_query_timeout(gatherer)
    assert await gatherer.gather(PID) == (before,)
    await stop_by_query_timeout(gatherer)
    assert await gatherer.gather(PID) != (before,)


async def test_a_timeout_in_a_gather_that_is_over_does_nothing(
    sqlite: str, make_gatherer: Callable[..., QueryGatherer], caplog: Any
) -> None:
    """While the gather's own timeout still waits for a query to end."""
    gatherer = make_gatherer(sqlite, max_connections=1)
    go_on = asyncio.Event()

    async def insist(_session: AsyncSession) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await go_on.wait()

    late: Query[Any] = Query(IDS, timeout=0.1)
    task = asyncio.create_task(
        gatherer.gather(insist, late, max_concurrency=1, timeout=0.02)
    )
    await asyncio.sleep(0.2)  # past both
    go_on.set()
    with pytest.raises(GatherTimeoutError):
        await task
    assert caplog.records == []


async def test_an_applications_listener_sees_a_cancel_and_not_an_error(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """So it cannot take it for something that a second try would answer."""
    seen: list[type[BaseException]] = []

    class Listened(SyncSession):
        pass

    @event.listens_for(Listened, "do_orm_execute")
    def run(state: Any) -> Any:
        try:
            return state.invoke_statement()
        except BaseException as error:
            seen.append(type(error))
            raise

    maker = async_sessionmaker(sync_session_class=Listened)
    gatherer = make_gatherer(postgres, sessionmaker=maker)
    await stop_by_query_timeout(gatherer)
    assert seen == [asyncio.CancelledError]


async def test_a_timeout_inside_a_query_ends_that_query_alone(
    gatherer: QueryGatherer, database: str
) -> None:
    """The outer query's transaction goes on."""
    endless = (
        ENDLESS
        if database.startswith("postgresql")
        else text(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
            " SELECT max(i) FROM n"
        )
    )

    async def outer(session: AsyncSession) -> Any:
        error, ids = await gatherer.gather(
            Query(endless, timeout=0.05), IDS, return_exceptions=True
        )
        assert isinstance(error, QueryTimeoutError)
        return ids, (await session.scalars(IDS)).all()

    assert await gatherer.gather(outer) == (([1], [1]),)
