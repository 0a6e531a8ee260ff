"""The Flask extension: configuration, views of both kinds, the home loop, binds."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask, current_app, g, request, session
from flask.views import MethodView, View
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy_lite import SQLAlchemy as SQLAlchemyLite
from shop import User, make_shop
from sqlalchemy import create_engine, event, func, select, text
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from async_parallel import AsyncParallel, gather_queries, run_in_parallel, scalar_one
from async_parallel._bind_keys import BindKeys
from async_parallel._engine import async_url
from async_parallel.errors import (
    BindNotFoundError,
    ConfigurationError,
    ExtensionNotFoundError,
    HomeLoopError,
    PatchedProcessError,
    QueryTypeError,
    UnsupportedDatabaseError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy.orm import ORMExecuteState

IDS = select(User.id).order_by(User.id)
COUNT = scalar_one(select(func.count()).select_from(User))

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant")


class Apps:
    """Makes applications, and closes the extensions on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.extensions: list[AsyncParallel] = []

    def bare(self, **config: Any) -> Flask:
        """An application without the extension."""
        folder = str(self.folder)
        app = Flask("shop", root_path=folder, instance_path=folder)
        app.config.update(SECRET_KEY="tests", TESTING=True, **config)
        return app

    def extension(self) -> AsyncParallel:
        """An extension on no application yet."""
        self.extensions.append(AsyncParallel())
        return self.extensions[-1]

    def make(self, url: str | None = None, **config: Any) -> Flask:
        """An application with the extension."""
        if url is not None:
            config["ASYNC_PARALLEL_DATABASE_URI"] = url
        app = self.bare(**config)
        self.extension().init_app(app)
        return app


@pytest.fixture
def apps(tmp_path: Path) -> Iterator[Apps]:
    """Applications, whose extensions are closed after the test."""
    apps = Apps(tmp_path)
    yield apps
    for extension in apps.extensions:
        extension.close()


@pytest.fixture
def app(database: str, apps: Apps) -> Flask:
    """An application on each database in turn."""
    return apps.make(database)


def extension_of(app: Flask) -> AsyncParallel:
    """The extension of an application."""
    extension: AsyncParallel = app.extensions["async_parallel"]
    return extension


def add_views(app: Flask, queries: Callable[[], Any], **options: Any) -> None:
    """Gather ``queries()`` in a synchronous view, /sync, and an async one, /async."""

    @app.get("/sync")
    def sync_view() -> Any:
        return {"results": run_in_parallel(queries(), **options)}

    @app.get("/async")
    async def async_view() -> Any:
        return {"results": await gather_queries(queries(), **options)}


def get(app: Flask, path: str = "/") -> Any:
    """What the test client gets as JSON."""
    response = app.test_client().get(path)
    assert response.status_code == 200, response.text
    return response.get_json()


both_kinds = pytest.mark.parametrize("path", ["/sync", "/async"])


# Configuration.


def test_each_setting_has_a_default(apps: Apps) -> None:
    """Every optional key is in the configuration after ``init_app``."""
    config = apps.make().config
    assert {key: config[key] for key in config if key.startswith("ASYNC_PARALLEL")} == {
        "ASYNC_PARALLEL_ENGINE_OPTIONS": {},
        "ASYNC_PARALLEL_MAX_CONNECTIONS": 15,
        "ASYNC_PARALLEL_MAX_CONCURRENCY": None,
        "ASYNC_PARALLEL_TIMEOUT": None,
        "ASYNC_PARALLEL_LANE_TIMEOUT": 30.0,
        "ASYNC_PARALLEL_MAX_WAITING": 1000,
        "ASYNC_PARALLEL_MAX_AGE": None,
        "ASYNC_PARALLEL_HOLD_AND_WAIT": None,
        "ASYNC_PARALLEL_SHARED_LOOP": True,
    }


def test_a_setting_is_kept(apps: Apps) -> None:
    """``init_app`` leaves what is configured as it is."""
    settings: dict[str, Any] = {
        "ASYNC_PARALLEL_ENGINE_OPTIONS": {"echo": False},
        "ASYNC_PARALLEL_MAX_CONNECTIONS": 2,
        "ASYNC_PARALLEL_MAX_CONCURRENCY": 3,
        "ASYNC_PARALLEL_TIMEOUT": 4,
        "ASYNC_PARALLEL_LANE_TIMEOUT": 5,
        "ASYNC_PARALLEL_SHARED_LOOP": False,
    }
    config = apps.make(**settings).config
    assert {key: config[key] for key in settings} == settings


def test_max_connections_and_max_concurrency_bound_a_gather(
    sqlite: str, apps: Apps
) -> None:
    """The configured limits are those of every gather of the application."""
    running = 0

    async def query(db: AsyncSession) -> int:
        nonlocal running
        running += 1
        seen = running
        await db.scalar(text("SELECT 1"))
        running -= 1
        return seen

    for limit in ("MAX_CONNECTIONS", "MAX_CONCURRENCY"):
        app = apps.make(sqlite, **{f"ASYNC_PARALLEL_{limit}": 1})
        with app.app_context():
            assert run_in_parallel([query] * 5) == [1] * 5


def test_the_timeout_of_the_configuration_applies(sqlite: str, apps: Apps) -> None:
    """A gather without a timeout of its own has that of the application."""
    app = apps.make(sqlite, ASYNC_PARALLEL_TIMEOUT=0.01)

    async def never(db: AsyncSession) -> None:
        await asyncio.Event().wait()

    with app.app_context(), pytest.raises(TimeoutError, match=r"after 0\.01 s"):
        run_in_parallel(never)


def test_sqlalchemy_database_uri_is_the_fallback(sqlite: str, apps: Apps) -> None:
    """Without a URI of its own the extension reads ``SQLALCHEMY_DATABASE_URI``."""
    with apps.make(SQLALCHEMY_DATABASE_URI=sqlite).app_context():
        assert run_in_parallel(COUNT) == (3,)


def test_the_own_uri_goes_before_that_of_sqlalchemy(sqlite: str, apps: Apps) -> None:
    """``ASYNC_PARALLEL_DATABASE_URI`` wins over ``SQLALCHEMY_DATABASE_URI``."""
    app = apps.make(sqlite, SQLALCHEMY_DATABASE_URI="sqlite:////nowhere/else.db")
    SQLAlchemy(app)
    with app.app_context():
        assert run_in_parallel(COUNT) == (3,)


def test_flask_sqlalchemy_gives_its_engines(apps: Apps) -> None:
    """Default and binds of Flask-SQLAlchemy are known, relative to the instance."""
    for name in ("shop", "more"):
        make_shop(f"sqlite:///{apps.folder / name}.db")
    app = apps.make(
        SQLALCHEMY_DATABASE_URI="sqlite:///shop.db",
        SQLALCHEMY_BINDS={"more": "sqlite:///more.db"},
    )
    SQLAlchemy(app)
    with app.app_context():
        extension = extension_of(app)
        for bind, name in ((None, "shop"), ("more", "more")):
            url = extension.gatherer(bind).engine.url
            assert url.database == str(apps.folder / f"{name}.db")
            assert run_in_parallel(COUNT, bind=bind) == (3,)


def test_flask_sqlalchemy_may_come_after_the_extension(sqlite: str, apps: Apps) -> None:
    """Engines are looked up at the first gather, so either may be initialised first."""
    app = apps.make()
    db = SQLAlchemy()
    app.config["SQLALCHEMY_DATABASE_URI"] = sqlite
    db.init_app(app)
    with app.app_context():
        assert run_in_parallel(COUNT) == (3,)


def test_flask_sqlalchemy_lite_gives_its_engines(apps: Apps) -> None:
    """The synchronous engines of Flask-SQLAlchemy-Lite give their URLs."""
    for name in ("shop", "more"):
        make_shop(f"sqlite:///{apps.folder / name}.db")
    engines = {"default": "sqlite:///shop.db", "more": "sqlite:///more.db"}
    app = apps.make(SQLALCHEMY_ENGINES=engines)
    SQLAlchemyLite(app)
    with app.app_context():
        for bind in (None, "default", "more"):
            assert run_in_parallel(COUNT, bind=bind) == (3,)
        url = extension_of(app).gatherer("more").engine.url
        assert url.database == str(apps.folder / "more.db")


def test_an_async_engine_of_flask_sqlalchemy_lite_is_used_as_it_is(
    database: str, apps: Apps
) -> None:
    """The async engine goes before the synchronous one of the same name."""
    app = apps.make(
        SQLALCHEMY_ENGINES={"default": "sqlite:////nowhere/else.db"},
        SQLALCHEMY_ASYNC_ENGINES={"default": async_url(database)},
    )
    db = SQLAlchemyLite(app)
    with app.app_context():
        assert extension_of(app).gatherer().engine is db.async_engine
        assert run_in_parallel(COUNT) == (3,)
        app.async_to_sync(db.async_engine.dispose)()


def test_binds_may_be_urls_mappings_and_engines(sqlite: str, apps: Apps) -> None:
    """``ASYNC_PARALLEL_BINDS`` takes each of the three, next to the default."""
    engine = create_async_engine(async_url(sqlite), poolclass=NullPool)
    app = apps.make(
        sqlite,
        ASYNC_PARALLEL_BINDS={
            "url": sqlite,
            "mapping": {"url": sqlite, "logging_name": "own"},
            "engine": engine,
        },
    )
    add_views(app, lambda: [COUNT], bind="mapping")
    with app.app_context():
        for bind in (None, "default", "url", "mapping", "engine"):
            assert run_in_parallel(COUNT, bind=bind) == (3,)
        extension = extension_of(app)
        assert extension.gatherer("engine").engine is engine
        assert extension.gatherer("mapping").engine.sync_engine.logging_name == "own"
    assert get(app, "/async") == get(app, "/sync") == {"results": [3]}


@pytest.mark.parametrize("binds", [0, 1])
def test_with_one_database_no_query_is_looked_into(
    sqlite: str, apps: Apps, monkeypatch: pytest.MonkeyPatch, binds: int
) -> None:
    """Where its tables are is asked only where there are several."""
    looked: list[Any] = []

    def look(_keys: BindKeys, query: object) -> str:
        looked.append(query)
        return "default"

    monkeypatch.setattr(BindKeys, "bind_of", look)
    app = apps.make(sqlite, ASYNC_PARALLEL_BINDS={"more": sqlite} if binds else {})
    with app.app_context():
        assert run_in_parallel(COUNT) == (3,)
    assert len(looked) == binds


def test_a_bind_may_replace_one_of_flask_sqlalchemy(sqlite: str, apps: Apps) -> None:
    """What ``ASYNC_PARALLEL_BINDS`` says goes before the engines of others."""
    app = apps.make(
        SQLALCHEMY_DATABASE_URI="sqlite:////nowhere/else.db",
        SQLALCHEMY_BINDS={"more": "sqlite:////nowhere/else.db"},
        ASYNC_PARALLEL_BINDS={"more": sqlite, "default": sqlite},
    )
    SQLAlchemy(app)
    with app.app_context():
        assert run_in_parallel(COUNT, bind="more") == (3,)
        assert run_in_parallel(COUNT) == (3,)


def test_engine_options_are_merged(sqlite: str, apps: Apps) -> None:
    """A bind's own options go before those of all."""
    app = apps.make(
        sqlite,
        ASYNC_PARALLEL_ENGINE_OPTIONS={"logging_name": "all", "hide_parameters": True},
        ASYNC_PARALLEL_BINDS={"own": {"url": sqlite, "logging_name": "own"}},
    )
    with app.app_context():
        for bind, name in ((None, "all"), ("own", "own")):
            engine = extension_of(app).gatherer(bind).engine.sync_engine
            assert engine.logging_name == name
            assert engine.hide_parameters


LIMITS = ["MAX_CONNECTIONS", "MAX_CONCURRENCY", "TIMEOUT", "LANE_TIMEOUT"]


@pytest.mark.parametrize("value", [0, -1, "5", float("nan")])
@pytest.mark.parametrize("name", LIMITS)
def test_a_bad_limit_is_refused_at_init_app(
    apps: Apps, name: str, value: object
) -> None:
    """A limit that is not positive, or no number, is refused by the name of its key."""
    app = apps.bare(**{f"ASYNC_PARALLEL_{name}": value})
    with pytest.raises(ConfigurationError, match=f"ASYNC_PARALLEL_{name}") as caught:
        apps.extension().init_app(app)
    assert repr(value) in str(caught.value)
    assert "async_parallel" not in app.extensions


@pytest.mark.parametrize("name", ["MAX_CONNECTIONS", "LANE_TIMEOUT"])
def test_a_limit_that_must_be_there_is_not_none(apps: Apps, name: str) -> None:
    """``None`` is refused for the two limits that every application has."""
    with pytest.raises(ConfigurationError, match=f"ASYNC_PARALLEL_{name}"):
        apps.make(**{f"ASYNC_PARALLEL_{name}": None})


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("mysql://u:secret@h/db", UnsupportedDatabaseError, "postgresql"),
        ("sqlite://", UnsupportedDatabaseError, "cache=shared"),
        ("sqlite:///:memory:", UnsupportedDatabaseError, "cache=shared"),
        ("postgresql://u:secret@h/db?odd=1", UnsupportedDatabaseError, "'odd'"),
        ("secret", ConfigurationError, "ASYNC_PARALLEL_"),
        (7, ConfigurationError, "ASYNC_PARALLEL_"),
    ],
)
@pytest.mark.parametrize("key", ["DATABASE_URI", "BINDS"])
def test_a_bad_url_is_refused_at_init_app(
    apps: Apps, key: str, url: object, error: type[Exception], message: str
) -> None:
    """A URL that cannot be used is refused before the first request."""
    app = apps.bare(
        **{f"ASYNC_PARALLEL_{key}": {"more": url} if key == "BINDS" else url}
    )
    with pytest.raises(error, match=message) as caught:
        apps.extension().init_app(app)
    assert isinstance(caught.value, ConfigurationError)
    assert "secret" not in str(caught.value)
    assert "async_parallel" not in app.extensions


@pytest.mark.parametrize(
    ("binds", "message"),
    [
        ({"more": {"echo": True}}, r"'url'.*\['echo'\]"),
        ("sqlite:///shop.db", "ASYNC_PARALLEL_BINDS"),
    ],
)
def test_bad_binds_are_refused_at_init_app(
    apps: Apps, binds: object, message: str
) -> None:
    """Binds are a mapping, and a bind that is one has a ``url``."""
    with pytest.raises(ConfigurationError, match=message):
        apps.make(ASYNC_PARALLEL_BINDS=binds)


def test_private_memory_of_flask_sqlalchemy_is_refused_by_the_gather(
    apps: Apps,
) -> None:
    """A database of another extension that cannot be used is found at the gather."""
    app = apps.make(SQLALCHEMY_DATABASE_URI="sqlite://")
    SQLAlchemy(app)
    with app.app_context(), pytest.raises(UnsupportedDatabaseError) as caught:
        run_in_parallel(COUNT)
    assert isinstance(caught.value, ArgumentError)


# Where there is no application, extension or database.


def test_a_second_init_app_is_refused(apps: Apps) -> None:
    """An application has one extension; the error says where it is."""
    app = apps.make()
    for extension in (extension_of(app), apps.extension()):
        with pytest.raises(ConfigurationError, match=r"extensions\['async_parallel'\]"):
            extension.init_app(app)


def test_without_an_application_there_is_no_gather() -> None:
    """Outside an application context the error says how to make one."""
    with pytest.raises(ExtensionNotFoundError, match=r"with app\.app_context\(\):"):
        run_in_parallel(COUNT)
    with pytest.raises(ExtensionNotFoundError, match="QueryGatherer"):
        asyncio.run(gather_queries(COUNT))


def test_without_the_extension_there_is_no_gather(apps: Apps) -> None:
    """On an application without the extension the error says how to initialise it."""
    message = r"'shop'.*AsyncParallel\(app"
    with (
        apps.bare().app_context(),
        pytest.raises(ExtensionNotFoundError, match=message),
    ):
        run_in_parallel(COUNT)


def test_an_extension_knows_its_own_applications_only(apps: Apps) -> None:
    """The gatherer of another extension's application is an error, not a guess."""
    other = apps.extension()
    with (
        apps.make("sqlite:///shop.db").app_context(),
        pytest.raises(ExtensionNotFoundError, match="'shop'"),
    ):
        other.gatherer()


def test_an_unknown_bind_is_refused_with_those_there_are(
    sqlite: str, apps: Apps
) -> None:
    """The error of a bind that is not configured lists the others."""
    app = apps.make(sqlite, ASYNC_PARALLEL_BINDS={"more": sqlite})
    with app.app_context(), pytest.raises(BindNotFoundError) as caught:
        run_in_parallel(COUNT, bind="odd")
    assert caught.value.bind == "odd"
    assert caught.value.known == ["default", "more"]
    assert "There is no bind 'odd'. Configured: 'default', 'more'." in str(caught.value)
    assert "ASYNC_PARALLEL_BINDS" in str(caught.value)
    assert isinstance(caught.value, (ConfigurationError, LookupError))


def test_without_a_database_the_error_names_the_key(apps: Apps) -> None:
    """Where no database is configured, the error says what to set."""
    with apps.make().app_context():
        with pytest.raises(ConfigurationError, match="ASYNC_PARALLEL_DATABASE_URI"):
            run_in_parallel(COUNT)
        with pytest.raises(BindNotFoundError, match="Configured: none"):
            run_in_parallel(COUNT, bind="more")


# Views.


@both_kinds
@pytest.mark.parametrize(
    ("queries", "results"),
    [
        ((IDS, COUNT), [[1, 2, 3], 3]),
        ([IDS, COUNT], [[1, 2, 3], 3]),
        ({"ids": IDS, "count": COUNT}, {"ids": [1, 2, 3], "count": 3}),
        ((), []),
        ([], []),
        ({}, {}),
    ],
)
def test_views_of_both_kinds_gather(
    app: Flask, path: str, queries: Any, results: object
) -> None:
    """A synchronous view and an async one get the same results, in their order."""
    add_views(app, lambda: queries)
    assert get(app, path) == {"results": results}
    assert get(app, path) == {"results": results}


def test_the_results_have_the_type_of_the_arguments(sqlite: str, apps: Apps) -> None:
    """Several arguments give a tuple, a list a list, and a mapping a dict."""
    with apps.make(sqlite).app_context():
        assert run_in_parallel(IDS, COUNT) == ([1, 2, 3], 3)
        assert run_in_parallel((IDS, COUNT)) == ([1, 2, 3], 3)
        assert run_in_parallel([IDS, COUNT]) == [[1, 2, 3], 3]
        assert run_in_parallel({7: COUNT}) == {7: 3}


@pytest.mark.parametrize("empty", [(), [], {}])
def test_an_empty_gather_takes_no_connection_and_no_thread(
    sqlite: str, apps: Apps, empty: Any
) -> None:
    """No queries give the empty answer of their type, and nothing is started."""
    app = apps.make(sqlite)
    before = set(threading.enumerate())
    with app.app_context():
        opened = connections_of(app)
        assert run_in_parallel(empty) == empty
        assert type(run_in_parallel(empty)) is type(empty)
        assert run_in_parallel() == ()
    assert opened == []
    assert set(threading.enumerate()) == before


def connections_of(app: Flask) -> list[object]:
    """A list that grows with each connection of the default database."""
    opened: list[object] = []
    with app.app_context():
        engine = extension_of(app).gatherer().engine.sync_engine
    event.listen(engine, "connect", lambda *args: opened.append(1))
    return opened


def test_queries_of_a_view_overlap(app: Flask) -> None:
    """The queries of a synchronous view run at once: each waits for the others."""
    overlap = asyncio.Barrier(5)

    async def meet(db: AsyncSession) -> int:
        await overlap.wait()
        return int(await db.scalar(text("SELECT 1")) or 0)

    add_views(app, lambda: [meet] * 5, timeout=30)
    assert get(app, "/sync") == get(app, "/async") == {"results": [1] * 5}


def test_run_in_parallel_in_an_async_view_names_gather_queries(app: Flask) -> None:
    """A blocking call on the loop is refused at once, with what to write instead."""

    @app.get("/")
    async def view() -> Any:
        return run_in_parallel([COUNT])

    with pytest.raises(HomeLoopError, match=r"await gather_queries\(\.\.\.\)"):
        app.test_client().get("/")


@both_kinds
def test_a_refused_query_reaches_the_view(app: Flask, path: str) -> None:
    """What is no query raises in the view that gave it."""
    add_views(app, lambda: ["SELECT 1"])
    with pytest.raises(QueryTypeError, match=r"text\('SELECT 1'\)"):
        app.test_client().get(path)


def test_bad_limits_of_a_call_are_value_errors(app: Flask) -> None:
    """A limit that is not positive is refused by its name."""
    with app.app_context():
        for name in ("max_concurrency", "timeout"):
            limit: Any = {name: 0}
            with pytest.raises(
                ValueError, match=f"{name} must be a number greater than 0"
            ):
                run_in_parallel(COUNT, **limit)


def test_a_hundred_requests_share_warm_connections(app: Flask) -> None:
    """Requests one after another reuse the connections of the first ones."""
    add_views(app, lambda: [COUNT, COUNT])
    opened = connections_of(app)
    client = app.test_client()
    for _ in range(100):
        for path in ("/async", "/sync"):
            assert client.get(path).get_json() == {"results": [3, 3]}
    assert 1 <= len(opened) <= 2


def test_the_portal_is_the_one_thread_more(postgres: str, apps: Apps) -> None:
    """Async views and gathers share one thread, and ``close()`` ends it."""
    app = apps.make(postgres)
    add_views(app, lambda: [COUNT] * 3)
    before = set(threading.enumerate())
    for _ in range(3):
        assert get(app, "/async") == get(app, "/sync")
        (portal,) = set(threading.enumerate()) - before
        assert portal.name == "async_parallel portal"
    extension_of(app).close()
    assert set(threading.enumerate()) == before


def test_the_extension_may_be_closed_and_used_again(app: Flask) -> None:
    """After ``close()`` the next request opens what it needs."""
    add_views(app, lambda: [COUNT])
    for _ in range(3):
        assert get(app, "/async") == get(app, "/sync") == {"results": [3]}
        extension_of(app).close()
        extension_of(app).close()


def test_an_async_view_without_a_gather_is_closed_too(apps: Apps) -> None:
    """The portal that ran a plain async view ends with the extension."""
    app = apps.make()

    @app.get("/")
    async def view() -> dict[str, str]:
        return {"thread": threading.current_thread().name}

    assert get(app) == {"thread": "async_parallel portal"}


@both_kinds
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_error_handler_sees_the_original_exception(
    app: Flask, path: str, kind: str
) -> None:
    """The error handler gets what the query raised, with a note that names it."""

    class GoneError(Exception):
        pass

    def report(db: Session) -> None:
        raise GoneError

    def answer(error: GoneError) -> dict[str, Any]:
        return {"type": type(error).__name__, "notes": error.__notes__}

    async def answer_async(error: GoneError) -> dict[str, Any]:
        return answer(error)

    app.register_error_handler(GoneError, answer if kind == "sync" else answer_async)
    add_views(app, lambda: {"ids": IDS, "report": report})
    assert get(app, path) == {
        "type": "GoneError",
        "notes": ["async_parallel: query 2 of 2, 'report'"],
    }


def seen_by_query() -> list[str]:
    """What a query can read of its request."""
    return [
        str(g.user),
        request.path,
        str(session["basket"]),
        current_app.name,
        tenant.get(),
    ]


@both_kinds
def test_a_query_reads_the_request_of_its_caller(app: Flask, path: str) -> None:
    """``g``, ``request``, ``session``, ``current_app`` and contextvars are readable."""

    def synchronous(db: Session) -> list[str]:
        return seen_by_query()

    async def asynchronous(db: AsyncSession) -> list[str]:
        await db.scalar(text("SELECT 1"))
        return seen_by_query()

    @app.before_request
    def enter() -> None:
        g.user = "someone"
        session["basket"] = "full"
        tenant.set("green")

    add_views(app, lambda: [synchronous, asynchronous])
    expected = ["someone", path, "full", "shop", "green"]
    assert get(app, path) == {"results": [expected, expected]}


@both_kinds
def test_a_contextvar_reaches_events_of_the_session(app: Flask, path: str) -> None:
    """A ``do_orm_execute`` event sees the contextvars of the request it is for."""
    seen: list[str] = []

    def note(state: ORMExecuteState) -> None:
        seen.append(tenant.get())

    @app.before_request
    def enter() -> None:
        tenant.set(request.args["tenant"])

    def report(db: Session) -> int:
        return db.scalar(IDS) or 0

    add_views(app, lambda: [IDS, report])
    event.listen(Session, "do_orm_execute", note)
    try:
        for name in ("green", "blue"):
            get(app, f"{path}?tenant={name}")
    finally:
        event.remove(Session, "do_orm_execute", note)
    assert seen == ["green", "green", "blue", "blue"]


# Async functions other than views.


def test_async_hooks_run_and_gather(app: Flask) -> None:
    """Async hooks, error handlers and teardown functions run in their order."""
    ran: list[str] = []

    @app.before_request
    async def before() -> None:
        (g.count,) = await gather_queries(COUNT)
        ran.append("before")

    @app.after_request
    async def after(response: Any) -> Any:
        (count,) = await gather_queries(COUNT)
        response.headers["X-Count"] = str(count)
        ran.append("after")
        return response

    @app.teardown_request
    async def teardown(error: BaseException | None) -> None:
        await gather_queries(COUNT)
        ran.append("teardown")

    @app.errorhandler(404)
    async def missing(error: Exception) -> tuple[str, int]:
        (count,) = await gather_queries(COUNT)
        return f"{count} of {g.count}", 404

    response = app.test_client().get("/missing")
    assert (response.status_code, response.text) == (404, "3 of 3")
    assert response.headers["X-Count"] == "3"
    assert ran == ["before", "after", "teardown"]


def test_class_based_views_may_be_async(app: Flask) -> None:
    """Async methods of a ``MethodView`` and an async ``View`` gather."""

    class Users(MethodView):
        async def get(self) -> dict[str, Any]:
            return {"results": await gather_queries([IDS])}

        def post(self) -> dict[str, Any]:
            return {"results": run_in_parallel([IDS])}

    class Count(View):
        init_every_request = False

        async def dispatch_request(self) -> Any:  # type: ignore[override]
            return {"results": await gather_queries([COUNT])}

    app.add_url_rule("/users", view_func=Users.as_view("users"))
    app.add_url_rule("/count", view_func=Count.as_view("count"))
    assert get(app, "/users") == {"results": [[1, 2, 3]]}
    assert app.test_client().post("/users").get_json() == {"results": [[1, 2, 3]]}
    assert get(app, "/count") == {"results": [3]}


@both_kinds
def test_a_contextvar_set_in_an_async_hook_is_seen_in_the_view(
    app: Flask, path: str
) -> None:
    """What an async ``before_request`` sets is set in later functions of any kind."""

    @app.before_request
    async def enter() -> None:
        tenant.set("green")

    @app.after_request
    def leave(response: Any) -> Any:
        response.headers["X-Tenant"] = tenant.get()
        return response

    @app.get("/sync")
    def sync_view() -> list[str]:
        return [tenant.get()]

    @app.get("/async")
    async def async_view() -> list[str]:
        return [tenant.get()]

    response = app.test_client().get(path)
    assert response.get_json() == ["green"]
    assert response.headers["X-Tenant"] == "green"


def test_async_functions_share_one_loop(app: Flask) -> None:
    """Views, hooks and queries of several requests run on one loop."""
    loops: list[asyncio.AbstractEventLoop] = []

    async def query(db: AsyncSession) -> None:
        loops.append(asyncio.get_running_loop())

    @app.before_request
    async def enter() -> None:
        loops.append(asyncio.get_running_loop())

    add_views(app, lambda: [query])
    for path in ("/async", "/sync", "/async"):
        get(app, path)
    assert len(loops) == 6
    assert len(set(loops)) == 1


def test_without_the_shared_loop_each_request_has_flasks(
    database: str, apps: Apps
) -> None:
    """Views then run on loops of their own, and their gathers on the home loop."""
    app = apps.make(database, ASYNC_PARALLEL_SHARED_LOOP=False)
    loops: list[asyncio.AbstractEventLoop] = []
    homes: list[asyncio.AbstractEventLoop] = []

    async def query(db: AsyncSession) -> str:
        homes.append(asyncio.get_running_loop())
        return await db.scalar(text("SELECT 'found'")) or ""

    @app.get("/")
    async def view() -> dict[str, Any]:
        loops.append(asyncio.get_running_loop())
        return {"results": await gather_queries([query, query])}

    for _ in range(3):
        assert get(app) == {"results": ["found", "found"]}
    assert len(set(map(id, loops))) == 3
    assert len(set(map(id, homes))) == 1
    assert not set(map(id, loops)) & set(map(id, homes))


def test_without_the_shared_loop_a_blocking_call_is_refused_too(
    sqlite: str, apps: Apps
) -> None:
    """``run_in_parallel`` in an async view is refused on any loop."""
    app = apps.make(sqlite, ASYNC_PARALLEL_SHARED_LOOP=False)

    @app.get("/")
    async def view() -> Any:
        return run_in_parallel([COUNT])

    with pytest.raises(HomeLoopError, match="gather_queries"):
        app.test_client().get("/")


def test_a_gather_in_another_loop_works(app: Flask) -> None:
    """A script's own loop may gather in an application context."""

    async def script() -> Any:
        with app.app_context():
            return await gather_queries(COUNT, IDS)

    assert asyncio.run(script()) == (3, [1, 2, 3])
    assert asyncio.run(script()) == (3, [1, 2, 3])


# Several applications.


@both_kinds
@pytest.mark.parametrize("extensions", [1, 2])
def test_two_applications_have_their_own_databases(
    apps: Apps, path: str, extensions: int
) -> None:
    """Applications on one extension, or on two, do not share their databases."""
    shared = apps.extension()
    made: list[Flask] = []
    for name in ("one", "two"):
        url = f"sqlite:///{apps.folder / name}.db"
        make_shop(url)
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("UPDATE users SET name = :name"), {"name": name})
        engine.dispose()
        app = apps.bare(ASYNC_PARALLEL_DATABASE_URI=url)
        (shared if extensions == 1 else apps.extension()).init_app(app)
        add_views(app, lambda: [select(User.name).where(User.id == 1)])
        made.append(app)
    for _ in range(2):
        assert [get(app, path)["results"] for app in made] == [[["one"]], [["two"]]]


def test_two_extensions_have_two_portals(postgres: str, apps: Apps) -> None:
    """Each extension has its own loop, and closing one leaves the other."""
    one, two = apps.make(postgres), apps.make(postgres)
    before = set(threading.enumerate())
    for app in (one, two):
        add_views(app, lambda: [COUNT])
        get(app, "/async")
    assert len(set(threading.enumerate()) - before) == 2
    extension_of(one).close()
    assert len(set(threading.enumerate()) - before) == 1
    assert get(two, "/async") == {"results": [3]}


def test_applications_on_one_extension_share_the_portal(
    postgres: str, apps: Apps
) -> None:
    """One extension has one loop, for however many applications."""
    shared = apps.extension()
    before = set(threading.enumerate())
    for _ in range(2):
        app = apps.bare(ASYNC_PARALLEL_DATABASE_URI=postgres)
        shared.init_app(app)
        add_views(app, lambda: [COUNT])
        get(app, "/async")
    assert len(set(threading.enumerate()) - before) == 1


# Patched processes.


def patched(library: str, monkeypatch: pytest.MonkeyPatch, *, yes: bool = True) -> None:
    """Let it look as if ``library`` had patched the process."""
    module = SimpleNamespace(
        is_module_patched=lambda name: yes, is_monkey_patched=lambda name: yes
    )
    name = {"gevent": "gevent.monkey", "eventlet": "eventlet.patcher"}[library]
    monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_a_patched_process_is_refused_at_init_app(
    apps: Apps, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    """The error names the library and what to use instead."""
    app = apps.bare()
    patched(library, monkeypatch)
    with pytest.raises(PatchedProcessError, match=f"^{library} has patched") as caught:
        apps.extension().init_app(app)
    assert caught.value.library == library
    assert "gthread" in str(caught.value)
    assert "ASGIAdapter" in str(caught.value)
    assert "async_parallel" not in app.extensions


@both_kinds
@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_a_process_patched_later_is_refused_at_the_request(
    sqlite: str,
    apps: Apps,
    monkeypatch: pytest.MonkeyPatch,
    library: str,
    path: str,
) -> None:
    """A worker that patches after the import is found before a thread is started."""
    app = apps.make(sqlite)
    add_views(app, lambda: [COUNT])
    patched(library, monkeypatch)
    with pytest.raises(PatchedProcessError, match=f"^{library} has patched"):
        app.test_client().get(path)


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_a_library_that_is_only_imported_is_no_obstacle(
    sqlite: str, apps: Apps, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    """Only a process whose sockets are patched is refused."""
    patched(library, monkeypatch, yes=False)
    with apps.make(sqlite).app_context():
        assert run_in_parallel(COUNT) == (3,)


def test_a_view_with_the_wrong_arguments_is_an_error_and_no_hang(
    sqlite: str, apps: Apps
) -> None:
    """On the portal too, what the call of a view raises comes back."""
    app = apps.make(sqlite)

    @app.get("/<number>")
    async def view() -> str:
        return ""

    app.testing = True
    with pytest.raises(TypeError, match="unexpected keyword argument 'number'"):
        app.test_client().get("/1")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "ASYNC_PARALLEL_MAX_CONNECTION",
            "Did you mean ASYNC_PARALLEL_MAX_CONNECTIONS",
        ),
        ("ASYNC_PARALLEL_ZZZ", "There are ASYNC_PARALLEL_ENGINE_OPTIONS, "),
    ],
)
def test_a_setting_that_there_is_not_is_refused(key: str, message: str) -> None:
    """It would be without effect, and nobody would know."""
    app = Flask(__name__)
    app.config[key] = 5
    with pytest.raises(ConfigurationError, match=message):
        AsyncParallel(app)
