"""Processes that fork; ``python -m forking NAME`` runs one and says what it saw.

Each says, as JSON, which server processes it was connected to before and after, which
ones each child was, and how the children ended.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import json
import multiprocessing
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import httpx
from activity import ADVISORY_LOCK, Activity
from flask import Flask
from sqlalchemy import text

from async_parallel import (
    AsyncParallel,
    QueryGatherer,
    gather_queries,
    run_in_parallel,
)
from async_parallel.asgi import ASGIAdapter

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

DATABASE = os.environ["TEST_DATABASE"]
CHILD_SECONDS = 10
app = Flask(__name__)
app.config["ASYNC_PARALLEL_DATABASE_URI"] = DATABASE
app.config["ASYNC_PARALLEL_MAX_CONNECTIONS"] = 5
parallel = AsyncParallel(app)
asgi = ASGIAdapter(app)
PIDS = [text("SELECT pg_backend_pid()")] * 5
Outcome = dict[str, Any]


@app.get("/async")
async def async_view() -> list[int]:
    """Gather in an async view."""
    return flat(await gather_queries(PIDS))


@app.get("/sync")
def sync_view() -> list[int]:
    """Gather in a synchronous view."""
    return flat(run_in_parallel(PIDS))


def flat(rows: list[Any]) -> list[int]:
    """The numbers in the results of ``PIDS``."""
    return sorted({row[0] for result in rows for row in result})


def own_pids() -> list[int]:
    """Which server processes this process is connected to."""
    with app.app_context():
        return flat(run_in_parallel(PIDS))


def pids_of_task(_number: int) -> list[int]:
    """The same, as a task of a pool."""
    return own_pids()


def run_child(function: Callable[[], list[int]], method: str) -> tuple[Any, int | None]:
    """What a child process returns, and its status; ``None`` where it hangs."""
    context: Any = multiprocessing.get_context(method)
    reader, writer = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(function, writer))
    child.start()
    answer = reader.recv() if reader.poll(CHILD_SECONDS) else None
    child.join(CHILD_SECONDS if answer is not None else 0)
    status: int | None = child.exitcode
    if status is None:
        child.kill()
        child.join()
    reader.close()
    writer.close()
    return answer, status


def _answer(function: Callable[[], list[int]], writer: Any) -> None:
    writer.send(function())


def portal() -> Outcome:
    """Children that gather, that do nothing, and that end as a program does."""
    before = own_pids()
    answer, status = run_child(own_pids, "fork")
    idle, idle_status = run_child(list, "fork")
    child = os.fork()
    if not child:
        for _ in range(2):
            gc.collect()
        sys.exit(0)
    _, exited = os.waitpid(child, 0)
    return {
        "before": before,
        "after": own_pids(),
        "children": [answer, idle],
        "statuses": [status, idle_status, exited],
    }


def grandchild() -> Outcome:
    """A child that gathers, and whose own child does."""
    before = own_pids()
    answer, status = run_child(_gather_and_fork, "fork")
    children = [answer[:-1], answer[-1]]
    return outcome(before, children, [status])


def _gather_and_fork() -> list[Any]:
    mine = own_pids()
    answer, status = run_child(own_pids, "fork")
    assert status == 0
    assert own_pids() == mine
    return [*mine, answer]


def outcome(before: list[int], children: list[Any], statuses: list[Any]) -> Outcome:
    """What is to be said, with what the parent is connected to now."""
    return {
        "before": before,
        "after": own_pids(),
        "children": children,
        "statuses": statuses,
    }


def during_gather() -> Outcome:
    """A child is forked while its parent gathers, and gathers itself."""
    before = own_pids()
    activity = Activity(DATABASE.replace("+asyncpg", "+psycopg2"))
    begun, results = threading.Event(), list[Any]()

    def say_begun(session: Session) -> None:
        session.execute(text("SELECT 1"))
        begun.set()

    def gather() -> None:
        lock = text(f"SELECT pg_advisory_xact_lock_shared({ADVISORY_LOCK})")
        with app.app_context():
            results.append(run_in_parallel([lock, say_begun, PIDS[0]]))

    thread = threading.Thread(target=gather)
    with activity.locked():
        thread.start()
        begun.wait(CHILD_SECONDS)
        answer, status = run_child(own_pids, "fork")
    thread.join(CHILD_SECONDS)
    during = [row[0] for row in results[0][2]]
    return {**outcome(before, [answer], [status]), "during": during}


def loop() -> Outcome:
    """A coroutine forks, and the child uses the parent's gatherer on its own loop."""
    gatherer = QueryGatherer(DATABASE, max_connections=5)

    async def pids() -> list[int]:
        return flat(await gatherer.gather(PIDS))

    async def main() -> Outcome:
        before = await pids()
        answer, status = run_child(lambda: asyncio.run(pids()), "fork")
        after = await pids()
        await gatherer.aclose()
        return {
            "before": before,
            "after": after,
            "children": [answer],
            "statuses": [status],
        }

    return asyncio.run(main())


async def ask() -> list[int]:
    """What the adapter answers to requests for both kinds of view."""
    transport = httpx.ASGITransport(asgi)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answers = [(await client.get(path)).json() for path in ("/async", "/sync") * 2]
    return sorted({pid for answer in answers for pid in answer})


def adapter() -> Outcome:
    """A child serves requests with the adapter that its parent has served with."""

    async def main() -> Outcome:
        before = await ask()
        answer, status = run_child(lambda: asyncio.run(ask()), "fork")
        after = await ask()
        await parallel.aclose()
        return {
            "before": before,
            "after": after,
            "children": [answer],
            "statuses": [status],
        }

    return asyncio.run(main())


def spawn() -> Outcome:
    """A child that starts afresh."""
    before = own_pids()
    answer, status = run_child(own_pids, "spawn")
    return outcome(before, [answer], [status])


def pool() -> Outcome:
    """Two workers that are used again."""
    before = own_pids()
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(2, context) as executor:
        children = list(executor.map(pids_of_task, range(4), timeout=CHILD_SECONDS))
    return outcome(before, children, [])


FORKING: dict[str, Callable[[], Outcome]] = {
    function.__name__: function
    for function in (
        portal,
        grandchild,
        during_gather,
        loop,
        adapter,
        spawn,
        pool,
    )
}

if __name__ == "__main__":
    print(json.dumps(FORKING[sys.argv[1]]()), flush=True)  # noqa: T201
