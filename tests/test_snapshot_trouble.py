"""What goes wrong in a gather with one snapshot costs nobody else anything."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import sqlite3
from typing import TYPE_CHECKING, Any

import asyncpg  # type: ignore[import-untyped]
import pytest
from faults import FaultyProxy, Way
from shop import User
from sqlalchemy import create_engine, event, func, select, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import await_only

from async_parallel import (
    Query,
    QueryGatherer,
    Snapshot,
    _member,
    _postgres_snapshot,
    _shared_snapshot,
    _sqlite_snapshot,
    scalar,
)
from async_parallel._postgres_snapshot import PostgreSQLSnapshot
from async_parallel._sqlite_snapshot import SQLiteSnapshot
from async_parallel.errors import (
    GathererClosedError,
    QueryTimeoutError,
    SnapshotLostError,
    SnapshotUnsupportedError,
)
from async_parallel.instrumentation import record_gathers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

COUNT = scalar(select(func.count()).select_from(User))
PID = scalar(text("SELECT pg_backend_pid()"))
SETTING = scalar(text("SELECT current_setting('search_path')"))


async def meet(gatherer: QueryGatherer, connections: int) -> set[int]:
    """Open so many connections, and tell their processes."""
    barrier = asyncio.Barrier(connections)

    async def ask(session: AsyncSession) -> Any:
        await barrier.wait()
        return await session.scalar(PID.source)

    return set(await gatherer.gather([ask] * connections))


@pytest.fixture
def administration(postgres: str) -> Iterator[Any]:
    """A connection that looks after the server."""
    engine = create_engine(postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.mark.parametrize("sql", ["COMMIT", "ROLLBACK"])
@pytest.mark.parametrize("limit", [1, None])
async def test_a_query_that_ends_the_transaction_fails(
    sql: str, limit: int | None, gatherer: QueryGatherer
) -> None:
    """What the others saw would not be one state."""

    def end(session: Session) -> None:
        session.connection().exec_driver_sql(sql)

    for query in (text(sql), end):
        with pytest.raises(DBAPIError, match=r"(?i)savepoint"):
            await gatherer.gather(
                [COUNT, query, COUNT], snapshot=True, max_concurrency=limit
            )
        assert await gatherer.gather([COUNT] * 2, snapshot=True) == [3, 3]


@pytest.mark.parametrize("sql", ["COMMIT", "ROLLBACK"])
async def test_a_query_that_ends_it_and_says_nothing_fails_too(
    sql: str, gatherer: QueryGatherer
) -> None:
    """Its last statements were of another state."""

    def end(session: Session) -> Any:
        session.connection().exec_driver_sql(sql)
        with contextlib.suppress(DBAPIError):
            session.rollback()

    with pytest.raises(SnapshotLostError, match="it has ended the transaction"):
        await gatherer.gather(COUNT, end, COUNT, snapshot=True)
    assert await gatherer.gather([COUNT] * 2, snapshot=True) == [3, 3]


async def test_a_server_that_sends_no_message_is_asked_again(
    postgres_gatherer: QueryGatherer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who stands between may keep messages for itself."""
    monkeypatch.setattr(_postgres_snapshot, "_EXPORTED", re.compile("nothing"))
    states = await postgres_gatherer.gather(
        [scalar(text("SELECT pg_current_snapshot()::text, pg_sleep(0.05)"))] * 4,
        snapshot=True,
    )
    assert len(set(states)) == 1


@pytest.mark.parametrize("direct", [True, False])
async def test_a_server_is_asked_once_what_it_is_unless_another_may_answer(
    postgres_gatherer: QueryGatherer,
    monkeypatch: pytest.MonkeyPatch,
    direct: bool,  # noqa: FBT001
) -> None:
    """Who stands between, and has a number of its own, may lead elsewhere each time."""
    asked: list[tuple[str, ...]] = []
    export_by_message = _postgres_snapshot._export_by_message

    async def note(driver: Any, begin: str, export: tuple[str, ...]) -> str | None:
        asked.append(export)
        return await export_by_message(driver, begin, export)

    monkeypatch.setattr(_postgres_snapshot, "_export_by_message", note)
    if not direct:
        monkeypatch.setattr(asyncpg.Connection, "get_server_pid", lambda _driver: 0)
    for _ in range(30):
        assert await postgres_gatherer.gather([COUNT] * 2, snapshot=True) == [3, 3]
    in_full = asked.count(_postgres_snapshot._EXPORT)
    assert in_full <= 5 if direct else in_full == 30


async def test_who_comes_late_ends_no_gather_whose_snapshot_others_see(
    postgres: str,
    make_gatherer: Callable[..., QueryGatherer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The name is gone with the connection that took it; who has joined goes on."""
    sees = scalar(text("SELECT pg_current_snapshot()::text"))
    gatherer = make_gatherer(postgres, max_connections=3)
    await gatherer.gather([text("SELECT pg_sleep(0.02)")] * 3)
    join, joins = PostgreSQLSnapshot.join, itertools.count(1)
    late, gone = asyncio.Event(), asyncio.Event()

    def join_late(snapshot: PostgreSQLSnapshot, connection: Any) -> None:
        if next(joins) == 2:
            late.set()
            await_only(gone.wait())
        join(snapshot, connection)

    async def lead(session: AsyncSession) -> None:
        await late.wait()
        asyncio.get_running_loop().call_later(0.1, gone.set)
        await session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    async def follow(session: AsyncSession) -> Any:
        found = await session.scalar(sees.source)
        await gone.wait()
        await asyncio.sleep(0.1)
        return found

    monkeypatch.setattr(PostgreSQLSnapshot, "join", join_late)
    async with asyncio.timeout(20):
        leading, *others = await gatherer.gather(
            [lead, follow, sees, sees], snapshot=True, return_exceptions=True
        )
    assert isinstance(leading, DBAPIError)
    assert len(set(others)) == 1


async def test_who_ends_after_a_standby_lost_the_snapshot_fails(
    postgres_gatherer: QueryGatherer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There rows may be missing since then, without an error."""
    # It is said to be one.
    name, server, _, pid = _postgres_snapshot._EXPORT
    export = (name, server, "true", pid)
    monkeypatch.setattr(_postgres_snapshot, "_EXPORT", export)
    inside, lost = asyncio.Event(), asyncio.Event()

    async def lead(session: AsyncSession) -> None:
        await inside.wait()
        try:
            await session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        finally:
            asyncio.get_running_loop().call_later(0.1, lost.set)

    async def follow(session: AsyncSession) -> Any:
        found = await session.scalar(COUNT.source)
        inside.set()
        await lost.wait()
        return found

    found: list[Any] = []
    results = postgres_gatherer.as_completed(
        lead, follow, snapshot=True, return_exceptions=True
    )
    with pytest.raises(SnapshotLostError):  # noqa: PT012 - it comes after the results
        async for _, result in results:
            found.append(result)
    leading, following = found
    assert isinstance(leading, DBAPIError)
    assert isinstance(following, SnapshotLostError)


async def test_who_has_joined_leads_where_the_first_connection_is_lost(
    postgres_gatherer: QueryGatherer,
) -> None:
    """What waits runs there, in the same snapshot."""
    inside, lost = asyncio.Event(), asyncio.Event()

    async def lead(session: AsyncSession) -> None:
        await inside.wait()
        asyncio.get_running_loop().call_later(0.2, lost.set)
        await session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    async def follow(session: AsyncSession) -> Any:
        await session.scalar(COUNT.source)
        inside.set()
        await lost.wait()
        return await session.scalar(PID.source)

    failed, pid, *others = await postgres_gatherer.gather(
        *[lead, follow, PID, PID, PID],
        snapshot=True,
        return_exceptions=True,
        max_concurrency=2,
    )
    assert isinstance(failed, DBAPIError)
    assert others == [pid] * 3


@pytest.mark.parametrize("return_exceptions", [False, True])
async def test_a_setting_does_not_outlast_its_query(
    postgres: str,
    make_gatherer: Callable[..., QueryGatherer],
    *,
    return_exceptions: bool,
) -> None:
    """As without a snapshot, where the connection is closed."""
    gatherer = make_gatherer(postgres, max_connections=1)
    change = text("SET search_path TO other")
    found = await gatherer.gather(
        [SETTING, change, SETTING, change, SETTING],
        snapshot=True,
        return_exceptions=return_exceptions,
    )
    assert found[0] == found[2] == found[4]


async def test_the_failure_of_who_leads_is_what_is_raised(
    postgres_gatherer: QueryGatherer,
) -> None:
    """Not that the others could not join after it."""
    await meet(postgres_gatherer, 5)
    for _ in range(40):
        with pytest.raises(DBAPIError, match="nowhere"):
            await postgres_gatherer.gather(
                [text("SELECT 1 FROM nowhere"), *[COUNT] * 4], snapshot=True
            )


@pytest.mark.parametrize("fails", [True, False])
async def test_a_refusal_waits_for_who_leads(
    postgres_gatherer: QueryGatherer,
    monkeypatch: pytest.MonkeyPatch,
    fails: bool,  # noqa: FBT001
) -> None:
    """Where that fails, it is why others could not join; else one of them says so."""
    refused = asyncio.Event()

    def refuse(_snapshot: object, _connection: object) -> None:
        refused.set()
        raise SnapshotUnsupportedError("the database", "it is gone", may_pass=True)

    async def lead(_session: AsyncSession) -> None:
        await refused.wait()
        await asyncio.sleep(0.05)
        if fails:
            raise LookupError("of who leads")

    monkeypatch.setattr(PostgreSQLSnapshot, "join", refuse)
    with pytest.raises(LookupError if fails else SnapshotUnsupportedError) as caught:
        await postgres_gatherer.gather(lead, COUNT, COUNT, snapshot=True)
    query = "1" if fails else "[23]"
    assert re.match(f"async_parallel: query {query} of 3", caught.value.__notes__[0])


@pytest.mark.parametrize("kind", [PostgreSQLSnapshot, SQLiteSnapshot])
async def test_another_lane_leads_where_the_first_cannot(
    kind: Any, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be taken costs one query, where failures may be results."""
    name = "postgres" if kind is PostgreSQLSnapshot else "sqlite"
    url, taken, take = request.getfixturevalue(name), [], kind.take

    def fail_once(snapshot: Any, connection: Any, *, shared: bool) -> None:
        taken.append(snapshot)
        if len(taken) == 1:
            raise LookupError("of the first")
        take(snapshot, connection, shared=shared)

    monkeypatch.setattr(kind, "take", fail_once)
    async with QueryGatherer(url) as gatherer:
        queries = [COUNT] * 4
        failed, *counts = await gatherer.gather(
            queries, snapshot=True, return_exceptions=True
        )
        assert isinstance(failed, LookupError)
        assert counts == [3] * 3
        assert len(set(taken)) == 1


async def test_dead_connections_are_replaced_each_time(
    postgres_gatherer: QueryGatherer, administration: Any
) -> None:
    """That who takes the snapshot has a dead one costs it no failure."""
    for _ in range(3):
        pids = await meet(postgres_gatherer, 3)
        for pid in pids:
            administration.execute(text(f"SELECT pg_terminate_backend({pid}, 1000)"))
        assert await postgres_gatherer.gather([COUNT] * 3, snapshot=True) == [3] * 3


async def test_a_snapshot_that_is_not_given_leaves_the_connection_well(
    postgres: str, make_gatherer: Callable[..., QueryGatherer], administration: Any
) -> None:
    """A role that may not export, for one, has a usable connection afterwards."""
    revoke = "REVOKE EXECUTE ON FUNCTION pg_export_snapshot() FROM PUBLIC"
    administration.execute(text("CREATE ROLE humble LOGIN"))
    administration.execute(text("GRANT SELECT ON users TO humble"))
    administration.execute(text(revoke))
    try:
        url = postgres.replace("//postgres:@", "//humble@")
        gatherer = make_gatherer(url, max_connections=2)
        pids = await meet(gatherer, 2)
        for _ in range(3):
            with pytest.raises(DBAPIError, match="permission denied"):
                await gatherer.gather([COUNT] * 2, snapshot=True)
            assert await gatherer.gather([COUNT] * 2) == [3] * 2
        assert await meet(gatherer, 2) == pids
        await gatherer.aclose()
    finally:
        grant = revoke.replace("REVOKE", "GRANT").replace(" FROM ", " TO ")
        administration.execute(text(grant))
        administration.execute(text("REVOKE ALL ON users FROM humble"))
        administration.execute(text("DROP ROLE humble"))


async def test_nobody_listens_to_the_server_afterwards(
    postgres_gatherer: QueryGatherer,
) -> None:
    """What took the snapshot leaves its connection as it was."""

    async def listeners(session: AsyncSession) -> int:
        connection = await (await session.connection()).get_raw_connection()
        driver: Any = connection.driver_connection
        return len(driver._log_listeners)

    for snapshot in (True, False):
        found = await postgres_gatherer.gather([listeners] * 3, snapshot=snapshot)
        assert found == [0] * 3


async def test_settings_of_a_session_do_not_matter(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Neither its time zone, nor what the server tells it, nor its defaults."""
    zones = iter(["Asia/Tokyo", "America/Lima", "UTC"])
    engine = create_async_engine(postgres.replace("psycopg2", "asyncpg"), pool_size=3)

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for name, value in (
            ("TimeZone", next(zones)),
            ("DateStyle", "German"),
            ("client_min_messages", "log"),
            ("log_min_duration_statement", "0"),
            ("default_transaction_deferrable", "on"),
        ):
            cursor.execute(f"SET {name} TO '{value}'")
        cursor.close()

    gatherer = make_gatherer(engine, max_connections=3)
    try:
        await meet(gatherer, 3)
        for snapshot in (True, Snapshot(isolation="serializable")):
            assert await gatherer.gather([COUNT] * 3, snapshot=snapshot) == [3] * 3
    finally:
        await engine.dispose()


async def test_a_network_that_is_cut_at_the_end_is_not_waited_for(
    postgres: str, make_gatherer: Callable[..., QueryGatherer], monkeypatch: Any
) -> None:
    """The end of the transaction is told for a while; then the connection is cut."""
    monkeypatch.setattr(_member, "_LEAVE_GRACE", 0.1)
    leave = PostgreSQLSnapshot.leave
    async with FaultyProxy(postgres) as proxy:
        gatherer = make_gatherer(str(proxy.url), max_connections=1)

        def leave_cut_off(snapshot: PostgreSQLSnapshot, connection: Any) -> None:
            proxy.black_hole(Way.TO_SERVER)
            leave(snapshot, connection)

        with monkeypatch.context() as patch:
            patch.setattr(PostgreSQLSnapshot, "leave", leave_cut_off)
            async with asyncio.timeout(20):
                assert await gatherer.gather([COUNT], snapshot=True) == [3]
        proxy.restore()
        assert await gatherer.gather([COUNT], snapshot=True) == [3]
        await gatherer.aclose()


async def test_a_lane_that_was_called_back_serves_the_next_gather(
    postgres: str, make_gatherer: Callable[..., QueryGatherer], monkeypatch: Any
) -> None:
    """Also where its own gather is cancelled before it has gone back."""
    monkeypatch.setattr(_shared_snapshot, "_SHORT_PATIENCE", 0.05)
    gatherer = make_gatherer(postgres, max_connections=2)
    await meet(gatherer, 2)

    def never_join(_snapshot: object, _connection: object) -> None:
        try:
            await_only(asyncio.sleep(60))
        except asyncio.CancelledError:
            first.cancel()
            await_only(asyncio.sleep(0.05))
            raise

    monkeypatch.setattr(PostgreSQLSnapshot, "join", never_join)
    first = asyncio.create_task(gatherer.gather([COUNT] * 2, snapshot=True))
    await asyncio.sleep(0.02)
    others = [asyncio.create_task(gatherer.gather([COUNT] * 2)) for _ in range(3)]
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await asyncio.gather(*others) == [[3] * 2] * 3


async def test_closing_ends_a_gather_that_is_about_to_begin_again(
    postgres: str, make_gatherer: Callable[..., QueryGatherer], administration: Any
) -> None:
    """It opens no connections that nobody would close."""
    administration.execute(
        text(
            "CREATE OR REPLACE FUNCTION conflict() RETURNS int LANGUAGE plpgsql AS"
            " $$BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '40001'; END$$"
        )
    )
    for delay in (0, 0.002, 0.005, 0.01, 0.02, 0.05):
        gatherer = make_gatherer(postgres, max_connections=2)
        await meet(gatherer, 2)
        conflicting = [text("SELECT conflict()"), text("SELECT 1")]
        task = asyncio.create_task(gatherer.gather(conflicting, snapshot=True))
        await asyncio.sleep(delay)
        await gatherer.aclose()
        with pytest.raises((GathererClosedError, DBAPIError)):
            await task
        pool: Any = gatherer.engine.pool
        assert pool.checkedin() == 0
    administration.execute(text("DROP FUNCTION conflict()"))


async def test_who_leads_may_run_out_of_time_while_others_join(
    sqlite: str, make_gatherer: Callable[..., QueryGatherer], monkeypatch: Any
) -> None:
    """Then SQLite's lock is given up, and nobody joins who would see more."""
    gatherer = make_gatherer(sqlite, max_connections=4)
    await gatherer.gather(COUNT)
    connect = gatherer.engine.sync_engine.dialect.connect

    def connect_slowly(*args: Any, **options: Any) -> Any:
        await_only(asyncio.sleep(0.3))
        return connect(*args, **options)

    monkeypatch.setattr(gatherer.engine.sync_engine.dialect, "connect", connect_slowly)
    task = asyncio.create_task(
        gatherer.gather(
            [Query(COUNT.source, timeout=0.05), *[COUNT] * 5],
            snapshot=True,
            return_exceptions=True,
        )
    )
    await asyncio.sleep(0.15)
    with contextlib.closing(sqlite3.connect(sqlite[10:], timeout=0.05)) as writer:
        writer.execute("INSERT INTO users (id, name) VALUES (99, 'new')")
        # In the rollback journal's mode readers keep a writer from committing.
        with contextlib.suppress(sqlite3.OperationalError):
            writer.commit()
        writer.rollback()
    found = await task
    assert isinstance(found[0], QueryTimeoutError)
    assert len(set(found[1:])) == 1


async def test_attached_files_are_refused(
    sqlite: str, tmp_path: Path, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Each file has states of its own."""
    engine = create_async_engine(sqlite.replace("sqlite:", "sqlite+aiosqlite:"))

    @event.listens_for(engine.sync_engine, "connect")
    def attach(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"ATTACH '{tmp_path / 'other.sqlite3'}' AS other")
        cursor.close()

    gatherer = make_gatherer(engine)
    with pytest.raises(SnapshotUnsupportedError, match="attached"):
        await gatherer.gather([COUNT] * 2, snapshot=True)
    assert await gatherer.gather([COUNT] * 2) == [3] * 2
    await engine.dispose()


async def test_a_writer_is_waited_for_but_not_for_ever(
    sqlite: str,
    make_gatherer: Callable[..., QueryGatherer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who holds the lock for too long is told of by SQLite's own error."""
    gatherer = make_gatherer(sqlite)
    writer = sqlite3.connect(sqlite.removeprefix("sqlite:///"), isolation_level=None)
    with contextlib.closing(writer):
        writer.execute("BEGIN IMMEDIATE")
        asyncio.get_running_loop().call_later(0.1, writer.rollback)
        assert await gatherer.gather([COUNT] * 2, snapshot=True) == [3] * 2
        writer.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr(_sqlite_snapshot, "_PATIENCE", 0.1)
        async with asyncio.timeout(30):  # else it may wait for ever
            with pytest.raises(OperationalError, match="locked"):
                await gatherer.gather([COUNT] * 2, snapshot=True)


async def test_one_connection_needs_no_lock(
    database: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Nor an exported snapshot: nobody could join."""
    gatherer = make_gatherer(database, max_connections=1)
    with record_gathers() as gathers:
        assert await gatherer.gather([COUNT] * 3, snapshot=True) == [3] * 3
    assert gathers[0].snapshot is not None
    assert (gathers[0].snapshot.identifier, gathers[0].snapshot.lanes) == (None, 1)


async def test_temporary_tables_are_no_other_file(
    sqlite: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """They are of one connection, so nobody changes them meanwhile."""
    engine = create_async_engine(sqlite.replace("sqlite:", "sqlite+aiosqlite:"))

    @event.listens_for(engine.sync_engine, "connect")
    def make_table(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("CREATE TEMP TABLE notes (id INTEGER)")
        cursor.close()

    assert await make_gatherer(engine).gather([COUNT] * 2, snapshot=True) == [3] * 2
    await engine.dispose()


@pytest.mark.parametrize("reason", ["mode=ro", "immutable=1", "the file"])
async def test_a_file_that_cannot_be_written_is_read_by_one_connection(
    sqlite: str, make_gatherer: Callable[..., QueryGatherer], reason: str
) -> None:
    """Nobody can lock it, and one transaction sees one state."""
    path = sqlite.removeprefix("sqlite:///")
    if reason == "the file":
        with open(path, "r+b") as file:  # noqa: ASYNC230, PTH123 - a moment
            file.seek(18)
            file.write(b"\x03")  # of a format that only later versions write
        gatherer = make_gatherer(sqlite)
    else:
        gatherer = make_gatherer(f"sqlite:///file:{path}?{reason}&uri=true")
    with record_gathers() as gathers:
        assert await gatherer.gather([COUNT] * 4, snapshot=True) == [3] * 4
    assert gathers[0].snapshot is not None
    assert (gathers[0].snapshot.identifier, gathers[0].snapshot.lanes) == (None, 1)


async def test_a_database_in_memory_is_refused(
    make_gatherer: Callable[..., QueryGatherer],
) -> None:
    """Connections of a shared cache see each other's changes at once."""
    url = "sqlite:///file:shared?mode=memory&cache=shared&uri=true"
    gatherer = make_gatherer(url)
    with pytest.raises(SnapshotUnsupportedError, match="shared cache"):
        await gatherer.gather([text("SELECT 1")] * 2, snapshot=True)
