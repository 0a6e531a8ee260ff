"""Which database a statement goes to: that of its tables, wherever it names them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from sqlalchemy import func, select, text
from sqlalchemy.orm import (
    Bundle,
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    mapped_column,
    relationship,
    with_polymorphic,
)

from async_parallel import Query, scalar
from async_parallel import _bind_keys as bind_keys
from async_parallel._bind_keys import BindKeys
from async_parallel.errors import BindConflictError

if TYPE_CHECKING:
    from collections.abc import Callable


class Here(DeclarativeBase):
    """Of the models of the default database."""


class There(DeclarativeBase):
    """Of those of the other one, as Flask-SQLAlchemy notes it."""

    metadata = sa.MetaData(info={"bind_key": "there"})


class User(Here):
    """In the default database."""

    __tablename__ = "user"
    id: Mapped[int] = mapped_column(primary_key=True)


class Log(There):
    """In the other one, with what belongs to it."""

    __tablename__ = "log"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    lines: Mapped[list[Line]] = relationship(back_populates="log")
    words: Mapped[list[Word]] = relationship(secondary="log_word")

    __mapper_args__ = {  # noqa: RUF012 - as SQLAlchemy has it
        "polymorphic_on": "kind",
        "polymorphic_identity": "log",
    }


class LongLog(Log):
    """A joined subclass."""

    __tablename__ = "long_log"
    id: Mapped[int] = mapped_column(sa.ForeignKey("log.id"), primary_key=True)
    pages: Mapped[int]

    __mapper_args__ = {"polymorphic_identity": "long"}  # noqa: RUF012


class Line(There):
    """One of a log."""

    __tablename__ = "line"
    id: Mapped[int] = mapped_column(primary_key=True)
    log_id: Mapped[int] = mapped_column(sa.ForeignKey("log.id"))
    log: Mapped[Log] = relationship(back_populates="lines")


class Word(There):
    """Many to many."""

    __tablename__ = "word"
    id: Mapped[int] = mapped_column(primary_key=True)


log_word = sa.Table(
    "log_word",
    There.metadata,
    sa.Column("log_id", sa.ForeignKey("log.id"), primary_key=True),
    sa.Column("word_id", sa.ForeignKey("word.id"), primary_key=True),
)


def _recursive() -> Any:
    cte = select(Log.id).cte(recursive=True)
    return select(cte.union_all(select(cte.c.id + 1).where(cte.c.id < 3)))


_sub = select(Log).subquery()

# By what they show; each reads tables of the other database alone.
THERE: dict[str, Any] = {
    "an entity": select(Log),
    "a column": select(Log.id),
    "a shape": scalar(select(func.count(Log.id))),
    "a count of a FROM": select(func.count()).select_from(Log),
    "a subclass": select(LongLog),
    "a column of a subclass": select(LongLog.pages),
    "with_polymorphic": select(with_polymorphic(Log, [LongLog])),
    "an alias": select(aliased(Log).id),
    "an entity of a subquery": select(aliased(Log, _sub)),
    "a subquery": select(_sub.c.id),
    "a recursive CTE": _recursive(),
    "a lateral": select(select(Log.id).lateral().c.id),
    "a sample": sa.tablesample(Log, 5).select(),
    "a function of a column": select(func.json_each(Log.kind).table_valued("value")),
    "a relationship": select(Log).join(Log.lines),
    "a secondary table": select(Word.id).join(log_word),
    "any": select(Log).where(Log.lines.any(Line.id == 1)),
    "has": select(Line).where(Line.log.has(kind="log")),
    "exists": select(sa.exists().where(Log.id == 1)),
    "only in WHERE": select(sa.literal(1)).where(Log.id == 1),
    "only in ORDER BY": select(sa.literal(1)).order_by(Log.id),
    "in a scalar subquery": select(func.coalesce(select(Log.id).scalar_subquery(), 0)),
    "a union": sa.union(select(Log.id), select(Line.id)),
    "a bundle": select(Bundle("log", Log.id, Log.kind)),
    "entities of text": select(Log).from_statement(text("SELECT * FROM log")),
    "a window": select(func.row_number().over(order_by=Log.id)),
    "a case": select(sa.case((Log.id == 1, "one"), else_="more")),
    "a table": select(log_word),
    "an insert": sa.insert(Log).values(id=1),
    "an insert from": sa.insert(Log).from_select(["id"], select(Line.id)),
    "an update": sa.update(Log).values(kind="log"),
    "a delete": sa.delete(Line),
    "a new table": sa.schema.CreateTable(log_word),
    "a new index": sa.schema.CreateIndex(sa.Index("at_word", log_word.c.word_id)),
    "a legacy query": Session().query(Log).filter_by(id=1),
    "a legacy join": Session().query(Log).join(Log.lines).count,
    "a legacy count": Session().query(func.count(Line.id)).scalar,
}

DEFAULT: dict[str, Any] = {
    "an entity": select(User),
    "text": text("SELECT * FROM log"),
    "a literal": select(sa.literal(1)),
    "a table of no metadata": select(sa.table("log", sa.column("id"))),
    "a function": lambda session: session.get(Log, 1),
    "a legacy query": Session().query(User).all,
    "a legacy query of nothing": Session().query(),
}


def query(given: Any) -> Query[Any]:
    """A query of it, unless it is one."""
    return given if isinstance(given, Query) else Query(given)


@pytest.mark.parametrize("name", THERE)
def test_a_statement_goes_where_its_tables_are(name: str) -> None:
    """Wherever in it they are named, and only these are."""
    assert BindKeys("default", {}).bind_of(query(THERE[name])) == "there"


@pytest.mark.parametrize("name", DEFAULT)
def test_what_names_no_other_table_goes_to_the_default(name: str) -> None:
    """Functions and text are not looked into."""
    assert BindKeys("default", {}).bind_of(query(DEFAULT[name])) == "default"


@pytest.mark.parametrize(
    "make",
    [
        lambda: select(User, Log),
        lambda: select(User).where(User.id.in_(select(Log.id))),
        lambda: select(Log).join(User, User.id == Log.id),
        lambda: sa.union(select(User.id), select(Line.id)),
        lambda: Session().query(Log, User),
        lambda: Session().query(User).filter(Session().query(Log).exists()).first,
    ],
)
def test_tables_of_two_databases_are_a_conflict(make: Callable[[], Any]) -> None:
    """The error has the query and the tables with their binds, in words too."""
    conflict = Query(make(), label="both")
    with pytest.raises(BindConflictError) as caught:
        BindKeys("default", {}).bind_of(conflict)
    assert caught.value.query == "both"
    assert caught.value.binds["default"] == ["user"]
    assert set(caught.value.binds["there"]) <= {"log", "line"}
    assert str(caught.value).startswith("'both', over tables of several binds ('user'")


def test_tables_of_one_name_are_told_apart() -> None:
    """A conflict is not hidden by a table of the same name in both."""
    twin = sa.Table("user", There.metadata, sa.Column("id", sa.Integer))
    try:
        both = Query(select(User.id).join(twin, twin.c.id == User.id))
        with pytest.raises(BindConflictError) as caught:
            BindKeys("default", {}).bind_of(both)
        assert caught.value.binds == {"default": ["user"], "there": ["user"]}
    finally:
        There.metadata.remove(twin)


def test_a_statement_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is asked again is known; one that is gone is forgotten."""
    looked: list[Any] = []
    tables_of = bind_keys.tables_of

    def look(statement: Any) -> Any:
        looked.append(1)
        return tables_of(statement)

    monkeypatch.setattr(bind_keys, "tables_of", look)
    keys = BindKeys("default", {})
    statement = select(Log)
    assert [keys.bind_of(Query(statement)) for _ in range(3)] == ["there"] * 3
    assert len(looked) == 1
    assert len(keys._statements) == 1
    del statement
    assert len(keys._statements) == 0


class Plain(DeclarativeBase):
    """Of models without a bind key, as a session's ``binds`` tell them apart."""


class Event(Plain):
    """Assigned by the class itself, or by its base."""

    __tablename__ = "event"
    id: Mapped[int] = mapped_column(primary_key=True)
    guests: Mapped[list[Guest]] = relationship(secondary="event_guest")


class Guest(Plain):
    """Assigned in other ways."""

    __tablename__ = "guest"
    id: Mapped[int] = mapped_column(primary_key=True)


event_guest = sa.Table(
    "event_guest",
    Plain.metadata,
    sa.Column("event_id", sa.ForeignKey("event.id"), primary_key=True),
    sa.Column("guest_id", sa.ForeignKey("guest.id"), primary_key=True),
)


@pytest.mark.parametrize(
    "key", [Event, sa.inspect(Event), Event.__table__, Plain], ids=str
)
def test_the_binds_of_a_session_tell_it_too(key: Any) -> None:
    """By class, mapper, table or base class, as SQLAlchemy has them."""
    keys = BindKeys("default", {key: "events"})
    assert keys.bind_of(Query(select(Event))) == "events"
    assert keys.bind_of(Query(select(User))) == "default"


def test_the_nearest_class_counts() -> None:
    """A class goes before its base, whatever comes first."""
    for assigned in (
        {Plain: "plain", Guest: "guests"},
        {Guest: "guests", Plain: "plain"},
    ):
        keys = BindKeys("default", assigned)
        assert keys.bind_of(Query(select(Guest))) == "guests"
        assert keys.bind_of(Query(select(Event))) == "plain"


def test_an_association_table_goes_with_the_others() -> None:
    """It has no class to be assigned by, but foreign keys stay in their database."""
    keys = BindKeys("default", {Event: "events", Guest: "events"})
    assert keys.bind_of(Query(select(Event).join(Event.guests))) == "events"
    assert keys.bind_of(Query(select(event_guest))) == "events"


def test_a_class_that_is_assigned_to_none_is_in_the_default() -> None:
    """Together with one that is, it is a conflict."""
    keys = BindKeys("default", {Event: "events"})
    assert keys.bind_of(Query(select(Guest))) == "default"
    with pytest.raises(BindConflictError):
        keys.bind_of(Query(select(Event).join(Guest, Guest.id == Event.id)))


def test_foreign_keys_may_lead_round_and_nowhere() -> None:
    """They are followed as far as they lead."""
    metadata = sa.MetaData()
    lost = sa.Table("lost", metadata, sa.Column("id", sa.ForeignKey("nowhere.id")))
    ring = [
        sa.Table(
            name,
            metadata,
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("other_id", sa.ForeignKey(f"{other}.id")),
        )
        for name, other in (("one", "two"), ("two", "one"))
    ]
    keys = BindKeys("default", {Event: "events"})
    for table in (lost, *ring):
        assert keys.bind_of(Query(select(table))) == "default"
    keys = BindKeys("default", {ring[1]: "two"})
    assert [keys.bind_of(Query(select(table))) for table in ring] == ["two", "two"]


def test_a_class_that_is_made_later_is_found() -> None:
    """A base class is asked for its subclasses when a table is first met."""
    keys = BindKeys("default", {Plain: "plain"})
    keys.bind_of(Query(select(Event)))
    late = type(
        "Late",
        (Plain,),
        {"__tablename__": "late", "id": sa.Column(sa.Integer, primary_key=True)},
    )
    assert keys.bind_of(Query(select(late))) == "plain"
