"""Under load, with clients that vanish, nothing of the server grows."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from crowd import Crowd
from servers import ADAPTED, Server

from async_parallel.asgi import MAX_THREADS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECONDS = float(os.environ.get("ASYNC_PARALLEL_SOAK_SECONDS", "6"))
# Each for long where asked to; else one is enough to see that the test works.
SERVERS = ["uvicorn httptools uvloop", "granian", "hypercorn"]
if "ASYNC_PARALLEL_SOAK_SECONDS" not in os.environ:
    del SERVERS[1:]
SEED = int(os.environ.get("ASYNC_PARALLEL_SOAK_SEED", "1"))
CLIENTS = 40
MOST = 200_000
MIB = 1024


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("name", SERVERS)
def test_nothing_grows(
    name: str, postgres: str, tmp_path: Path, backends: Callable[[str], int]
) -> None:
    """Neither tasks nor threads, connections or memory, though many leave."""
    server = Server(ADAPTED[name], postgres, tmp_path / "log")
    try:
        server.wait_until_it_listens()
        server.get("/state")  # it now knows its loop
        crowd = Crowd(server.port, SEED)
        asyncio.run(crowd.ask(CLIENTS, SECONDS / 2, MOST))  # warm: all threads, pools
        before = at_rest(server)
        asyncio.run(crowd.ask(CLIENTS, SECONDS, MOST))
        after = at_rest(server)
    finally:
        server.stop()
    print(f"{name}, seed {SEED}: {dict(crowd.outcomes)}, {before}, {after}")  # noqa: T201
    assert set(crowd.outcomes) == {"200", "vanished"}
    assert crowd.outcomes["vanished"] > sum(crowd.outcomes.values()) / 20
    assert after["tasks"] <= before["tasks"]
    assert after["requests"] == 1  # the one that asks
    assert len(after["threads"]) <= 1 + MAX_THREADS
    assert after["kib"] - before["kib"] < 8 * MIB
    assert backends("state = 'active'") == 0
    assert "Traceback" not in server.log, server.log


def at_rest(server: Server) -> dict[str, Any]:
    """The state of the server once it has nothing left to do."""
    for _ in range(100):
        state = server.get("/state")
        if state["requests"] == 1:
            return state
        time.sleep(0.05)
    raise AssertionError(f"requests are left: {state}")
