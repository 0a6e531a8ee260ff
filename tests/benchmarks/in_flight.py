"""What requests in flight cost a server's process: memory and threads.

A process is read three times, which must be a fresh one for each measurement: an
allocator keeps what it once had, so one that has ever held many requests shows nothing.

- at rest: after a warm-up of a few clients, with no connection open;
- idle: with 1,000 connections open that have not sent anything yet;
- sleeping: with a request on each, all of them in a view that sleeps.

A *connection* costs what lies between rest and idle, a *request* what lies between idle
and sleeping; *both* is what a request costs with its connection, from rest to sleeping.
Memory is resident memory as ``smaps_rollup`` of Linux counts it, exact to the page.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import math
import selectors
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results import rounded
from web import load

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUESTS = 1000
MOST_KIB = 32  # of ours, a request
# Few, so that what they leave behind is small beside a thousand.
WARM_UP_CLIENTS = 4
SLEEP = 1.0


@dataclasses.dataclass
class Footprint:
    """What one contestant's processes were seen to hold, reading by reading.

    Attributes:
        contestant: Whose processes.
        rest: KiB at rest.
        idle: KiB with all connections open.
        sleeping: KiB with all requests in flight.
        threads: Threads more than at rest, with all requests in flight.
        failures: Answers that were not as they must be.
        uneven: Measurements left out, for some requests had ended when others began.
    """

    contestant: str
    rest: list[int] = dataclasses.field(default_factory=list)
    idle: list[int] = dataclasses.field(default_factory=list)
    sleeping: list[int] = dataclasses.field(default_factory=list)
    threads: list[int] = dataclasses.field(default_factory=list)
    failures: int = 0
    uneven: int = 0

    @property
    def connection(self) -> float:
        """KiB a connection."""
        return _each(self.idle, self.rest)

    @property
    def request(self) -> float:
        """KiB a request."""
        return _each(self.sleeping, self.idle)

    @property
    def both(self) -> float:
        """KiB a request and its connection."""
        return _each(self.sleeping, self.rest)

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            **dataclasses.asdict(self),
            "kib_a_connection": rounded(self.connection),
            "kib_a_request": rounded(self.request),
            "kib_of_both": rounded(self.both),
        }


def _each(more: list[int], less: list[int]) -> float:
    costs = [(a - b) / REQUESTS for a, b in zip(more, less, strict=True)]
    return statistics.median(costs) if costs else math.nan


def measure(footprint: Footprint, pid: int, address: str, expected: Any) -> None:
    """Add a reading of a fresh process that answers at ``address``."""
    for path in ("/json", "/sleep"):
        warm = load(f"{address}{path}", WARM_UP_CLIENTS, 1.0)
        footprint.failures += warm["status"] + warm["socket"]
    time.sleep(0.5)  # until the server has closed what wrk left
    rest, threads, files = resident(pid), tasks(pid), open_files(pid)
    with connections(address) as clients:
        deadline = time.monotonic() + 10
        while open_files(pid) < files + REQUESTS and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.2)  # until the last one accepted has its protocol
        idle = resident(pid)
        for client in clients:
            client.request("GET", "/sleep")
        sleeping, more = asleep(pid, clients)
        seen = time.monotonic()
        footprint.failures += sum(not answered(each, expected) for each in clients)
    # Whoever was answered last had begun a sleep's length before: if that is before the
    # reading, all were in flight at the reading.
    if time.monotonic() - SLEEP > seen:
        footprint.uneven += 1
        return
    footprint.rest.append(rest)
    footprint.idle.append(idle)
    footprint.sleeping.append(sleeping)
    footprint.threads.append(more - threads)


@contextlib.contextmanager
def connections(address: str) -> Iterator[list[http.client.HTTPConnection]]:
    """As many open connections as there will be requests."""
    host = address.removeprefix("http://")
    with contextlib.ExitStack() as stack:
        made: list[http.client.HTTPConnection] = []
        for _ in range(REQUESTS):
            client = http.client.HTTPConnection(host, timeout=10)
            stack.callback(client.close)
            client.connect()
            made.append(client)
        yield made


def asleep(pid: int, clients: list[http.client.HTTPConnection]) -> tuple[int, int]:
    """Memory and threads in the last moment before the first answer."""
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.sock, selectors.EVENT_READ)
        deadline = time.monotonic() + 10
        seen = resident(pid), tasks(pid)
        while not selector.select(timeout=0.01) and time.monotonic() < deadline:
            seen = resident(pid), tasks(pid)
    return seen


def answered(client: http.client.HTTPConnection, expected: Any) -> bool:
    """Whether the answer to what was asked is as it must be."""
    try:
        response = client.getresponse()
        return response.status == 200 and json.loads(response.read()) == expected
    except (OSError, http.client.HTTPException, ValueError):
        return False


def resident(pid: int) -> int:
    """KiB of memory that a process holds."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1])
    raise RuntimeError(f"process {pid} has ended")


def tasks(pid: int) -> int:
    """How many threads a process has."""
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())


def open_files(pid: int) -> int:
    """How many files and sockets a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
