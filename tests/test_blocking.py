"""Debug mode names what holds the event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from conversation import Conversation
from flask import Flask
from lifespan import Lifespan
from sqlalchemy import text

from async_parallel import AsyncParallel, gather_queries
from async_parallel._blocking import BlockingWatch
from async_parallel.asgi import ASGIAdapter

if TYPE_CHECKING:
    from collections.abc import Iterator


class Log(logging.Handler):
    """Collects messages, and tells when there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        self.written = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Note a message."""
        self.messages.append(record.getMessage())
        self.written.set()


@pytest.fixture
def log() -> Iterator[Log]:
    """What the package logs."""
    handler = Log()
    logger = logging.getLogger("async_parallel")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture
def app(log: Log, sqlite: str) -> Iterator[Flask]:
    """An application whose views block until that has been logged."""
    app = Flask(__name__)
    app.debug = True
    app.config["ASYNC_PARALLEL_DATABASE_URI"] = sqlite
    extension = AsyncParallel(app)

    def block_the_loop() -> str:
        return str(log.written.wait(10))

    @app.get("/view")
    async def view() -> str:
        return block_the_loop()

    def block_in_a_query(_session: Any) -> str:
        return str(log.written.wait(10))

    @app.get("/query")
    async def query() -> str:
        return str((await gather_queries(block_in_a_query, text("SELECT 1")))[0])

    yield app
    extension.close()


def watches() -> list[threading.Thread]:
    """The threads that watch a loop."""
    return [thread for thread in threading.enumerate() if "watch" in thread.name]


FUNCTION = {"/view": "block_the_loop", "/query": "block_in_a_query"}


@pytest.mark.parametrize("path", FUNCTION)
async def test_under_the_adapter_the_function_is_named(
    path: str, app: Flask, log: Log
) -> None:
    """With its file and line, while it still blocks."""
    adapter = ASGIAdapter(app)
    async with Lifespan(adapter), Conversation(adapter, "GET", path) as client:
        client.say()
    assert client.body == b"True"
    assert not watches()
    message = next(m for m in log.messages if FUNCTION[path] in m)
    assert f"{FUNCTION[path]}' (" in message
    assert __file__ in message
    assert "more than 100 ms" in message


@pytest.mark.parametrize("path", FUNCTION)
def test_on_the_portal_it_is_named_too(path: str, app: Flask, log: Log) -> None:
    """Under WSGI all async views share one loop, so it matters as much."""
    assert app.test_client().get(path).text == "True"
    assert any(f"{FUNCTION[path]}' (" in message for message in log.messages)


async def test_a_watch_can_be_stopped_at_any_time() -> None:
    """The loop waits for its thread, and not the thread for the loop."""
    for _ in range(30):
        watch = BlockingWatch(asyncio.get_running_loop(), threading.get_ident())
        end = time.monotonic() + 0.06  # when it asks for a sign of life
        while time.monotonic() < end:
            pass
        watch.stop()
    assert not watches()


async def test_without_debug_mode_there_is_no_watch(sqlite: str) -> None:
    """And so no thread of it."""
    app = Flask(__name__)
    app.config["ASYNC_PARALLEL_DATABASE_URI"] = sqlite
    AsyncParallel(app)
    async with Lifespan(ASGIAdapter(app)):
        assert not watches()
