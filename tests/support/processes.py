"""Python processes that a test tells when to end, and does not wait for too long."""

from __future__ import annotations

import os
import subprocess
import sys

from servers import PYTHONPATH

SECONDS = 30
"""That a process may take at most, a busy machine included."""


class Process:
    """``python -m module name``, and what it says.

    Args:
        module: A module of the tests' support.
        name: Its argument.
        database: What it works on.
    """

    def __init__(self, module: str, name: str, database: str) -> None:
        environment = {
            **os.environ,
            "TEST_DATABASE": database,
            "PYTHONPATH": PYTHONPATH,
        }
        for variable in ("PYTHONDEVMODE", "PYTHONSAFEPATH", "PYTHONWARNINGS"):
            environment.pop(variable, None)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, name],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def read_line(self) -> str:
        """The next line that it says; empty where it has ended."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def send(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        self._process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Let it go on, and return its status, and what it says until its end."""
        output, errors = self._process.communicate("\n", timeout=SECONDS)
        return self._process.returncode, output, errors

    def close(self) -> None:
        """Kill it, if it has not ended, and close what leads to it."""
        if self._process.poll() is None:
            self._process.kill()
        with self._process:  # waits for it, and closes its pipes
            pass
