"""Servers that are told to end, or to load again, while gathers run."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest
from activity import Activity
from clients import GONE, Answer, Clients
from servers import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no signals, no fork")

ACTIVE = "state = 'active'"
# Each server where asked for; else few are enough to see that the tests work.
ALL = "ASYNC_PARALLEL_ALL_SERVERS" in os.environ
# What a log says of who was dropped; a server's own words about a cancelled request
# are "Traceback", and are looked at for themselves.
LEFTOVERS = (
    "Task was destroyed",
    "before being closed",
    "left behind",
    "never awaited",
    "unclosed connection",
    "unclosed transport",
    "was not closed",
)
WORKERS = 2
CLEAN = {0, -signal.SIGTERM, 128 + signal.SIGTERM}

_UVICORN = ["-m", "uvicorn", "--port={port}", "--log-level=warning"]
_GUNICORN = ["-m", "gunicorn", "--bind=127.0.0.1:{port}"]
_HYPERCORN = ["-m", "hypercorn", "--bind=127.0.0.1:{port}"]
_UWSGI = [
    *["{scripts}/pyuwsgi", "--http-socket=127.0.0.1:{port}", "--module=ending:app"],
    *[
        "--master",
        f"--processes={WORKERS}",
        "--threads=16",
        "--enable-threads",
        "--die-on-term",
    ],
    # It loads again by executing the interpreter, and would forget the environment's.
    f"--binary-path={sys.executable}",
]

# Servers that cancel the requests which are under way after a second.
CANCELLING = {
    "uvicorn": [*_UVICORN, "--timeout-graceful-shutdown=1", "ending:asgi"],
    "uvicorn SIGINT": [*_UVICORN, "--timeout-graceful-shutdown=1", "ending:asgi"],
    "uvicorn h11 asyncio": [
        *[*_UVICORN, "--timeout-graceful-shutdown=1", "--http=h11", "--loop=asyncio"],
        "ending:asgi",
    ],
    "hypercorn": [*_HYPERCORN, "--graceful-timeout=1", "ending:asgi"],
    "gunicorn uvicorn": [
        *[*_GUNICORN, "--worker-class=uvicorn_workers.Worker", "ending:asgi"],
    ],
}
# Servers that let the requests which are under way end.
WAITING = {
    "gunicorn gthread": [*_GUNICORN, "--threads=32", "ending:app"],
    "granian": [
        *["-m", "granian", "--interface=asgi", "--port={port}", "ending:asgi"],
    ],
    "uvicorn": [*_UVICORN, "ending:asgi"],
    "hypercorn": [*_HYPERCORN, "--graceful-timeout=10", "ending:asgi"],
}
RELOADING = {
    "gunicorn --preload": [
        *[
            *_GUNICORN,
            "--threads=16",
            f"--workers={WORKERS}",
            "--preload",
            "ending:app",
        ],
    ],
    "uwsgi": _UWSGI,
    "uwsgi --lazy-apps": [*_UWSGI, "--lazy-apps"],
}


def some(servers: dict[str, list[str]], *default: str) -> list[str]:
    """The names of all servers where asked for, else the default ones."""
    return list(servers) if ALL else list(default)


@pytest.fixture
def activity(postgres_url: str) -> Iterator[Activity]:
    """What the application under test does on PostgreSQL; in the end nothing."""
    activity = Activity(postgres_url)
    yield activity
    activity.terminate()


@pytest.fixture
def serve(activity: Activity, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers, and ends those that a test left running."""
    servers: list[Server] = []

    def start(command: list[str], database: str | None = None) -> Server:
        server = Server(command, database or activity.url, tmp_path / "server.log")
        server.client.close()
        servers.append(server)
        server.wait_until_it_listens()
        return server

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.stop()


def begin(clients: Clients, activity: Activity, *kinds: str) -> list[Future[Answer]]:
    """Twenty clients: gathers that would not end, and small ones again and again."""
    for number in range(14):
        clients.repeat(f"/{('async', 'sync')[number % 2]}/short")
    held = [clients.ask(f"/{kinds[number % len(kinds)]}/long") for number in range(6)]
    activity.wait_for(12, f"{ACTIVE} AND query LIKE '%600%'")
    wait_for_answers(clients, 30)
    return held


def wait_for_answers(clients: Clients, number: int) -> None:
    """Wait until so many more small gathers were answered."""
    before, deadline = clients.statuses[200], time.monotonic() + 20
    while clients.statuses[200] < before + number:
        assert time.monotonic() < deadline, clients.statuses
        time.sleep(0.01)


def left_by_the_application(server: Server) -> str:
    """Its log, without the clients' connections that the server itself did not close.

    Hypercorn 0.18 sometimes leaves one when it cancels what serves it.
    """
    accepted = rf"unclosed <socket\.socket (fd=\d+),.*'127\.0\.0\.1', {server.port}\)"
    its_own = re.findall(accepted, server.log)
    # The line of code that warns is logged as well.
    ways = [*(rf"unclosed .*\b{file}\b.*" for file in its_own), r"^ +_warn\(.*"]
    return re.sub("|".join(ways), "", server.log, flags=re.MULTILINE)


def check_log(server: Server) -> None:
    """See that nothing was dropped, and that no error but a cancel was logged."""
    left = left_by_the_application(server)
    for trace in LEFTOVERS:
        assert trace not in left, server.log
    # The last line of a traceback is the next one that is not indented.
    for traceback in server.log.split("Traceback (most recent call last):\n")[1:]:
        lines = iter(traceback.splitlines())
        last = next(line for line in lines if not line.startswith(" "))
        assert last.startswith("asyncio.exceptions.CancelledError"), server.log


@pytest.mark.parametrize("name", some(CANCELLING, "uvicorn"))
def test_gathers_end_with_their_server(
    name: str, serve: Callable[..., Server], activity: Activity
) -> None:
    """Told to end under load, it is gone in its grace time, on the database too."""
    number = signal.SIGINT if name == "uvicorn SIGINT" else signal.SIGTERM
    server = serve(CANCELLING[name])
    with Clients(server.port) as clients:
        # Those of synchronous views are not cancelled, but given 5 s.
        held = begin(clients, activity, "async", "sync" if ALL else "async")
        server.process.send_signal(number)
        status = server.process.wait(timeout=15)
        assert status in CLEAN, server.log
        activity.wait_for(0)
        assert {answer.result()[0] for answer in held} <= {0, 500}
    assert set(clients.statuses) <= {0, 200}
    check_log(server)


def test_a_second_interrupt_ends_all_at_once(
    serve: Callable[..., Server], activity: Activity
) -> None:
    """Uvicorn then skips the application's shutdown, and still no query runs on."""
    server = serve([*_UVICORN, "ending:asgi"])
    with Clients(server.port) as clients:
        held = begin(clients, activity, "async", "sync")
        server.process.send_signal(signal.SIGINT)
        wait_until_it_refuses(server, clients)
        server.process.send_signal(signal.SIGINT)
        server.process.wait(timeout=10)
        activity.wait_for(0)
        assert {answer.result()[0] for answer in held} <= {0, 500}
    assert "Task was destroyed" not in server.log
    assert "never awaited" not in server.log


def wait_until_it_refuses(server: Server, clients: Clients) -> None:
    """Wait until the server takes no connections, as it is ending."""
    for _ in range(500):
        if clients.ask("/async/short").result() == GONE:
            return
        time.sleep(0.01)
    raise AssertionError(server.log)


@pytest.mark.parametrize("name", some(WAITING, "gunicorn gthread", "granian"))
def test_gathers_that_end_in_time_are_answered(
    name: str, serve: Callable[..., Server], activity: Activity
) -> None:
    """A server that waits for requests gets its gathers, and leaves no session."""
    server = serve(WAITING[name])
    with Clients(server.port) as clients:
        with activity.locked():
            held = [
                clients.ask(f"/{('async', 'sync')[number % 2]}/waiting")
                for number in range(10)
            ]
            activity.wait_for(15, "wait_event_type = 'Lock'")
            server.process.send_signal(signal.SIGTERM)
        assert [answer.result()[0] for answer in held] == [200] * 10, server.log
        assert server.process.wait(timeout=15) in CLEAN, server.log
    activity.wait_for(0)
    check_log(server)
    assert "Traceback" not in server.log, server.log


def wait_for_workers(clients: Clients, old: set[int]) -> None:
    """Wait until each worker beside the ``old`` ones has answered, at most 20 s."""
    deadline = time.monotonic() + 20
    while len(clients.pids - old) < WORKERS and time.monotonic() < deadline:
        wait_for_answers(clients, 5)


@pytest.mark.parametrize("name", some(RELOADING, "gunicorn --preload"))
def test_an_application_that_gathered_before_the_fork_loads_again(
    name: str,
    serve: Callable[..., Server],
    activity: Activity,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SIGHUP under load fails no request; the new processes gather as the old did."""
    monkeypatch.setenv("GATHER_AT_IMPORT", "1")
    server = serve(RELOADING[name])
    with Clients(server.port) as clients:
        for number in range(6):
            clients.repeat(f"/{('async', 'sync')[number % 2]}/short")
        wait_for_workers(clients, set())
        old = set(clients.pids)
        server.process.send_signal(signal.SIGHUP)
        wait_for_workers(clients, old)
        assert len(clients.pids - old) >= WORKERS, server.log
        wait_for_answers(clients, 30)
        clients.end()
    assert set(clients.statuses) == {200}, server.log
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=15) in CLEAN, server.log
    activity.wait_for(0)
    check_log(server)
    assert "Traceback" not in server.log, server.log


def test_the_database_ends_the_queries_of_a_killed_server(
    postgres_url: str, serve: Callable[..., Server]
) -> None:
    """Where the URL's options have it look for the client now and then."""
    activity = Activity(postgres_url, "-c client_connection_check_interval=100")
    server = serve(CANCELLING["uvicorn"], activity.url)
    with Clients(server.port) as clients:
        held = clients.ask("/async/long")
        activity.wait_for(2, ACTIVE)
        server.process.kill()
        server.process.wait(timeout=10)
        assert held.result() == GONE
    activity.wait_for(0)
