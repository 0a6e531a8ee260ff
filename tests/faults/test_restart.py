"""PostgreSQL restarts under load, and no request fails."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from restartable import RestartableServer
from servers import Server

if TYPE_CHECKING:
    from pathlib import Path

# Longer on demand.
_ON_DEMAND = "40" if "ASYNC_PARALLEL_FAULT_STEPS" in os.environ else "4"
SECONDS = float(os.environ.get("ASYNC_PARALLEL_FAULT_SECONDS", _ON_DEMAND))
# Over a longer time it must be up for long enough to catch up with the requests, of
# which those of synchronous views also wait for one of 40 threads.
SECONDS_A_RESTART = 2 if SECONDS < 10 else 5
DOWN = 0.8
REQUESTS_A_SECOND = 100
COMMAND = ["-m", "uvicorn", "--port={port}", "--log-level=warning", "restarted:asgi"]


@dataclass
class Request:
    """One request, and what came of it; times in seconds from the first one."""

    began_at: float
    ended_at: float
    answer: str


class Load:
    """Requests at a steady pace, whether or not they are answered.

    Attributes:
        requests: Those that have ended.
        outages: When the database was stopped, and when it was up again.
    """

    def __init__(self, port: int, database: RestartableServer) -> None:
        self._port = port
        self._database = database
        self.requests: list[Request] = []
        self.outages: list[tuple[float, float]] = []

    async def run(self, seconds: float) -> None:
        """Ask and restart for so long."""
        self._began_at = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._restart(round(seconds / SECONDS_A_RESTART)))
            for number in range(round(seconds * REQUESTS_A_SECOND)):
                await asyncio.sleep(number / REQUESTS_A_SECOND - self._now())
                tasks.create_task(self._ask("/sync" if number % 4 == 0 else "/async"))

    def _now(self) -> float:
        return time.monotonic() - self._began_at

    async def _restart(self, times: int) -> None:
        for number in range(times):
            await asyncio.sleep(number * SECONDS_A_RESTART + 0.5 - self._now())
            down = self._now()
            mode: Any = ["fast", "immediate"][number % 2]
            await asyncio.to_thread(self._database.restart, mode, down=DOWN)
            self.outages.append((down, self._now()))

    async def _ask(self, path: str) -> None:
        began_at = self._now()
        try:
            answer = await asyncio.wait_for(self._answer(path), 20)
        except (OSError, TimeoutError) as error:
            answer = repr(error)
        self.requests.append(Request(began_at, self._now(), answer))

    async def _answer(self, path: str) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            head = (
                f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
            writer.write(head.encode())
            answer = await reader.read()
        finally:
            writer.close()
        return answer.decode().split("\r\n\r\n", 1)[-1]


def test_no_request_fails_when_the_database_restarts(tmp_path: Path) -> None:
    """A restart of a second costs a delay, and no error: neither then nor later."""
    with RestartableServer() as database:
        server = Server(COMMAND, database.url, tmp_path / "log")
        try:
            server.wait_until_it_listens()
            assert server.client.get("/async").text == "right"
            load = Load(server.port, database)
            asyncio.run(load.run(SECONDS))
        finally:
            server.stop()
    failed = [request for request in load.requests if request.answer != "right"]
    print(  # noqa: T201
        f"{len(load.requests)} requests, {len(load.outages)} restarts,"
        f" {len(failed)} failed"
    )
    assert len(load.outages) > 1
    late = [request for request in failed if is_between_outages(request, load.outages)]
    assert not late, told("failed, though the database was up", late, server)
    assert not failed, told("failed during a restart", failed, server)


def is_between_outages(request: Request, outages: list[tuple[float, float]]) -> bool:
    """Whether the database was up from its beginning to its end."""
    return not any(
        down <= request.ended_at and request.began_at <= up for down, up in outages
    )


def told(what: str, failed: list[Request], server: Server) -> str:
    """What each of them was answered, and what the server printed."""
    lines = [f"at {r.began_at:.2f} to {r.ended_at:.2f}: {r.answer}" for r in failed]
    shown = "\n".join(lines[:20])
    return f"{len(failed)} {what}:\n{shown}\n{server.log[-5000:]}"
