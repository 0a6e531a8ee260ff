"""An application for the tests of the adapter under real servers."""

from __future__ import annotations

import asyncio
import collections
import gc
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, request
from sqlalchemy import text
from werkzeug.exceptions import ClientDisconnected

from async_parallel import AsyncParallel, gather_queries, run_in_parallel
from async_parallel._serving import _Serving
from async_parallel.asgi import ASGIAdapter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

app = Flask(__name__)
app.config["ASYNC_PARALLEL_DATABASE_URI"] = os.environ["TEST_DATABASE"]
parallel = AsyncParallel(app)
ended: collections.defaultdict[str, asyncio.Event] = collections.defaultdict(
    asyncio.Event
)
loop: list[asyncio.AbstractEventLoop] = []
CHUNK = b"x" * 65536


@app.get("/ended/<name>")
async def until_ended(name: str) -> dict[str, Any]:
    """Answer when something of this name has ended, or after ten seconds."""
    async with asyncio.timeout(10):
        await ended[name].wait()
    ended[name].clear()
    return {"ended": name}


@app.get("/events")
async def events() -> Response:
    """Server-sent events: one, and then none."""

    async def make() -> AsyncIterator[str]:
        try:
            yield "data: 1\n\n"
            await asyncio.Event().wait()
        finally:
            ended["events"].set()

    made: Any = make()
    return Response(made, mimetype="text/event-stream")


@app.get("/gather")
async def gather() -> str:
    """Three queries that do not end."""
    try:
        await gather_queries([text("SELECT pg_sleep(3600)")] * 3)
    except ClientDisconnected:
        ended["gather"].set()
        raise
    return ""


@app.get("/late")
async def late() -> str:
    """Answer when the client has gone."""
    await asyncio.sleep(0.5)
    ended["late"].set()
    return "x" * 100_000


@app.get("/slow")
async def slow() -> dict[str, int]:
    """Three queries of 200 ms."""
    return {"rows": len(await gather_queries([text("SELECT pg_sleep(0.2)")] * 3))}


@app.get("/quick/async")
async def quick() -> dict[str, int]:
    """Five small queries."""
    return {"rows": len(await gather_queries([text("SELECT 1")] * 5))}


@app.get("/quick/sync")
def quick_sync() -> dict[str, int]:
    """The same in a synchronous view."""
    return {"rows": len(run_in_parallel([text("SELECT 1")] * 5))}


def count() -> dict[str, int]:
    """Read the body in pieces, and count them."""
    size = 0
    try:
        while piece := request.stream.read(65536):
            size += len(piece)
    except ClientDisconnected:
        running = loop[0]
        running.call_soon_threadsafe(ended["upload"].set)
        raise
    return {"size": size}


@app.post("/upload/async")
async def upload() -> dict[str, int]:
    """Read the body on the loop."""
    return count()


@app.post("/upload/sync")
def upload_sync() -> dict[str, int]:
    """Read the body in a worker."""
    return count()


@app.post("/limited")
async def limited() -> dict[str, int]:
    """Read a body of at most a kilobyte."""
    request.max_content_length = 1024
    return count()  # get_data() would cut off what was not announced, and say nothing


@app.post("/unread")
async def unread() -> str:
    """Answer without a look at the body."""
    return "answered"


@app.get("/flood/<kind>")
async def flood(kind: str) -> Response:
    """Send without an end, as long as somebody takes it."""

    def chunks() -> Iterator[bytes]:
        try:
            while True:
                yield CHUNK
        finally:
            loop[0].call_soon_threadsafe(ended["flood"].set)

    async def async_chunks() -> AsyncIterator[bytes]:
        try:
            while True:
                yield CHUNK
        finally:
            ended["flood"].set()

    made: Any = chunks() if kind == "sync" else async_chunks()
    return Response(made)


def kib(name: str) -> int:
    """What the process has, or once had, of a kind of memory, in KiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith(name))
    return int(line.split()[1])


def greenlets() -> int:
    """How many requests there are, by the greenlets that are not at rest."""
    gc.collect()
    every = sum(isinstance(each, _Serving) for each in gc.get_objects())
    return every - len(asgi._greenlets._resting)


@app.route("/state", methods=["GET", "HEAD"])
async def state() -> dict[str, Any]:
    """What the process is made of now."""
    loop[:] = [asyncio.get_running_loop()]
    return {
        "loop": type(loop[0]).__module__,
        "peak_kib": kib("VmHWM"),
        "kib": kib("VmRSS"),
        "requests": greenlets(),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "tasks": len(asyncio.all_tasks()),
        "http": request.environ["SERVER_PROTOCOL"],
    }


asgi = ASGIAdapter(app)
