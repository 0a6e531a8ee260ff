"""Ways to run several queries from one process."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import asyncpg  # type: ignore[import-untyped, unused-ignore]
from flask import Flask
from flask_executor import Executor  # type: ignore[import-untyped, unused-ignore]
from shelves import CONNECTIONS, SLEEP, SQL, columns, entities, price
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from async_parallel import QueryGatherer, scalar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from sqlalchemy.engine import URL

    # What is asked for, and how many times.
    Gather = Callable[[str, int], Awaitable[Any]]

OURS = "async_parallel"
RAW = "raw asyncpg, gather"
BY_HAND = "AsyncSession each, gather"
TASK_GROUP = "AsyncSession each, TaskGroup"
THREADS = "threads, psycopg2"
FLASK_EXECUTOR = "Flask-Executor, psycopg2"
ONE_BY_ONE = "one after another, psycopg2"

# Made once: what is measured is running them.
STATEMENTS: dict[str, list[Any]] = {
    "entities": [entities(shelf) for shelf in range(1000)],
    "rows": [columns(shelf) for shelf in range(1000)],
    "values": [scalar(price(shelf)) for shelf in range(1000)],
    "sleep": [text(SLEEP)] * 1000,
}


def read(result: Any, kind: str) -> Any:
    """All of a result."""
    return result.scalars().all() if kind == "entities" else result.all()


@contextlib.asynccontextmanager
async def ours(url: URL) -> AsyncIterator[Gather]:
    """This package."""
    async with QueryGatherer(url, max_connections=CONNECTIONS) as gatherer:
        yield lambda kind, queries: gatherer.gather(STATEMENTS[kind][:queries])


@contextlib.asynccontextmanager
async def raw(url: URL) -> AsyncIterator[Gather]:
    """The driver alone, which makes no objects: the limit."""
    dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
    async with asyncpg.create_pool(
        dsn, min_size=CONNECTIONS, max_size=CONNECTIONS
    ) as pool:

        async def gather(kind: str, queries: int) -> Any:
            if kind == "sleep":
                return await asyncio.gather(
                    *(pool.fetch(SLEEP) for _ in range(queries))
                )
            fetched = (pool.fetch(SQL, shelf % 100) for shelf in range(queries))
            return await asyncio.gather(*fetched)

        yield gather


@contextlib.asynccontextmanager
async def by_hand(url: URL, *, task_group: bool = False) -> AsyncIterator[Gather]:
    """A session for each query, all at once: what people write."""
    engine = create_async_engine(
        url.set(drivername="postgresql+asyncpg"),
        pool_size=CONNECTIONS,
        max_overflow=0,
    )
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    async def ask(kind: str, statement: Any) -> Any:
        async with sessions() as session:
            return read(await session.execute(statement), kind)

    async def gather(kind: str, queries: int) -> Any:
        asked = (ask(kind, statement) for statement in STATEMENTS[kind][:queries])
        if not task_group:
            return await asyncio.gather(*asked)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in asked]
        return [task.result() for task in tasks]

    try:
        yield gather
    finally:
        await engine.dispose()


@contextlib.asynccontextmanager
async def threads(url: URL, *, flask: bool = False) -> AsyncIterator[Gather]:
    """A thread and a session for each query."""
    engine = create_engine(url, pool_size=CONNECTIONS, max_overflow=0)
    sessions = sessionmaker(engine)
    app = Flask(__name__)
    app.config["EXECUTOR_MAX_WORKERS"] = CONNECTIONS
    executor: Any = Executor(app) if flask else ThreadPoolExecutor(CONNECTIONS)
    request = app.test_request_context()  # Flask-Executor is for views

    def ask(kind: str, statement: Any) -> Any:
        with sessions() as session:
            return read(session.execute(statement), kind)

    async def gather(kind: str, queries: int) -> Any:
        with request:
            futures = [
                executor.submit(ask, kind, statement)
                for statement in STATEMENTS[kind][:queries]
            ]
            return [future.result() for future in futures]

    try:
        yield gather
    finally:
        executor.shutdown()
        engine.dispose()


@contextlib.asynccontextmanager
async def one_by_one(url: URL) -> AsyncIterator[Gather]:
    """One query after another in one session."""
    engine = create_engine(url)

    async def gather(kind: str, queries: int) -> Any:
        with Session(engine) as session:
            return [
                read(session.execute(statement), kind)
                for statement in STATEMENTS[kind][:queries]
            ]

    try:
        yield gather
    finally:
        engine.dispose()


CONTESTANTS: dict[str, Callable[[URL], Any]] = {
    OURS: ours,
    RAW: raw,
    BY_HAND: by_hand,
    TASK_GROUP: functools.partial(by_hand, task_group=True),
    THREADS: threads,
    FLASK_EXECUTOR: functools.partial(threads, flask=True),
    ONE_BY_ONE: one_by_one,
}
