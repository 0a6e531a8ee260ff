"""Legacy queries: every method, and a session that stays as it was."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from shop import Base, User
from sqlalchemy import event, select
from sqlalchemy.exc import MultipleResultsFound, NoResultFound
from werkzeug.exceptions import NotFound

from async_parallel import AsyncParallel, run_in_parallel
from async_parallel.errors import QueryTypeError, ReadOnlyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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
