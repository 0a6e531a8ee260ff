"""Flask without ``async_parallel``: one query after another, and Flask-Executor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Flask
from flask_executor import Executor  # type: ignore[import-untyped, unused-ignore]
from shelves import CONNECTIONS, SLEEP, URL, Item, entities
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session, sessionmaker

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Executable

url = make_url(URL).set(drivername="postgresql+psycopg2")
engine = create_engine(url, pool_size=CONNECTIONS, max_overflow=0)
sessions = sessionmaker(engine)
app = Flask(__name__)
app.config["EXECUTOR_MAX_WORKERS"] = CONNECTIONS
executor: Any = Executor(app)


def total(shelves: Iterable[Sequence[Item]]) -> dict[str, int]:
    """What the page shows."""
    return {"total": sum(item.price for shelf in shelves for item in shelf)}


def rows(session: Session, statement: Executable) -> Sequence[Any]:
    """Run one query."""
    return session.execute(statement).scalars().all()


def rows_alone(statement: Executable) -> Sequence[Any]:
    """Run one query in a session of its own."""
    with sessions() as session:
        return rows(session, statement)


@app.get("/queries")
def queries() -> dict[str, int]:
    """Five small queries, one after another."""
    with sessions() as session:
        return total([rows(session, entities(shelf)) for shelf in range(5)])


@app.get("/sleep")
def sleep() -> dict[str, int]:
    """Five queries of 100 ms, one after another."""
    with sessions() as session:
        return {"total": sum(len(rows(session, text(SLEEP))) for _ in range(5))}


@app.get("/threads/queries")
def threads_queries() -> dict[str, int]:
    """Five small queries, each in a thread."""
    futures = [executor.submit(rows_alone, entities(shelf)) for shelf in range(5)]
    return total([future.result() for future in futures])


@app.get("/threads/sleep")
def threads_sleep() -> dict[str, int]:
    """Five queries of 100 ms, each in a thread."""
    futures = [executor.submit(rows_alone, text(SLEEP)) for _ in range(5)]
    return {"total": sum(len(future.result()) for future in futures)}
