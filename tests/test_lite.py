"""Flask-SQLAlchemy-Lite: its binds, its engines as they are, and its sessions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy_lite import SQLAlchemy
from shop import ORDERS_EACH, USERS, Order, User, make_shop
from sqlalchemy import create_engine, event, func, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from async_parallel import (
    AsyncParallel,
    gather_queries,
    run_in_parallel,
    scalar_one,
)
from async_parallel._engine import async_url
from async_parallel.errors import BindConflictError, ReadOnlyError
from async_parallel.testing import on_connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

COUNT = scalar_one(select(func.count(User.id)))


class LogBase(DeclarativeBase):
    """Of what is logged, in a database of its own."""


class Log(LogBase):
    """A line that was logged."""

    __tablename__ = "log"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
def logs(tmp_path: Path) -> str:
    """A SQLite file with four lines."""
    url = f"sqlite:///{tmp_path / 'logs.sqlite3'}"
    engine = create_engine(url)
    LogBase.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(Log), [{"id": n} for n in range(4)])
    engine.dispose()
    return url


class Lite:
    """An application with Flask-SQLAlchemy-Lite and the extension."""

    def __init__(self, config: dict[str, Any], options: dict[str, Any]) -> None:
        self.app = Flask(__name__)
        self.app.config.update(config)
        self.db = SQLAlchemy(self.app, **options)
        self.extension = AsyncParallel(self.app)

    def close(self) -> None:
        """Close every connection, those of its own engines on their loop."""
        with self.app.app_context():
            for engine in self.db.engines.values():
                engine.dispose()
            for async_engine in self.db.async_engines.values():
                self.app.async_to_sync(async_engine.dispose)()
        self.extension.close()


@pytest.fixture
def make_lite() -> Iterator[Callable[..., Lite]]:
    """Makes applications, and closes them."""
    made: list[Lite] = []

    def make(
        engines: dict[str, Any] | None = None,
        async_engines: dict[str, Any] | None = None,
        **options: Any,
    ) -> Lite:
        config = {
            "SQLALCHEMY_ENGINES": engines or {},
            "SQLALCHEMY_ASYNC_ENGINES": async_engines or {},
        }
        made.append(Lite(config, options))
        return made[-1]

    yield make
    for lite in made:
        lite.close()


@pytest.mark.parametrize("kind", ["engines", "async engines too"])
@pytest.mark.parametrize("key", [Log, LogBase, Log.__table__], ids=str)
def test_the_binds_of_its_sessions_route_queries(
    database: str, logs: str, make_lite: Callable[..., Lite], key: Any, kind: str
) -> None:
    """By the names that they have in its configuration, in one gather."""
    engines = {"default": database, "logs": logs}
    twins = {name: async_url(url) for name, url in engines.items()}
    lite = make_lite(
        engines,
        twins if kind == "async engines too" else None,
        session_options={"binds": {key: "logs"}},
    )
    with lite.app.app_context():
        users, lines, legacy = run_in_parallel(
            COUNT, select(Log.id).order_by(Log.id), lite.db.session.query(Log).count
        )
        assert (users, lines, legacy) == (USERS, [0, 1, 2, 3], 4)
        both = select(sa.literal(1)).where(Log.id == Order.id)
        with pytest.raises(BindConflictError) as caught:
            run_in_parallel(both)
        assert caught.value.binds == {"default": ["orders"], "logs": ["log"]}


def test_an_engine_gets_its_credentials_from_its_listener(
    postgres: str, make_lite: Callable[..., Lite]
) -> None:
    """``do_connect`` is asked for each connection that a gather opens."""
    url = async_url(postgres)
    lite = make_lite(async_engines={"default": url.set(username="nobody")})
    tokens: list[str] = []
    with lite.app.app_context():
        engine = lite.db.async_engine

        @event.listens_for(engine.sync_engine, "do_connect")
        def provide(_dialect: Any, _record: Any, _args: Any, params: Any) -> None:
            tokens.append(params["user"])
            params["user"] = url.username

        assert lite.extension.gatherer().engine is engine
        assert run_in_parallel(COUNT, COUNT) == (USERS, USERS)
    assert tokens == ["nobody"] * len(tokens) != []


def test_listeners_of_its_engine_see_each_statement(
    database: str, make_lite: Callable[..., Lite]
) -> None:
    """And what one sets on a new connection stays set."""
    lite = make_lite(async_engines={"default": async_url(database)})
    seen: list[str] = []
    with lite.app.app_context():
        engine = lite.db.async_engine.sync_engine
        event.listen(
            engine, "before_cursor_execute", lambda *args: seen.append(args[2])
        )
        run_in_parallel(text("SELECT 41 + 1"), text("SELECT 42 + 1"))
    assert {"SELECT 41 + 1", "SELECT 42 + 1"} <= {*seen}


def test_its_engine_writes_again_after_a_gather(
    database: str, make_lite: Callable[..., Lite]
) -> None:
    """A connection is read-only while a gather has it, and no longer."""
    options = {"url": async_url(database), "pool_size": 1, "max_overflow": 0}
    lite = make_lite(async_engines={"default": options})

    async def view() -> int:
        with pytest.raises(ReadOnlyError):
            await gather_queries(text("UPDATE users SET name = 'changed'"))
        assert await gather_queries(COUNT) == (USERS,)
        session = lite.db.async_session
        await session.execute(sa.update(User).values(name=User.name))
        await session.commit()
        await session.close()
        (count,) = await gather_queries(scalar_one(select(func.count(Order.id))))
        return int(count)

    with lite.app.app_context():
        assert lite.app.async_to_sync(view)() == USERS * ORDERS_EACH


def test_sessions_are_of_its_class_with_its_options(
    sqlite: str, make_lite: Callable[..., Lite]
) -> None:
    """What ``session_options`` say of a session holds in a query too."""
    lite = make_lite(
        async_engines={"default": async_url(sqlite)},
        session_options={"info": {"tenant": "north"}},
    )

    async def asynchronous(session: Any) -> Any:
        await asyncio.sleep(0)
        return session.info["tenant"]

    with lite.app.app_context():
        assert run_in_parallel(lambda s: s.info["tenant"], asynchronous) == (
            "north",
            "north",
        )


def test_its_own_functions_take_the_session_of_a_query(
    tmp_path: Path, make_lite: Callable[..., Lite]
) -> None:
    """``get_or_abort`` and ``one_or_abort`` have a parameter for it."""
    url = f"sqlite:///{tmp_path / 'shop.sqlite3'}"
    make_shop(url)
    lite = make_lite({"default": url})
    statement = select(User).where(User.id == 2)
    with lite.app.app_context():
        db: Any = lite.db
        found, one = run_in_parallel(
            lambda session: db.get_or_abort(User, 1, session=session),
            lambda session: db.one_or_abort(statement, session=session),
        )
        assert (found.id, one.id) == (1, 2)
        with pytest.raises(Exception, match="410"):
            run_in_parallel(
                lambda session: db.get_or_abort(User, 0, session=session, code=410)
            )


def test_its_session_is_used_for_all_its_databases(
    database: str, logs: str, make_lite: Callable[..., Lite]
) -> None:
    """In a test, as ``on_connection`` was given it."""
    lite = make_lite(
        {"default": database, "logs": logs}, session_options={"binds": {Log: "logs"}}
    )
    lines = scalar_one(select(func.count(Log.id)))
    with lite.app.app_context():
        session = lite.db.session
        session.add_all([User(id=99, name="new"), Log(id=99)])
        with on_connection(lite.app, session):
            assert run_in_parallel(COUNT, lines) == (4, 5)
        session.rollback()
        assert run_in_parallel(COUNT, lines) == (3, 4)
