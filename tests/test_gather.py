"""``QueryGatherer``: order, isolation, context, writes, nesting, limits, closing."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import pickle
import threading
import weakref
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

import pytest
from shop import Order, User
from sqlalchemy import (
    ColumnElement,
    Integer,
    create_engine,
    event,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError, UnsupportedCompilationError
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session, aliased, defer, selectinload
from sqlalchemy.orm.exc import DetachedInstanceError

from async_parallel import Query, QueryGatherer, scalar
from async_parallel.errors import (
    DetachedAttributeError,
    GathererClosedError,
    HomeLoopError,
    LaneTimeoutError,
    ReadOnlyError,
)
from async_parallel.instrumentation import record_gathers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncSession

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="none")


def user_id(number: int) -> Any:
    """A statement that finds the id of one user."""
    return select(User.id).where(User.id == number)


async def test_positional_queries_give_a_tuple_in_their_order(
    gatherer: QueryGatherer,
) -> None:
    """Results come in the order of the arguments."""
    assert await gatherer.gather(user_id(3), user_id(1)) == ([3], [1])


async def test_a_list_gives_a_list(gatherer: QueryGatherer) -> None:
    """One list of queries gives a list of results."""
    assert await gatherer.gather([user_id(2), user_id(1)]) == [[2], [1]]


async def test_a_mapping_gives_a_dict_with_the_same_keys(
    gatherer: QueryGatherer,
) -> None:
    """One mapping of queries gives a dict with the same keys in the same order."""
    result = await gatherer.gather({"b": user_id(2), 7: user_id(1)})
    assert result == {"b": [2], 7: [1]}
    assert list(result) == ["b", 7]


@pytest.mark.parametrize("nothing", [(), ((),), ([],), ({},)])
async def test_an_empty_gather_takes_no_connection(
    nothing: tuple[Any, ...], gatherer: QueryGatherer
) -> None:
    """Nothing to do gives nothing back, in the same shape, and connects to nothing."""
    result = await gatherer.gather(*nothing)
    assert result == (nothing[0] if nothing else ())
    assert gatherer.engine.pool.status().count("Connections in pool: 0") == 1


async def test_queries_run_at_once(gatherer: QueryGatherer) -> None:
    """Five queries are under way at the same time: they meet at a barrier."""
    barrier = asyncio.Barrier(5)

    async def meet(session: AsyncSession) -> Any:
        await barrier.wait()
        return await session.scalar(user_id(1))

    assert await gatherer.gather([meet] * 5) == [1] * 5


async def test_more_lanes_open_while_queries_wait_and_the_loop_is_idle(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """A gather grows to as many lanes as it needs, here to every one allowed."""
    gatherer = make_gatherer(postgres, max_connections=12)
    barrier = asyncio.Barrier(12)

    async def meet(_session: AsyncSession) -> None:
        await barrier.wait()

    await gatherer.gather([meet] * 12)


async def test_max_concurrency_bounds_what_runs_at_once(
    gatherer: QueryGatherer,
) -> None:
    """Exactly ``max_concurrency`` queries of a gather are under way, never more."""
    running = highest = 0

    async def count(_session: AsyncSession) -> None:
        nonlocal running, highest
        running += 1
        highest = max(highest, running)
        await together.wait()
        running -= 1

    together = asyncio.Barrier(3)
    await gatherer.gather([count] * 12, max_concurrency=3)
    assert highest == 3


async def test_a_gather_of_many_does_not_starve_a_gather_of_few(
    postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Waiting gathers are served in turn: the small one ends long before the big."""
    gatherer = make_gatherer(postgres, max_connections=2)
    done: list[str] = []

    def named(name: str) -> Callable[[Session], None]:
        def ask(session: Session) -> None:
            session.scalar(user_id(1))
            done.append(name)

        return ask

    big = asyncio.create_task(gatherer.gather([named("big")] * 200))
    await asyncio.sleep(0)
    await gatherer.gather([named("small")] * 5)
    assert done.count("big") < 50
    await big


async def test_each_query_has_a_session_of_its_own(gatherer: QueryGatherer) -> None:
    """Two queries for the same row give two objects, and no session is used twice."""
    sessions: list[Session] = []

    def find(session: Session) -> User | None:
        sessions.append(session)
        return session.get(User, 1)

    first, second = await gatherer.gather(find, find)
    assert first is not second
    assert sessions[0] is not sessions[1]


async def test_results_are_detached_and_loaded_attributes_stay_readable(
    gatherer: QueryGatherer,
) -> None:
    """After the gather an entity has no session, and what was loaded is there."""
    (users,) = await gatherer.gather(
        select(User).order_by(User.id).options(selectinload(User.orders))
    )
    assert [user.name for user in users] == ["user 1", "user 2", "user 3"]
    assert [order.id for order in users[0].orders] == [10, 11]
    assert all(user not in Session() for user in users)


@pytest.mark.parametrize(
    "query",
    [
        pytest.param(Query(select(User), label="all users"), id="statement"),
        pytest.param(
            Query(lambda s: s.scalars(select(User)).all(), label="all users"),
            id="function",
        ),
    ],
)
async def test_an_attribute_that_was_not_loaded_names_query_and_remedy(
    query: Query[Any], gatherer: QueryGatherer
) -> None:
    """The error says which query to change, and how."""
    ((user, *_),) = await gatherer.gather(query)
    with pytest.raises(DetachedAttributeError) as caught:
        _ = user.orders
    error = caught.value
    assert (error.entity, error.attribute, error.query) == (
        "User",
        "orders",
        "all users",
    )
    assert "add .options(selectinload(User.orders)) to the query" in str(error)
    assert isinstance(error, DetachedInstanceError)


async def test_a_deferred_column_names_its_remedy(gatherer: QueryGatherer) -> None:
    """For a column the option is another one."""
    ((user, *_),) = await gatherer.gather(select(User).options(defer(User.name)))
    with pytest.raises(DetachedAttributeError, match=r"undefer\(User.name\)"):
        _ = user.name


async def test_an_entity_that_is_attached_again_loads_as_ever(
    database: str, gatherer: QueryGatherer
) -> None:
    """Merged, added or unpickled into another session, it is like any other."""
    ((user, *_), (other, *_)) = await gatherer.gather(
        select(User).order_by(User.id).options(defer(User.name)),
        select(User).order_by(User.id),
    )
    engine = create_engine(database)
    with Session(engine) as session:
        merged = session.merge(user, load=False)
        assert [order.id for order in merged.orders] == [10, 11]
        assert merged.name == "user 1"
    with Session(engine) as session:
        session.add(other)
        assert [order.id for order in other.orders] == [10, 11]
        session.refresh(other)
        session.expire(other)
        assert other.name == "user 1"
    copied = pickle.loads(pickle.dumps(user))
    with Session(engine) as session:
        session.add(copied)
        assert copied.name == "user 1"
    engine.dispose()


async def test_a_query_sees_the_context_of_its_caller(
    gatherer: QueryGatherer,
) -> None:
    """A context variable set by the caller is seen in functions and session events."""
    seen: list[str] = []

    @event.listens_for(Session, "do_orm_execute")
    def see(_state: Any) -> None:
        seen.append(tenant.get())

    async def ask(session: AsyncSession) -> str:
        await session.scalar(user_id(1))
        return tenant.get()

    token = tenant.set("acme")
    try:
        answers = await gatherer.gather(
            user_id(1), ask, lambda session: (session.scalar(user_id(1)), tenant.get())
        )
    finally:
        tenant.reset(token)
        event.remove(Session, "do_orm_execute", see)
    assert answers == ([1], "acme", (1, "acme"))
    assert seen == ["acme"] * 3


async def test_what_a_query_sets_stays_in_that_query(gatherer: QueryGatherer) -> None:
    """A context variable set inside one query is seen by no other and not outside."""

    def change(_session: Session) -> str:
        before = tenant.get()
        tenant.set("changed")
        return before

    async def change_async(session: AsyncSession) -> str:
        return change(session.sync_session)

    assert await gatherer.gather([change, change_async] * 3) == ["none"] * 6
    assert tenant.get() == "none"


async def test_concurrent_callers_keep_their_own_contexts(
    gatherer: QueryGatherer,
) -> None:
    """Gathers that share lanes each see the context of their own caller."""

    async def call(name: str) -> None:
        tenant.set(name)
        results = await gatherer.gather(
            [lambda s: (s.scalar(user_id(1)), tenant.get())] * 4
        )
        assert results == [(1, name)] * 4

    async with asyncio.TaskGroup() as group:
        for number in range(30):
            group.create_task(call(f"tenant {number}"))


def count_users(database: str) -> int:
    """How many users there are, seen from outside."""
    engine = create_engine(database)
    try:
        with Session(engine) as session:
            return session.scalar(select(func.count(User.id))) or 0
    finally:
        engine.dispose()


NEW_USER = "INSERT INTO users (id, name) VALUES (99, 'new')"


def write_sync(session: Session) -> None:
    """Add a user in sync style."""
    session.add(User(id=99, name="new"))
    session.flush()


async def write_async(session: AsyncSession) -> None:
    """Add a user in async style."""
    await session.execute(text(NEW_USER))
    await session.commit()


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(insert(User).values(id=99, name="new"), id="statement"),
        pytest.param(
            insert(User).values(id=99, name="new").returning(User.id), id="returning"
        ),
        pytest.param(text(NEW_USER), id="text"),
        pytest.param(write_sync, id="function"),
        pytest.param(write_async, id="async function"),
    ],
)
async def test_a_write_is_refused_and_the_table_is_unchanged(
    write: Any, database: str, gatherer: QueryGatherer
) -> None:
    """However an insert is hidden, it is refused, and nothing has changed."""
    for _ in range(2):
        with pytest.raises(ReadOnlyError, match="writes, but the gather is read-only"):
            await gatherer.gather(user_id(1), write)
    assert count_users(database) == 3
    assert await gatherer.gather(user_id(1)) == ([1],)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda s: s.add(User(id=99, name="new")), id="new"),
        pytest.param(lambda s: setattr(s.get(User, 1), "name", "x"), id="changed"),
        pytest.param(lambda s: s.delete(s.get(User, 1)), id="deleted"),
    ],
)
async def test_a_change_that_nobody_flushes_is_refused_too(
    change: Callable[[Session], None], gatherer: QueryGatherer
) -> None:
    """It would be lost in silence, because a read-only query is rolled back."""
    with pytest.raises(ReadOnlyError):
        await gatherer.gather(change)


async def test_setting_an_attribute_to_what_it_was_is_no_write(
    gatherer: QueryGatherer,
) -> None:
    """Only what a flush would write is refused."""

    def touch(session: Session) -> str:
        user = session.get_one(User, 1)
        user.name = "user 1"
        return user.name

    assert await gatherer.gather(touch) == ("user 1",)


async def test_a_sqlite_file_that_is_missing_is_named_and_not_made(
    tmp_path: Path, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """An empty database in the wrong place would hide the mistake."""
    path = tmp_path / "wrong.sqlite3"
    gatherer = make_gatherer(f"sqlite:///{path}")
    with pytest.raises(DBAPIError, match=f"there is no {path}"):
        await gatherer.gather(user_id(1))
    assert not path.exists()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(text("SET search_path = pg_catalog"), id="text"),
        pytest.param(
            lambda s: (s.execute(text("SET search_path = pg_catalog")), s.commit())[1],
            id="function",
        ),
    ],
)
async def test_a_setting_does_not_reach_the_next_query(
    change: Any, postgres: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """A connection whose session was changed is closed instead of used again."""
    gatherer = make_gatherer(postgres, max_connections=1)
    await gatherer.gather(change)
    (path,) = await gatherer.gather(scalar(text("SHOW search_path")))
    assert path == '"$user", public'


async def test_a_pragma_does_not_make_the_next_query_writable(
    sqlite: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Nor does it on SQLite."""
    gatherer = make_gatherer(sqlite, max_connections=1)
    await gatherer.gather(text("PRAGMA query_only = 0"))
    with pytest.raises(ReadOnlyError):
        await gatherer.gather(text(NEW_USER))


async def test_a_statement_without_a_text_of_its_own_can_fail(
    gatherer: QueryGatherer,
) -> None:
    """Its label falls back to its type; the gather ends all the same."""

    class Odd(ColumnElement[int]):
        inherit_cache = True
        type = Integer()

    @compiles(Odd, "other")
    def compile_odd(_element: Any, _compiler: Any, **_options: Any) -> str:
        return "1"

    with pytest.raises(UnsupportedCompilationError) as caught:
        await gatherer.gather(select(Odd()))
    assert caught.value.__notes__ == ["async_parallel: query 1 of 1, 'a Select'"]


async def test_a_function_cannot_write_by_its_own_commit(
    database: str, gatherer: QueryGatherer
) -> None:
    """A commit inside a read-only function leaves the connection read-only."""

    def commit_and_write(session: Session) -> None:
        session.commit()
        session.execute(text(NEW_USER))
        session.commit()

    with pytest.raises(ReadOnlyError):
        await gatherer.gather(commit_and_write)
    assert count_users(database) == 3


@pytest.fixture
def scratch(sqlite: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database that a test may change."""
    if request.param == "sqlite":
        yield sqlite
        return
    url: str = request.getfixturevalue("postgres")
    yield url
    _delete_new_users(url)


def _delete_new_users(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM users WHERE id > 90"))
    engine.dispose()


on_both = pytest.mark.parametrize("scratch", ["postgresql", "sqlite"], indirect=True)


@on_both
async def test_without_read_only_each_query_is_committed_by_itself(
    scratch: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Writes of every kind are committed; the failing one alone is rolled back."""
    gatherer = make_gatherer(scratch)

    def add(session: Session) -> int:
        session.add(User(id=92, name="new"))
        return 92

    def add_and_fail(session: Session) -> None:
        session.add(User(id=93, name="new"))
        session.flush()
        raise LookupError

    async def add_and_roll_back(session: AsyncSession) -> None:
        session.add(User(id=94, name="new"))
        await session.flush()
        await session.rollback()

    results: Any = await gatherer.gather(
        insert(User).values(id=91, name="new").returning(User.id),
        text("INSERT INTO users (id, name) VALUES (95, 'new')"),
        add,
        add_and_fail,
        add_and_roll_back,
        read_only=False,
        return_exceptions=True,
        max_concurrency=1,
    )
    assert results[:3] == ([91], 1, 92)
    assert isinstance(results[3], LookupError)
    assert results[4] is None
    (found,) = await gatherer.gather(select(User.id).where(User.id > 90))
    assert sorted(found) == [91, 92, 95]


@on_both
async def test_a_write_leaves_its_connection_read_only(
    scratch: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """The next read-only gather on the connection that wrote cannot write."""
    gatherer = make_gatherer(scratch, max_connections=1)
    await gatherer.gather(
        text("INSERT INTO users (id, name) VALUES (95, 'new')"), read_only=False
    )
    for write in (text(NEW_USER), write_sync):
        with pytest.raises(ReadOnlyError):
            await gatherer.gather(write)
    assert count_users(scratch) == 4


async def test_committed_results_stay_readable(
    sqlite: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """An entity of a committed query is not expired."""
    gatherer = make_gatherer(sqlite)
    (user,) = await gatherer.gather(lambda s: s.get(User, 1), read_only=False)
    assert user.name == "user 1"


async def test_a_read_only_function_sees_one_state_on_sqlite(
    sqlite: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Two selects of one function see one state, though sqlite3 begins nothing."""
    gatherer = make_gatherer(sqlite)
    engine = create_engine(sqlite)
    with engine.connect() as outside:
        outside.execute(text("PRAGMA journal_mode=WAL"))

        def read_twice(session: Session) -> tuple[Any, Any]:
            before = session.scalar(select(func.count(User.id)))
            outside.execute(text(NEW_USER))
            outside.commit()
            return before, session.scalar(select(func.count(User.id)))

        assert await gatherer.gather(read_twice) == ((3, 3),)
    engine.dispose()


async def test_a_nested_gather_runs_on_its_own_querys_connection(
    database: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """With one connection in all, queries that gather, three deep, still end."""
    gatherer = make_gatherer(database, max_connections=1)

    async def outer(session: AsyncSession) -> Any:
        await session.scalar(user_id(1))
        return await gatherer.gather(middle, user_id(2))

    async def middle(session: AsyncSession) -> Any:
        await session.scalar(user_id(1))
        return await gatherer.gather([user_id(3), lambda s: s.scalar(user_id(1))])

    expected = (([[3], 1], [2]),)
    assert await asyncio.gather(*[gatherer.gather(outer) for _ in range(5)]) == (
        [expected] * 5
    )


async def test_a_nested_failure_leaves_the_outer_query_usable(
    gatherer: QueryGatherer,
) -> None:
    """What fails in a nested gather is rolled back to a savepoint."""

    async def outer(session: AsyncSession) -> Any:
        with pytest.raises(DBAPIError):
            await gatherer.gather(text("SELECT nonsense FROM nowhere"))
        return await session.scalar(user_id(2))

    assert await gatherer.gather(outer) == (2,)


async def test_concurrent_nested_gathers_take_turns(gatherer: QueryGatherer) -> None:
    """Gathers made at once inside one query share its connection one by one."""

    async def outer(_session: AsyncSession) -> Any:
        return await asyncio.gather(
            *(gatherer.gather(user_id(number), user_id(1)) for number in (1, 2, 3))
        )

    assert await gatherer.gather(outer) == ([([1], [1]), ([2], [1]), ([3], [1])],)


async def test_a_task_that_outlives_its_query_gathers_on_lanes_of_its_own(
    gatherer: QueryGatherer,
) -> None:
    """Only what happens while the query runs is inside it."""
    go = asyncio.Event()

    async def later() -> Any:
        await go.wait()
        return await gatherer.gather(user_id(1))

    async def start(_session: AsyncSession) -> asyncio.Task[Any]:
        return asyncio.create_task(later())

    (task,) = await gatherer.gather(start)
    go.set()
    assert await task == ([1],)


async def test_a_nested_gather_that_is_left_behind_ends_with_its_query(
    gatherer: QueryGatherer,
) -> None:
    """It uses the query's connection, so nothing of it may go on after the query."""
    left: list[asyncio.Task[Any]] = []

    async def leave(_session: AsyncSession) -> int:
        left.append(asyncio.create_task(gatherer.gather([user_id(1)] * 10)))
        await asyncio.sleep(0)
        return 2

    for _ in range(4):
        assert await gatherer.gather(leave, user_id(1)) == (2, [1])
        assert gatherer.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    await asyncio.wait(left)
    assert await gatherer.gather([user_id(1)] * 20) == [[1]] * 20


async def test_a_gather_that_uses_every_lane_does_not_starve_itself(
    sqlite: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Only waiting while none of its own queries runs counts."""
    gatherer = make_gatherer(sqlite, max_connections=1, lane_timeout=0.01)
    expired = asyncio.Event()

    async def hold(_session: AsyncSession) -> None:
        asyncio.get_running_loop().call_later(0.03, expired.set)
        await expired.wait()

    await gatherer.gather(hold, user_id(1))


async def test_as_completed_yields_in_the_order_of_completion(
    gatherer: QueryGatherer,
) -> None:
    """Pairs of label and result come as they are there, not as they were given."""
    gate = asyncio.Event()

    async def slow(session: AsyncSession) -> Any:
        await gate.wait()
        return await session.scalar(user_id(1))

    order = []
    async for label, result in gatherer.as_completed(
        {"slow": slow, "fast": user_id(2)}
    ):
        order.append((label, result))
        gate.set()
    assert order == [("fast", [2]), ("slow", 1)]


async def test_as_completed_labels_by_position_without_a_mapping(
    gatherer: QueryGatherer,
) -> None:
    """The label of a positional query is its place in the arguments."""
    found = {
        label: result
        async for label, result in gatherer.as_completed(user_id(3), user_id(1))
    }
    assert found == {0: [3], 1: [1]}


async def test_leaving_as_completed_early_cancels_the_rest(
    gatherer: QueryGatherer,
) -> None:
    """A query that still runs when the loop is left is cancelled and waited for."""
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def endless(_session: AsyncSession) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def quick(_session: AsyncSession) -> None:
        await begun.wait()

    async with aclosing(gatherer.as_completed(quick, endless)) as results:
        async for _ in results:
            break
    assert cancelled.is_set()


async def test_as_completed_raises_the_first_failure(gatherer: QueryGatherer) -> None:
    """A failing query ends the iteration with its own exception."""
    with pytest.raises(DBAPIError, match="nowhere"):
        async for _ in gatherer.as_completed(text("SELECT 1 FROM nowhere")):
            pass


@pytest.mark.parametrize("limit", ["timeout", "max_concurrency"])
@pytest.mark.parametrize("value", [0, -1])
async def test_a_limit_that_is_not_positive_is_refused(
    limit: str, value: int, gatherer: QueryGatherer
) -> None:
    """The error names the limit and the value."""
    with pytest.raises(
        ValueError, match=f"{limit} must be a number greater than 0.*{value}"
    ):
        await gatherer.gather(user_id(1), **cast("Any", {limit: value}))


@pytest.mark.parametrize(
    "limit", ["max_connections", "max_concurrency", "timeout", "lane_timeout"]
)
def test_a_gatherer_refuses_limits_that_are_not_positive(limit: str) -> None:
    """The same holds when the gatherer is made."""
    with pytest.raises(ValueError, match=f"{limit} must be a number greater than 0"):
        QueryGatherer("sqlite:///unused.sqlite3", **{limit: 0})  # type: ignore[arg-type]


async def test_waiting_for_a_lane_is_bounded(
    sqlite: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """The error names the limit, the lanes in use and the queries that wait."""
    gatherer = make_gatherer(sqlite, max_connections=1, lane_timeout=0.01)
    gate = asyncio.Event()
    taken = asyncio.Event()

    async def hold(_session: AsyncSession) -> None:
        taken.set()
        await gate.wait()

    holder = asyncio.create_task(gatherer.gather(hold))
    await taken.wait()
    with pytest.raises(LaneTimeoutError, match=r"1 of 1 lanes .* 2 queries wait"):
        await gatherer.gather(user_id(1), user_id(2))
    gate.set()
    await holder
    assert await gatherer.gather(user_id(1)) == ([1],)


async def test_a_closed_gatherer_refuses_calls(
    sqlite: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """After ``aclose`` a gather is refused, and closing again does nothing."""
    gatherer = make_gatherer(sqlite)
    await gatherer.gather(user_id(1))
    await gatherer.aclose()
    await gatherer.aclose()
    with pytest.raises(GathererClosedError, match=r"shop\.sqlite3.* is closed"):
        await gatherer.gather(user_id(1))


async def test_closing_waits_for_what_runs(
    gatherer: QueryGatherer,
) -> None:
    """A gather that runs when the gatherer is closed ends as if it was not."""
    gate, taken = asyncio.Event(), asyncio.Event()

    async def hold(session: AsyncSession) -> Any:
        taken.set()
        await gate.wait()
        return await session.scalar(user_id(1))

    holder = asyncio.create_task(gatherer.gather(hold))
    await taken.wait()
    closing = asyncio.create_task(gatherer.aclose())
    await asyncio.sleep(0)
    gate.set()
    await closing
    assert await holder == (1,)


async def test_closing_cancels_what_runs_past_the_grace(
    gatherer: QueryGatherer,
) -> None:
    """The caller of such a gather gets the reason."""
    taken = asyncio.Event()

    async def hold(_session: AsyncSession) -> None:
        taken.set()
        await asyncio.Event().wait()

    holder = asyncio.create_task(gatherer.gather(hold))
    await taken.wait()
    await gatherer.aclose(grace=0)
    with pytest.raises(GathererClosedError):
        await holder


async def test_a_gather_on_a_foreign_loop_is_carried_home_and_back(
    gatherer: QueryGatherer,
) -> None:
    """Another thread's loop may gather: same engine, its own context, its results."""
    home = threading.get_ident()
    await gatherer.gather(user_id(1))

    async def elsewhere() -> Any:
        tenant.set("elsewhere")
        assert threading.get_ident() != home
        return await gatherer.gather(
            user_id(2), lambda _: (threading.get_ident() == home, tenant.get())
        )

    result = await asyncio.to_thread(asyncio.run, elsewhere())
    assert result == ([2], (True, "elsewhere"))


async def test_a_cancel_on_a_foreign_loop_reaches_home(
    gatherer: QueryGatherer,
) -> None:
    """Cancelling a carried gather stops its query, and the cancel is raised there."""
    await gatherer.gather(user_id(1))
    home = asyncio.get_running_loop()
    taken, ended = asyncio.Event(), asyncio.Event()

    async def hold(_session: AsyncSession) -> None:
        taken.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def elsewhere() -> bool:
        task = asyncio.create_task(gatherer.gather(hold))
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(taken.wait(), home))
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert await asyncio.to_thread(asyncio.run, elsewhere())
    assert ended.is_set()


def test_a_gatherer_whose_loop_is_gone_says_so(sqlite: str) -> None:
    """Its connections died with the loop, and the error tells how to avoid that."""
    gatherer = QueryGatherer(sqlite)

    async def use() -> None:
        await gatherer.gather(user_id(1))
        await gatherer.engine.dispose()

    asyncio.run(use())
    with pytest.raises(HomeLoopError, match="async with QueryGatherer"):
        asyncio.run(gatherer.gather(user_id(1)))


def test_a_dropped_gatherer_warns(sqlite: str) -> None:
    """One that is neither closed nor used in a ``with`` block is a ResourceWarning."""

    async def drop() -> None:
        gatherer = QueryGatherer(sqlite)
        await gatherer.gather(user_id(1))
        await gatherer.engine.dispose()
        with pytest.warns(ResourceWarning, match="was not closed"):
            del gatherer

    asyncio.run(drop())


async def test_a_report_says_what_became_of_each_query(
    gatherer: QueryGatherer,
) -> None:
    """Labels, outcomes and lanes are those of the queries, in their order."""
    taken = asyncio.Event()

    async def hold(_session: AsyncSession) -> None:
        taken.set()
        await asyncio.Event().wait()

    async def fail(_session: AsyncSession) -> None:
        await taken.wait()
        raise LookupError

    with record_gathers() as reports:
        await gatherer.gather(Query(user_id(1), label="one"))
        with pytest.raises(LookupError):
            await gatherer.gather(
                {"held": hold, "failing": fail, "late": user_id(1)}, max_concurrency=2
            )
    await gatherer.gather(user_id(1))
    first, second = reports
    assert [(q.label, q.outcome) for q in first.queries] == [("one", "returned")]
    assert first.raised is None
    assert [(q.label, q.outcome, q.lane is None) for q in second.queries] == [
        ("held", "cancelled", False),
        ("failing", "raised", False),
        ("late", "not started", True),
    ]
    assert isinstance(second.raised, LookupError)
    assert 0 <= second.queries[0].elapsed_s <= second.elapsed_s


async def test_two_hundred_gathers_share_fifteen_connections(
    postgres: str,
    make_gatherer: Callable[..., QueryGatherer],
    backends: Callable[[str], int],
) -> None:
    """All are answered, and the server never sees more connections than allowed."""
    gatherer = make_gatherer(postgres)
    watched: list[int] = []

    async def watch() -> None:
        while True:
            watched.append(await asyncio.to_thread(backends, "true"))

    watcher = asyncio.create_task(watch())
    results = await asyncio.gather(
        *(gatherer.gather([user_id(1)] * 5) for _ in range(200))
    )
    watcher.cancel()
    await asyncio.wait([watcher])
    assert results == [[[1]] * 5] * 200
    assert max(watched, default=0) <= 15
    assert gatherer.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


async def test_the_caller_may_use_the_engine_beside_the_lanes(
    gatherer: QueryGatherer,
) -> None:
    """A session of the caller's own on the same engine shares loop and connections."""
    async with gatherer.engine.connect() as connection:
        result = await connection.scalar(select(func.count(Order.id)))
        assert (
            result,
            *await gatherer.gather(scalar(select(func.count(User.id)))),
        ) == (
            6,
            3,
        )


async def test_committed_results_stay_readable_with_a_sessionmaker_of_the_users(
    sqlite: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Its default expires what is committed, and a detached entity cannot reload."""
    gatherer = make_gatherer(sqlite, sessionmaker=async_sessionmaker())
    (user,) = await gatherer.gather(lambda s: s.get(User, 1), read_only=False)
    assert user.name == "user 1"


async def test_a_cancelled_aclose_closes_all_the_same(gatherer: QueryGatherer) -> None:
    """The cancel is raised once all is closed; a second caller waits for that too."""
    await gatherer.gather([user_id(1)] * 3)
    closing = asyncio.create_task(gatherer.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    await gatherer.aclose()
    assert "Connections in pool: 0" in gatherer.engine.pool.status()
    await asyncio.wait([closing])
    assert closing.cancelled()


async def test_an_entity_and_its_unnamed_alias_are_two_columns(
    gatherer: QueryGatherer,
) -> None:
    """A self-join gives rows of both, as ``Session.execute`` does."""
    other = aliased(User)
    statement = select(User, other).join(other, other.id == User.id + 1)
    (pairs,) = await gatherer.gather(statement.order_by(User.id))
    assert [(one.id, two.id) for one, two in pairs] == [(1, 2), (2, 3)]


async def test_a_function_cannot_switch_writing_on_for_the_next(
    sqlite: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """SQLite's ``PRAGMA query_only`` outlives a rollback, and is set again."""
    gatherer = make_gatherer(sqlite, max_connections=1)

    def allow(session: Session) -> None:
        session.execute(text("PRAGMA query_only = 0"))

    await gatherer.gather(allow)
    with pytest.raises(ReadOnlyError):
        await gatherer.gather(text("INSERT INTO users VALUES (99, 'x')"))


async def test_results_of_async_functions_are_freed_without_a_collection(
    gatherer: QueryGatherer,
) -> None:
    """No cycle of ours keeps a result until the garbage collector runs."""

    class Thing:
        """Something that a weak reference can watch."""

    async def make(_session: AsyncSession) -> Thing:
        return Thing()

    gc.disable()
    try:
        (thing,) = await gatherer.gather(make)
        watched = weakref.ref(thing)
        del thing
        await asyncio.sleep(0)
        assert watched() is None
    finally:
        gc.enable()
