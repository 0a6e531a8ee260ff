"""A library of some size: each query, gathered, gives what it gives alone."""

from __future__ import annotations

import functools
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from library import Library, make_library, picture
from library.base import db
from library.legacy import FUNCTIONS, LEGACY
from library.people import Author, Person
from library.statements import STATEMENTS
from sqlalchemy import TextClause, create_engine, select, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import selectin_polymorphic

from async_parallel import gather_queries, run_in_parallel
from async_parallel.errors import DetachedAttributeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*Query.get.*:sqlalchemy.exc.LegacyAPIWarning"
)


def run_statement(statement: Any) -> Any:
    """What a statement gives in the application's own session."""
    options: dict[str, Any] = {}
    for name in ("daily", "search_label"):
        # Flask-SQLAlchemy asks the default database for a table without a class.
        if f"FROM {name}" in str(statement):
            options["bind_arguments"] = {"bind": db.engines["archive"]}
    result = db.session.execute(statement, **options)
    try:
        rows = result.all()
    except InvalidRequestError:  # collections that were joined
        rows = db.session.execute(statement, **options).unique().all()
    # Not by its keys(), among which an alias has none.
    is_one = bool(rows) and len(rows[0]) == 1 and not isinstance(statement, TextClause)
    return [row[0] for row in rows] if is_one else [*rows]


def run_method(method: Callable[[], Any]) -> Any:
    """What a method of a legacy query gives in the session that it has."""
    return method()


def run_function(function: Callable[[Any], Any]) -> Any:
    """What a function gives with the application's own session."""
    return function(db.session())


EVERY: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = (
    {f"statement, {name}": (make, run_statement) for name, make in STATEMENTS.items()}
    | {f"legacy, {name}": (make, run_method) for name, make in LEGACY.items()}
    | {
        f"function, {name}": (functools.partial(lambda f: f, function), run_function)
        for name, function in FUNCTIONS.items()
    }
)


@pytest.fixture(scope="module", params=["postgresql", "sqlite"])
def library(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Library]:
    """The library on each kind of database in turn, on two of them."""
    folder: Path = tmp_path_factory.mktemp("library")
    if request.param == "sqlite":
        library = make_library("sqlite:///main.db", "sqlite:///archive.db", folder)
        yield library
        library.close()
        return
    server: str = request.getfixturevalue("postgres_url")
    names = ["library", "library_archive"]
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    urls = [
        engine.url.set(database=name).render_as_string(hide_password=False)
        for name in names
    ]
    with engine.connect() as connection:
        for name in names:
            connection.execute(text(f"DROP DATABASE IF EXISTS {name}"))
            connection.execute(text(f"CREATE DATABASE {name}"))
    library = make_library(urls[0], urls[1], folder)
    with library.app.app_context():
        run_in_parallel(text("SELECT 1"))  # starts the portal
    yield library
    library.close()
    with engine.connect() as connection:
        for name in names:
            connection.execute(text(f"DROP DATABASE {name}"))
    engine.dispose()


@pytest.fixture
def request_context(library: Library) -> Iterator[None]:
    """A request of the application, after which no thread more is left than before."""
    with library.app.test_request_context():
        yield
    if library.has_threads:
        library.extension.close()


def alone(name: str) -> Any:
    """A picture of what a query gives by itself, in a session that knows nothing."""
    make, run = EVERY[name]
    db.session.remove()
    seen = picture(run(make()))
    db.session.remove()
    return seen


def test_the_library_is_of_some_size() -> None:
    """It has at least 30 models, and more than 50 queries for two databases."""
    model: Any = db.Model
    mappers = {*model.registry.mappers}
    assert len(mappers) >= 30
    assert {mapper.class_.metadata.info["bind_key"] for mapper in mappers} == {
        None,
        "archive",
    }
    assert len(EVERY) > 100


@pytest.mark.parametrize("name", EVERY)
def test_a_query_gives_what_it_gives_alone(name: str, request_context: None) -> None:
    """Entity by entity: classes, keys, what is loaded, and what is loaded with it."""
    expected = alone(name)
    make, _ = EVERY[name]
    first, second = run_in_parallel(make(), make())
    assert picture(first) == expected
    assert picture(second) == expected


def test_all_queries_in_one_gather_of_an_async_view(
    library: Library, request_context: None
) -> None:
    """Over a hundred queries of both databases at once, each as it is alone."""
    expected = {name: alone(name) for name in EVERY}

    async def view() -> Any:
        return await gather_queries({name: make() for name, (make, _) in EVERY.items()})

    found = library.app.async_to_sync(view)()
    assert [*found] == [*EVERY]
    for name, value in found.items():
        assert picture(value) == expected[name], name


def test_all_queries_in_one_gather_of_a_synchronous_view(
    library: Library, request_context: None
) -> None:
    """The same, where the view is a plain function."""
    expected = {name: alone(name) for name in EVERY}
    found = run_in_parallel({name: make() for name, (make, _) in EVERY.items()})
    assert {name: picture(value) for name, value in found.items()} == expected


def test_the_columns_of_a_subclass_name_what_loads_them(
    library: Library, request_context: None
) -> None:
    """Where the base was asked for; what the error advises is right."""
    authors: Any = select(Person).where(Person.kind == "author").limit(1)
    ((person,),) = run_in_parallel(authors)
    advice = r"add \.options\(selectin_polymorphic\(Person, \[Author\]\)\) to"
    with pytest.raises(DetachedAttributeError, match=advice) as caught:
        _ = person.born
    assert (caught.value.entity, caught.value.attribute) == ("Author", "born")
    kept = pickle.dumps(person)
    advised = authors.options(selectin_polymorphic(Person, [Author]))
    ((other,),) = run_in_parallel(advised)
    for again in (person, pickle.loads(kept)):
        db.session.add(again)
        assert again.born == other.born
        db.session.expunge(again)
    ((attached,),) = run_in_parallel(authors, into=db.session)
    assert attached.born == other.born
