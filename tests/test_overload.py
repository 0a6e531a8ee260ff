"""More queries than the database answers: what is refused, and how a view says it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from flask import Flask
from shop import User
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException

from async_parallel import AsyncParallel
from async_parallel._routing import _never_blocks
from async_parallel.asgi import ASGIAdapter
from async_parallel.errors import LaneTimeoutError, OverloadError, QueueFullError
from async_parallel.instrumentation import record_gathers

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncSession

    from async_parallel import QueryGatherer

QUERY = select(User.id).where(User.id == 1)


class Held:
    """A gather that holds every lane until it is let go."""

    def __init__(self, gatherer: QueryGatherer, lanes: int, more: int = 0) -> None:
        self._all = asyncio.Barrier(lanes + 1)
        self._go_on = asyncio.Event()
        queries = [self._hold] * lanes + [QUERY] * more
        self._task = asyncio.create_task(gatherer.gather(queries))

    async def _hold(self, _session: AsyncSession) -> None:
        await self._all.wait()
        await self._go_on.wait()

    async def begun(self) -> None:
        """Wait until every lane is held."""
        await self._all.wait()

    async def end(self) -> list[Any]:
        """Let go, and return what the gather gives."""
        self._go_on.set()
        results: list[Any] = await self._task
        return results


async def test_an_overfull_queue_is_refused_at_once(
    sqlite: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """The error says how many may wait, how many lanes there are, and how many wait."""
    gatherer = make_gatherer(sqlite, max_connections=2, max_waiting=3)
    held = Held(gatherer, 2, more=2)
    await held.begun()
    with pytest.raises(QueueFullError) as caught:
        await gatherer.gather(QUERY, QUERY)
    error = caught.value
    assert (error.max_waiting, error.limit, error.in_use, error.waiting) == (3, 2, 2, 2)
    assert str(error) == (
        "No more than max_waiting=3 queries may wait: 2 of 2 lanes are in use and 2"
        " queries wait. Raise max_connections if the database allows it, or send fewer"
        " queries at once."
    )
    third = asyncio.create_task(gatherer.gather(QUERY))  # there is room for one
    await asyncio.sleep(0)
    assert len(await held.end()) == 4
    assert await third == ([1],)


async def test_who_leaves_the_queue_makes_room(
    sqlite: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """A gather that is cancelled while it waits is no longer counted."""
    gatherer = make_gatherer(sqlite, max_connections=1, max_waiting=4)
    held = Held(gatherer, 1)
    await held.begun()
    waiting = asyncio.create_task(gatherer.gather([QUERY] * 4))
    await asyncio.sleep(0)
    with pytest.raises(QueueFullError):
        await gatherer.gather(QUERY)
    waiting.cancel()
    await asyncio.wait([waiting])
    later = asyncio.create_task(gatherer.gather([QUERY] * 4))
    await asyncio.sleep(0)
    await held.end()
    assert await later == [[1]] * 4


async def test_lanes_that_are_still_to_open_count_as_room(
    sqlite: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """A few open at once and more while queries wait, which these do not for long."""
    gatherer = make_gatherer(sqlite, max_connections=10, max_waiting=3)
    held = Held(gatherer, 8)  # of which three wait for their lanes
    more = asyncio.create_task(gatherer.gather([QUERY] * 4))
    await held.begun()
    assert await more == [[1]] * 4
    await held.end()


async def test_a_gather_larger_than_the_queue_runs_where_no_other_waits(
    sqlite: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """The bound is for many gathers; one alone is as large as its caller wants."""
    gatherer = make_gatherer(sqlite, max_connections=2, max_waiting=3)
    assert await gatherer.gather([QUERY] * 50) == [[1]] * 50
    assert await gatherer.gather([QUERY] * 50) == [[1]] * 50  # nothing is left over


async def test_a_refused_gather_runs_nothing(
    sqlite: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Not even the queries that would still have had room."""
    gatherer = make_gatherer(sqlite, max_connections=1, max_waiting=2)
    ran: list[str] = []
    held = Held(gatherer, 1, more=1)
    await held.begun()
    with record_gathers() as gathers, pytest.raises(QueueFullError) as caught:
        await gatherer.gather([lambda _: ran.append("ran")] * 3)
    await held.end()
    assert ran == []
    (report,) = gathers
    assert [query.outcome for query in report.queries] == ["not started"] * 3
    assert report.raised is caught.value


def make_app(error: OverloadError) -> Flask:
    """An application whose view fails with ``error``."""
    app = Flask(__name__)
    AsyncParallel(app)

    @app.get("/")
    def index() -> str:
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "seconds"),
    [(QueueFullError(9, 1, 1, 9), "1"), (LaneTimeoutError(2.5, 1, 1, 9), "3")],
)
def test_a_view_answers_503_with_retry_after(
    error: OverloadError, seconds: str
) -> None:
    """Nothing of the application is needed for that, and no detail is told."""
    answer = make_app(error).test_client().get("/")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == seconds
    assert "Try again later" in answer.text
    assert "lanes" not in answer.text


@pytest.mark.parametrize(
    "cls", [QueueFullError, OverloadError, TimeoutError, SQLAlchemyError]
)
def test_an_applications_own_handler_goes_first(cls: type[Exception]) -> None:
    """Be it for the error itself, or for another class of it."""
    error = QueueFullError(9, 1, 1, 9)
    app = make_app(error)

    @app.errorhandler(cls)
    def handle(given: Exception) -> tuple[str, int]:
        assert given is error
        return "own", 418

    answer = app.test_client().get("/")
    assert (answer.status_code, answer.text) == (418, "own")


def test_a_handler_that_was_there_before_stays() -> None:
    """The extension may come after the application's own handlers."""
    app = Flask(__name__)

    @app.errorhandler(OverloadError)
    def handle(_: Exception) -> tuple[str, int]:
        return "own", 418

    @app.get("/")
    def index() -> str:
        raise QueueFullError(9, 1, 1, 9)

    AsyncParallel(app)
    assert app.test_client().get("/").text == "own"


@pytest.mark.parametrize("key", [503, HTTPException, Exception])
def test_an_applications_error_page_is_used(key: Any) -> None:
    """A handler for 503, or for all, gets that, with the error as its cause."""
    error = QueueFullError(9, 1, 1, 9)
    app = make_app(error)

    @app.errorhandler(key)
    def handle(given: HTTPException) -> tuple[str, int]:
        assert given.__cause__ is error
        return "page", given.code or 0

    answer = app.test_client().get("/")
    assert (answer.status_code, answer.text) == (503, "page")
    assert answer.headers["Retry-After"] == "1"


def test_the_answer_needs_no_thread() -> None:
    """Under an ASGI server the handler runs on the loop; overload shall cost little."""
    app = make_app(QueueFullError(9, 1, 1, 9))
    answer = app.error_handler_spec[None][None][OverloadError]
    assert _never_blocks(answer)


async def test_under_an_asgi_server_the_answer_is_the_same() -> None:
    """An async view there, too, answers 503 and when to come back."""
    app = Flask(__name__)
    parallel = AsyncParallel(app)

    @app.get("/")
    async def index() -> str:
        raise QueueFullError(9, 1, 1, 9)

    transport = httpx.ASGITransport(ASGIAdapter(app))
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        answer = await client.get("/")
    await parallel.aclose()
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
