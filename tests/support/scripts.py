"""Scripts that end while gathers run; ``python -m scripts NAME`` runs one.

Each says "begun" when its gather runs, and ends when it is told so: by a line on its
standard input, or by a signal.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from flask import Flask
from sqlalchemy import text

from async_parallel import (
    AsyncParallel,
    QueryGatherer,
    gather_queries,
    run_in_parallel,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

DATABASE = os.environ["TEST_DATABASE"]
LONG = text(
    "SELECT pg_sleep(600)"
    if DATABASE.startswith("postgresql")
    else "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    " SELECT count(*) FROM n"
)
SHORT = text("SELECT 1")
app = Flask(__name__)
app.config["ASYNC_PARALLEL_DATABASE_URI"] = DATABASE
parallel = AsyncParallel(app)


def say(line: object) -> None:
    """Tell the test."""
    print(line, flush=True)  # noqa: T201


def say_begun(session: Session) -> None:
    """A query that tells the test that those before it run."""
    session.execute(SHORT)
    say("begun")


QUERIES = (LONG, LONG, say_begun)


def gather() -> None:
    """Gather in synchronous code."""
    with app.app_context():
        run_in_parallel(*QUERIES)


async def gather_away() -> None:
    """Gather on another loop than home."""
    with app.app_context():
        await gather_queries(*QUERIES)


def wait_in_thread() -> None:
    """Gather in a thread that nobody waits for, until told to go on."""

    def work() -> None:
        with contextlib.suppress(Exception):
            gather()

    threading.Thread(target=work, daemon=True).start()
    sys.stdin.readline()


def main_ends() -> None:
    """A daemon thread gathers, and the main thread is through."""
    wait_in_thread()


def main_exits() -> None:
    """A daemon thread gathers, and the main thread exits."""
    wait_in_thread()
    sys.exit(3)


def interrupted() -> None:
    """Ctrl-C while the main thread gathers."""
    gather()


def goes_on() -> None:
    """Ctrl-C while the main thread gathers, which then does something else."""
    with contextlib.suppress(KeyboardInterrupt):
        gather()
    with app.app_context():
        assert run_in_parallel([SHORT]) == [[(1,)]]


def terminated() -> None:
    """A signal handler that exits while the main thread gathers."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    gather()


def query_exits() -> None:
    """A query that exits."""

    def leave(session: Session) -> None:
        say_begun(session)
        sys.exit(5)

    with app.app_context():
        run_in_parallel(LONG, leave)


def loop_interrupted() -> None:
    """Ctrl-C while a loop gathers, and nothing is closed."""
    gatherer = QueryGatherer(DATABASE)
    asyncio.run(gatherer.gather(*QUERIES))


def loop_interrupted_away() -> None:
    """Ctrl-C while a loop waits for the portal's."""
    with app.app_context():
        run_in_parallel([SHORT])  # so that the portal is home
    asyncio.run(gather_away())


def loop_ends() -> None:
    """The main coroutine returns while tasks gather, and nothing is closed."""
    gatherer = QueryGatherer(DATABASE)

    async def main() -> list[asyncio.Task[Any]]:
        gathers = (gatherer.gather(*QUERIES), gatherer.gather(LONG))
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(gather) for gather in gathers
        ]
        await asyncio.to_thread(sys.stdin.readline)
        return tasks

    tasks = asyncio.run(main())
    assert all(task.cancelled() for task in tasks)


def loop_ends_away() -> None:
    """The same where the portal's loop is home."""
    with app.app_context():
        run_in_parallel([SHORT])

    async def main() -> None:
        task = asyncio.create_task(gather_away())
        await asyncio.to_thread(sys.stdin.readline)
        assert not task.done()

    asyncio.run(main())


def never_closed() -> None:
    """A gatherer that is at rest, and is not closed."""
    gatherer = QueryGatherer(DATABASE)
    asyncio.run(gatherer.gather(SHORT, say_begun))


def left_early() -> None:
    """The results of one query are taken, and nothing is closed."""

    async def main() -> None:
        gatherer = QueryGatherer(DATABASE)
        async for _ in gatherer.as_completed(*QUERIES):
            return

    asyncio.run(main())


SCRIPTS: dict[str, Callable[[], None]] = {
    script.__name__: script
    for script in (
        main_ends,
        main_exits,
        interrupted,
        goes_on,
        terminated,
        query_exits,
        loop_interrupted,
        loop_interrupted_away,
        loop_ends,
        loop_ends_away,
        never_closed,
        left_early,
    )
}

if __name__ == "__main__":
    SCRIPTS[sys.argv[1]]()
