"""An application for the tests of real servers."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

from flask import (
    Flask,
    Response,
    current_app,
    g,
    request,
    session,
    stream_with_context,
)
from sqlalchemy import text

from async_parallel import AsyncParallel, gather_queries, run_in_parallel
from async_parallel.asgi import ASGIAdapter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

app = Flask(__name__)
app.config["SECRET_KEY"] = "tests"
app.config["ASYNC_PARALLEL_DATABASE_URI"] = os.environ["TEST_DATABASE"]
app.config["ASYNC_PARALLEL_MAX_CONNECTIONS"] = 5
parallel = AsyncParallel(app)
QUERIES = [text("SELECT 1")] * 5


def who() -> dict[str, Any]:
    """Which process and threads answer."""
    return {
        "pid": os.getpid(),
        "thread": threading.current_thread().name,
        "threads": sorted(thread.name for thread in threading.enumerate()),
    }


@app.get("/async")
async def async_view() -> dict[str, Any]:
    """Gather in an async view."""
    return {"rows": len(await gather_queries(QUERIES)), **who()}


@app.get("/sync")
def sync_view() -> dict[str, Any]:
    """Gather in a synchronous view."""
    return {"rows": len(run_in_parallel(QUERIES)), **who()}


@app.get("/sleep/<int:queries>")
async def sleep(queries: int) -> dict[str, Any]:
    """As many queries of 100 ms, on PostgreSQL."""
    return {"rows": len(await gather_queries([text("SELECT pg_sleep(0.1)")] * queries))}


@app.get("/sleep-sync/<int:queries>")
def sleep_sync(queries: int) -> dict[str, Any]:
    """The same in a synchronous view."""
    return {"rows": len(run_in_parallel([text("SELECT pg_sleep(0.1)")] * queries))}


@app.get("/together")
async def together() -> dict[str, Any]:
    """Five queries that end only if they run at once."""
    barrier = asyncio.Barrier(5)

    async def meet(_session: AsyncSession) -> int:
        return await barrier.wait()

    return {"places": sorted(await gather_queries([meet] * 5))}


@app.get("/context/<name>")
async def context(name: str) -> dict[str, Any]:
    """What queries see of their request, while others are under way."""
    g.name = session["name"] = name

    def see() -> list[str]:
        return [g.name, session["name"], request.args["name"], current_app.name]

    async def see_async(orm_session: AsyncSession) -> list[str]:
        await orm_session.execute(text("SELECT 1"))
        return see()

    def see_sync(orm_session: Session) -> list[str]:
        orm_session.execute(text("SELECT 1"))
        return see()

    seen = await gather_queries(see_async, see_sync)
    return {"same": all(each == [name] * 3 + [app.name] for each in (*seen, see()))}


@app.post("/echo")
async def echo() -> dict[str, Any]:
    """Read the request's body in an async view."""
    return {"size": len(request.get_data())}


@app.get("/stream/<name>")
async def stream(name: str) -> Response:
    """Stream from a generator that is in the request's context."""

    def chunks() -> Iterator[str]:
        for number in range(3):
            yield f"{request.path} {name} {number}\n"

    return Response(stream_with_context(chunks()))


@app.errorhandler(LookupError)
async def handle(error: LookupError) -> tuple[dict[str, Any], int]:
    """Answer with what the handler sees."""
    return {"error": str(error), "notes": error.__notes__}, 418


@app.get("/failing")
async def failing() -> dict[str, Any]:
    """One of five queries fails."""

    def fail(_session: Session) -> None:
        raise LookupError("of the application")

    await gather_queries({"bad": fail, "good": text("SELECT 1")})
    return {}


asgi = ASGIAdapter(app)
