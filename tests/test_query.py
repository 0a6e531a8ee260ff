"""What a query may be: the shapes, the labels, what is accepted and what is refused."""

from __future__ import annotations

import asyncio
import functools
import gc
import sys
from typing import TYPE_CHECKING, Any, cast

import pytest
import sqlalchemy as sa
from shop import Order, User
from sqlalchemy import delete, event, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError, MultipleResultsFound, NoResultFound
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, joinedload, scoped_session, sessionmaker
from sqlalchemy.schema import CreateTable

from async_parallel import (
    Query,
    first,
    mappings,
    one,
    one_or_none,
    rows,
    scalar,
    scalar_one,
    scalars,
)
from async_parallel.errors import QueryTypeError, ReadOnlyError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from sqlalchemy.engine import Result
    from sqlalchemy.sql import Executable

    from async_parallel import QueryGatherer

USERS = cast("sa.Table", User.__table__)


@pytest.fixture
def session(database: str) -> Iterator[Session]:
    """A synchronous session on each database, to compare with."""
    engine = sa.create_engine(database)
    with Session(engine) as session:
        yield session
    engine.dispose()


@pytest.fixture
def offline(database: str) -> Iterator[Session]:
    """A session that fails the test when it wants a connection."""

    def connect() -> Any:
        pytest.fail("the caller's session opened a connection")

    engine = sa.create_engine(database, creator=connect)
    with Session(engine) as session:
        yield session
        assert not session.in_transaction()


def connections_of(gatherer: QueryGatherer) -> list[object]:
    """A list that grows with each connection that the gatherer opens."""
    opened: list[object] = []
    event.listen(gatherer.engine.sync_engine, "connect", lambda *args: opened.append(1))
    return opened


# The shapes.

STATEMENTS: dict[str, Executable] = {
    "one entity": select(User).order_by(User.id),
    "one column": select(User.name).order_by(User.id),
    "several columns": select(Order.id, Order.total).order_by(Order.id),
    "entity and column": select(User, Order.total).join(User.orders).order_by(Order.id),
    "a table": select(USERS).order_by(USERS.c.id),
    "a column of a table": select(USERS.c.name).order_by(USERS.c.id),
    "text": text("SELECT name FROM users ORDER BY id"),
    "text of several columns": text("SELECT id, name FROM users ORDER BY id"),
    "text with columns": text("SELECT id FROM users ORDER BY id").columns(User.id),
    "entities from text": select(User).from_statement(
        text("SELECT * FROM users ORDER BY id")
    ),
    "union": select(User.id).union_all(select(Order.id)).order_by("id"),
    "union of several columns": select(User.id, User.id + 1)
    .union(select(Order.id, Order.total))
    .order_by("id"),
    "function": select(func.sum(Order.total)),
    "bare function": func.abs(-2),
    "joined collections": select(User)
    .options(joinedload(User.orders))
    .order_by(User.id),
    "one with its collection": select(User)
    .options(joinedload(User.orders))
    .where(User.id == 1),
    "plain join": select(User).join(User.orders).order_by(Order.id),
    "one row": select(User).where(User.id == 1),
    "one row of several columns": select(User.id, User.name).where(User.id == 1),
    "no row": select(User).where(User.id == 0),
    "no row of several columns": select(User.id, User.name).where(User.id == 0),
    "a null": select(sa.null()),
}
UNIQUE = {"joined collections", "one with its collection"}


def items(result: Result[Any]) -> Any:
    """The values of one entity or column, the rows of several."""
    return result.scalars() if len(result.keys()) == 1 else result


SHAPES: dict[str, tuple[Callable[[Any], Any], Callable[[Result[Any]], Any]]] = {
    "rows": (rows, lambda result: result.all()),
    "scalars": (scalars, lambda result: result.scalars().all()),
    "mappings": (mappings, lambda result: result.mappings().all()),
    "first": (first, lambda result: items(result).first()),
    "one": (one, lambda result: items(result).one()),
    "one_or_none": (one_or_none, lambda result: items(result).one_or_none()),
    "scalar": (scalar, lambda result: result.scalar()),
    "scalar_one": (scalar_one, lambda result: result.scalar_one()),
}


def plain(value: object) -> object:
    """A result in a form that two sessions agree on, with its types."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, sa.Row):
        return ("Row", [plain(item) for item in value])
    if isinstance(value, sa.RowMapping):
        return ("RowMapping", {str(key): plain(value[key]) for key in value})
    if isinstance(value, User):
        return ("User", value.id, value.name)
    if isinstance(value, (NoResultFound, MultipleResultsFound)):
        return type(value), str(value)
    assert not isinstance(value, BaseException), value
    return value


def executed(
    session: Session, name: str, fetch: Callable[[Result[Any]], Any]
) -> object:
    """What ``Session.execute`` gives for a statement."""
    result: Result[Any] = session.execute(STATEMENTS[name])
    try:
        return plain(fetch(result.unique() if name in UNIQUE else result))
    except (NoResultFound, MultipleResultsFound) as error:
        return plain(error)


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_shape_is_what_session_execute_gives(
    gatherer: QueryGatherer, session: Session, shape: str
) -> None:
    """Each shape agrees with the methods of ``Session.execute``'s result."""
    shaped, fetch = SHAPES[shape]
    expected = {name: executed(session, name, fetch) for name in STATEMENTS}
    results = await gatherer.gather(
        {name: shaped(statement) for name, statement in STATEMENTS.items()},
        return_exceptions=True,
    )
    assert {name: plain(results[name]) for name in STATEMENTS} == expected


async def test_the_default_shape_is_values_of_one_and_rows_of_several(
    gatherer: QueryGatherer, session: Session
) -> None:
    """Without a shape one entity or column gives values, several give rows."""
    expected = {
        name: executed(session, name, lambda r: items(r).all()) for name in STATEMENTS
    }
    expected["text"] = executed(session, "text", lambda result: result.all())
    results = await gatherer.gather(dict(STATEMENTS))
    assert {name: plain(results[name]) for name in STATEMENTS} == expected


async def test_the_default_shapes_by_example(gatherer: QueryGatherer) -> None:
    """One column is a list of values, several are rows, and text is always rows."""
    names, totals, told, counted, both = await gatherer.gather(
        select(User.name).order_by(User.id),
        select(Order.id, Order.total).where(Order.user_id == 1).order_by(Order.id),
        text("SELECT name FROM users ORDER BY id"),
        select(func.count()).select_from(User),
        select(User.id).union_all(select(Order.id)).order_by("id"),
    )
    assert names == ["user 1", "user 2", "user 3"]
    assert totals == [(10, 100), (11, 101)]
    assert [row.total for row in totals] == [100, 101]
    assert told == [("user 1",), ("user 2",), ("user 3",)]
    assert counted == [3]
    assert both == [1, 2, 3, 10, 11, 20, 21, 30, 31]


async def test_collections_of_joinedload_are_made_unique(
    gatherer: QueryGatherer,
) -> None:
    """A user with two joined orders comes once, with both, and stays readable."""
    (users,) = await gatherer.gather(STATEMENTS["joined collections"])
    assert [[order.id for order in user.orders] for user in users] == [
        [10, 11],
        [20, 21],
        [30, 31],
    ]


async def test_a_plain_join_is_not_made_unique(gatherer: QueryGatherer) -> None:
    """A join without joinedload keeps its repeated rows, as ``Session.execute``."""
    (users,) = await gatherer.gather(STATEMENTS["plain join"])
    assert [user.id for user in users] == [1, 1, 2, 2, 3, 3]


async def test_equal_rows_are_kept(gatherer: QueryGatherer) -> None:
    """Equal values of several rows all come back, in every shape of a list."""
    statement = select(sa.literal(7).label("seven")).select_from(User)
    results: Any = await gatherer.gather(
        statement, rows(statement), scalars(statement), mappings(statement)
    )
    assert results == ([7, 7, 7], [(7,)] * 3, [7, 7, 7], [{"seven": 7}] * 3)


async def test_a_statement_without_rows_gives_their_count(
    gatherer: QueryGatherer,
) -> None:
    """A write, where it is allowed, gives the number of rows that it changed."""
    nobody = update(User).where(User.id == 0).values(name="nobody")
    told = text("UPDATE users SET name = 'nobody' WHERE id = 0")
    assert await gatherer.gather(nobody, told, read_only=False) == (0, 0)


async def test_a_query_serves_many_gathers(gatherer: QueryGatherer) -> None:
    """The same ``Query`` may be in one gather twice and in the next one again."""
    query = scalar(select(func.count()).select_from(User))
    assert await gatherer.gather(query, query) == (3, 3)
    assert await gatherer.gather([query]) == [3]


# The labels.


def named(session: Session) -> list[int]:
    """A function with a name of its own."""
    return list(session.scalars(select(User.id)))


class Report:
    """A callable object."""

    def __call__(self, session: Session) -> list[int]:
        """Query as a function would."""
        return list(session.scalars(select(User.id).order_by(User.id)))


class AsyncReport:
    """A callable object whose call is asynchronous."""

    async def __call__(self, session: AsyncSession) -> list[int]:
        """Query as an async function would."""
        return list(await session.scalars(select(User.id).order_by(User.id)))


@pytest.mark.parametrize(
    ("query", "label"),
    [
        (Query(select(User.id)), "SELECT users.id FROM users"),
        (Query(text("SELECT\n  1")), "SELECT 1"),
        (Query(text("SELECT " + "1, " * 40 + "1")), "SELECT " + "1, " * 17 + "1…"),
        (Query(named), "named"),
        (Query(functools.partial(named)), "named"),
        (Query(Report()), "Report"),
        (Query(functools.partial(AsyncReport())), "AsyncReport"),
        (Query(Session().query(User)), "query(User).all"),
        (Query(Session().query(User).count), "query(User).count"),
        (Query(functools.partial(Session().query(User).get, 1)), "query(User).get"),
        (Query(named, label="mine"), "mine"),
        (scalars(select(User.id), label="ids"), "ids"),
    ],
)
def test_a_label_names_the_function_or_the_statement(
    query: Query[Any], label: str
) -> None:
    """A label is the given one, else the function's name or the statement's start."""
    assert query.label == label
    assert repr(query) == f"Query({label!r})"


@pytest.mark.parametrize("shape", [shaped for shaped, _ in SHAPES.values()])
def test_every_shape_takes_a_label(shape: Callable[..., Query[Any]]) -> None:
    """Each shape hands its label on, and has the statement's without one."""
    assert shape(select(User.id), label="ids").label == "ids"
    assert shape(select(User.id)).label == "SELECT users.id FROM users"


def fails(session: Session) -> None:
    """Fail."""
    raise LookupError("gone")


BROKEN = text("SELECT nothing FROM nowhere")


@pytest.mark.parametrize(
    ("queries", "note"),
    [
        ((select(User.id), fails), "query 2 of 2, 'fails'"),
        ((BROKEN,), "query 1 of 1, 'SELECT nothing FROM nowhere'"),
        ((Query(BROKEN, label="the broken"),), "query 1 of 1, 'the broken'"),
        ((rows(BROKEN, label="the broken"),), "query 1 of 1, 'the broken'"),
        (({"users": select(User.id), "orders": BROKEN},), "query 2 of 2, 'orders'"),
        (({"orders": Query(BROKEN)},), "query 1 of 1, 'orders'"),
        (({"orders": scalar(BROKEN)},), "query 1 of 1, 'orders'"),
        (({"orders": Query(BROKEN, label="mine")},), "query 1 of 1, 'mine'"),
        (({7: BROKEN},), "query 1 of 1, '7'"),
        (([select(User.id), BROKEN],), "query 2 of 2, 'SELECT nothing FROM nowhere'"),
    ],
)
async def test_a_failure_carries_a_note_with_the_label(
    gatherer: QueryGatherer, queries: tuple[Any, ...], note: str
) -> None:
    """What a query raised says which one it was, by position and label."""
    with pytest.raises((DBAPIError, LookupError)) as caught:
        await gatherer.gather(*queries)
    assert caught.value.__notes__ == [f"async_parallel: {note}"]


async def test_a_key_does_not_rename_a_query(gatherer: QueryGatherer) -> None:
    """A mapping's key labels a query for that gather only."""
    query = scalar(select(func.count()).select_from(User))
    before = query.label
    assert await gatherer.gather({"users": query}) == {"users": 3}
    assert query.label == before


# What is accepted.


async def load(session: AsyncSession) -> list[int]:
    """Query asynchronously."""
    return list(await session.scalars(select(User.id).order_by(User.id)))


def load_sync(session: Session) -> list[int]:
    """Query synchronously."""
    return list(session.scalars(select(User.id).order_by(User.id)))


async def load_from(first_id: int, session: AsyncSession) -> list[int]:
    """Query asynchronously, with an argument."""
    found = select(User.id).where(User.id >= first_id).order_by(User.id)
    return list(await session.scalars(found))


def load_sync_from(session: Session, *, first_id: int = 1) -> list[int]:
    """Query synchronously, with an argument."""
    found = select(User.id).where(User.id >= first_id).order_by(User.id)
    return list(session.scalars(found))


class Service:
    """Methods that query."""

    async def load(self, session: AsyncSession) -> list[int]:
        """Query asynchronously."""
        return await load(session)

    @classmethod
    def load_sync(cls, session: Session) -> list[int]:
        """Query synchronously."""
        return load_sync(session)

    @staticmethod
    def load_static(session: Session) -> list[int]:
        """Query synchronously."""
        return load_sync(session)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param(select(User.id).order_by(User.id), [1, 2, 3], id="statement"),
        pytest.param(load, [1, 2, 3], id="async function"),
        pytest.param(load_sync, [1, 2, 3], id="function"),
        pytest.param(functools.partial(load_from, 2), [2, 3], id="async partial"),
        pytest.param(functools.partial(load_sync_from, first_id=3), [3], id="partial"),
        pytest.param(
            functools.partial(functools.partial(load_from, 3)), [3], id="partials"
        ),
        pytest.param(load_sync_from, [1, 2, 3], id="default arguments"),
        pytest.param(Report(), [1, 2, 3], id="callable"),
        pytest.param(AsyncReport(), [1, 2, 3], id="async callable"),
        pytest.param(
            functools.partial(AsyncReport()), [1, 2, 3], id="partial of async callable"
        ),
        pytest.param(Service().load, [1, 2, 3], id="async method"),
        pytest.param(Service.load_sync, [1, 2, 3], id="class method"),
        pytest.param(Service.load_static, [1, 2, 3], id="static method"),
        pytest.param(lambda session: session.get(User, 2).id, 2, id="lambda"),
        pytest.param(lambda *sessions: len(sessions), 1, id="any arguments"),
    ],
)
async def test_every_kind_of_query_runs(
    gatherer: QueryGatherer, source: Any, expected: object
) -> None:
    """Statements and callables of each kind run, and return their own result."""
    assert await gatherer.gather(source, Query(source)) == (expected, expected)


async def test_async_functions_get_an_async_session_and_others_a_session(
    gatherer: QueryGatherer,
) -> None:
    """The session fits the function: awaitable for async ones, else synchronous."""

    async def asynchronous(session: AsyncSession) -> type:
        return type(session)

    def synchronous(session: Session) -> type:
        return type(session)

    kinds = await gatherer.gather(asynchronous, synchronous)
    assert kinds == (AsyncSession, Session)


LEGACY: dict[str, tuple[Callable[[Session], Any], object]] = {
    "query": (
        lambda session: session.query(User.id).order_by(User.id),
        [(1,), (2,), (3,)],
    ),
    "all": (
        lambda session: session.query(User.id).order_by(User.id).all,
        [(1,), (2,), (3,)],
    ),
    "filter": (
        lambda session: (
            session.query(User.id).filter(User.id > 1).order_by(User.id).all
        ),
        [(2,), (3,)],
    ),
    "first": (lambda session: session.query(User.id).order_by(User.id).first, (1,)),
    "first of none": (lambda session: session.query(User).filter_by(id=0).first, None),
    "one": (lambda session: session.query(User.id).filter(User.id == 2).one, (2,)),
    "one_or_none": (
        lambda session: session.query(User).filter_by(id=0).one_or_none,
        None,
    ),
    "count": (lambda session: session.query(User).filter(User.id > 1).count, 2),
    "scalar": (lambda session: session.query(func.max(Order.total)).scalar, 301),
    "partial": (lambda session: functools.partial(session.query(User).count), 3),
}


@pytest.mark.parametrize("method", LEGACY)
async def test_a_legacy_query_runs_without_its_session(
    gatherer: QueryGatherer, offline: Session, method: str
) -> None:
    """An ``orm.Query``, or a bound method of one, runs in a session of the gather."""
    make, expected = LEGACY[method]
    source = make(offline)
    assert await gatherer.gather(source, Query(source)) == (expected, expected)


@pytest.mark.filterwarnings("ignore:.*Query.get.*:sqlalchemy.exc.LegacyAPIWarning")
async def test_a_legacy_get_takes_its_key_from_a_partial(
    gatherer: QueryGatherer, offline: Session
) -> None:
    """``partial(query.get, key)`` runs with its arguments, in a session of its own."""
    get = offline.query(User).get
    found, missing = await gatherer.gather(
        functools.partial(get, 2), functools.partial(get, ident=0)
    )
    assert found is not None
    assert (found.name, missing) == ("user 2", None)


async def test_a_legacy_query_of_a_scoped_session_runs_without_it(
    gatherer: QueryGatherer, offline: Session
) -> None:
    """A query of a scoped session leaves that session without a connection."""
    scoped = scoped_session(sessionmaker(offline.get_bind()))
    users, count = await gatherer.gather(
        scoped.query(User).order_by(User.id).all, scoped.query(User).count
    )
    assert [user.id for user in users] == [1, 2, 3]
    assert count == 3
    assert not scoped().in_transaction()
    scoped.remove()


async def test_a_legacy_query_of_joined_collections_is_unique(
    gatherer: QueryGatherer, offline: Session
) -> None:
    """A legacy query keeps its own rule: entities come once."""
    query = offline.query(User).options(joinedload(User.orders)).order_by(User.id)
    (users,) = await gatherer.gather(query)
    assert [(user.id, len(user.orders)) for user in users] == [(1, 2), (2, 2), (3, 2)]


async def test_a_legacy_query_gives_detached_entities(
    gatherer: QueryGatherer, offline: Session
) -> None:
    """What a legacy query loaded belongs to no session, the caller's least of all."""
    (users,) = await gatherer.gather(offline.query(User).all)
    assert [sa.inspect(user).detached for user in users] == [True] * 3
    assert not list(offline)


# What is refused.


async def coroutine_function(session: AsyncSession) -> None:
    """Do nothing."""


async def _async_generator(session: AsyncSession) -> AsyncIterator[int]:
    yield 1


def _generator(session: Session) -> Iterator[int]:
    yield 1


def _no_argument() -> None:
    pass


def _two_arguments(session: Session, number: int) -> None:
    pass


def _keyword_argument(session: Session, *, number: int) -> None:
    pass


def _future() -> asyncio.Future[None]:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    return future


def _result() -> object:
    engine = sa.create_engine("sqlite://")
    try:
        with engine.connect() as connection:
            return connection.execute(text("SELECT 1")).freeze()()
    finally:
        engine.dispose()


def _async_session() -> AsyncSession:
    return AsyncSession(create_async_engine("sqlite+aiosqlite://"))


STATEMENT = (
    "pass a statement such as select(User), or a function; where it is the result of a"
    " query, drop the ()"
)
NOT_CALLED = "pass the function itself, without calling it, or the statement"
NO_SESSION = "pass a statement, or a function that takes the query's own session"
NO_METHOD = (
    "a session cannot be shared between queries, so pass the statement itself, or a"
    " function that takes the query's own session"
)
EXECUTED = "the statement was already executed: pass the statement itself"
DROP_ALL = (
    "it is the result of a query that was already executed, so drop the ():"
    " db.session.query(User).all"
)
DROP_FIRST = DROP_ALL
RETURN_LIST = "the session is closed when a query ends, so return a list"
ONE_ARGUMENT = (
    "it cannot be called with a session as its one argument ({}); write def f(session):"
    " ... and use that session, or bind the other arguments with functools.partial"
)

REFUSED: dict[str, tuple[Callable[[], Any], str, str]] = {
    "str": (
        lambda: "SELECT 1",
        "The str 'SELECT 1'",
        "wrap it in text(): text('SELECT 1')",
    ),
    "coroutine": (
        lambda: coroutine_function(cast("Any", None)),
        "The coroutine coroutine_function()",
        NOT_CALLED,
    ),
    "coroutine of a session": (
        lambda: _async_session().execute(select(User)),
        "The coroutine AsyncSession.execute()",
        NOT_CALLED,
    ),
    "future": (
        _future,
        "Future <Future cancelled>",
        "pass the function or the statement, not what awaits it",
    ),
    "tuple of entities": (
        lambda: (User(), User()),
        "A tuple among the queries",
        DROP_ALL,
    ),
    "list of entities": (
        lambda: [User(), User()],
        "A list among the queries",
        DROP_ALL,
    ),
    "entity": (User, "User <shop.User object", DROP_FIRST),
    "None": (lambda: None, "NoneType None", DROP_FIRST),
    "number": (lambda: 3, "int 3", STATEMENT),
    "model class": (lambda: User, "The class User", "write select(User)"),
    "class": (lambda: Service, "The class Service", STATEMENT),
    "mapper": (lambda: User.__mapper__, "Mapper <Mapper", "write select(User)"),
    "table": (lambda: USERS, "The table 'users'", "write select(users)"),
    "column": (lambda: User.id, "", "write select(User.id)"),
    "relationship": (lambda: User.orders, "", "write select(User.orders)"),
    "result": (_result, "IteratorResult <", EXECUTED),
    "scalar result": (lambda: cast("Any", _result()).scalars(), "", EXECUTED),
    "mapping result": (lambda: cast("Any", _result()).mappings(), "", EXECUTED),
    "session": (Session, "Session <", NO_SESSION),
    "async session": (_async_session, "AsyncSession <", NO_SESSION),
    "scoped session": (
        lambda: scoped_session(sessionmaker()),
        "scoped_session <",
        NO_SESSION,
    ),
    "method of a session": (
        lambda: Session().execute,
        "Session.execute, a method of a session,",
        NO_METHOD,
    ),
    "method of an async session": (
        lambda: _async_session().execute,
        "AsyncSession.execute, a method of a session,",
        NO_METHOD,
    ),
    "method of a scoped session": (
        lambda: scoped_session(sessionmaker()).scalars,
        "scoped_session.scalars, a method of a session,",
        NO_METHOD,
    ),
    "partial of a method of a session": (
        lambda: functools.partial(Session().scalars, select(User)),
        "Session.scalars, a method of a session,",
        NO_METHOD,
    ),
    "generator function": (
        lambda: _generator,
        "_generator, a generator function,",
        RETURN_LIST,
    ),
    "async generator function": (
        lambda: _async_generator,
        "_async_generator, a generator function,",
        RETURN_LIST,
    ),
    "function without argument": (
        lambda: _no_argument,
        "_no_argument",
        ONE_ARGUMENT.format("too many positional arguments"),
    ),
    "function of two arguments": (
        lambda: _two_arguments,
        "_two_arguments",
        ONE_ARGUMENT.format("missing a required argument: 'number'"),
    ),
    "partial of the place of the session": (
        lambda: functools.partial(_two_arguments, 7),  # type: ignore[arg-type]
        "_two_arguments",
        (
            "functools.partial gives 7 for its first argument, which is the query's"
            " session; give the others by name"
        ),
    ),
    "function of a keyword": (
        lambda: _keyword_argument,
        "_keyword_argument",
        ONE_ARGUMENT.format(
            "missing a required argument: 'number'"
            if sys.version_info < (3, 12)
            else "missing a required keyword-only argument: 'number'"
        ),
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
async def test_what_is_no_query_is_refused_with_the_remedy(kind: str) -> None:
    """The error says what was given and what to write instead."""
    make, what, remedy = REFUSED[kind]
    given = make()
    with pytest.raises(QueryTypeError) as caught:
        Query(given)
    assert caught.value.given is type(given)
    assert caught.value.remedy == remedy
    assert str(caught.value).startswith(what)
    assert str(caught.value).endswith(f" is not a query: {remedy}.")
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize("kind", REFUSED)
async def test_nothing_runs_where_one_query_is_refused(
    sqlite: str, make_gatherer: Callable[..., QueryGatherer], kind: str
) -> None:
    """One thing that is no query refuses the gather before it connects."""
    gatherer = make_gatherer(sqlite)
    opened = connections_of(gatherer)
    ran: list[Session] = []
    with pytest.raises(QueryTypeError):
        await gatherer.gather(ran.append, select(User), REFUSED[kind][0]())
    assert (opened, ran) == ([], [])


async def test_a_gather_of_coroutines_warns_of_none(
    sqlite: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Where several coroutines are given, none is reported as never awaited."""
    given = cast("Any", None)
    for queries in (
        (coroutine_function(given), coroutine_function(given)),
        ([select(User), coroutine_function(given), coroutine_function(given)],),
        ({"a": coroutine_function(given), "b": coroutine_function(given)},),
        ("SELECT 1", coroutine_function(given)),
    ):
        with pytest.raises(QueryTypeError):
            await make_gatherer(sqlite).gather(*queries)
    del queries
    gc.collect()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_takes_statements_only(shape: str) -> None:
    """A function, which returns its own shape, is refused with that reason."""
    with pytest.raises(QueryTypeError, match=r"^load is not a query: a shape such as"):
        SHAPES[shape][0](load)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_refuses_what_a_query_refuses(shape: str) -> None:
    """A shape names the same remedy as a query."""
    with pytest.raises(QueryTypeError, match=r"write select\(User\)"):
        SHAPES[shape][0](User)


async def _stream(session: AsyncSession) -> object:
    return await session.stream(select(User.id))


async def _stream_scalars(session: AsyncSession) -> object:
    return await session.stream_scalars(select(User.id))


class _Generator:
    def __call__(self, session: Session) -> Iterator[int]:
        yield 1


RETURNED_RESULT = (
    "it returned an open Result, and its session is closed: return result.all()"
)
RETURNED: dict[str, tuple[Callable[[Any], object], str]] = {
    "coroutine": (
        lambda session: coroutine_function(session),  # noqa: PLW0108 - not async itself
        "it returned a coroutine: write 'return await ...' in an async def",
    ),
    "result": (lambda session: session.execute(select(User.id)), RETURNED_RESULT),
    "scalar result": (
        lambda session: session.scalars(select(User.id)),
        RETURNED_RESULT,
    ),
    "mapping result": (
        lambda session: session.execute(select(User.id)).mappings(),
        RETURNED_RESULT,
    ),
    "async result": (_stream, RETURNED_RESULT),
    "async scalar result": (_stream_scalars, RETURNED_RESULT),
    "query": (
        lambda session: session.query(User),
        "it returned an orm.Query that was not run: return query.all()",
    ),
    "legacy method that makes a query": (
        functools.partial(Session().query(User).filter_by, id=1),
        "it returned an orm.Query that was not run: return query.all()",
    ),
    "generator": (
        lambda session: (id_ for id_ in session.scalars(select(User.id))),
        "return a list",
    ),
    "generator of a callable": (_Generator(), "return a list"),
}


@pytest.mark.parametrize("kind", RETURNED)
async def test_what_cannot_outlive_the_session_is_refused(
    gatherer: QueryGatherer, kind: str
) -> None:
    """A function that returns something still to be run or read is refused."""
    function, remedy = RETURNED[kind]
    with pytest.raises(QueryTypeError) as caught:
        await gatherer.gather({"report": function})
    assert str(caught.value).startswith("Function 'report' is not a query: ")
    assert remedy in caught.value.remedy


WRITES: dict[str, Executable] = {
    "insert": insert(User).values(id=9, name="new"),
    "insert returning": insert(User).values(id=9, name="new").returning(User),
    "update": update(User).values(name="changed"),
    "delete": delete(Order),
    "create": CreateTable(sa.Table("more", sa.MetaData(), sa.Column("id", sa.Integer))),
    "DDL": cast("Any", sa.DDL)("DROP TABLE orders"),
}


@pytest.mark.parametrize("write", WRITES)
async def test_a_write_is_refused_before_anything_runs(
    sqlite: str, make_gatherer: Callable[..., QueryGatherer], write: str
) -> None:
    """Inserts, updates, deletes and DDL never reach the database of a gather."""
    gatherer = make_gatherer(sqlite)
    opened = connections_of(gatherer)
    with pytest.raises(
        ReadOnlyError, match=r"Query 'w' writes.*read_only=False"
    ) as caught:
        await gatherer.gather(select(User), Query(WRITES[write], label="w"))
    assert caught.value.query == "w"
    assert opened == []


async def test_a_write_without_a_label_is_named_by_its_statement(
    sqlite: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """The error of a refused write shows the statement."""
    with pytest.raises(ReadOnlyError, match=r"Query '?DELETE FROM orders'? writes"):
        await make_gatherer(sqlite).gather(delete(Order))


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_shape_does_not_hide_a_write(
    sqlite: str, make_gatherer: Callable[..., QueryGatherer], shape: str
) -> None:
    """A write in any shape is refused like a bare one."""
    gatherer = make_gatherer(sqlite)
    opened = connections_of(gatherer)
    shaped, _ = SHAPES[shape]
    with pytest.raises(ReadOnlyError):
        await gatherer.gather(shaped(WRITES["insert returning"]))
    assert opened == []


@pytest.mark.parametrize("kind", [list, tuple])
async def test_lists_of_queries_among_others_are_refused_with_their_remedy(
    kind: type, gatherer: QueryGatherer
) -> None:
    """Two lists of queries are not taken for results."""
    with pytest.raises(QueryTypeError, match="give its queries one by one"):
        await gatherer.gather(kind([sa.select(User)]), kind([sa.select(User)]))


async def test_a_refused_query_is_counted(gatherer: QueryGatherer) -> None:
    """The note says which of the queries it was."""
    with pytest.raises(QueryTypeError) as caught:
        await gatherer.gather(sa.select(User), "SELECT 1", sa.select(User))
    assert caught.value.__notes__ == ["async_parallel: query 2 of 3"]
