"""PgBouncer before a PostgreSQL server, as a process of a test's own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

from servers import free_port
from sqlalchemy.engine import make_url

if TYPE_CHECKING:
    from types import TracebackType

# Debian has it where only root's PATH leads.
PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH')}:/usr/sbin")
"""Where it is; ``None`` where it is not installed."""

_CONFIG = """
[databases]
{database} = {target}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {pool_size}
ignore_startup_parameters = {ignored}
query_wait_timeout = 60
"""


def unprepared() -> dict[str, Any]:
    """What SQLAlchemy says to give asyncpg behind PgBouncer, as ``connect_args``.

    Each transaction may run on another connection of the server, which does not know
    what was prepared on the one before.
    """
    return {
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "prepared_statement_name_func": lambda: f"__asyncpg_{uuid4()}__",
    }


class PgBouncer:
    """PgBouncer in transaction mode; a context manager, which starts it.

    Args:
        url: The server, for a synchronous driver; also one on a Unix socket.
        directory: For its files.
        pool_size: How many connections of the server its clients share.
        ignored: Startup parameters that it shall accept, and not pass on.
        first: SQL that it sends first on each connection of the server.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        url: The same database through it, for a synchronous driver.
    """

    def __init__(
        self,
        url: str,
        directory: Path,
        *,
        pool_size: int,
        ignored: str = "",
        first: str = "",
    ) -> None:
        self.port = free_port()
        server = make_url(url)
        host = server.host or str(server.query.get("host", "127.0.0.1"))
        target = {
            "host": host,
            "port": server.port or 5432,
            "dbname": server.database,
            "user": server.username,
            "password": server.password,
            "connect_query": first,
        }
        self.url = f"postgresql+psycopg2://any@127.0.0.1:{self.port}/{server.database}"
        self._user = _user(host)
        self._log = directory / "pgbouncer.log"
        self._config = directory / "pgbouncer.ini"
        self._config.write_text(
            _CONFIG.format(
                database=server.database,
                target=" ".join(f"{key}='{v}'" for key, v in target.items() if v),
                port=self.port,
                pool_size=pool_size,
                ignored=ignored,
            )
        )

    def __enter__(self) -> Self:
        assert PROGRAM is not None
        # It reads its files, then becomes another user: it refuses to be root.
        become = [] if self._user is None else ["-u", self._user]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [PROGRAM, *become, str(self._config)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        for _ in range(500):
            if self._process.poll() is not None:
                break
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            time.sleep(0.01)
        self.__exit__(None, None, None)
        raise RuntimeError(f"PgBouncer did not start:\n{self.log}")

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def log(self) -> str:
        """What it has printed."""
        return self._log.read_text(errors="replace")


def _user(host: str) -> str | None:
    """As whom to run it where this is root: who may use the server's socket."""
    if os.geteuid() != 0:
        return None
    owner = Path(host).owner() if host.startswith("/") else "root"
    return owner if owner != "root" else "nobody"
