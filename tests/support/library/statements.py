"""Statements as applications write them, by what they show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import String as StringType
from sqlalchemy import (
    and_,
    case,
    cast,
    exists,
    func,
    literal,
    or_,
    select,
    text,
    tuple_,
    union,
)
from sqlalchemy.orm import (
    Bundle,
    aliased,
    contains_eager,
    defer,
    joinedload,
    lazyload,
    load_only,
    raiseload,
    selectin_polymorphic,
    selectinload,
    subqueryload,
    undefer,
    with_loader_criteria,
    with_polymorphic,
)

from library.archive import (
    Batch,
    Closed,
    Device,
    Entry,
    FileBatch,
    Label,
    Lent,
    Search,
    daily,
    search_label,
)
from library.base import Role, State, db
from library.items import (
    Book,
    Contribution,
    Film,
    Genre,
    GenreSize,
    Item,
    Magazine,
    Publisher,
    Series,
    Tag,
    item_tag,
)
from library.lending import Comment, Copy, Event, Fine, Loan, Review, Ticket
from library.people import Author, Card, Librarian, Member, Person
from library.places import Branch, City, Country

if TYPE_CHECKING:
    from sqlalchemy.sql import Executable


def _genre_tree() -> Executable:
    tree = select(Genre.id, literal(0).label("depth")).where(Genre.parent_id.is_(None))
    found = tree.cte("tree", recursive=True)
    below = select(Genre.id, found.c.depth + 1).join(
        found, Genre.parent_id == found.c.id
    )
    found = found.union_all(below)
    return select(Genre.name, found.c.depth).join(found).order_by(Genre.id)


def _busy_members() -> Executable:
    counted = (
        select(Loan.member_id, func.count().label("loans"))
        .group_by(Loan.member_id)
        .subquery()
    )
    return (
        select(Member, counted.c.loans)
        .join(counted, counted.c.member_id == Member.id)
        .order_by(counted.c.loans.desc(), Member.id)
    )


def _newest_loans() -> Executable:
    place = func.row_number().over(
        partition_by=Loan.member_id, order_by=Loan.lent_on.desc()
    )
    ranked = select(Loan, place.label("place")).subquery()
    newest = aliased(Loan, ranked)
    return select(newest).where(ranked.c.place == 1).order_by(newest.id)


def _recruiters() -> Executable:
    recruiter = aliased(Member, flat=True)
    return (
        select(Member, recruiter)
        .outerjoin(recruiter, Member.recruiter_id == recruiter.id)
        .order_by(Member.id)
    )


def _all_kinds() -> Executable:
    anyone = with_polymorphic(Person, [Author, Member, Librarian])
    return select(anyone).order_by(anyone.id)


def _branches_of_swiss_cities() -> Executable:
    return (
        select(Branch)
        .join(Branch.city)
        .join(City.country)
        .where(Country.code == "CH")
        .options(contains_eager(Branch.city).contains_eager(City.country))
        .order_by(Branch.id)
    )


def _good_items() -> Executable:
    stars = func.avg(Review.stars)
    return (
        select(Item.title, func.round(stars), func.count(Review.id))
        .join(Item.reviews)
        .group_by(Item.id, Item.title)
        .having(stars >= 2)
        .order_by(Item.title)
    )


def _words_searched() -> Executable:
    counted = select(Search.words, func.count().label("times")).group_by(Search.words)
    ranked = counted.cte("ranked")
    return select(ranked).where(ranked.c.times > 1).order_by(ranked.c.words)


STATEMENTS: dict[str, Any] = {
    # Entities, and what is loaded with them.
    "all of a class": lambda: select(Country).order_by(Country.code),
    "joined by the mapping": lambda: select(City).order_by(City.id),
    "selectin by the mapping": lambda: select(Branch).order_by(Branch.id),
    "a tree, joined": lambda: (
        select(Genre).where(Genre.parent_id.is_(None)).order_by(Genre.id)
    ),
    "subquery by the mapping": lambda: (
        select(Loan).where(Loan.id < 20).order_by(Loan.id)
    ),
    "a column of a query": lambda: select(Publisher).order_by(Publisher.id),
    "one to one, back and forth": lambda: select(Card).order_by(Card.number),
    "a composite": lambda: (
        select(Member).where(Member.town == "City 3").order_by(Member.id)
    ),
    "joinedload": lambda: (
        select(Series).options(joinedload(Series.items)).order_by(Series.id)
    ),
    "selectinload, three deep": lambda: (
        select(Author)
        .options(
            selectinload(Author.contributions)
            .selectinload(Contribution.item)
            .selectinload(Item.copies)
        )
        .order_by(Author.id)
    ),
    "subqueryload": lambda: (
        select(Event).options(subqueryload(Event.tickets)).order_by(Event.id)
    ),
    "joinedload and selectinload": lambda: (
        select(Review)
        .options(
            joinedload(Review.item).joinedload(Item.genre),
            selectinload(Review.comments).selectinload(Comment.answers),
        )
        .order_by(Review.id)
    ),
    "contains_eager": _branches_of_swiss_cities,
    "a keyed collection": lambda: (
        select(Branch).options(selectinload(Branch.hours)).order_by(Branch.id)
    ),
    "load_only": lambda: (
        select(Item).options(load_only(Item.title, Item.year)).order_by(Item.id)
    ),
    "defer and undefer": lambda: (
        select(Author)
        .options(undefer(Author.notes), defer(Author.born))
        .order_by(Author.id)
    ),
    "lazyload and raiseload": lambda: (
        select(Item)
        .options(lazyload(Item.publisher), raiseload(Item.genre))
        .order_by(Item.id)
    ),
    "with_loader_criteria": lambda: (
        select(Review)
        .options(
            selectinload(Review.comments),
            with_loader_criteria(Comment, Comment.parent_id.is_(None)),
        )
        .order_by(Review.id)
    ),
    "populate_existing": lambda: (
        select(Tag).order_by(Tag.id).execution_options(populate_existing=True)
    ),
    "yield_per": lambda: select(Copy).order_by(Copy.id).execution_options(yield_per=7),
    # Inheritance.
    "people of all kinds": lambda: select(Person).order_by(Person.id),
    "people with_polymorphic": _all_kinds,
    "people selectin_polymorphic": lambda: (
        select(Person)
        .options(selectin_polymorphic(Person, [Author, Member, Librarian]))
        .order_by(Person.id)
    ),
    "a joined subclass": lambda: select(Librarian).order_by(Librarian.id),
    "a joined subclass with more": lambda: (
        select(Librarian).options(joinedload(Librarian.branch)).order_by(Librarian.id)
    ),
    "items of all kinds": lambda: select(Item).order_by(Item.id),
    "one kind of item": lambda: select(Film).order_by(Film.id),
    "a subclass with its own": lambda: (
        select(Book).options(selectinload(Book.editions)).order_by(Book.id)
    ),
    "of_type": lambda: (
        select(Publisher.id, Magazine.issue)
        .join(Publisher.items.of_type(Magazine))
        .where(Magazine.issue > 20)
        .order_by(Magazine.id)
    ),
    "a class of a query": lambda: select(GenreSize).order_by(
        GenreSize.genre_id  # type: ignore[attr-defined]
    ),
    # Conditions.
    "hybrid in where": lambda: (
        select(Person).where(Person.full_name == "Ada Writer 6").order_by(Person.id)
    ),
    "hybrid as a column": lambda: select(Item.decade, Item.title).order_by(Item.id),
    "hybrid of two kinds": lambda: (
        select(Loan.id).where(Loan.is_open).order_by(Loan.id)
    ),
    "association proxy in where": lambda: (
        select(Item).where(Item.words.contains("word 3")).order_by(Item.id)
    ),
    "association proxy, any": lambda: (
        select(Author.last_name)
        .where(Author.items.any(Item.year > 2050))
        .order_by(Author.id)
    ),
    "any": lambda: (
        select(Member).where(Member.loans.any(Loan.is_open)).order_by(Member.id)
    ),
    "has": lambda: (
        select(Copy.id).where(Copy.item.has(Item.year < 1960)).order_by(Copy.id)
    ),
    "not exists": lambda: (
        select(Tag.word)
        .where(~exists().where(item_tag.c.tag_id == Tag.id, item_tag.c.item_id < 8))
        .order_by(Tag.id)
    ),
    "enum": lambda: (
        select(Contribution)
        .where(Contribution.role == Role.EDITOR)
        .order_by(Contribution.item_id, Contribution.author_id)
    ),
    "enum in": lambda: (
        select(Copy).where(Copy.state.in_([State.LENT, State.LOST])).order_by(Copy.id)
    ),
    "or and and": lambda: (
        select(Item.id)
        .where(or_(Item.year < 1960, and_(Item.year > 2050, Item.kind == "film")))
        .order_by(Item.id)
    ),
    "tuple in": lambda: (
        select(Ticket)
        .where(tuple_(Ticket.event_id, Ticket.member_id).in_([(1, 12), (3, 14)]))
        .order_by(Ticket.event_id)
    ),
    "json": lambda: (
        select(Publisher.name, Publisher.details)
        .where(Publisher.details["rank"].as_integer() > 2)
        .order_by(Publisher.id)
    ),
    "nothing": lambda: select(Item).where(Item.id == 0),
    # Rows, subqueries, CTEs.
    "entity and column": _busy_members,
    "two entities": _recruiters,
    "a bundle": lambda: (
        select(Bundle("loan", Loan.id, Loan.lent_on))
        .where(Loan.id < 9)
        .order_by(Loan.id)
    ),
    "an aliased subquery": _newest_loans,
    "a recursive CTE": _genre_tree,
    "group by and having": _good_items,
    "sums": lambda: select(func.sum(Fine.amount), func.max(Fine.amount), func.count()),
    "case": lambda: select(
        Item.id, case((Item.year < 2000, "old"), else_="new")
    ).order_by(Item.id),
    "cast": lambda: select(cast(Item.year, StringType)).order_by(Item.id),
    "union": lambda: union(
        select(City.name).where(City.id < 3), select(Branch.name)
    ).order_by("name"),
    "union as entities": lambda: select(Item).from_statement(
        union(
            select(Item).where(Item.id < 3), select(Item).where(Item.id > 34)
        ).order_by("id")
    ),
    "entities from text": lambda: select(Tag).from_statement(
        text("SELECT id, word FROM tag ORDER BY id")
    ),
    "text": lambda: text("SELECT id, name FROM series ORDER BY id"),
    "text with columns": lambda: (
        text("SELECT id, lent_on FROM loan WHERE id < :n ORDER BY id")
        .columns(Loan.id, Loan.lent_on)
        .bindparams(n=5)
    ),
    "a table": lambda: select(item_tag).order_by(*item_tag.c),
    "limit and offset": lambda: db.select(Loan).order_by(Loan.id).limit(5).offset(10),
    "distinct": lambda: select(Item.kind).distinct().order_by(Item.kind),
    "a subquery in the columns": lambda: select(
        Member.id,
        select(func.count(Loan.id))
        .where(Loan.member_id == Member.id)
        .scalar_subquery(),
    ).order_by(Member.id),
    # The archive.
    "archive: joined and selectin": lambda: select(Search).order_by(Search.id),
    "archive: kinds in one table": lambda: select(Entry).order_by(Entry.id),
    "archive: one kind": lambda: select(Lent).where(Lent.day > 2).order_by(Lent.id),
    "archive: columns of a kind": lambda: select(
        Closed.branch_id, Closed.data
    ).order_by(Closed.id),
    "archive: joined inheritance": lambda: select(Batch).order_by(Batch.id),
    "archive: a joined subclass": lambda: select(FileBatch).order_by(FileBatch.id),
    "archive: many to many": lambda: (
        select(Label.word, func.count())
        .join(search_label, search_label.c.label_id == Label.id)
        .group_by(Label.id, Label.word)
        .order_by(Label.id)
    ),
    "archive: a CTE": _words_searched,
    "archive: exists": lambda: (
        select(Device)
        .where(exists().where(Search.device_id == Device.id, Search.id > 25))
        .order_by(Device.id)
    ),
    "archive: a table": lambda: select(daily).order_by(daily.c.day),
    "archive: entities from text": lambda: select(Device).from_statement(
        text("SELECT id, name FROM device ORDER BY id")
    ),
}
