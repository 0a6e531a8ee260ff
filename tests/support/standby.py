"""A hot standby of a test's own: a server that follows another, and answers reads."""

from __future__ import annotations

import shutil
import subprocess

import psycopg2  # type: ignore[import-untyped]
from restartable import RestartableServer

# Where the two want the same row versions, replay waits, and no query is cancelled.
_SETTINGS = "hot_standby = on\nmax_standby_streaming_delay = -1\n"
_SLOT = "standby"


class StandbyServer(RestartableServer):
    """A standby; a context manager, which copies the primary and starts it.

    It has at once what the primary had when the block began. Let the block end before
    the primary's.

    Args:
        primary: Whom it follows; it runs, and has no other standby.
    """

    def __init__(self, primary: RestartableServer) -> None:
        super().__init__()
        self._primary = primary

    def _prepare(self) -> None:
        self._programs = self._primary._programs
        self._user = self._primary._user
        self._data = self._directory / "data"
        if self._user is not None:
            shutil.chown(self._directory, self._user)
        copied = subprocess.run(
            [
                *[str(self._programs / "pg_basebackup"), f"--pgdata={self._data}"],
                *["--host=127.0.0.1", f"--port={self._primary.port}"],
                *["--username=postgres", "--no-password", "--checkpoint=fast"],
                *["--write-recovery-conf", "--create-slot", f"--slot={_SLOT}"],
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            user=self._user,
            cwd=self._directory,
        )
        assert copied.returncode == 0, copied.stderr
        with (self._data / "postgresql.auto.conf").open("a") as settings:
            settings.write(_SETTINGS)

    def _is_ready(self) -> bool:
        try:
            psycopg2.connect(
                host="127.0.0.1", port=self.port, user="postgres", dbname="postgres"
            ).close()
        except psycopg2.OperationalError:
            return False
        return True
