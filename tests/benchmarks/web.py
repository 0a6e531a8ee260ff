"""A web view with five queries, under load, by way of serving it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from database import keep_off_the_first_core, pinned
from results import Figure
from servers import SCRIPTS, free_port, start_nginx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import URL

HERE = Path(__file__).parent
# Connections that each may have: SQLAlchemy's own 5 + 10, and as many as 16 clients
# with five queries each can use.
TASKS = {"queries": 15, "sleep": 80}
ANSWERS = {"queries": {"total": 225}, "sleep": {"total": 5}}
CLIENTS = (16, 64)
_BAD_GATEWAY = 502

UVICORN = ["-m", "uvicorn", "--port={port}", "--log-level=error", "--no-access-log"]
_GUNICORN = ["-m", "gunicorn", "--bind=127.0.0.1:{port}", "--threads=16"]
_UWSGI = [
    *["{scripts}/pyuwsgi", "--socket=127.0.0.1:{port}", "--enable-threads", "--master"],
    *["--threads=16", "--die-on-term", "--need-app", "--disable-logging"],
    "--listen=100",
]


@dataclasses.dataclass(frozen=True)
class Site:
    """An application, and how it is served.

    Attributes:
        command: What starts the server.
        prefix: What the paths of its views begin with.
        frozen: An application that is served by ``frozen:app``, after ``gc.freeze()``.
        nginx: Whether nginx stands before it, by the uwsgi protocol.
    """

    command: list[str]
    prefix: str = ""
    frozen: str = ""
    nginx: bool = False


OURS = "async_parallel, ASGIAdapter"
FASTAPI = "FastAPI, gather by hand"
ONE_BY_ONE = "Flask, one after another, gthread"
STARLETTE = "Starlette, raw asyncpg"

SITES = {
    OURS: Site([*UVICORN, "with_ours:asgi"]),
    "async_parallel, gunicorn gthread": Site([*_GUNICORN, "with_ours:app"], "/sync"),
    "async_parallel, nginx and uwsgi": Site(
        [*_UWSGI, "--module=with_ours:app"], "/sync", nginx=True
    ),
    f"{OURS}, gc.freeze()": Site([*UVICORN, "frozen:app"], frozen="with_ours:asgi"),
    FASTAPI: Site([*UVICORN, "with_fastapi:app"]),
    f"{FASTAPI}, gc.freeze()": Site(
        [*UVICORN, "frozen:app"], frozen="with_fastapi:app"
    ),
    "Quart, gather by hand": Site([*UVICORN, "with_quart:app"]),
    "Flask, asgiref's WsgiToAsgi": Site([*UVICORN, "with_adapters:wsgi_to_asgi"]),
    "Flask, a2wsgi": Site([*UVICORN, "with_adapters:by_a2wsgi"]),
    "Flask-Executor, gthread": Site([*_GUNICORN, "with_flask:app"], "/threads"),
    ONE_BY_ONE: Site([*_GUNICORN, "with_flask:app"]),
    STARLETTE: Site([*UVICORN, "with_starlette:app"]),
}


def steps(rounds: int) -> int:
    """How many loads there will be."""
    return rounds * len(SITES) * len(TASKS) * len(CLIENTS)


def measure(
    url: URL, rounds: int, seconds: float, advance: Callable[[str], None]
) -> list[Figure]:
    """All sites in turn, in several rounds."""
    figures = {
        (name, task, clients): Figure("web", f"{task}, {clients} clients", name)
        for name in SITES
        for task in TASKS
        for clients in CLIENTS
    }
    for _ in range(rounds):
        for name, site in SITES.items():
            for task, connections in TASKS.items():
                with serve(site, url, connections) as base:
                    address = f"{base}{site.prefix}/{task}"
                    wrong = not answers(address, ANSWERS[task])
                    for clients in CLIENTS:
                        advance(f"{name}: {task}, {clients} clients")
                        figure = figures[name, task, clients]
                        load(address, clients, 1.0)
                        record(figure, load(address, clients, seconds))
                        figure.failures += wrong
    return list(figures.values())


@contextlib.contextmanager
def serve(site: Site, url: URL, connections: int) -> Iterator[str]:
    """The address of a running server with a database."""
    port = free_port()
    asyncpg = url.set(drivername="postgresql+asyncpg")
    settings = {
        "BENCH_DATABASE": asyncpg.render_as_string(hide_password=False),
        "BENCH_CONNECTIONS": str(connections),
        "BENCH_FROZEN": site.frozen,
    }
    with running(site.command, port, settings):
        if site.nginx:
            with nginx_before(port) as before:
                yield f"http://127.0.0.1:{before}"
        else:
            yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def running(
    command: list[str], port: int, settings: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """The process of a server of views, on a core of its own."""
    filled = [part.format(port=port, scripts=SCRIPTS) for part in command]
    if filled[0].startswith("-"):
        filled.insert(0, sys.executable)
    paths = [str(HERE), str(HERE / "views"), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(filter(None, paths))
    process = subprocess.Popen(
        pinned(filled, first=True),
        env={**os.environ, **settings, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def nginx_before(upstream: int) -> Iterator[int]:
    """The port of an nginx before a uwsgi socket."""
    with tempfile.TemporaryDirectory(prefix="async-parallel-bench-") as directory:
        nginx, port = start_nginx(Path(directory), upstream)
        keep_off_the_first_core(nginx.pid)
        try:
            yield port
        finally:
            nginx.terminate()
            nginx.wait()


def answers(address: str, expected: dict[str, Any]) -> bool:
    """Whether the site comes up and answers as it must."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            response = httpx.get(address, timeout=10)
            if response.status_code != _BAD_GATEWAY:  # of nginx, before uwsgi is up
                return response.is_success and response.json() == expected
        time.sleep(0.05)
    return False


def load(address: str, clients: int, seconds: float) -> dict[str, Any]:
    """What wrk measures with this many clients."""
    duration = max(1, math.ceil(seconds))
    command = [
        *["wrk", "--threads=1", f"--connections={clients}", "--timeout=10s"],
        *[f"--duration={duration}s", f"--script={HERE / 'wrk.lua'}"],
        address,
    ]
    done = subprocess.run(
        pinned(command, first=False),
        capture_output=True,
        text=True,
        check=True,
        timeout=duration + 60,
    )
    measured: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return {**measured, "asked": duration}


def record(figure: Figure, measured: dict[str, Any]) -> None:
    """Add a round to a figure."""
    right = measured["requests"] - measured["status"]
    figure.rates.append(right / measured["seconds"])
    figure.medians.append(measured["median_ms"])
    figure.p99s.append(measured["p99_ms"])
    figure.failures += measured["status"] + measured["socket"]
    figure.failures += not measured["requests"]  # nobody was answered at all


def missing(*programs: str) -> str | None:
    """What to install first, if anything."""
    for program in programs:
        if shutil.which(program) is None:
            return (
                f"{program} is missing: web views were not measured. Install it"
                f" with the system's packages, such as 'apt-get install {program}'."
            )
    return None
