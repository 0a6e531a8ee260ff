"""Legacy queries: every method, and a session that stays as it was."""

from __future__ import annotations

import pickle
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy.pagination import Pagination, SelectPagination
from flask_sqlalchemy.query import Query as BaseQuery
from shop import Base, Order, User
from sqlalchemy import event, select
from sqlalchemy.exc import MultipleResultsFound, NoResultFound, UnboundExecutionError
from sqlalchemy.orm import selectinload
from sqlalchemy.orm.exc import DetachedInstanceError
from werkzeug.exceptions import NotFound

from async_parallel import AsyncParallel, run_in_parallel, scalars
from async_parallel.errors import (
    QueryTypeError,
    ReadOnlyError,
    UnansweredQueryError,
)
from async_parallel.testing import answers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy.orm import Session


@pytest.fixture
def db(database: str) -> Iterator[SQLAlchemy]:
    """Flask-SQLAlchemy on each database in turn, in a context of its application."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = database
    db = SQLAlchemy(app, model_class=Base)
    extension = AsyncParallel(app)
    with app.app_context():
        yield db
        db.session.remove()
        db.engine.dispose()
        extension.close()


METHODS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], bool]]] = {
    "all": (lambda query: query.all, lambda users: len(users) == 3),
    "first": (lambda query: query.first, lambda user: user.id == 1),
    "one": (lambda query: query.filter_by(id=2).one, lambda user: user.id == 2),
    "one_or_none": (
        lambda query: query.filter_by(id=0).one_or_none,
        lambda user: user is None,
    ),
    "count": (lambda query: query.count, lambda count: count == 3),
    "scalar": (
        lambda query: query.with_entities(User.id).limit(1).scalar,
        lambda value: value == 1,
    ),
    "iteration": (lambda query: query.__iter__, lambda users: len(users) == 3),
    "the query": (lambda query: query, lambda users: len(users) == 3),
    "paginate": (
        lambda query: partial(query.paginate, page=2, per_page=2),
        lambda page: (
            [user.id for user in page] == [3] and page.total == 3 and page.pages == 2
        ),
    ),
    "first_or_404": (lambda query: query.first_or_404, lambda user: user.id == 1),
    "a partial of a partial": (
        lambda query: partial(partial(query.paginate, page=1), per_page=1),
        lambda page: len(page.items) == 1,
    ),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_answered_and_leaves_the_session_as_it_was(
    db: SQLAlchemy, name: str
) -> None:
    """Its identity map, its pending changes and its connection, and sends nothing."""
    make, is_right = METHODS[name]
    held = db.session.get_one(User, 1)
    held.name = "changed here"
    added = User(id=77, name="added here")
    db.session.add(added)
    connection = db.session.connection()
    sent: list[str] = []
    event.listen(db.engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
    before = {*db.session.identity_map.values()}
    first, second = run_in_parallel(
        make(db.session.query(User).order_by(User.id)),
        make(db.session.query(User).order_by(User.id)),
    )
    assert is_right(first)
    assert is_right(second)
    assert sent == []
    assert {*db.session.identity_map.values()} == before
    assert db.session.connection() is connection
    assert [*db.session.new] == [added]
    assert [*db.session.dirty] == [held]
    db.session.rollback()


@pytest.mark.filterwarnings("ignore:.*Query.get:sqlalchemy.exc.LegacyAPIWarning")
def test_errors_are_those_of_the_method(db: SQLAlchemy) -> None:
    """SQLAlchemy's and Flask-SQLAlchemy's own."""
    query: Any = db.session.query(User)
    nobody = query.filter_by(id=0)
    for method, error in (
        (query.one, MultipleResultsFound),
        (nobody.one, NoResultFound),
        (nobody.first_or_404, NotFound),
        (partial(query.get_or_404, 0), NotFound),
        (partial(query.paginate, page=9), NotFound),
    ):
        with pytest.raises(error):
            run_in_parallel(method, query.count)


@pytest.mark.parametrize(
    "make",
    [
        lambda db: db.session.query(User).with_for_update().all,
        lambda db: db.session.query(User).with_for_update(),
        lambda db: db.session.query(User).delete,
        lambda db: partial(db.session.query(User).update, {"name": "all the same"}),
        lambda _: select(User).with_for_update(),
    ],
)
def test_what_writes_or_locks_is_refused_before_anything_runs(
    db: SQLAlchemy, make: Callable[[SQLAlchemy], Any]
) -> None:
    """Where the gather is read-only, as it is unless told otherwise."""
    ran: list[str] = []

    def note(_session: Any) -> None:
        ran.append("it ran")

    with pytest.raises(ReadOnlyError, match=r"locks rows|writes"):
        run_in_parallel(note, make(db))
    assert ran == []
    run_in_parallel(
        partial(db.session.query(User).filter_by(id=0).delete), read_only=False
    )


def test_a_part_of_a_statement_is_no_result(db: SQLAlchemy) -> None:
    """``exists`` runs nothing, so what to write instead is said."""
    with pytest.raises(QueryTypeError, match=r"pass select\(\) of what it returns"):
        run_in_parallel(db.session.query(User).exists, db.session.query(User).count)
    exists = select(db.session.query(User).filter_by(id=1).exists())
    assert run_in_parallel([exists]) == [[True]]


def test_options_that_were_pickled_load_what_they_say(db: SQLAlchemy) -> None:
    """As a query has them that was kept elsewhere."""
    option = pickle.loads(pickle.dumps(selectinload(Order.user)))
    query: Any = db.session.query(Order).order_by(Order.id).options(option)
    ((order, *_), first) = run_in_parallel(query, query.first)
    assert (order.user.name, first.user.name) == ("user 1", "user 1")


def test_a_cursor_on_the_server_is_read_to_its_end(db: SQLAlchemy) -> None:
    """``yield_per`` and ``stream_results`` have the transaction that they need."""
    legacy: Any = db.session.query(User.id).order_by(User.id).yield_per(2)
    statement = select(User.id).order_by(User.id)
    assert run_in_parallel(
        legacy.all,
        legacy.__iter__,
        statement.execution_options(yield_per=2),
        scalars(statement.execution_options(stream_results=True)),
    ) == ([(1,), (2,), (3,)], [(1,), (2,), (3,)], [1, 2, 3], [1, 2, 3])


# Queries of the application's own kind, in two databases.


class OwnQuery(BaseQuery):
    """What an application adds to Flask-SQLAlchemy's."""

    def named(self, name: str) -> Any:
        """Those of a name."""
        return self.filter_by(name=name)

    def names(self) -> list[str]:
        """Ask by the session of the query."""
        found: Any = self.session.scalars(self.statement)
        return sorted(entity.name for entity in found)


class Forum:
    """An application whose models are made by Flask-SQLAlchemy."""

    def __init__(self, folder: Path) -> None:
        self.app = Flask(__name__, instance_path=str(folder))
        self.app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///forum.sqlite3"
        self.app.config["SQLALCHEMY_BINDS"] = {"past": "sqlite:///past.sqlite3"}
        self.db: Any = SQLAlchemy(self.app, query_class=OwnQuery)
        self.extension = AsyncParallel(self.app)
        db = self.db

        class Author(db.Model):  # type: ignore[misc, name-defined]
            """Someone with posts that are asked for when they are needed."""

            id = sa.Column(sa.Integer, primary_key=True)
            name = sa.Column(sa.String)
            posts = db.relationship("Post", lazy="dynamic", order_by="Post.id")

        class Post(db.Model):  # type: ignore[misc, name-defined]
            """What someone wrote."""

            id = sa.Column(sa.Integer, primary_key=True)
            author_id: Any = sa.Column(sa.ForeignKey("author.id"))
            author = db.relationship(Author, viewonly=True)

        class Visit(db.Model):  # type: ignore[misc, name-defined]
            """Who was there."""

            __bind_key__ = "past"
            id = sa.Column(sa.Integer, primary_key=True)

        self.author: Any = Author
        self.post: Any = Post
        self.visit: Any = Visit

    def fill(self) -> None:
        """Three authors of three posts each, and five visits."""
        self.db.create_all()
        for number in (1, 2, 3):
            posts = [self.post(id=10 * number + place) for place in range(3)]
            name = f"author {number}"
            self.db.session.add(self.author(id=number, name=name, posts=posts))
        self.db.session.add_all([self.visit(id=number) for number in range(5)])
        self.db.session.commit()
        self.db.session.remove()


@pytest.fixture
def forum(tmp_path: Path) -> Iterator[Forum]:
    """The forum, in a request."""
    forum = Forum(tmp_path)
    with forum.app.test_request_context():
        forum.fill()
        yield forum
        forum.db.session.remove()
        for engine in forum.db.engines.values():
            engine.dispose()
    forum.extension.close()


def ids(entities: Any) -> list[int]:
    """The keys of entities."""
    return [entity.id for entity in entities]


def test_a_query_of_the_applications_own_class(forum: Forum) -> None:
    """Its methods are there, on a session of the gather, in either database."""
    found, names, visits = run_in_parallel(
        forum.author.query.named("author 2"),
        forum.author.query.filter(forum.author.id > 1).names,
        forum.visit.query.order_by(forum.visit.id).all,
    )
    assert ids(found) == [2]
    assert names == ["author 2", "author 3"]
    assert ids(visits) == [0, 1, 2, 3, 4]


DYNAMIC: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], Any]] = {
    "the query": (lambda posts: posts, ids, [10, 11, 12]),
    "all": (lambda posts: posts.all, ids, [10, 11, 12]),
    "count": (lambda posts: posts.count, int, 3),
    "a filter": (lambda posts: posts.filter_by(id=11).one, lambda post: post.id, 11),
    "an index": (lambda posts: partial(posts.__getitem__, 2), lambda post: post.id, 12),
    "a page": (lambda posts: partial(posts.paginate, page=2, per_page=2), ids, [12]),
}


@pytest.mark.parametrize("name", DYNAMIC)
def test_a_dynamic_relationship_leaves_its_session_alone(
    forum: Forum, name: str
) -> None:
    """Its query is not asked in the session of the entity, nor is that flushed."""
    make, show, expected = DYNAMIC[name]
    author = forum.db.session.get(forum.author, 1)
    author.name = "changed here"
    sent: list[str] = []
    event.listen(
        forum.db.engine, "before_cursor_execute", lambda *args: sent.append(args[2])
    )
    (found,) = run_in_parallel(make(author.posts))
    assert show(found) == expected
    assert sent == []
    assert [*forum.db.session.dirty] == [author]
    assert all(forum.post is not type(held) for held in forum.db.session)
    with pytest.raises(ReadOnlyError):
        run_in_parallel(partial(author.posts.append, forum.post(id=99)))


def test_a_dynamic_relationship_of_a_detached_entity_says_so(forum: Forum) -> None:
    """It has no session that knows its entity, as in SQLAlchemy itself."""
    (author,) = run_in_parallel(forum.author.query.first)
    with pytest.raises(DetachedInstanceError, match="'posts'"):
        run_in_parallel(author.posts.all)


def test_a_page_finds_the_next_one_in_the_applications_session(forum: Forum) -> None:
    """A ``Pagination`` is detached, and goes on as Flask-SQLAlchemy has it."""
    query = forum.author.query.order_by(forum.author.id)
    (page,) = run_in_parallel(partial(query.paginate, page=1, per_page=2))
    assert isinstance(page, Pagination)
    assert (page.total, page.pages, [*page.iter_pages()]) == (3, 2, [1, 2])
    assert all(sa.inspect(author).detached for author in page.items)
    following = page.next()
    assert ids(following) == [3]
    assert ids(following.prev()) == [1, 2]
    assert [*forum.db.session] == [*following]


def test_the_methods_of_flask_sqlalchemy_itself_are_queries(forum: Forum) -> None:
    """On sessions of their own, in the database that has their tables."""
    db, by_id = forum.db, select(forum.author).order_by(forum.author.id)
    page, author, first, one, visits = run_in_parallel(
        partial(db.paginate, by_id, page=1, per_page=2),
        partial(db.get_or_404, forum.author, 2),
        partial(db.first_or_404, by_id),
        partial(db.one_or_404, by_id.where(forum.author.id == 3)),
        partial(db.paginate, select=select(forum.visit), per_page=3),
    )
    assert (ids(page), page.total) == ([1, 2], 3)
    assert (author.id, first.id, one.id) == (2, 1, 3)
    assert (len(visits.items), visits.total) == (3, 5)
    assert not [*db.session]
    following = page.next()
    assert ids(following) == [3]
    assert [*db.session] == [*following]
    for absent in (
        partial(db.get_or_404, forum.visit, ident=99),
        partial(db.one_or_404, statement=by_id),
        partial(db.first_or_404, by_id.where(forum.author.id == 0)),
    ):
        with pytest.raises(NotFound):
            run_in_parallel(absent)
    for locking in (
        partial(db.get_or_404, forum.author, 2, with_for_update=True),
        partial(db.first_or_404, by_id.with_for_update()),
    ):
        with pytest.raises(ReadOnlyError, match=r"SQLAlchemy\.\w+_or_404"):
            run_in_parallel(locking)
    with pytest.raises(TypeError, match="entity"):
        run_in_parallel(db.get_or_404)


class Odd:
    """What cannot be compared, as arrays cannot."""

    def __eq__(self, other: object) -> bool:
        raise ValueError

    __hash__ = None  # type: ignore[assignment]


def test_the_methods_of_flask_sqlalchemy_itself_are_answered(forum: Forum) -> None:
    """By the call, whatever it asks for, or the label; and no other call by its."""
    db, by_id = forum.db, select(forum.author).order_by(forum.author.id)
    other = select(forum.author).order_by(forum.author.id)
    given: dict[Any, Any] = {
        partial(db.get_or_404, forum.author, 2000): "the second",
        partial(db.paginate, other, page=2): "a page",
        db.first_or_404: "the first",
        "SQLAlchemy.one_or_404(Author)": NotFound("gone"),
    }
    queries = [
        partial(db.get_or_404, forum.author, int("2000")),
        partial(db.paginate, by_id, page=2),
        partial(db.first_or_404, by_id),
    ]
    with answers(forum.app, given):
        assert run_in_parallel(queries) == ["the second", "a page", "the first"]
        with pytest.raises(NotFound, match="gone"):
            run_in_parallel(partial(db.one_or_404, by_id))
        for unanswered in (
            partial(db.get_or_404, forum.author, 3),
            partial(db.get_or_404, forum.author, ident=2000),
            partial(db.paginate, by_id, page=1),
            partial(db.paginate, by_id.limit(1), page=2),
            partial(db.get_or_404, forum.visit, 2),
            partial(db.get_or_404, forum.author),
            partial(db.get_or_404, forum.author, Odd()),
            partial(db.paginate, by_id, per_page=2),
            partial(db.paginate, by_id),
        ):
            with pytest.raises(UnansweredQueryError) as caught:
                run_in_parallel(unanswered)
            assert "'SQLAlchemy.get_or_404(Author)'" in str(caught.value)
        with pytest.raises(UnansweredQueryError, match=r"\(Author\)' \(another of th"):
            run_in_parallel(partial(db.get_or_404, forum.author, 3))


def test_a_page_reads_the_request_of_its_caller(forum: Forum) -> None:
    """Where it is not told the page, as ever."""
    query = forum.visit.query.order_by(forum.visit.id)
    with forum.app.test_request_context("/?page=2&per_page=3"):
        (page,) = run_in_parallel(query.paginate)
    assert (page.page, page.per_page, ids(page)) == (2, 3, [3, 4])


def test_what_keeps_the_session_of_a_query_cannot_ask_it_any_more(forum: Forum) -> None:
    """It would ask on a connection that is another query's by then."""

    def page(session: Session) -> Pagination:
        statement = select(forum.author).order_by(forum.author.id)
        return SelectPagination(select=statement, session=session, page=1, per_page=2)

    (first,) = run_in_parallel(page)
    assert (ids(first), first.total) == ([1, 2], 3)
    with pytest.raises(UnboundExecutionError):
        first.next()


def test_writes_go_to_the_database_of_their_table(forum: Forum) -> None:
    """Those of a legacy query too, and count the rows."""
    changed, deleted = run_in_parallel(
        partial(forum.author.query.filter_by(id=1).update, {"name": "changed"}),
        forum.visit.query.filter(forum.visit.id > 2).delete,
        read_only=False,
    )
    assert (changed, deleted) == (1, 2)
    assert forum.author.query.filter_by(name="changed").count() == 1
    assert forum.visit.query.count() == 3
