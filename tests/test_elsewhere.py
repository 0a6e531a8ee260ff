"""The examples without Flask: each framework gathers, and leaves nothing behind."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy
from servers import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
FRAMEWORKS = sorted(path.stem for path in EXAMPLES.glob("elsewhere/with_*.py"))
ANSWER = {"latest": [3, 2], "totals": {"Ada": 8, "Bob": 4}, "revenue": 12}


@pytest.fixture(autouse=True)
def _rows(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("SHOP_DATABASE_URL", database)
    shop: Any = importlib.import_module("elsewhere.shop")
    shop.make_rows(database)
    yield
    engine = sqlalchemy.create_engine(database)
    shop.Base.metadata.drop_all(engine)
    engine.dispose()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_view_gathers_under_uvicorn(
    framework: str, database: str, tmp_path: Path
) -> None:
    """Warm as cold; when the server ends, nothing complains."""
    command = ["-m", "uvicorn", "--port={port}", "--log-level=warning"]
    application = [f"--app-dir={EXAMPLES}", f"elsewhere.{framework}:app"]
    server = Server([*command, *application], database, tmp_path / "server.log")
    try:
        server.wait_until_it_listens()
        for _ in range(10):
            assert server.get("/") == ANSWER
    finally:
        server.stop()
    assert not re.search(r"Traceback|ERROR|Warning|unclosed|never", server.log)


def test_the_script_prints_what_it_gathers() -> None:
    """And ends without a word on standard error."""
    script = subprocess.run(
        [sys.executable, "-W", "error", "-m", "elsewhere.script"],
        env={**os.environ, "PYTHONPATH": str(EXAMPLES)},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert (script.returncode, script.stderr) == (0, "")
    assert json.loads(script.stdout) == ANSWER
