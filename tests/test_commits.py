"""Writes: made once or not at all, and the caller knows which."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, event, exc, text

from async_parallel import QueryGatherer, scalar
from async_parallel.errors import (
    GathererClosedError,
    GatherTimeoutError,
    ReadOnlyError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

# A COMMIT that takes as long as somebody holds the lock 5050.
SLOW_COMMIT = """
DROP TABLE IF EXISTS writes;
CREATE TABLE writes (id int);
CREATE OR REPLACE FUNCTION wait_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock(5050); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON writes DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION wait_at_commit()
"""
WAITS = "wait_event = 'advisory'"
INSERT = text("INSERT INTO writes VALUES (1)")


class Writes:
    """A table whose COMMITs can be held up."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url, isolation_level="AUTOCOMMIT")
        self._connection = self._engine.connect()
        self.run(SLOW_COMMIT)

    def run(self, sql: str) -> Any:
        """Run ``sql``; the first value that it returns, if it returns one."""
        result = self._connection.execute(text(sql))
        return result.scalar() if result.returns_rows else None

    def hold(self) -> None:
        """Have each COMMIT wait."""
        self.run("SELECT pg_advisory_lock(5050)")

    def release(self) -> None:
        """Let them go on."""
        self.run("SELECT pg_advisory_unlock(5050)")

    async def committing(self) -> None:
        """Wait until a COMMIT waits."""
        sql = f"SELECT count(*) FROM pg_stat_activity WHERE {WAITS}"
        while not await asyncio.to_thread(self.run, sql):
            pass

    def wait_for_one(self) -> None:
        """Wait until a row is there."""
        while not self.made:
            pass

    @property
    def made(self) -> int:
        """How many rows are there."""
        count: int = self.run("SELECT count(*) FROM writes")
        return count

    def close(self) -> None:
        """Drop the table and disconnect."""
        self.run("DROP TABLE writes; DROP FUNCTION wait_at_commit")
        self._connection.close()
        self._engine.dispose()


@pytest.fixture
def writes(postgres: str) -> Iterator[Writes]:
    """A table whose COMMITs can be held up."""
    writes = Writes(postgres)
    yield writes
    writes.close()


async def test_a_cancel_does_not_cut_a_commit_off(
    writes: Writes, postgres_gatherer: QueryGatherer
) -> None:
    """The cancel is raised when the COMMIT is through, and says what was committed."""
    writes.hold()
    gather = postgres_gatherer.gather({"insert": INSERT}, read_only=False)
    task = asyncio.create_task(gather)
    await writes.committing()
    task.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not task.done()
    writes.release()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.__notes__ == [
        "async_parallel: committed all the same: 'insert'"
    ]
    assert writes.made == 1


async def test_a_timeout_names_what_was_committed(
    writes: Writes, postgres_gatherer: QueryGatherer
) -> None:
    """So the caller knows what not to repeat."""
    committed = asyncio.Event()

    async def wait(_session: AsyncSession) -> None:
        committed.set()
        await asyncio.Event().wait()

    with pytest.raises(GatherTimeoutError) as caught:
        await postgres_gatherer.gather(
            {"insert": INSERT, "wait": wait}, read_only=False, timeout=0.2
        )
    assert caught.value.finished == ["insert"]
    assert caught.value.__notes__ == [
        "async_parallel: committed all the same: 'insert'"
    ]
    assert writes.made == 1


async def test_a_failing_sibling_names_what_was_committed(
    writes: Writes, postgres_gatherer: QueryGatherer
) -> None:
    """Queries that were not committed are rolled back, and not named."""
    begun = asyncio.Barrier(2)

    async def insert(session: AsyncSession) -> None:
        await session.execute(INSERT)
        await begun.wait()
        await asyncio.Event().wait()

    async def fail(session: AsyncSession) -> None:
        await begun.wait()
        await asyncio.to_thread(writes.wait_for_one)
        raise LookupError("of the application")

    with pytest.raises(LookupError) as caught:
        await postgres_gatherer.gather(
            {"made": INSERT, "undone": insert, "bad": fail}, read_only=False
        )
    assert "async_parallel: committed all the same: 'made'" in caught.value.__notes__
    assert writes.made == 1


async def test_a_connection_lost_during_commit_leaves_the_caller_in_doubt(
    writes: Writes, postgres_gatherer: QueryGatherer
) -> None:
    """And the error says so, instead of a second try that could write twice."""
    writes.hold()
    gather = postgres_gatherer.gather({"insert": INSERT}, read_only=False)
    task = asyncio.create_task(gather)
    await writes.committing()
    writes.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {WAITS}")
    with pytest.raises(exc.DBAPIError) as caught:
        await task
    assert caught.value.__notes__[0] == (
        "async_parallel: query 'insert' was cut off during COMMIT, so whether it was"
        " committed is not known; look before it is repeated"
    )
    writes.release()
    assert writes.made == 0  # here it was not; a caller cannot know that


async def test_a_commit_that_the_database_refuses_leaves_no_doubt(
    writes: Writes, postgres_gatherer: QueryGatherer
) -> None:
    """A constraint that is checked at COMMIT fails it, and nothing is written."""
    writes.run(
        "CREATE OR REPLACE FUNCTION wait_at_commit() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$"
    )
    with pytest.raises(exc.DBAPIError, match="refused") as caught:
        await postgres_gatherer.gather({"insert": INSERT}, read_only=False)
    assert caught.value.__notes__ == ["async_parallel: query 1 of 1, 'insert'"]
    assert writes.made == 0


async def test_a_function_that_swallows_its_cancel_is_not_committed(
    writes: Writes, postgres_gatherer: QueryGatherer
) -> None:
    """The caller was told that it ended; so it must not be written afterwards."""
    begun = asyncio.Event()

    async def insist(session: AsyncSession) -> str:
        await session.execute(INSERT)
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "done"
        return "never"

    task = asyncio.create_task(postgres_gatherer.gather(insist, read_only=False))
    await begun.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert writes.made == 0


async def test_a_write_in_a_nested_gather_is_committed_by_the_outer_query(
    writes: Writes, postgres_gatherer: QueryGatherer
) -> None:
    """Where that fails, it is not said to be committed."""

    def fail(_session: Session) -> None:
        raise LookupError("of the application")

    async def outer(_session: AsyncSession) -> None:
        await postgres_gatherer.gather({"inner": INSERT, "bad": fail}, read_only=False)

    with pytest.raises(LookupError) as caught:
        await postgres_gatherer.gather({"outer": outer}, read_only=False)
    assert caught.value.__notes__ == [
        "async_parallel: query 2 of 2, 'bad'",
        "async_parallel: query 1 of 1, 'outer'",
    ]
    assert writes.made == 0


async def test_what_fails_after_the_commit_does_not_unmake_it(
    writes: Writes, postgres_gatherer: QueryGatherer
) -> None:
    """Nobody is told of a failure, who would then write again."""

    def insert(session: Session) -> str:
        session.execute(INSERT)
        pid = session.scalar(text("SELECT pg_backend_pid()"))
        event.listen(
            session,
            "after_commit",
            lambda _: writes.run(f"SELECT pg_terminate_backend({pid}, 5000)"),
        )
        return "inserted"

    assert await postgres_gatherer.gather(insert, read_only=False) == ("inserted",)
    assert writes.made == 1
    assert await postgres_gatherer.gather(text("SELECT 1")) == ([(1,)],)


async def test_an_error_of_the_application_after_the_commit_says_so(
    writes: Writes, postgres_gatherer: QueryGatherer
) -> None:
    """Also among exceptions as results, where no other note could tell."""

    def fail(_session: Session) -> None:
        raise LookupError("of the application")

    def insert(session: Session) -> None:
        session.execute(INSERT)
        event.listen(session, "after_commit", fail)

    results = await postgres_gatherer.gather(
        {"insert": insert}, read_only=False, return_exceptions=True
    )
    error = results["insert"]
    assert "async_parallel: query 'insert' was committed" in error.__notes__
    assert writes.made == 1


async def test_a_doubt_is_told_whatever_else_ends_the_gather(
    writes: Writes, postgres_gatherer: QueryGatherer
) -> None:
    """The caller gets the timeout, and with it that a COMMIT was cut off."""
    writes.hold()
    gather = postgres_gatherer.gather({"insert": INSERT}, read_only=False, timeout=0.2)
    task = asyncio.create_task(gather)
    await writes.committing()
    await asyncio.sleep(0.3)  # past the timeout, which the COMMIT outlasts
    writes.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {WAITS}")
    with pytest.raises(GatherTimeoutError) as caught:
        await task
    assert ["not known" in note for note in caught.value.__notes__] == [True]
    writes.release()


async def test_a_function_that_commits_by_itself_is_told_of(
    writes: Writes, postgres_gatherer: QueryGatherer
) -> None:
    """What it fails with afterwards says that something was committed."""

    async def insert(session: AsyncSession) -> None:
        await session.execute(INSERT)
        await session.commit()
        raise LookupError("of the application")

    with pytest.raises(LookupError) as caught:
        await postgres_gatherer.gather({"insert": insert}, read_only=False)
    assert "async_parallel: query 'insert' was committed" in caught.value.__notes__
    assert writes.made == 1


async def test_each_gather_that_is_closed_is_told_of_its_own_commits(
    writes: Writes, postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Not of those of others that end at the same time."""
    gatherer = make_gatherer(postgres)

    async def forever(_session: AsyncSession) -> None:
        await asyncio.Event().wait()

    tasks = [
        asyncio.create_task(
            gatherer.gather({label: INSERT, "forever": forever}, read_only=False)
        )
        for label in ("first", "second")
    ]
    while await asyncio.to_thread(lambda: writes.made) < 2:
        pass
    await gatherer.aclose(grace=0)
    notes = []
    for task in tasks:
        with pytest.raises(GathererClosedError) as caught:
            await task
        notes += caught.value.__notes__
    assert notes == [
        "async_parallel: committed all the same: 'first'",
        "async_parallel: committed all the same: 'second'",
    ]


async def test_a_read_only_gather_inside_a_write_refuses_to_write(
    gatherer: QueryGatherer,
) -> None:
    """It would be rolled back with its savepoint, after it was said to be made."""
    rename = text("UPDATE users SET name = name WHERE id = 1")

    async def outer(session: AsyncSession) -> Any:
        (refused, name) = await gatherer.gather(
            rename, scalar(text("SELECT 1")), return_exceptions=True
        )
        await session.execute(rename)  # which may still
        await gatherer.gather(rename, read_only=False)
        return refused, name

    ((refused, one),) = await gatherer.gather(outer, read_only=False)
    assert isinstance(refused, ReadOnlyError)
    assert one == 1


async def test_a_caller_on_another_loop_is_told_of_commits_too(
    writes: Writes, postgres: str
) -> None:
    """The notes come along with the cancel."""
    home = asyncio.new_event_loop()
    thread = threading.Thread(target=home.run_forever)
    thread.start()
    gatherer = QueryGatherer(postgres)
    try:
        await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(gatherer.open(), home)
        )
        writes.hold()
        gather = gatherer.gather({"insert": INSERT}, read_only=False)
        task = asyncio.create_task(gather)
        await writes.committing()
        task.cancel()
        await asyncio.sleep(0)
        writes.release()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        note = "async_parallel: committed all the same: 'insert'"
        assert caught.value.__notes__ == [note]
    finally:
        await gatherer.aclose()
        home.call_soon_threadsafe(home.stop)
        thread.join()
        home.close()
