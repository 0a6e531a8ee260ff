"""Second tries: which failures they answer, and which must not be tried again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg  # type: ignore[import-untyped]
import pytest
from shop import User
from sqlalchemy import create_engine, exc, select, text
from sqlalchemy.orm import Query as LegacyQuery

from async_parallel import Query, QueryGatherer, _connections, _recovery, scalar
from async_parallel._recovery import (
    MOST_TRIES,
    Reachability,
    is_temporary,
    pause_before_repeat,
)
from async_parallel.errors import GatherTimeoutError, QueryTimeoutError
from async_parallel.instrumentation import record_gathers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

PID = text("SELECT pg_backend_pid()")
USERS = select(User.id).order_by(User.id)
# Fails so many times on a connection, which remembers that by its advisory locks:
# they are no writes, and a failure does not undo them.
FLAKY = """
CREATE FUNCTION flaky(code text, times int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE failed int := (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
                       AND pid = pg_backend_pid() AND classid = 4040);
BEGIN
  IF failed < times THEN
    PERFORM pg_advisory_lock(4040, failed);
    RAISE EXCEPTION 'failed on purpose' USING ERRCODE = code;
  END IF;
  PERFORM pg_advisory_unlock_all();
  RETURN 'answered';
END $$
"""


class Admin:
    """A connection of somebody else's to the same PostgreSQL."""

    def __init__(self, url: str) -> None:
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        self._connection = engine.connect()
        self._engine = engine

    def run(self, sql: str) -> Any:
        """Run ``sql``; the first value that it returns, if it returns one."""
        result = self._connection.execute(text(sql))
        return result.scalar() if result.returns_rows else None

    def terminate_others(self) -> None:
        """End every other connection to the database, as a restart does."""
        self.run(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE"
            " datname = current_database() AND pid <> pg_backend_pid()"
        )

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()
        self._engine.dispose()


@pytest.fixture
def admin(postgres: str) -> Iterator[Admin]:
    """Somebody else, who may change the schema; what is left of that is dropped."""
    admin = Admin(postgres)
    admin.run(FLAKY)
    yield admin
    admin.run("DROP FUNCTION flaky")
    admin.run("DROP TABLE IF EXISTS plans")
    admin.close()


@pytest.fixture
def one_lane(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> QueryGatherer:
    """A gatherer with one connection."""
    return make_gatherer(postgres, max_connections=1)


@pytest.mark.parametrize(
    "query",
    [USERS, LegacyQuery(User.id).order_by(User.id), lambda s: s.scalars(USERS).all()],
    ids=["statement", "legacy", "function"],
)
async def test_a_dead_connection_costs_no_read(
    query: Any, admin: Admin, postgres_gatherer: QueryGatherer
) -> None:
    """Whatever the query is: of a function nothing has run when it is found dead."""
    expected = await postgres_gatherer.gather([query] * 5)
    admin.terminate_others()
    assert await postgres_gatherer.gather([query] * 5) == expected


async def test_a_write_on_a_dead_connection_is_made_once(
    admin: Admin, one_lane: QueryGatherer
) -> None:
    """It is found dead before the write is sent."""
    admin.run("CREATE TABLE plans (id int)")
    insert = text("INSERT INTO plans VALUES (1)")
    await one_lane.gather(insert, read_only=False)
    admin.terminate_others()
    await one_lane.gather(insert, read_only=False)
    assert admin.run("SELECT count(*) FROM plans") == 2


async def test_a_function_that_has_begun_is_not_repeated(
    admin: Admin, postgres_gatherer: QueryGatherer
) -> None:
    """It may have done something else; its caller gets the driver's error."""
    calls: list[int] = []

    async def lose(session: AsyncSession) -> Any:
        calls.append(1)
        await asyncio.to_thread(admin.terminate_others)
        return (await session.scalars(USERS)).all()

    with pytest.raises(exc.DBAPIError):
        await postgres_gatherer.gather(lose)
    assert len(calls) == 1
    assert await postgres_gatherer.gather(USERS)


@pytest.mark.parametrize("code", ["40001", "40P01"])
@pytest.mark.parametrize("legacy", [False, True])
async def test_a_serialization_failure_or_deadlock_is_tried_again(
    code: str,
    legacy: bool,  # noqa: FBT001
    admin: Admin,
    one_lane: QueryGatherer,
) -> None:
    """As often as a read is tried at most, and then it is raised."""
    flaky = text(f"flaky('{code}', {MOST_TRIES - 1})")
    often = text(f"flaky('{code}', {MOST_TRIES})")

    def query(function: Any) -> Any:
        return LegacyQuery(function).scalar if legacy else select(function)

    assert await one_lane.gather(query(flaky)) in ((["answered"],), ("answered",))
    with pytest.raises(exc.DBAPIError, match="on purpose"):
        await one_lane.gather(query(often))


async def test_all_that_sees_one_snapshot_is_tried_again(
    admin: Admin, one_lane: QueryGatherer
) -> None:
    """In another snapshot; whoever looks on sees one gather, which went well."""
    flaky = scalar(text("SELECT flaky('40001', 1)"))
    with record_gathers() as reports:
        found = await one_lane.gather(USERS, flaky, snapshot=True)
    assert found == ([1, 2, 3], "answered")
    assert [report.raised for report in reports] == [None]


async def keep(results: AsyncIterator[Any], kept: list[Any]) -> None:
    """Add each result to those that are kept, before the next one comes."""
    async for _, result in results:
        kept.append(result)


async def test_a_snapshot_with_a_function_is_not_tried_again(
    admin: Admin, one_lane: QueryGatherer
) -> None:
    """It may do something else; nor is one of which results were given away."""
    calls: list[int] = []

    def call(_session: Session) -> None:
        calls.append(1)

    flaky = text("SELECT flaky('40001', 1)")
    with pytest.raises(exc.DBAPIError, match="on purpose"):
        await one_lane.gather(call, flaky, snapshot=True)
    assert await one_lane.gather(flaky)  # and forgets that it has failed
    assert calls == [1]
    given: list[Any] = []
    results = one_lane.as_completed(USERS, flaky, snapshot=True)
    with pytest.raises(exc.DBAPIError, match="on purpose"):
        await keep(results, given)
    assert given == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("timeouts", "error"),
    [((0.9, None), GatherTimeoutError), ((None, 0.9), QueryTimeoutError)],
    ids=["gather", "query"],
)
async def test_a_timeout_is_for_all_tries_together(
    timeouts: tuple[float | None, float | None],
    error: type[Exception],
    admin: Admin,
    one_lane: QueryGatherer,
) -> None:
    """Of a snapshot, each of which alone would end in time."""
    of_gather, of_query = timeouts
    slowly = Query(text("SELECT pg_sleep(0.4), flaky('40001', 2)"), timeout=of_query)
    with pytest.raises(error):
        await one_lane.gather(slowly, snapshot=True, timeout=of_gather)


@pytest.mark.parametrize("code", ["22012", "57014", "42501"])
async def test_what_a_second_try_cannot_answer_is_tried_once(
    code: str, admin: Admin, one_lane: QueryGatherer
) -> None:
    """Other errors are the caller's at once."""
    with pytest.raises(exc.DBAPIError, match="on purpose"):
        await one_lane.gather(text(f"SELECT flaky('{code}', 1)"))


async def test_a_server_that_shuts_down_is_not_asked_again_on_the_same_connection(
    admin: Admin, one_lane: QueryGatherer
) -> None:
    """It says so before it closes; each further try is on a connection of its own."""
    with pytest.raises(exc.DBAPIError, match="on purpose"):
        await one_lane.gather(text("SELECT flaky('57P01', 1)"))
    assert await one_lane.gather(text("SELECT flaky('57P01', 0)"))


async def test_a_function_is_not_repeated_for_a_serialization_failure(
    admin: Admin, one_lane: QueryGatherer
) -> None:
    """Nor is a write."""

    def flaky(session: Session) -> Any:
        return session.scalar(text("SELECT flaky('40001', 1)"))

    with pytest.raises(exc.DBAPIError, match="on purpose"):
        await one_lane.gather(flaky)
    with pytest.raises(exc.DBAPIError, match="on purpose"):
        await one_lane.gather(text("SELECT flaky('40001', 2)"), read_only=False)


async def test_a_migration_costs_no_read(admin: Admin, one_lane: QueryGatherer) -> None:
    """A plan that a changed table made stale is made again."""
    admin.run("CREATE TABLE plans AS SELECT 1 AS id")
    everything = text("SELECT * FROM plans")
    assert await one_lane.gather(everything) == ([(1,)],)
    admin.run("ALTER TABLE plans ADD COLUMN name text DEFAULT 'new'")
    assert await one_lane.gather(everything) == ([(1, "new")],)


async def test_a_nested_query_is_not_repeated_by_itself(
    admin: Admin, one_lane: QueryGatherer
) -> None:
    """Its transaction is the outer query's, which is over with the first failure."""

    async def outer(_session: AsyncSession) -> Any:
        return await one_lane.gather(text("SELECT flaky('40001', 1)"))

    with pytest.raises(exc.DBAPIError, match="on purpose"):
        await one_lane.gather(outer)


async def test_a_connection_is_replaced_when_it_is_old(
    postgres: str,
    make_gatherer: Callable[..., QueryGatherer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between two queries, not only when it has been idle."""
    now = 1000.0
    monkeypatch.setattr(_connections, "monotonic", lambda: now)
    gatherer = make_gatherer(postgres, max_connections=1, max_age=60)

    async def grow_old(session: AsyncSession) -> Any:
        nonlocal now
        pid = await session.scalar(PID)
        now += 61
        return pid

    first = await gatherer.gather([PID, PID])
    assert first[0] == first[1]
    aging, (later,) = (await gatherer.gather([grow_old, PID]))[:2]
    assert aging == first[0][0][0]
    assert later[0] != aging
    assert await gatherer.gather(PID) == ([later],)
    now += 61
    assert await gatherer.gather(PID) != ([later],)


async def test_an_old_connection_is_replaced_when_the_database_is_back(
    postgres: str,
    make_gatherer: Callable[..., QueryGatherer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its age does not shorten the wait for a database that restarts."""
    gatherer = make_gatherer(postgres, max_connections=1, max_age=0.01)
    await gatherer.gather(PID)
    await asyncio.sleep(0.02)
    refusals = iter([ConnectionRefusedError(), ConnectionRefusedError()])
    connect = asyncpg.connect

    async def refuse(*args: Any, **options: Any) -> Any:
        for error in refusals:
            raise error
        return await connect(*args, **options)

    monkeypatch.setattr(asyncpg, "connect", refuse)
    assert await gatherer.gather(PID)
    assert list(refusals) == []


def test_a_limit_of_the_servers_is_not_met_again() -> None:
    """``transaction_timeout`` closes the connection, and would do so each time."""

    class Original(Exception):  # noqa: N818
        sqlstate = "57P01"

    lost = exc.DBAPIError("", {}, Original(), connection_invalidated=True)
    assert pause_before_repeat(lost, 1) == 0
    Original.sqlstate = "25P04"
    assert pause_before_repeat(lost, 1) is None


def test_the_first_connection_is_not_waited_for() -> None:
    """What has never worked is a mistake, and is said at once."""
    assert list(Reachability().pauses()) == []


def test_an_outage_is_waited_for_from_its_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Some tries, with growing pauses; who comes later gets fewer, and then none."""
    now = 1000.0
    monkeypatch.setattr(_recovery, "monotonic", lambda: now)
    known = Reachability()
    known.connected()
    pauses = []
    for pause in known.pauses():
        pauses.append(pause)
        now += pause
    assert 20 < len(pauses) < 40
    assert 4 < sum(pauses) <= 6
    assert pauses[0] < 0.06 < min(pauses[3:])
    assert max(pauses) <= 0.25
    now += 10
    assert list(known.pauses()) == []
    known.connected()
    assert next(known.pauses(), None) is not None


async def test_who_waits_is_told_that_the_database_is_back() -> None:
    """By the first who has connected; nobody waits on while others are answered."""
    known = Reachability()
    known.connected()
    next(known.pauses())
    waiting = asyncio.create_task(known.wait(600))
    await asyncio.sleep(0)
    assert not waiting.done()
    known.connected()
    await waiting


def test_pauses_differ() -> None:
    """Those who lost their connections together do not come back together."""
    known = Reachability()
    known.connected()
    assert len({next(known.pauses()) for _ in range(5)}) == 5


@pytest.mark.parametrize(
    ("error", "temporary"),
    [
        (ConnectionRefusedError(), True),
        (FileNotFoundError(), True),  # the socket, between stop and start
        (TimeoutError(), False),
        (ValueError(), False),
        (exc.DBAPIError("", {}, ConnectionResetError()), True),
    ],
)
def test_what_passes_by_itself(error: Exception, temporary: bool) -> None:  # noqa: FBT001
    """A server that is not there may come back; one that was waited for in vain not."""
    assert is_temporary(error) is temporary


@pytest.mark.parametrize(
    ("code", "temporary"),
    [("57P03", True), ("53300", True), ("08006", True), ("28P01", False)],
)
def test_what_a_server_says_passes_by_itself(code: str, temporary: bool) -> None:  # noqa: FBT001
    """It starts up, is full or went away; a wrong password stays one."""

    class Original(Exception):  # noqa: N818
        sqlstate = code

    assert is_temporary(exc.DBAPIError("", {}, Original())) is temporary
    assert is_temporary(Original()) is temporary
