"""A gather that is ended at any point where it suspends leaves nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from observers import OBSERVED, Observer, observing
from shop import User
from sqlalchemy import select, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sweep import Cancel, Deadline, Ending, Failure, Sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

STATEMENT = select(User.id).order_by(User.id)
IDS = [1, 2, 3]
# Which of two queries gets on first is chance, and a sweep can miss a point by it.
SWEEPS = 10


def ids(session: Session) -> Any:
    """Ask in sync style."""
    return session.scalars(STATEMENT).all()


async def ids_async(session: AsyncSession) -> Any:
    """Ask in async style."""
    return (await session.scalars(STATEMENT)).all()


@pytest.fixture
def postgres_observer(postgres: str) -> Iterator[Observer]:
    """An observer of PostgreSQL."""
    with observing(postgres) as observer:
        yield observer


@pytest.fixture(params=[False, True], ids=["cold", "warm"])
def warm(request: pytest.FixtureRequest) -> bool:
    """Whether the connections are open already."""
    is_warm: bool = request.param
    return is_warm


queries = pytest.mark.parametrize(
    "query",
    [
        pytest.param(STATEMENT, id="statement"),
        pytest.param(ids, id="function"),
        pytest.param(ids_async, id="async function"),
    ],
)


# Each kind of query, each state of the connections, and not all of both.
some = pytest.mark.parametrize(
    ("query", "warm"),
    [
        pytest.param(STATEMENT, True, id="statement"),
        pytest.param(ids, True, id="function"),
        pytest.param(ids_async, False, id="async function"),
    ],
)


def check_reached(sweep: Sweep, *phases: str, warm: bool) -> None:
    """Check that the sweep was one: it got far, and into each of ``phases``."""
    expected = {"executing", *phases}
    if not warm:
        expected.add("connecting")
    assert sweep.phases >= expected
    assert sweep.points >= (2 if warm else 10)


def closing(query: Any) -> list[str]:
    """The phases after ``query`` was executed: it may have a transaction to end."""
    return [] if query is STATEMENT else ["closing"]


@queries
async def test_a_cancel_at_any_point_leaves_nothing(
    query: Any, observer: Observer, *, warm: bool
) -> None:
    """One cancel, at each point: all is clean, and the gatherer goes on."""
    sweep = Sweep(observer, [query], IDS, warm=warm)
    await sweep.run(Cancel)
    check_reached(sweep, *closing(query), warm=warm)


@some
async def test_a_cancel_at_any_point_of_three_queries_leaves_nothing(
    query: Any, observer: Observer, *, warm: bool
) -> None:
    """Neither does it where the others are somewhere else."""
    sweep = Sweep(observer, [query] * 3, IDS, warm=warm)
    await sweep.run(Cancel)
    check_reached(sweep, *closing(query), warm=warm)


@some
@pytest.mark.parametrize("again", [0, 2])
async def test_a_second_cancel_at_any_point_after_leaves_nothing(
    query: Any, again: int, observer: Observer, *, warm: bool
) -> None:
    """A second one, in the next turn of the loop or a few points later, is no worse."""
    sweep = Sweep(observer, [query], IDS, warm=warm)
    await sweep.run(lambda: Cancel(again))
    check_reached(sweep, *closing(query), warm=warm)


@some
async def test_a_deadline_that_passes_as_an_answer_arrives_leaves_nothing(
    query: Any, observer: Observer, *, warm: bool
) -> None:
    """The timeout strikes when an answer is there and its task does not know."""
    sweep = Sweep(observer, [query], IDS, warm=warm)
    await sweep.run(Deadline)
    check_reached(sweep, *closing(query), warm=warm)


@some
@pytest.mark.parametrize(
    "make", [Cancel, lambda: Cancel(0), Deadline], ids=["once", "twice", "deadline"]
)
async def test_an_end_while_the_server_is_told_the_timeout_leaves_nothing(
    query: Any,
    make: Callable[[], Ending],
    postgres_observer: Observer,
    *,
    warm: bool,
) -> None:
    """It has to be told each time, as the gathers between have none."""
    sweep = Sweep(postgres_observer, [query] * 2, IDS, warm=warm, timeout=600)
    await sweep.run(make)
    check_reached(sweep, *closing(query), warm=warm)


@some
async def test_a_failure_at_any_point_leaves_nothing(
    query: Any, observer: Observer, *, warm: bool
) -> None:
    """A sibling that fails at each point ends the query as cleanly as a cancel."""
    sweep = Sweep(observer, [query], IDS, warm=warm)
    for _ in range(SWEEPS):
        await sweep.run(Failure)
        if "executing" in sweep.phases:
            break
    check_reached(sweep, warm=warm)


@pytest.mark.parametrize("again", [None, 0])
@pytest.mark.parametrize(
    ("name", "warm"),
    [("statement", False), ("function", True), ("async function", False)],
)
async def test_no_endless_query_is_left_on_the_server(
    name: str, again: int | None, observer: Observer, *, warm: bool
) -> None:
    """Queries that never end by themselves are stopped, wherever they had come to."""
    endless = text(observer.endless)

    def function(session: Session) -> Any:
        return session.scalars(endless).all()

    async def async_function(session: AsyncSession) -> Any:
        return (await session.scalars(endless)).all()

    query = {"function": function, "async function": async_function}.get(name, endless)
    sweep = Sweep(observer, [query], None, warm=warm)
    await sweep.run(lambda: Cancel(again))
    assert sweep.all_ran
    check_reached(sweep, warm=warm)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(Cancel, id="cancel"),
        pytest.param(lambda: Cancel(0), id="two cancels"),
        pytest.param(Deadline, id="deadline"),
    ],
)
@pytest.mark.parametrize(
    ("query", "warm"),
    [
        pytest.param(STATEMENT, True, id="statement"),
        pytest.param(ids_async, False, id="async function"),
    ],
)
async def test_the_callers_engine_has_its_connections_back_as_they_were(
    query: Any, make: Callable[[], Any], postgres_observer: Observer, *, warm: bool
) -> None:
    """Whoever ends a gather finds connections that may write, as before it."""
    url = make_url(postgres_observer.url)

    def engine() -> AsyncEngine:
        settings = {"server_settings": {"application_name": OBSERVED}}
        return create_async_engine(
            url.set(drivername="postgresql+asyncpg").difference_update_query(
                ["application_name"]
            ),
            connect_args=settings,
        )

    async def check_writes(engine: AsyncEngine) -> None:
        async with engine.connect() as connection:
            shown = text("SHOW default_transaction_read_only")
            assert await connection.scalar(shown) == "off"

    sweep = Sweep(
        postgres_observer, [query], IDS, warm=warm, engine=engine, check=check_writes
    )
    await sweep.run(make)
    check_reached(sweep, *closing(query), warm=warm)
