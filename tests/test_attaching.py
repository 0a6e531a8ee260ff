"""``into``: the results of a gather in the caller's own session."""

from __future__ import annotations

import copy
import pickle
import threading
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import sqlalchemy as sa
from archive import Letter, Page, Paper, Place, drop_archive, make_archive
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from shop import Order, User
from sqlalchemy import create_engine, event, select, text
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.orm import (
    Session,
    defer,
    joinedload,
    load_only,
    scoped_session,
    selectinload,
    sessionmaker,
)
from sqlalchemy.orm.attributes import set_committed_value

from async_parallel import (
    AsyncParallel,
    Query,
    QueryGatherer,
    first,
    gather_queries,
    mappings,
    one,
    rows,
    run_in_parallel,
)
from async_parallel.errors import (
    DetachedAttributeError,
    UnattachableError,
    UncommittedChangesError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

USERS = select(User).order_by(User.id)
ORDERS = select(Order).order_by(Order.id)
WITH_ORDERS = USERS.options(selectinload(User.orders))
USER_1 = select(User).where(User.id == 1)


class Caller:
    """A session of one who gathers.

    Attributes:
        session: The session.
        sent: The statements that it has sent.
    """

    def __init__(self, url: str) -> None:
        self.engine = create_engine(url)
        self.session = Session(self.engine)
        self.sent: list[str] = []
        event.listen(self.engine, "before_cursor_execute", self._note)

    def _note(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self.sent.append(statement)

    def close(self) -> None:
        """Leave no connection."""
        self.session.close()
        self.engine.dispose()


@pytest.fixture
def caller(database: str) -> Iterator[Caller]:
    """Somebody with a session on each database in turn."""
    caller = Caller(database)
    yield caller
    caller.close()


@pytest.fixture
def archive(database: str) -> Iterator[str]:
    """Each database in turn, with the archive in it."""
    make_archive(database)
    yield database
    drop_archive(database)


async def test_entities_are_attached_and_load_what_they_lack(
    caller: Caller, gatherer: QueryGatherer
) -> None:
    """Nothing is sent for it; then a lazy attribute loads through the session."""
    users, order = await gatherer.gather(USERS, first(ORDERS), into=caller.session)
    assert order is not None
    assert caller.sent == []
    assert all(user in caller.session for user in [*users, order])
    assert [user.name for user in users] == ["user 1", "user 2", "user 3"]
    assert caller.sent == []
    assert [order.id for order in users[1].orders] == [20, 21]
    assert len(caller.sent) == 1
    assert order.user is users[0]
    assert len(caller.sent) == 1  # it is there, in the session


async def test_without_it_they_are_detached(
    caller: Caller, gatherer: QueryGatherer
) -> None:
    """The default is as ever."""
    (users,) = await gatherer.gather(USERS)
    assert [sa.inspect(user).detached for user in users] == [True] * 3
    assert not caller.session.identity_map.values()


async def test_an_entity_is_there_once(caller: Caller, gatherer: QueryGatherer) -> None:
    """Over all queries of the gather, and among what was loaded with them."""
    users, orders, nested, pairs = await gatherer.gather(
        USERS,
        ORDERS.options(joinedload(Order.user)),
        WITH_ORDERS,
        select(User, Order).join(User.orders).order_by(Order.id),
        into=caller.session,
    )
    assert all(a is b for a, b in zip(users, nested, strict=True))
    assert [order for user in nested for order in user.orders] == orders
    assert all(order.user is users[order.user_id - 1] for order in orders)
    assert all(pair.User is pair.Order.user for pair in pairs)
    assert [pair.Order for pair in pairs] == orders
    assert caller.sent == []
    assert len(list(caller.session.identity_map.values())) == 3 + 6
    assert not caller.session.dirty


@dataclass(frozen=True)
class Page1:
    """What a function may return."""

    users: list[User]
    total: int


class Pair(NamedTuple):
    """What a function may return, too."""

    user: User
    number: int


def everything(session: Session) -> dict[str, Any]:
    """User 1 in every shape."""
    user = session.scalars(USER_1).one()
    by_name: defaultdict[str, list[User]] = defaultdict(list)
    by_name[user.name].append(user)
    return {
        "list": [user, 1, "x", None],
        "tuple": (user, (user,)),
        "named": Pair(user, 1),
        "set": {user},
        "frozen": frozenset([user]),
        "key": {user: 1},
        "default": by_name,
        "dataclass": Page1([user], 3),
        "rows": session.execute(select(User, User.id).where(User.id == 1)).all(),
        "mappings": session.execute(USER_1).mappings().all(),
        "collection": session.scalars(USER_1).one().orders,
    }


async def test_every_shape_is_looked_into(
    caller: Caller, gatherer: QueryGatherer
) -> None:
    """Rows, mappings, single items, and what functions return, keep their kind."""
    user, order = caller.session.get(User, 1), caller.session.get(Order, 10)
    assert user is not None
    caller.sent.clear()
    given, row, mapped, single, pair = await gatherer.gather(
        everything,
        rows(USER_1),
        mappings(USER_1),
        one(USER_1),
        first(select(User, Order).join(User.orders).order_by(Order.id)),
        into=caller.session,
    )
    assert given["list"] == [user, 1, "x", None]
    assert given["tuple"] == (user, (user,))
    assert given["named"] == Pair(user, 1)
    assert isinstance(given["named"], Pair)
    assert given["set"] == {user}
    assert given["frozen"] == frozenset([user])
    assert given["key"] == {user: 1}
    assert given["default"]["user 1"] == [user]
    assert given["default"]["nobody"] == []
    assert given["dataclass"] == Page1([user], 3)
    assert [(r.User, r[1], r._mapping[User]) for r in given["rows"]] == [
        (user, 1, user)
    ]
    assert given["mappings"][0]["User"] is user
    assert given["collection"][0] is order
    assert type(given["collection"]) is list  # nobody's attribute any more
    assert (row[0].User, row[0]._mapping["User"], len(row[0])) == (user, user, 1)
    assert (mapped[0][User], mapped[0]["User"]) == (user, user)
    assert single is user
    assert (pair.User, pair.Order.user) == (user, user)
    assert caller.sent == []


async def test_a_container_that_holds_itself_ends(
    caller: Caller, gatherer: QueryGatherer
) -> None:
    """A list in itself is looked into once."""

    def loop(session: Session) -> list[Any]:
        found: list[Any] = [session.get(User, 1)]
        found.append(found)
        return found

    (found,) = await gatherer.gather(loop, into=caller.session)
    assert found[0] in caller.session


async def test_what_a_function_keeps_for_itself_is_not_changed(
    caller: Caller, gatherer: QueryGatherer
) -> None:
    """A container gets a copy where an entity in it is another one."""
    kept: list[Any] = []
    user = caller.session.get(User, 1)

    def cached(session: Session) -> list[Any]:
        kept.append(session.get(User, 1))
        return kept

    (found,) = await gatherer.gather(cached, into=caller.session)
    assert found[0] is user
    assert kept[0] is not user


async def test_writing_works_as_before(
    archive: str, caller: Caller, gatherer: QueryGatherer
) -> None:
    """A change is seen, committed and refreshed, and an entity is deleted."""
    papers, pages = await gatherer.gather(
        select(Paper).order_by(Paper.id).options(selectinload(Paper.pages)),
        select(Page).order_by(Page.paper_id, Page.number),
        into=caller.session,
    )
    papers[0].title = "changed"
    assert list(caller.session.dirty) == [papers[0]]
    papers[1].pages[3] = Page(number=3, text="new")
    caller.session.commit()
    assert papers[0].title == "changed"  # expired, and loaded again
    caller.session.refresh(papers[1])
    assert list(papers[1].pages) == [1, 2, 3]
    caller.session.delete(papers[1].pages[3])
    caller.session.commit()
    assert list(papers[1].pages) == [1, 2]
    assert pages[0].paper is papers[0]


async def test_a_rollback_expires_them(caller: Caller, gatherer: QueryGatherer) -> None:
    """An attached entity takes part in the session's transaction."""
    ((user, *_),) = await gatherer.gather(USERS, into=caller.session)
    user.name = "changed"
    caller.session.rollback()
    assert user.name == "user 1"
    assert len(caller.sent) == 1


async def test_what_is_loaded_stays_and_what_is_not_is_filled_in(
    caller: Caller, gatherer: QueryGatherer
) -> None:
    """As with a query in the session: its own entity, completed."""
    user = caller.session.scalars(USER_1.options(defer(User.name))).one()
    other = caller.session.get(User, 2)
    assert other is not None
    set_committed_value(other, "name", "as it was read")
    caller.sent.clear()
    (users,) = await gatherer.gather(WITH_ORDERS, into=caller.session)
    assert users[:2] == [user, other]
    assert user.name == "user 1"
    assert [order.id for order in user.orders] == [10, 11]
    assert other.name == "as it was read"
    assert caller.sent == []
    assert not caller.session.dirty


async def test_an_expired_entity_is_filled_in(
    caller: Caller, gatherer: QueryGatherer
) -> None:
    """After a commit of the session nothing has to be loaded once more."""
    users = caller.session.scalars(WITH_ORDERS).all()
    caller.session.commit()
    caller.sent.clear()
    (again,) = await gatherer.gather(WITH_ORDERS, into=caller.session)
    assert again == users
    assert (users[0].name, len(users[0].orders)) == ("user 1", 2)
    assert caller.sent == []


async def test_two_results_complete_one_another(
    caller: Caller, gatherer: QueryGatherer
) -> None:
    """What one query has loaded of an entity and what another one has."""
    (part,), (whole,) = await gatherer.gather(
        USER_1.options(load_only(User.id)),
        USER_1.options(selectinload(User.orders)),
        into=caller.session,
    )
    assert part is whole
    assert (part.name, len(part.orders)) == ("user 1", 2)
    assert caller.sent == []


async def test_changes_of_the_session_stay(
    caller: Caller, gatherer: QueryGatherer
) -> None:
    """A changed attribute, a changed collection and a pending one, and no flush."""
    user, other, third = caller.session.scalars(USERS).all()
    other.orders.append(Order(id=97, total=1))  # loads, so flushes what came before
    user.name = "changed"
    added = Order(id=98, total=1, user=third)
    caller.session.add(added)
    caller.sent.clear()
    (users,) = await gatherer.gather(WITH_ORDERS, into=caller.session)
    assert caller.sent == []
    assert users[0] is user
    assert user.name == "changed"
    assert [order.id for order in other.orders] == [20, 21, 97]
    assert [order.id for order in users[2].orders] == [30, 31, 98]
    assert {user, other} <= set(caller.session.dirty)
    assert added in caller.session.new
    caller.session.flush()
    assert any(sent.startswith("UPDATE users") for sent in caller.sent)
    caller.session.rollback()


async def test_a_change_that_another_one_has_made_too_is_refused(
    caller: Caller, gatherer: QueryGatherer
) -> None:
    """The error names both, nothing is attached, and the change is still there."""
    user = caller.session.scalars(USER_1).one()
    set_committed_value(user, "name", "as it was read")
    user.name = "mine"
    query: Query[Any] = Query(USERS, label="all users")
    with pytest.raises(UncommittedChangesError) as caught:
        await gatherer.gather(query, into=caller.session)
    error = caught.value
    assert (error.entity, error.identity, error.attributes, error.query) == (
        "User",
        (1,),
        ("name",),
        "all users",
    )
    assert "has changed 'name' of User 1" in str(error)
    assert "Commit or roll back" in str(error)
    assert user.name == "mine"
    assert user in caller.session.dirty
    assert caller.session.identity_map.values() == [user]


async def test_a_collection_that_another_one_has_changed_too_is_refused(
    caller: Caller, gatherer: QueryGatherer
) -> None:
    """It is compared by the identities of what is in it."""
    user = caller.session.scalars(USER_1.options(selectinload(User.orders))).one()
    gone = user.orders[1]
    set_committed_value(user, "orders", [user.orders[0]])
    user.orders.append(caller.session.get(Order, 20))  # type: ignore[arg-type]
    with pytest.raises(UncommittedChangesError, match="'orders'"):
        await gatherer.gather(WITH_ORDERS, into=caller.session)
    assert gone not in user.orders
    caller.session.rollback()


@pytest.mark.parametrize("how", ["marked", "flushed", "before a savepoint"])
async def test_what_the_session_has_deleted_does_not_come_back(
    how: str, caller: Caller, gatherer: QueryGatherer
) -> None:
    """An entity that is deleted and not committed is refused, also a nested one."""
    order = caller.session.get(Order, 10)
    caller.session.delete(order)
    if how != "marked":
        caller.session.flush()
    if how == "before a savepoint":
        caller.session.begin_nested()
    with pytest.raises(UncommittedChangesError, match="has deleted Order 10, which"):
        await gatherer.gather(WITH_ORDERS, into=caller.session)
    assert not [e for e in caller.session.identity_map.values() if isinstance(e, User)]
    caller.session.rollback()
    caller.session.rollback()
    (users,) = await gatherer.gather(WITH_ORDERS, into=caller.session)
    assert order in users[0].orders


async def test_what_the_session_wrote_and_expired_is_not_filled_with_older_values(
    caller: Caller, gatherer: QueryGatherer
) -> None:
    """It is loaded in the session's own transaction, which alone sees it."""
    user = caller.session.get(User, 1)
    assert user is not None
    user.name = "flushed"
    caller.session.flush()
    caller.session.expire(user, ["name"])
    caller.sent.clear()
    ((again, *_),) = await gatherer.gather(USERS, into=caller.session)
    assert again is user
    assert user.name == "flushed"
    assert len(caller.sent) == 1
    caller.session.rollback()


async def test_the_same_change_on_both_sides_is_no_conflict(
    caller: Caller, gatherer: QueryGatherer
) -> None:
    """Both have the same value now."""
    user = caller.session.get(User, 1)
    first_order, order = (caller.session.get_one(Order, key) for key in (10, 11))
    assert user is not None
    set_committed_value(user, "orders", [first_order])
    user.orders.append(order)
    set_committed_value(user, "name", "long ago")
    user.name = "user 1"
    ((again, *_),) = await gatherer.gather(WITH_ORDERS, into=caller.session)
    assert again is user
    assert user.orders == [first_order, order]
    user.name = sa.func.upper(User.name)
    with pytest.raises(UncommittedChangesError):
        await gatherer.gather(USERS, into=caller.session)


async def test_an_attribute_that_was_deleted_stays_so(
    caller: Caller, gatherer: QueryGatherer
) -> None:
    """It is one that the entity lacks, and a change all the same."""
    user = caller.session.get(User, 1)
    assert user is not None
    del user.name
    ((again, *_),) = await gatherer.gather(USERS, into=caller.session)
    assert again is user
    assert "name" not in vars(user)


def new(_session: Session) -> User:
    """An entity that is not in the database."""
    return User(id=77, name="new")


def changed(session: Session) -> User:
    """One that differs from the database."""
    user = session.scalars(USER_1).one()
    session.expunge(user)
    user.name = "changed"
    return user


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        pytest.param(new, "it is new", id="new"),
        pytest.param(changed, "the query has changed 'name' of it", id="changed"),
    ],
)
async def test_what_differs_from_the_database_is_refused(
    query: Any, reason: str, caller: Caller, gatherer: QueryGatherer
) -> None:
    """New and changed entities of a query's own session belong to nobody else."""
    with pytest.raises(UnattachableError, match=reason) as caught:
        await gatherer.gather(query, USERS, into=caller.session)
    assert (caught.value.entity, caught.value.query) == ("User", query.__name__)
    assert not caller.session.identity_map.values()


async def test_an_entity_of_another_session_is_refused(
    caller: Caller, gatherer: QueryGatherer, database: str
) -> None:
    """One of the session itself is left alone."""
    other = Caller(database)
    try:
        user, mine = other.session.get(User, 1), caller.session.get(User, 2)
        with pytest.raises(UnattachableError, match="attached to another session"):
            await gatherer.gather(lambda _: user, into=caller.session)
        found = await gatherer.gather(lambda _: mine, into=caller.session)
        assert found == (mine,)
    finally:
        other.close()


async def test_the_error_names_what_was_committed(
    archive: str, caller: Caller, gatherer: QueryGatherer
) -> None:
    """A refusal comes after the writes, and says so."""

    def write(session: Session) -> User:
        session.execute(text("UPDATE pages SET text = text"))
        return User()

    with pytest.raises(UnattachableError) as caught:
        await gatherer.gather(write, read_only=False, into=caller.session)
    assert any("committed all the same" in note for note in caught.value.__notes__)


async def test_a_deleted_entity_is_refused(
    archive: str, caller: Caller, gatherer: QueryGatherer
) -> None:
    """What a query itself has deleted goes into no session."""

    def delete(session: Session) -> Page:
        page = session.get_one(Page, (1, 1))
        session.delete(page)
        session.flush()
        session.commit()
        return page

    with pytest.raises(UnattachableError, match="the query has deleted it"):
        await gatherer.gather(delete, read_only=False, into=caller.session)


async def test_failures_attach_nothing(caller: Caller, gatherer: QueryGatherer) -> None:
    """Where the gather raises, the session is as it was."""
    with pytest.raises(sa.exc.DBAPIError):
        await gatherer.gather(USERS, text("SELECT nothing"), into=caller.session)
    assert not caller.session.identity_map.values()


async def test_exceptions_among_the_results_are_left_alone(
    caller: Caller, gatherer: QueryGatherer
) -> None:
    """With ``return_exceptions`` only results are attached."""
    users, error = await gatherer.gather(
        USERS, text("SELECT nothing"), return_exceptions=True, into=caller.session
    )
    assert isinstance(error, sa.exc.DBAPIError)
    assert isinstance(users, list)
    assert users[0] in caller.session


async def test_each_result_is_attached_when_it_is_yielded(
    caller: Caller, gatherer: QueryGatherer
) -> None:
    """``as_completed`` attaches one after another, in the caller's task."""
    found: dict[Any, Any] = {}
    async for label, result in gatherer.as_completed(
        {"users": USERS, "orders": WITH_ORDERS}, into=caller.session
    ):
        found[label] = result
        assert all(user in caller.session for user in result)
    assert found["users"] == found["orders"]
    assert [len(user.orders) for user in found["users"]] == [2, 2, 2]
    assert caller.sent == []


async def test_a_session_is_found_behind_what_stands_for_it(
    caller: Caller, gatherer: QueryGatherer, database: str
) -> None:
    """A scoped session, and both kinds of asynchronous ones."""
    scoped = scoped_session(sessionmaker(caller.engine))
    (users,) = await gatherer.gather(USERS, into=scoped)
    assert users[0] in scoped()
    scoped.remove()
    maker = async_sessionmaker(gatherer.engine)
    async with maker() as session:
        (users,) = await gatherer.gather(USERS, into=session)
        assert users[0] in session
        await session.refresh(users[0], ["orders"])
        assert len(users[0].orders) == 2
    by_task = async_scoped_session(maker, scopefunc=lambda: 1)
    (users,) = await gatherer.gather(USERS, into=by_task)
    assert users[0] in by_task()
    await by_task.remove()


@pytest.mark.parametrize("given", ["db", Session, 1], ids=repr)
async def test_what_is_no_session_is_refused(
    given: Any, gatherer: QueryGatherer
) -> None:
    """Before anything runs."""
    with pytest.raises(TypeError, match=r"into must be a session, such as db\.session"):
        await gatherer.gather(USERS, into=given)


async def test_a_gather_inside_a_query_attaches_to_that_querys_session(
    gatherer: QueryGatherer, caller: Caller
) -> None:
    """What is attached inside is attached to the caller's session in turn."""

    async def outer(session: AsyncSession) -> list[User]:
        (users,) = await gatherer.gather(USERS, into=session)
        assert users[0] in session
        await session.refresh(users[0], ["orders"])
        return list(users)

    (users,) = await gatherer.gather(outer, into=caller.session)
    assert users[0] in caller.session
    assert len(users[0].orders) == 2
    assert caller.sent == []


async def test_a_joined_subclass_is_filled_in(
    archive: str, caller: Caller, gatherer: QueryGatherer
) -> None:
    """The session knows a letter as a paper; the gather brings the rest of it."""
    papers = caller.session.scalars(select(Paper).order_by(Paper.id)).all()
    assert isinstance(papers[1], Letter)
    caller.sent.clear()
    letters, everything = await gatherer.gather(
        select(Letter), select(Paper).order_by(Paper.id), into=caller.session
    )
    assert letters == [papers[1]]
    assert everything == papers
    assert letters[0].receiver == "Ada"
    assert caller.sent == []


async def test_composite_keys_dictionaries_and_viewonly_collections(
    archive: str, caller: Caller, gatherer: QueryGatherer
) -> None:
    """Each is as a query in the session has it."""
    page = caller.session.get(Page, (1, 1))
    caller.sent.clear()
    options = (selectinload(Paper.pages), selectinload(Paper.first_pages))
    (paper, letter), pages = await gatherer.gather(
        select(Paper).order_by(Paper.id).options(*options),
        select(Page).order_by(Page.paper_id, Page.number),
        into=caller.session,
    )
    assert paper.pages == {1: page, 2: pages[1]}
    assert paper.first_pages == [page]
    assert letter.pages == {1: pages[2], 2: pages[3]}
    assert letter.first_pages == [pages[2]]
    assert (paper.place, letter.place) == (Place("A", 1), Place("A", 2))
    assert caller.sent == []
    assert not caller.session.dirty


async def test_a_mutable_value_and_a_composite_belong_to_the_sessions_entity(
    archive: str, caller: Caller, gatherer: QueryGatherer
) -> None:
    """A change inside of what was filled in is noticed, and written."""
    paper = caller.session.get(Paper, 1)
    assert paper is not None
    caller.session.commit()
    (found,) = await gatherer.gather(
        one(select(Paper).where(Paper.id == 1)), into=caller.session
    )
    assert found is paper
    assert paper.place == Place("A", 1)
    paper.notes["read"] = True
    assert paper in caller.session.dirty
    caller.session.commit()
    assert paper.notes == {"read": True}


async def test_a_versioned_row_is_written_once(
    archive: str, caller: Caller, gatherer: QueryGatherer
) -> None:
    """The session's version stays, so that a stale one is found out when it writes."""
    paper = caller.session.get(Paper, 1)
    assert paper is not None
    assert paper.version == 1
    caller.session.expunge_all()
    (found,) = await gatherer.gather(
        one(select(Paper).where(Paper.id == 1)), into=caller.session
    )
    found.title = "another"
    caller.session.commit()
    assert found.version == 2
    set_committed_value(found, "version", 1)
    set_committed_value(found, "title", "stale")
    (again,) = await gatherer.gather(
        one(select(Paper).where(Paper.id == 1)), into=caller.session
    )
    assert (again.version, again.title) == (1, "stale")
    found.notes = {"a": 1}
    with pytest.raises(sa.orm.exc.StaleDataError):
        caller.session.flush()
    caller.session.rollback()


async def test_the_entity_forgets_its_query(
    caller: Caller, gatherer: QueryGatherer
) -> None:
    """Detached from its session again, it says what SQLAlchemy says."""
    ((user, *_),) = await gatherer.gather(USERS, into=caller.session)
    caller.session.close()
    with pytest.raises(sa.orm.exc.DetachedInstanceError) as caught:
        _ = user.orders
    assert not isinstance(caught.value, DetachedAttributeError)


def make_app(database: str) -> tuple[Flask, SQLAlchemy]:
    """An application with Flask-SQLAlchemy."""
    app, db = Flask(__name__), SQLAlchemy()
    app.testing = True
    app.config["SQLALCHEMY_DATABASE_URI"] = database
    db.init_app(app)
    AsyncParallel(app)
    return app, db


def close(app: Flask, db: SQLAlchemy) -> None:
    """Leave no connection."""
    app.extensions["async_parallel"].close()
    with app.app_context():
        for engine in db.engines.values():
            engine.dispose()


def test_a_sync_view_goes_on_with_its_own_session(database: str) -> None:
    """Lazy loading, ``db.session``, paginations, and in its own thread only."""
    app, db = make_app(database)
    threads: set[int] = set()

    @app.get("/")
    def view() -> dict[str, Any]:
        event.listen(
            db.session(), "after_attach", lambda *_: threads.add(threading.get_ident())
        )
        users, page = run_in_parallel(
            [
                db.session.query(User).order_by(User.id).all,
                lambda s: s.query(User).order_by(User.id).all(),
            ],
            into=db.session,
        )
        assert users == page
        (found,) = run_in_parallel(
            [db.session.query(User).order_by(User.id).all], into=db.session
        )
        assert found == users
        return {"orders": [len(user.orders) for user in users]}

    @app.get("/page")
    def paginated() -> list[Any]:
        query: Any = db.session.query(User).order_by(User.id)
        first_user = db.session.get(User, 1)
        (page,) = run_in_parallel(
            [lambda s: query.with_session(s).paginate(per_page=2)], into=db.session
        )
        assert page.items[0] is first_user
        assert page.total == 3
        following = page.next()
        assert all(user in db.session for user in following.items)
        return [user.id for user in [*page.items, *following.items]]

    try:
        client = app.test_client()
        assert client.get("/").json == {"orders": [2, 2, 2]}
        assert client.get("/page").json == [1, 2, 3]
        assert threads == {threading.get_ident()}
    finally:
        close(app, db)


def test_an_async_view_goes_on_with_its_own_session(database: str) -> None:
    """With an asynchronous session nothing is loaded behind one's back."""
    app, db = make_app(database)

    @app.get("/")
    async def view() -> dict[str, Any]:
        gatherer = app.extensions["async_parallel"].gatherer()
        async with AsyncSession(gatherer.engine) as session:
            users, orders = await gather_queries(USERS, ORDERS, into=session)
            await session.refresh(users[0], ["orders"])
            assert users[0].orders == orders[:2]
            return {"orders": len(users[0].orders)}

    try:
        assert app.test_client().get("/").json == {"orders": 2}
    finally:
        close(app, db)


async def test_the_detached_error_names_the_way_and_the_other_one(
    gatherer: QueryGatherer,
) -> None:
    """For a nested entity it names the options that lead there, and ``into``."""
    query: Query[Any] = Query(
        ORDERS.options(selectinload(Order.user).options(defer(User.name))), label="all"
    )
    ((order, *_),) = await gatherer.gather(query)
    for user in (order.user, pickle.loads(pickle.dumps(order)).user):
        with pytest.raises(DetachedAttributeError) as caught:
            _ = user.name
        assert (caught.value.entity, caught.value.attribute) == ("User", "name")
        assert caught.value.query == "all"
        assert "defaultload(Order.user).undefer(User.name)" in str(caught.value)
        assert "into=db.session" in str(caught.value)
        with pytest.raises(DetachedAttributeError, match=r"Order.user\).selectinload"):
            _ = user.orders
    ((unpickled, *_),) = pickle.loads(pickle.dumps(await gatherer.gather(query)))
    assert copy.copy(unpickled.total) == 100
