"""The same views under every server: warm, in parallel, and gone after SIGTERM."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

import async_parallel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SUPPORT = Path(__file__).parent / "support"
# The package that is tested, wherever it is installed.
PYTHONPATH = os.pathsep.join(
    [str(SUPPORT), str(Path(async_parallel.__file__).parents[1])]
)
SCRIPTS = Path(sysconfig.get_path("scripts"))

ASGI = {
    "uvicorn": ["-m", "uvicorn", "--port={port}", "--log-level=warning", "served:asgi"],
    "hypercorn": ["-m", "hypercorn", "--bind=127.0.0.1:{port}", "served:asgi"],
    "granian": ["-m", "granian", "--interface=asgi", "--port={port}", "served:asgi"],
}
WSGI = {
    "flask run": ["-m", "flask", "--app=served:app", "run", "--port={port}"],
    "gunicorn sync": ["-m", "gunicorn", "--bind=127.0.0.1:{port}", "served:app"],
    "gunicorn gthread": [
        *["-m", "gunicorn", "--bind=127.0.0.1:{port}", "--threads=8", "served:app"],
    ],
    "gunicorn gthread --preload": [
        *["-m", "gunicorn", "--bind=127.0.0.1:{port}", "--threads=8"],
        *["--workers=2", "--preload", "served:app"],
    ],
    "uwsgi": [
        *["{scripts}/pyuwsgi", "--http-socket=127.0.0.1:{port}", "--module=served:app"],
        *["--master", "--processes=2", "--threads=8", "--enable-threads"],
        *["--die-on-term", "--need-app"],
    ],
}
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


class Server:
    """A server process of ours, and a client for it."""

    def __init__(self, command: list[str], database: str, log: Path) -> None:
        self.port = free_port()
        filled = [part.format(port=self.port, scripts=SCRIPTS) for part in command]
        if filled[0].startswith("-"):
            filled.insert(0, sys.executable)
        self._log = log
        environment = {
            **os.environ,
            "TEST_DATABASE": database,
            "PYTHONPATH": PYTHONPATH,
            "PYTHONWARNINGS": "default",
        }
        environment.pop("PYTHONSAFEPATH", None)
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                filled, env=environment, stdout=output, stderr=output, cwd=SUPPORT
            )
        self.client = connect(self.port)

    @property
    def log(self) -> str:
        """What the server has printed."""
        return self._log.read_text()

    def wait_until_it_listens(self) -> None:
        """Wait until the port is open, or the server has given up."""
        for _ in range(300):
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            time.sleep(0.05)
        pytest.fail(f"the server did not start:\n{self.log}")

    def get(self, path: str, **options: Any) -> dict[str, Any]:
        """The JSON that a path answers with."""
        response = self.client.get(path, **options)
        assert response.status_code == 200, f"{response.text}\n{self.log}"
        answer: dict[str, Any] = response.json()
        return answer

    def stop(self) -> int:
        """Ask it to end as a service manager would, and return its status."""
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            pytest.fail(f"the server did not end:\n{self.log}")


def connect(port: int) -> httpx.Client:
    """A client that keeps no connection: some servers close them without a word."""
    return httpx.Client(
        base_url=f"http://127.0.0.1:{port}",
        timeout=30,
        headers={"Connection": "close"},
    )


def free_port() -> int:
    """A port of this machine that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


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
    port = free_port()
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"""
        daemon off;
        pid {tmp_path}/nginx.pid;
        error_log stderr;
        events {{}}
        http {{
            access_log off;
            client_body_temp_path {tmp_path}/body;
            uwsgi_temp_path {tmp_path}/uwsgi;
            proxy_temp_path {tmp_path}/proxy;
            fastcgi_temp_path {tmp_path}/fastcgi;
            scgi_temp_path {tmp_path}/scgi;
            server {{
                listen 127.0.0.1:{port};
                location / {{
                    uwsgi_param QUERY_STRING $query_string;
                    uwsgi_param REQUEST_METHOD $request_method;
                    uwsgi_param CONTENT_TYPE $content_type;
                    uwsgi_param CONTENT_LENGTH $content_length;
                    uwsgi_param REQUEST_URI $request_uri;
                    uwsgi_param PATH_INFO $document_uri;
                    uwsgi_param SERVER_PROTOCOL $server_protocol;
                    uwsgi_param SERVER_NAME $server_name;
                    uwsgi_param SERVER_PORT $server_port;
                    uwsgi_param REMOTE_ADDR $remote_addr;
                    uwsgi_pass 127.0.0.1:{server.port};
                }}
            }}
        }}
        """
    )
    nginx = subprocess.Popen(
        ["nginx", "-c", str(config), "-e", str(tmp_path / "nginx.log")],
        stderr=subprocess.DEVNULL,
    )
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
