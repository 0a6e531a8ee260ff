"""Legacy queries, and functions of a session, as applications have them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from flask_sqlalchemy.pagination import SelectPagination
from sqlalchemy import func, select
from sqlalchemy.orm import joinedload, selectinload

from library.archive import Entry, FileBatch, Search
from library.base import db
from library.items import Book, Genre, Item, Publisher, Series, Tag
from library.lending import Copy, Loan, Review
from library.people import Author, Member, Person
from library.places import Branch, City

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session


def query(*entities: Any) -> Any:
    """What ``db.session.query`` makes."""
    return db.session.query(*entities)


# What makes a bound method of a query.
LEGACY: dict[str, Callable[[], Callable[[], Any]]] = {
    "all": lambda: query(Branch).order_by(Branch.id).all,
    "Model.query": lambda: Item.query.order_by(Item.id).all,
    "first": lambda: Member.query.order_by(Member.id.desc()).first,
    "first of none": lambda: Member.query.filter_by(id=0).first,
    "one": lambda: Series.query.filter_by(id=2).one,
    "one_or_none": lambda: query(Tag).filter(Tag.word == "word 4").one_or_none,
    "count": lambda: query(Loan).filter(Loan.is_open).count,
    "scalar": lambda: query(func.max(Item.year)).scalar,
    "get": lambda: functools.partial(Genre.query.get, 1),
    "columns": lambda: query(Item.id, Item.title).order_by(Item.id).all,
    "two entities": lambda: (
        query(Item, Publisher).join(Item.publisher).order_by(Item.id).all
    ),
    "joinedload": lambda: (
        query(Series).options(joinedload(Series.items)).order_by(Series.id).all
    ),
    "selectinload": lambda: (
        query(Author)
        .options(selectinload(Author.contributions))
        .order_by(Author.id)
        .all
    ),
    "exists": lambda: (
        (
            query(Review)
            .filter(query(Loan).filter(Loan.id == 1).exists())
            .order_by(Review.id)
        ).all
    ),
    "exists in select": lambda: query(query(Loan).filter_by(id=0).exists()).scalar,
    "from_self by subquery": lambda: (
        query(func.count()).select_from(query(Item).limit(7).subquery()).scalar
    ),
    "union": lambda: (
        query(Item.id)
        .filter(Item.id < 3)
        .union(query(Item.id).filter(Item.id > 34))
        .order_by(Item.id)
        .all
    ),
    "group by": lambda: (
        (
            query(Item.kind, func.count(Item.id))
            .group_by(Item.kind)
            .order_by(Item.kind)
        ).all
    ),
    "yield_per": lambda: query(Copy).order_by(Copy.id).yield_per(9).all,
    "slice": lambda: query(City).order_by(City.id).slice(1, 3).all,
    "polymorphic": lambda: query(Person).order_by(Person.id).all,
    "a subclass": lambda: query(Book).order_by(Book.id).all,
    "paginate": lambda: functools.partial(
        Item.query.order_by(Item.id).paginate, page=2, per_page=10
    ),
    "paginate without count": lambda: functools.partial(
        Item.query.order_by(Item.id).paginate, page=1, per_page=5, count=False
    ),
    "first_or_404": lambda: Tag.query.order_by(Tag.id).first_or_404,
    "one_or_404": lambda: Tag.query.filter_by(id=3).one_or_404,
    "get_or_404": lambda: functools.partial(City.query.get_or_404, 3),
    "archive: all": lambda: Search.query.order_by(Search.id).all,
    "archive: count": lambda: query(Entry).count,
    "archive: first": lambda: query(FileBatch).order_by(FileBatch.id).first,
    "archive: paginate": lambda: functools.partial(
        Search.query.order_by(Search.id).paginate, page=3, per_page=7
    ),
}


def _loans_by_member(session: Session) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for loan in session.scalars(select(Loan).order_by(Loan.id)):
        found.setdefault(loan.member_id, []).append(loan)
    return found


def _page(session: Session) -> Any:
    return SelectPagination(
        select=select(Member).order_by(Member.id), session=session, page=2, per_page=6
    )


def _lazily(session: Session) -> list[Any]:
    """Load relationships when they are first asked for."""
    reviews = session.query(Review).order_by(Review.id).limit(5).all()
    return [(review, review.item.title, len(review.comments)) for review in reviews]


def _get(session: Session) -> Any:
    return session.get(Book, 3, options=[selectinload(Book.editions)])


def _dynamic(session: Session) -> list[Any]:
    member = session.get_one(Member, 12)
    return member.reservations.all()  # type: ignore[attr-defined, no-any-return]


FUNCTIONS: dict[str, Callable[[Session], Any]] = {
    "a dict of lists": _loans_by_member,
    "a page of a select": _page,
    "lazy relationships": _lazily,
    "get": _get,
    "dynamic": _dynamic,
}
