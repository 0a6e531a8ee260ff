"""The same views under every server: warm, in parallel, and gone after SIGTERM."""

from __future__ import annotations

import concurrent.futures
import os
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from servers import ASGI, PYTHONPATH, WSGI, Server, connect, start_nginx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PORTAL = "async_parallel portal"
# What a log says of errors, and of connections that nobody closed.
LEFTOVERS = (
    "Traceback",
    "unclosed connection",
    "unclosed transport",
    "before being closed",
    "was not closed",
    "was never awaited",
)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers, and ends those that a test left running."""
    servers: list[Server] = []

    def start(command: list[str], database: str) -> Server:
        servers.append(Server(command, database, tmp_path / "server.log"))
        servers[-1].wait_until_it_listens()
        return servers[-1]

    yield start
    for server in servers:
        server.client.close()
        if server.process.poll() is None:
            server.stop()


@pytest.mark.parametrize("name", [*ASGI, *WSGI])
def test_views_gather_under_every_server(
    name: str, postgres: str, serve: Callable[..., Server]
) -> None:
    """Async and sync views gather, warm as cold, and the server ends when told to."""
    server = serve({**ASGI, **WSGI}[name], postgres)
    check_gathers(server)
    check_threads(server, under_asgi=name in ASGI)
    check_contexts(server)
    check_failure(server)
    assert server.client.post("/echo", content=b"x" * 100_000).json() == {
        "size": 100_000
    }
    lines = "".join(f"/stream/x x {number}\n" for number in range(3))
    assert server.client.get("/stream/x").text == lines
    status = server.stop()
    # What each server answers to SIGTERM; by the signal itself is clean, too.
    assert status in {0, -signal.SIGTERM, 128 + signal.SIGTERM}, server.log
    for trace in LEFTOVERS:
        assert trace not in server.log, server.log


def check_gathers(server: Server) -> None:
    """Gather in both kinds of view, often enough that connections are warm."""
    for _ in range(20):
        assert server.get("/async")["rows"] == 5
        assert server.get("/sync")["rows"] == 5
    assert server.get("/together") == {"places": [0, 1, 2, 3, 4]}


def check_threads(server: Server, *, under_asgi: bool) -> None:
    """Under ASGI an async view needs no thread, under WSGI one."""
    answer = server.get("/async")
    ours = [name for name in answer["threads"] if name.startswith("async_parallel")]
    if under_asgi:
        assert answer["thread"] not in ours
        assert PORTAL not in ours
    else:
        assert answer["thread"] == PORTAL
        assert ours == [PORTAL]


def check_contexts(server: Server) -> None:
    """Requests that are under way at once see their own context."""

    def ask(number: int) -> bool:
        same: bool = server.get(f"/context/{number}", params={"name": number})["same"]
        return same

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(100)))


def check_failure(server: Server) -> None:
    """The app's error handler gets the original exception, with the note."""
    response = server.client.get("/failing")
    assert response.status_code == 418
    assert response.json() == {
        "error": "of the application",
        "notes": ["async_parallel: query 1 of 2, 'bad'"],
    }


@pytest.mark.parametrize("name", ["uvicorn", "gunicorn gthread"])
def test_no_thread_or_connection_hangs_at_exit_with_sqlite(
    name: str, sqlite: str, serve: Callable[..., Server]
) -> None:
    """The driver has a thread for each connection; the server ends all the same."""
    server = serve({**ASGI, **WSGI}[name], sqlite)
    check_gathers(server)
    assert server.stop() in {0, -signal.SIGTERM}
    for trace in LEFTOVERS:
        assert trace not in server.log, server.log


def test_async_views_start_no_thread_under_asgi(
    postgres: str, serve: Callable[..., Server]
) -> None:
    """After many gathers in async views the process has as many threads as before."""
    server = serve(ASGI["uvicorn"], postgres)
    first = server.get("/async")["threads"]
    check_contexts(server)
    assert server.get("/async")["threads"] == first == ["MainThread"]


def test_uwsgi_without_threads_is_told_the_flag(
    postgres: str, serve: Callable[..., Server]
) -> None:
    """Instead of a hang there is an error that names the flag."""
    command = [part for part in WSGI["uwsgi"] if "threads" not in part]
    server = serve(command, postgres)
    assert server.client.get("/async").status_code == 500
    assert server.client.get("/sync").status_code == 500
    assert "Start it with --enable-threads" in server.log
    server.stop()


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_a_sync_view_behind_nginx_and_uwsgi(
    postgres: str, serve: Callable[..., Server], tmp_path: Path
) -> None:
    """The deployment of those who stay: nginx, the uwsgi protocol, sync views."""
    command = [part.replace("--http-socket", "--socket") for part in WSGI["uwsgi"]]
    server = serve(command, postgres)
    nginx, port = start_nginx(tmp_path, server.port)
    try:
        server.client.close()
        server.port = port
        server.client = connect(port)
        server.wait_until_it_listens()
        check_gathers(server)
        check_contexts(server)
    finally:
        nginx.terminate()
        nginx.wait()


def test_a_forked_child_starts_its_own_loop(postgres: str, tmp_path: Path) -> None:
    """After a fork, parent and child both gather, each on connections of its own."""
    script = tmp_path / "fork.py"
    script.write_text(
        "import os, sys\n"
        "from served import app, run_in_parallel, QUERIES\n"
        "with app.app_context():\n"
        "    assert len(run_in_parallel(QUERIES)) == 5\n"
        "    child = os.fork()\n"
        "    for _ in range(3):\n"
        "        assert len(run_in_parallel(QUERIES)) == 5\n"
        "    if child:\n"
        "        assert os.waitpid(child, 0)[1] == 0\n"
        "    print('parent' if child else 'child', 'is done', flush=True)\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", script],
        env={**os.environ, "TEST_DATABASE": postgres, "PYTHONPATH": PYTHONPATH},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert sorted(result.stdout.split("\n")) == ["", "child is done", "parent is done"]
    assert "Traceback" not in result.stderr, result.stderr
