"""While money is moved between two tables, a gather with a snapshot finds all of it.

Each transfer is one transaction, made by another process. So what the tables hold
together never changes, and who sees one state of them finds the same sum by each way.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from money import TOTAL, Giro, Savings, drop_accounts, make_accounts, moving
from restartable import RestartableServer
from sqlalchemy import create_engine, func, select, text
from standby import StandbyServer

from async_parallel import Snapshot, scalar
from async_parallel.errors import SnapshotUnsupportedError
from async_parallel.instrumentation import record_gathers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from async_parallel import QueryGatherer

GATHERS = int(os.environ.get("ASYNC_PARALLEL_SNAPSHOT_GATHERS", "200"))
# How many without a snapshot are made until one of them is wrong.
MOST = 5000
AT_ONCE = 4
# Fewer than the queries of the gathers at once, so that a lane runs several.
CONNECTIONS = 12
SECONDS = 60 + GATHERS / 10

GIRO = select(func.sum(Giro.balance))
SAVINGS = select(func.sum(Savings.balance))


async def sum_async(session: AsyncSession) -> tuple[Any, Any]:
    """Sum both tables in async style."""
    return await session.scalar(GIRO), await session.scalar(SAVINGS)


def sum_sync(session: Session) -> tuple[Any, Any]:
    """Sum both tables in sync style, the other one first."""
    savings = session.scalar(SAVINGS)
    return session.scalar(GIRO), savings


QUERIES = [
    sum_async,  # takes longer than to join, so that all lanes do
    scalar(GIRO),
    select(Savings.balance),
    sum_sync,
    select(Giro.balance),
    scalar(SAVINGS),
]


def is_one_state(found: list[Any]) -> bool:
    """Whether all results of the queries are of one state."""
    pair_async, giro, all_savings, pair_sync, all_giro, savings = found
    by_rows = sum(all_giro), sum(all_savings)
    pairs = {(giro, savings), pair_async, pair_sync, by_rows}
    return len(pairs) == 1 and sum(pairs.pop()) == TOTAL


@dataclass
class Audit:
    """How many gathers were made, and how many of them found a wrong sum."""

    gathers: int = 0
    violations: int = 0

    def is_done_with_snapshots(self) -> bool:
        """Whether enough gathers were made, all of which have to be right."""
        return self.gathers >= GATHERS

    def is_done_without(self) -> bool:
        """Whether some were made, and one of them is wrong as expected."""
        enough = GATHERS / 10 if self.violations else MOST
        return self.gathers >= enough


async def audit(gatherer: QueryGatherer, *, snapshot: bool) -> Audit:
    """Gather the sums, several times at once, until there are enough."""
    seen = Audit()
    is_done = seen.is_done_with_snapshots if snapshot else seen.is_done_without

    async def gather_again() -> None:
        while not is_done():
            seen.gathers += 1
            found = await gatherer.gather(QUERIES, snapshot=snapshot)
            seen.violations += not is_one_state(found)

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(gather_again())
    took = time.perf_counter() - begun
    print(f"\n{seen}, {snapshot=}, {took:.1f} s")  # noqa: T201
    return seen


async def prove(gatherer: QueryGatherer, written: str, *, writers: int) -> None:
    """Gather without snapshots and with them, while ``written`` is written to."""
    with moving(written, writers=writers, seconds=SECONDS):
        without = await audit(gatherer, snapshot=False)
        with record_gathers() as reports:
            with_snapshots = await audit(gatherer, snapshot=True)
    lanes = [report.snapshot.lanes for report in reports if report.snapshot]
    print(f"a snapshot was seen on {sum(lanes) / len(lanes):.1f} lanes")  # noqa: T201
    assert without.violations > 0
    assert with_snapshots == Audit(gathers=len(lanes), violations=0)
    assert max(lanes) > 1


@pytest.fixture
def accounts(postgres: str) -> Iterator[str]:
    """The accounts in the PostgreSQL database of the tests."""
    make_accounts(postgres)
    yield postgres
    drop_accounts(postgres)


@pytest.fixture
def servers() -> Iterator[tuple[RestartableServer, StandbyServer]]:
    """A primary server with the accounts, and its hot standby."""
    with RestartableServer() as primary:
        make_accounts(primary.url)
        with StandbyServer(primary) as standby:
            yield primary, standby


async def test_on_postgresql(
    accounts: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """With two writers, whose transactions overlap."""
    gatherer = make_gatherer(accounts, max_connections=CONNECTIONS)
    await prove(gatherer, accounts, writers=2)


async def test_on_a_hot_standby(
    servers: tuple[RestartableServer, StandbyServer],
    make_gatherer: Callable[..., QueryGatherer],
) -> None:
    """It takes no writes of its own, but sees those of the primary come in."""
    primary, standby = servers
    gatherer = make_gatherer(standby.url, max_connections=CONNECTIONS)
    recovering = scalar(text("SELECT pg_is_in_recovery()"))
    assert await gatherer.gather([recovering] * 3, snapshot=True) == [True] * 3
    serializable = Snapshot(isolation="serializable")
    with pytest.raises(SnapshotUnsupportedError, match="another isolation level"):
        await gatherer.gather([recovering] * 3, snapshot=serializable)
    await prove(gatherer, primary.url, writers=1)


@pytest.mark.parametrize("mode", ["wal", "delete"])
async def test_on_sqlite(
    mode: str, tmp_path: Path, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """With a log, and in the default mode, where a writer waits for the readers."""
    url = f"sqlite:///{tmp_path / 'money.sqlite3'}"
    make_accounts(url)
    engine = create_engine(url)
    with engine.connect() as connection:
        found = connection.exec_driver_sql(f"PRAGMA journal_mode = {mode}").scalar()
    engine.dispose()
    assert found == mode
    await prove(make_gatherer(url, max_connections=CONNECTIONS), url, writers=1)
