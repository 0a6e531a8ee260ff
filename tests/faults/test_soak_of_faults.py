"""Whatever happens to gathers and their database, the promises are kept."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fault_databases import FaultPostgreSQL, FaultSQLite
from fault_soak import Soak
from restartable import RestartableServer

if TYPE_CHECKING:
    from pathlib import Path

SEED = int(os.environ.get("ASYNC_PARALLEL_FAULT_SEED", "1"))
STEPS = int(os.environ.get("ASYNC_PARALLEL_FAULT_STEPS", "100"))


async def test_promises_are_kept_on_postgresql() -> None:
    """Cancels, ended backends and restarts leave nothing, and results are right."""
    with RestartableServer() as server:
        soak = Soak(FaultPostgreSQL(server), SEED)
        await soak.run(STEPS)
    report(soak)


async def test_promises_are_kept_on_sqlite(tmp_path: Path) -> None:
    """Cancels and locks leave nothing, and results are right."""
    soak = Soak(FaultSQLite(str(tmp_path / "faults.sqlite3")), SEED)
    await soak.run(STEPS)
    report(soak)


def report(soak: Soak) -> None:
    """Say what was seen, so that a soak that met nothing shows."""
    known, unknown = soak.ledger.known, soak.ledger.unknown
    print(f"seed {SEED}, {STEPS} steps: {dict(soak.seen)}")  # noqa: T201
    print(f"{known} writes committed, {unknown} unknown")  # noqa: T201
    assert known > unknown
