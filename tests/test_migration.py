"""The examples of migration: each view answers as it did before."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from servers import Server, connect, start_nginx

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask.testing import FlaskClient

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PAIRS = sorted(
    path.stem
    for path in (EXAMPLES / "migration").glob("*.py")
    if path.stem not in {"__init__", "__main__", "app", "shop"}
)
SNIPPETS = ("five_queries", "submit")
UVICORN = [
    *["-m", "uvicorn", "--port={port}", "--log-level=warning", "--factory"],
    *[f"--app-dir={EXAMPLES}", "migration.app:create_asgi_app"],
]
UWSGI = [
    *["{scripts}/pyuwsgi", "--socket=127.0.0.1:{port}", f"--pythonpath={EXAMPLES}"],
    *["--module=migration.app:create_app()", "--master", "--processes=2"],
    *["--threads=8", "--enable-threads", "--die-on-term", "--need-app"],
]


@pytest.fixture
def migration(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The modules of the example, which is on no path otherwise."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("migration.app")


@pytest.fixture
def client(migration: Any, database: str) -> Iterator[FlaskClient]:
    """A client of the application, on each database in turn."""
    app = migration.create_app(database)
    yield app.test_client()
    for threads in (migration.executor, migration.one_thread):
        threads.shutdown()
    migration.parallel.close()
    with app.app_context():
        migration.db.drop_all()
        migration.db.engine.dispose()


def test_every_pair_is_in_the_application_and_in_the_table(migration: Any) -> None:
    """No file is forgotten."""
    names = {pair.__name__.removeprefix("migration.") for pair in migration.PAIRS}
    assert names == set(PAIRS)
    table = (EXAMPLES / "migration" / "README.md").read_text(encoding="utf-8")
    for name in PAIRS:
        assert f"| `{name}.py` |" in table


@pytest.mark.parametrize("pair", PAIRS)
def test_the_view_answers_as_before(client: FlaskClient, pair: str) -> None:
    """Whatever it used, and on both databases."""
    before, after = (client.get(f"/{pair}/{view}") for view in ("before", "after"))
    assert before.status_code == after.status_code == 200
    answer: dict[str, Any] = after.get_json()
    assert answer == before.get_json()
    assert all(value not in (None, []) for value in answer.values())


def test_the_command_compares_all_pairs() -> None:
    """It says for each that the answers are the same, and ends with 0."""
    command = subprocess.run(
        [sys.executable, "-m", "migration"],
        env={**os.environ, "PYTHONPATH": str(EXAMPLES)},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert command.returncode == 0, command.stderr
    lines = command.stdout.splitlines()
    assert {line.split()[0] for line in lines} == set(PAIRS)
    assert all(" the same " in line for line in lines)


def test_the_snippets_in_async_views_under_uvicorn(
    database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The answers are those of the synchronous views before."""
    monkeypatch.setenv("MIGRATION_DATABASE_URL", database)
    server = Server(UVICORN, database, tmp_path / "server.log")
    try:
        server.wait_until_it_listens()
        check_snippets(server, "after-in-async-view")
    finally:
        server.stop()
    assert "Traceback" not in server.log, server.log


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_the_snippets_in_sync_views_behind_nginx_and_uwsgi(
    database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The deployment of those who stay."""
    monkeypatch.setenv("MIGRATION_DATABASE_URL", database)
    server = Server(UWSGI, database, tmp_path / "server.log")
    nginx: subprocess.Popen[bytes] | None = None
    try:
        server.wait_until_it_listens()
        nginx, port = start_nginx(tmp_path, server.port)
        server.client.close()
        server.port = port
        server.client = connect(port)
        server.wait_until_it_listens()
        check_snippets(server, "after")
    finally:
        server.stop()
        if nginx is not None:
            nginx.terminate()
            nginx.wait()
    assert "Traceback" not in server.log, server.log


def check_snippets(server: Server, view: str) -> None:
    """Ask often enough that every process and connection is warm."""
    for pair in SNIPPETS:
        before = server.get(f"/{pair}/before")
        for _ in range(20):
            assert server.get(f"/{pair}/{view}") == before
