"""The same rows each time."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from library.archive import (
    Batch,
    Closed,
    Device,
    FileBatch,
    Label,
    Lent,
    Search,
    daily,
)
from library.base import Role, State
from library.items import (
    Book,
    Contribution,
    Edition,
    Film,
    Genre,
    Item,
    Language,
    Magazine,
    Publisher,
    Series,
    Tag,
)
from library.lending import (
    Comment,
    Copy,
    Event,
    Fine,
    Loan,
    Reservation,
    Review,
    Ticket,
)
from library.people import Author, Card, Librarian, Member, Person, Plan
from library.places import Branch, City, Country, OpeningHours, Shelf

if TYPE_CHECKING:
    from collections.abc import Iterator

_EPOCH = dt.date(2024, 1, 1)
_NAMES = ("Ada", "Bob", "Cleo", "Dan", "Eve", "Fay")


def rows() -> Iterator[list[Any]]:
    """Entities, in an order in which they can be written."""
    yield from _places()
    yield from _people()
    yield from _items()
    yield from _lending()
    yield from _archive()


def daily_rows() -> tuple[Any, list[dict[str, int]]]:
    """A table without a class, and its rows."""
    return daily, [{"day": n, "visits": 10 * n} for n in range(1, 8)]


def _places() -> Iterator[list[Any]]:
    yield [Country(code=code, name=f"Country {code}") for code in ("AT", "CH", "DE")]
    yield [
        City(id=n, name=f"City {n}", country_code=("AT", "CH", "DE")[n % 3])
        for n in range(1, 7)
    ]
    yield [Branch(id=n, name=f"Branch {n}", city_id=n) for n in range(1, 5)]
    yield [Shelf(id=n, label=f"S{n}", branch_id=1 + n % 4) for n in range(1, 13)]
    yield [
        OpeningHours(branch_id=branch, weekday=day, opens=9 + day % 2, closes=18)
        for branch in range(1, 5)
        for day in range(5)
    ]


def _people() -> Iterator[list[Any]]:
    yield [Plan(id=n, name=f"Plan {n}", loans_at_once=5 * n) for n in range(1, 4)]
    yield [Person(id=100, first_name="No", last_name="One", notes="neither")]
    yield [
        Author(
            id=n,
            first_name=_NAMES[n % 6],
            last_name=f"Writer {n}",
            notes=f"note {n}" if n % 2 else None,
            born=1900 + 7 * n,
        )
        for n in range(1, 9)
    ]
    for first in (True, False):  # recruiters go before those whom they recruited
        yield [
            Member(
                id=n,
                first_name=_NAMES[n % 6],
                last_name=f"Reader {n}",
                since=_EPOCH + dt.timedelta(days=n),
                street=f"Street {n}",
                town=f"City {1 + n % 6}",
                plan_id=1 + n % 3,
                recruiter_id=None if first else 11 + n % 3,
            )
            for n in range(11, 31)
            if (n < 14) is first
        ]
    yield [
        Librarian(id=n, first_name="Lib", last_name=f"{n}", branch_id=n - 40)
        for n in range(41, 45)
    ]
    yield [Card(number=f"C{n}", member_id=n) for n in range(11, 25)]


def _items() -> Iterator[list[Any]]:
    for parents in ([None, None], [1, 1, 2], [3, 3, 4, 5]):
        begin = {2: 1, 3: 3, 4: 6}[len(parents)]
        yield [
            Genre(id=begin + n, name=f"Genre {begin + n}", parent_id=parent)
            for n, parent in enumerate(parents)
        ]
    yield [
        Publisher(id=n, name=f"House {n}", details={"rank": n, "cities": [n, n + 1]})
        for n in range(1, 5)
    ]
    yield [Series(id=n, name=f"Series {n}") for n in range(1, 4)]
    tags = [Tag(id=n, word=f"word {n}") for n in range(1, 8)]
    languages = [Language(code=code, name=code * 2) for code in ("de", "en", "fr")]
    yield tags
    yield languages
    yield [_item(n, tags, languages) for n in range(1, 37)]
    yield [
        Edition(book_id=n, number=number, year=1990 + n + number)
        for n in range(3, 37, 3)
        for number in range(1, 1 + n % 4)
    ]
    yield [
        Contribution(item_id=n, author_id=author, role=[*Role][(n + author) % 3])
        for n in range(1, 37)
        for author in sorted({1 + n % 8, 1 + (3 * n) % 8})
    ]


def _item(n: int, tags: list[Tag], languages: list[Language]) -> Item:
    values: dict[str, Any] = {
        "id": n,
        "title": f"Title {n:02}",
        "year": 1950 + 3 * n,
        "publisher_id": n % 5 or None,
        "genre_id": 1 + n % 9 if n % 7 else None,
        "series_id": n % 4 or None,
        "place": n,
        "tags": [tags[n % 7], tags[(n + 2) % 7]] if n % 6 else [],
    }
    if n % 3 == 0:
        spoken = languages[: 1 + n % 3 + n % 2]
        return Book(isbn=f"isbn-{n}", pages=100 + n, languages=spoken, **values)
    if n % 3 == 1:
        return Magazine(issue=n, **values)
    return Film(minutes=60 + n, director=_NAMES[n % 6], **values)


def _lending() -> Iterator[list[Any]]:
    yield [
        Copy(id=n, item_id=1 + n % 36, shelf_id=1 + n % 12, state=[*State][n % 3])
        for n in range(1, 61)
    ]
    yield [
        Loan(
            id=n,
            copy_id=1 + n % 60,
            member_id=11 + n % 17,
            lent_on=_EPOCH + dt.timedelta(days=n),
            returned_on=_EPOCH + dt.timedelta(days=2 * n) if n % 4 else None,
        )
        for n in range(1, 81)
    ]
    yield [Fine(id=n, loan_id=3 * n, amount=0.5 * n) for n in range(1, 16)]
    yield [Reservation(id=n, item_id=n, member_id=11 + n % 5) for n in range(1, 13)]
    yield [
        Review(
            id=n,
            item_id=1 + n % 9,
            member_id=11 + n % 7,
            stars=1 + n % 5,
            details={"words": [f"w{n}"], "long": n % 2 == 0},
        )
        for n in range(1, 25)
    ]
    yield [Comment(id=n, review_id=n, text=f"comment {n}") for n in range(1, 11)]
    yield [
        Comment(id=10 + n, review_id=n, parent_id=n, text=f"answer {n}")
        for n in range(1, 7)
    ]
    yield [Event(id=n, name=f"Evening {n}", branch_id=1 + n % 4) for n in range(1, 6)]
    yield [
        Ticket(event_id=event, member_id=member, seat=10 * event + member)
        for event in range(1, 6)
        for member in range(10 + event, 18)
    ]


def _archive() -> Iterator[list[Any]]:
    devices = [Device(id=n, name=f"device {n}") for n in range(1, 4)]
    labels = [Label(id=n, word=f"label {n}") for n in range(1, 5)]
    yield devices
    yield labels
    yield [
        Search(
            id=n,
            member_id=11 + n % 20,
            words=f"search {n % 6}",
            device_id=1 + n % 3,
            labels=[labels[n % 4]] if n % 3 else [],
        )
        for n in range(1, 31)
    ]
    yield [
        Lent(id=n, day=n % 7, data={"n": n}, loan_id=n)
        if n % 2
        else Closed(id=n, day=n % 7, data={"why": ["holiday"]}, branch_id=1 + n % 4)
        for n in range(1, 21)
    ]
    yield [Batch(id=n, rows=n) for n in range(1, 4)]
    yield [FileBatch(id=n, rows=10 * n, path=f"/in/{n}") for n in range(4, 8)]
