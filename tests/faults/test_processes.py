"""Processes that fork, and processes that end, while gathers run."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from activity import Activity
from processes import Process

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no signals, no fork")

ALL = "ASYNC_PARALLEL_ALL_SERVERS" in os.environ


class End(NamedTuple):
    """How a script is told to end, and ends.

    Attributes:
        status: What it ends with.
        told_by: The signal; ``None`` for a line on its standard input.
        errors: The last line of what it says about errors.
        active: How many queries run when it is told to.
    """

    status: int
    told_by: int | None = None
    errors: str = ""
    active: int = 2


INTERRUPTED = End(-signal.SIGINT, signal.SIGINT, "KeyboardInterrupt")
ENDS = {
    "main_ends": End(0),
    "main_exits": End(3),
    "interrupted": INTERRUPTED,
    "goes_on": End(0, signal.SIGINT),
    "terminated": End(7, signal.SIGTERM),
    "query_exits": End(5, active=0),
    "loop_interrupted": INTERRUPTED,
    "loop_interrupted_away": INTERRUPTED,
    "loop_ends": End(0, active=3),
    "loop_ends_away": End(0),
    "never_closed": End(0, active=0),
    "left_early": End(0, active=0),
}
# Each where asked for; one whose gather nobody interrupts is given 5 s to end.
ON_POSTGRESQL = [
    *["main_exits", "interrupted", "goes_on", "terminated"],
    *["loop_interrupted", "loop_interrupted_away", "loop_ends", "never_closed"],
]
ON_SQLITE = ["interrupted", "loop_interrupted", "loop_ends"]
FORKS = ["portal", "during_gather", "loop", "adapter", "spawn", "pool"]
if ALL:
    ON_POSTGRESQL = ON_SQLITE = list(ENDS)
    FORKS.append("grandchild")


class Started(NamedTuple):
    """A process that was started, and what PostgreSQL does for it."""

    process: Process
    activity: Activity


@pytest.fixture(scope="module")
def processes(
    request: pytest.FixtureRequest, postgres_url: str
) -> Iterator[dict[str, Started]]:
    """The processes of the chosen tests, all started at once: mostly they wait."""
    chosen = [
        str(item.callspec.params["name"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == request.path
        if "processes" in item.fixturenames
    ]
    started: dict[str, Started] = {}
    for name in chosen:
        activity = Activity(postgres_url)
        module = "forking" if name in FORKS else "scripts"
        started[name] = Started(Process(module, name, activity.url), activity)
    yield started
    for process, activity in started.values():
        process.close()
        activity.terminate()


def check_end(end: End, process: Process) -> None:
    """Tell it to end, and see that it does, and what it says then."""
    if end.told_by is not None:
        process.send(end.told_by)
    status, output, errors = process.end()
    assert (status, output) == (end.status, ""), errors
    assert errors.split("\n")[-2:] == ([end.errors, ""] if end.errors else [""]), errors


@pytest.mark.parametrize("name", ON_POSTGRESQL)
def test_a_process_ends_while_it_gathers(
    name: str, processes: dict[str, Started]
) -> None:
    """By itself and soon, as any other would, and no query of it runs on."""
    process, activity = processes[name]
    assert process.read_line() == "begun"
    if ENDS[name].active:
        activity.wait_for(ENDS[name].active, "state = 'active'")
    check_end(ENDS[name], process)
    activity.wait_for(0)


@pytest.mark.parametrize("name", ON_SQLITE)
def test_a_process_ends_while_sqlite_works(name: str, sqlite: str) -> None:
    """By itself and soon: no thread that SQLite works in keeps it."""
    process = Process("scripts", name, sqlite)
    try:
        assert process.read_line() == "begun"
        check_end(ENDS[name], process)
    finally:
        process.close()


@pytest.mark.parametrize("name", FORKS)
def test_each_process_has_connections_of_its_own(
    name: str, processes: dict[str, Started]
) -> None:
    """Children gather, and end, and the parent's connections are what they were."""
    process, activity = processes[name]
    status, output, errors = process.end()
    assert (status, errors) == (0, "")
    seen: dict[str, Any] = json.loads(output)
    assert set(seen["statuses"]) <= {0}, seen
    assert seen["before"]
    assert seen["after"] == seen["before"]
    assert set(seen.get("during", [])) <= set(seen["before"])
    for child in seen["children"]:
        assert not set(child) & set(seen["before"])
    assert any(seen["children"])
    activity.wait_for(0)
