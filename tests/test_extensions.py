"""Flask extensions that many applications have, in applications under the adapter."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cachelib import FileSystemCache
from flask import Flask, render_template_string, request, session
from flask_login import (  # type: ignore[import-untyped, unused-ignore]
    LoginManager,
    UserMixin,
    current_user,
    fresh_login_required,
    login_required,
    login_user,
    logout_user,
)
from flask_session import (  # type: ignore[import-untyped, unused-ignore]
    Session as ServerSideSession,
)
from flask_sqlalchemy import SQLAlchemy
from flask_wtf import (  # type: ignore[import-untyped, unused-ignore]
    CSRFProtect,
    FlaskForm,
)
from flask_wtf.csrf import CSRFError  # type: ignore[import-untyped, unused-ignore]
from flask_wtf.file import FileField  # type: ignore[import-untyped, unused-ignore]
from lifespan import Lifespan
from shop import ORDERS_EACH, USERS, Order, User
from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import Session
from wtforms import StringField  # type: ignore[import-untyped, unused-ignore]
from wtforms.validators import (  # type: ignore[import-untyped, unused-ignore]
    DataRequired,
)

from async_parallel import AsyncParallel, first, gather_queries, run_in_parallel, scalar
from async_parallel.asgi import ASGIAdapter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

BOTH = pytest.mark.parametrize("kind", ["async", "sync"])

flask_login_asks_for_utcnow = pytest.mark.filterwarnings(
    # Flask-Login 0.6.3 computes the expiry of its remember cookie with it, which
    # Python 3.12 deprecates.
    "ignore:datetime.datetime.utcnow:DeprecationWarning:flask_login"
)


def where() -> str:
    """The name of the thread that runs this."""
    return threading.current_thread().name


def is_worker(thread: str) -> bool:
    """Whether this is the name of one of the adapter's threads."""
    return thread.startswith("async_parallel worker")


@contextlib.asynccontextmanager
async def browsers(
    adapter: ASGIAdapter, count: int
) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Clients with cookies of their own, within the adapter's lifespan."""
    transport = httpx.ASGITransport(adapter)
    async with Lifespan(adapter), contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                httpx.AsyncClient(transport=transport, base_url="http://testserver")
            )
            for _ in range(count)
        ]


@contextlib.asynccontextmanager
async def browser(adapter: ASGIAdapter) -> AsyncIterator[httpx.AsyncClient]:
    """One client."""
    async with browsers(adapter, 1) as (client,):
        yield client


def make_app() -> Flask:
    """An application with the extension, whose errors reach the test."""
    app = Flask(__name__)
    app.config["SECRET_KEY"] = "tests"
    app.testing = True
    AsyncParallel(app)
    return app


class Account(UserMixin):  # type: ignore[misc, unused-ignore]
    """Someone who can log in."""

    def __init__(self, user: User) -> None:
        self.id = user.id
        self.name = user.name


class Members:
    """The shop's users, who log in with their name.

    Attributes:
        loaded_in: The thread of each time that a user was loaded.
    """

    def __init__(self, url: str) -> None:
        self.app = make_app()
        self.app.config["ASYNC_PARALLEL_DATABASE_URI"] = url
        self.engine = create_engine(url)
        self.loaded_in: list[str] = []
        LoginManager(self.app).user_loader(self._load)
        self.app.post("/async/login")(self._login_async)
        self.app.post("/sync/login")(self._login_sync)
        self.app.post("/async/logout")(login_required(self._logout_async))
        self.app.post("/sync/logout")(login_required(self._logout_sync))

    def _load(self, identity: str) -> Account | None:
        self.loaded_in.append(where())
        with Session(self.engine) as session:
            user = session.get(User, int(identity))
            return Account(user) if user else None

    async def _login_async(self) -> tuple[str, int]:
        (user,) = await gather_queries(
            first(select(User).where(User.name == request.form["name"]))
        )
        return self._let_in(user)

    def _login_sync(self) -> tuple[str, int]:
        with Session(self.engine) as session:
            user = session.scalar(select(User).where(User.name == request.form["name"]))
            return self._let_in(user)

    def _let_in(self, user: User | None) -> tuple[str, int]:
        if user is None:
            return "Nobody has this name.", 403
        login_user(Account(user), remember="remember" in request.form)
        return "", 204

    async def _logout_async(self) -> tuple[str, int]:
        logout_user()
        return "", 204

    def _logout_sync(self) -> tuple[str, int]:
        logout_user()
        return "", 204


@pytest.fixture
def members(sqlite: str) -> Iterator[Members]:
    """An application with Flask-Login, and views that say who is logged in."""
    members = Members(sqlite)

    @members.app.get("/async/me")
    @login_required  # type: ignore[untyped-decorator, unused-ignore]
    async def me_async() -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"name": current_user.name, "thread": where()}

    @members.app.get("/sync/me")
    @login_required  # type: ignore[untyped-decorator, unused-ignore]
    def me_sync() -> dict[str, Any]:
        return {"name": current_user.name, "thread": where()}

    @members.app.get("/async/sensitive")
    @fresh_login_required  # type: ignore[untyped-decorator, unused-ignore]
    async def sensitive() -> str:
        return f"for {current_user.name} alone"

    yield members
    members.engine.dispose()


@BOTH
async def test_login_lets_in_until_logout(kind: str, members: Members) -> None:
    """Who logs in, in a view of either kind, is known to views of both kinds."""
    async with browser(ASGIAdapter(members.app)) as client:
        assert (await client.get("/async/me")).status_code == 401
        assert (await client.get("/sync/me")).status_code == 401
        refused = await client.post(f"/{kind}/login", data={"name": "nobody"})
        assert refused.status_code == 403
        answer = await client.post(f"/{kind}/login", data={"name": "user 2"})
        assert answer.status_code == 204
        for path in ("/async/me", "/sync/me"):
            assert (await client.get(path)).json()["name"] == "user 2"
        assert (await client.get("/async/sensitive")).text == "for user 2 alone"
        assert (await client.post(f"/{kind}/logout")).status_code == 204
        assert (await client.get("/async/me")).status_code == 401
        assert (await client.get("/sync/me")).status_code == 401


async def test_login_required_loads_the_user_in_a_worker_and_the_view_is_on_the_loop(
    members: Members,
) -> None:
    """The decorator blocks no loop; ``ensure_sync`` in it leads back to the loop."""
    async with browser(ASGIAdapter(members.app)) as client:
        await client.post("/async/login", data={"name": "user 1"})
        members.loaded_in.clear()
        answers = [
            (await client.get(f"/{kind}/me")).json() for kind in ("async", "sync")
        ]
    assert answers[0]["thread"] == where()
    assert is_worker(answers[1]["thread"])
    assert len(members.loaded_in) == 2
    assert all(map(is_worker, members.loaded_in))


@BOTH
@flask_login_asks_for_utcnow
async def test_the_remember_cookie_outlives_the_session(
    kind: str, members: Members
) -> None:
    """It logs in again, though not freshly, until logout takes it away."""
    async with browser(ASGIAdapter(members.app)) as client:
        form = {"name": "user 3", "remember": "yes"}
        await client.post(f"/{kind}/login", data=form)
        client.cookies.delete("session")
        assert (await client.get(f"/{kind}/me")).json()["name"] == "user 3"
        assert (await client.get("/async/sensitive")).status_code == 401
        await client.post(f"/{kind}/logout")
        assert not client.cookies.keys() & {"remember_token"}
        client.cookies.delete("session")
        assert (await client.get(f"/{kind}/me")).status_code == 401


async def test_users_whose_requests_interleave_see_themselves_alone(
    members: Members,
) -> None:
    """Two meet in each of their views, and stay who they are before, in and after."""
    on_loop = asyncio.Barrier(2)
    in_threads = threading.Barrier(2, timeout=30)

    def whoever_asks(_session: Session) -> str:
        name: str = current_user.name
        return name

    @members.app.get("/async/orders")
    @login_required  # type: ignore[untyped-decorator, unused-ignore]
    async def orders_async() -> dict[str, Any]:
        names = [current_user.name]
        await on_loop.wait()
        mine = select(Order.id).where(Order.user_id == current_user.id)
        orders, name = await gather_queries(mine.order_by(Order.id), whoever_asks)
        await on_loop.wait()
        return {"names": [*names, name, current_user.name], "orders": orders}

    @members.app.get("/sync/orders")
    @login_required  # type: ignore[untyped-decorator, unused-ignore]
    def orders_sync() -> dict[str, Any]:
        names = [current_user.name]
        in_threads.wait()
        mine = select(Order.id).where(Order.user_id == current_user.id)
        orders, name = run_in_parallel(mine.order_by(Order.id), whoever_asks)
        in_threads.wait()
        return {"names": [*names, name, current_user.name], "orders": orders}

    async def visit(client: httpx.AsyncClient, number: int) -> None:
        kind = ("async", "sync")[number % 2]
        await client.post(f"/{kind}/login", data={"name": f"user {number}"})
        for path in ("/async/orders", "/sync/orders") * 3:
            assert (await client.get(path)).json() == {
                "names": [f"user {number}"] * 3,
                "orders": [10 * number, 10 * number + 1],
            }

    async with browsers(ASGIAdapter(members.app), 2) as (one, two):
        await asyncio.gather(visit(one, 1), visit(two, 2))


async def test_a_view_behind_login_required_renders_a_template_with_one_worker(
    members: Members,
) -> None:
    """The decorator's worker, which waits for the view, is not needed a second time."""

    @members.app.get("/hello")
    @login_required  # type: ignore[untyped-decorator, unused-ignore]
    async def hello() -> str:
        return render_template_string("Hello {{ current_user.name }}")

    adapter = ASGIAdapter(members.app, max_threads=1)
    async with browser(adapter) as client:
        await client.post("/async/login", data={"name": "user 1"})
        answer = asyncio.create_task(client.get("/hello"))
        ended, _ = await asyncio.wait([answer], timeout=10)
        if not ended:  # nothing can end it but one more worker
            workers: Any = adapter._workers
            workers._max_workers += 1
            workers.submit(int)
        assert (await answer).text == "Hello user 1"
    assert ended, "the only worker waited for the view, and the view for a worker"


class RecordingCache(FileSystemCache):
    """Notes which of its methods was called in which thread."""

    def __init__(self, directory: Path) -> None:
        self.calls: list[tuple[str, str]] = []
        super().__init__(str(directory), threshold=0)

    def get(self, key: str) -> Any:
        self.calls.append(("get", where()))
        return super().get(key)

    def set(self, key: str, value: Any, *args: Any, **options: Any) -> bool:
        self.calls.append(("set", where()))
        return super().set(key, value, *args, **options)

    def delete(self, key: str, *args: Any, **options: Any) -> bool:
        self.calls.append(("delete", where()))
        return super().delete(key, *args, **options)


@pytest.fixture
def cache(tmp_path: Path) -> RecordingCache:
    """Where sessions are kept."""
    return RecordingCache(tmp_path / "sessions")


@pytest.fixture
def baskets(cache: RecordingCache) -> Flask:
    """An application with Flask-Session, which keeps baskets in files."""
    app = make_app()
    app.config["SESSION_TYPE"] = "cachelib"
    app.config["SESSION_CACHELIB"] = cache
    ServerSideSession(app)

    def put(article: str) -> tuple[str, int]:
        session["basket"] = [*session.get("basket", []), article]
        return "", 204

    def empty() -> tuple[str, int]:
        session.clear()
        return "", 204

    @app.put("/sync/basket/<article>")
    def put_sync(article: str) -> tuple[str, int]:
        return put(article)

    @app.put("/async/basket/<article>")
    async def put_async(article: str) -> tuple[str, int]:
        await asyncio.sleep(0)
        return put(article)

    @app.get("/sync/basket")
    def show_sync() -> Any:
        return session.get("basket", [])

    @app.get("/async/basket")
    async def show_async() -> Any:
        await asyncio.sleep(0)
        return session.get("basket", [])

    @app.delete("/sync/basket")
    def empty_sync() -> tuple[str, int]:
        return empty()

    @app.delete("/async/basket")
    async def empty_async() -> tuple[str, int]:
        return empty()

    return app


@pytest.mark.parametrize(
    ("one", "other"), [("async", "sync"), ("sync", "async")], ids=str
)
async def test_a_server_side_session_is_the_same_in_views_of_both_kinds(
    one: str, other: str, baskets: Flask, cache: RecordingCache
) -> None:
    """What a view of one kind sets, the other reads, adds to and clears."""
    async with browsers(ASGIAdapter(baskets), 2) as (client, stranger):
        await client.put(f"/{one}/basket/apple")
        assert (await client.get(f"/{other}/basket")).json() == ["apple"]
        await client.put(f"/{other}/basket/pear")
        assert (await client.get(f"/{one}/basket")).json() == ["apple", "pear"]
        assert (await stranger.get(f"/{one}/basket")).json() == []
        await client.delete(f"/{one}/basket")
        assert (await client.get(f"/{other}/basket")).json() == []


@BOTH
async def test_a_server_side_session_is_opened_and_saved_in_a_worker(
    kind: str, baskets: Flask, cache: RecordingCache
) -> None:
    """Its files hold up no other request, whichever kind the view is of."""
    async with browser(ASGIAdapter(baskets)) as client:
        await client.put(f"/{kind}/basket/apple")
        await client.get(f"/{kind}/basket")
        await client.delete(f"/{kind}/basket")
    called = [method for method, _ in cache.calls]
    assert called == ["set", "get", "set", "get", "delete"]
    assert [thread for _, thread in cache.calls if not is_worker(thread)] == []


async def test_sessions_of_requests_at_once_are_kept_apart(baskets: Flask) -> None:
    """Ten visitors meet between opening and saving their sessions."""
    together = asyncio.Barrier(10)

    @baskets.before_request
    async def meet() -> None:
        await together.wait()

    async def visit(client: httpx.AsyncClient, number: int) -> None:
        await client.put(f"/{('async', 'sync')[number % 2]}/basket/{number}")
        assert (await client.get("/async/basket")).json() == [f"{number}"]
        assert (await client.get("/sync/basket")).json() == [f"{number}"]

    async with browsers(ASGIAdapter(baskets), 10) as clients:
        await asyncio.gather(*(visit(client, n) for n, client in enumerate(clients)))


class ContactForm(FlaskForm):  # type: ignore[misc, unused-ignore]
    """A form with a required field and a file."""

    name = StringField(validators=[DataRequired()])
    photo = FileField()


def make_contacts(*, protected: bool) -> Flask:
    """An application with forms; ``protected`` as a whole, or form by form."""
    app = make_app()

    async def contact_async() -> Any:
        form = ContactForm()
        if form.validate_on_submit():
            await asyncio.sleep(0)
            photo = form.photo.data
            return {"name": form.name.data, "photo": len(photo.read()) if photo else 0}
        return {"token": form.csrf_token.current_token, "errors": form.errors}

    def contact_sync() -> Any:
        form = ContactForm()
        if form.validate_on_submit():
            photo = form.photo.data
            return {"name": form.name.data, "photo": len(photo.read()) if photo else 0}
        return {"token": form.csrf_token.current_token, "errors": form.errors}

    app.add_url_rule("/async", view_func=contact_async, methods=["GET", "POST"])
    app.add_url_rule("/sync", view_func=contact_sync, methods=["GET", "POST"])
    if protected:
        protect(app)
    return app


def protect(app: Flask) -> None:
    """Add ``CSRFProtect``, with a page that has a token, and a view it leaves alone."""
    csrf = CSRFProtect(app)

    @app.get("/async/page")
    async def page_async() -> str:
        return render_template_string("{{ csrf_token() }}")

    @app.get("/sync/page")
    def page_sync() -> str:
        return render_template_string("{{ csrf_token() }}")

    @app.post("/async/note")
    async def note_async() -> Any:
        return request.form or request.get_json()

    @app.post("/sync/note")
    def note_sync() -> Any:
        return request.form or request.get_json()

    @app.post("/hook")
    @csrf.exempt  # type: ignore[untyped-decorator, unused-ignore]
    async def hook() -> Any:
        return request.form

    @app.errorhandler(CSRFError)
    async def refuse(error: Any) -> tuple[str, int]:
        return error.description, error.code


@BOTH
async def test_csrf_protect_wants_the_token_of_the_same_session(kind: str) -> None:
    """It refuses a POST without one with 400, in a field or a header it passes."""
    adapter = ASGIAdapter(make_contacts(protected=True))
    async with browsers(adapter, 2) as (client, stranger):
        path = f"/{kind}/note"
        token = (await client.get(f"/{kind}/page")).text
        await stranger.get(f"/{kind}/page")

        async def refusal(by: httpx.AsyncClient, **form: str) -> tuple[int, str]:
            answer = await by.post(path, data={"text": "hi", **form})
            return answer.status_code, answer.text

        assert await refusal(client) == (400, "The CSRF token is missing.")
        assert await refusal(client, csrf_token="x") == (
            400,
            "The CSRF token is invalid.",
        )
        assert await refusal(stranger, csrf_token=token) == (
            400,
            "The CSRF tokens do not match.",
        )
        form = {"text": "hi", "csrf_token": token}
        assert (await client.post(path, data=form)).json() == form
        note = {"text": "hi"}
        headers = {"X-CSRFToken": token}
        assert (await client.post(path, json=note, headers=headers)).json() == note
        assert (await client.post("/hook", data=note)).json() == note


@BOTH
@pytest.mark.parametrize("protected", [True, False], ids=["protected", "alone"])
async def test_a_flask_form_validates_in_a_view(kind: str, *, protected: bool) -> None:
    """Also with a file, whether the hook has read the body or the view reads it."""
    adapter = ASGIAdapter(make_contacts(protected=protected))
    async with browser(adapter) as client:
        token = (await client.get(f"/{kind}")).json()["token"]
        wrong = await client.post(f"/{kind}", data={"csrf_token": token})
        assert wrong.json()["errors"] == {"name": ["This field is required."]}
        forged = await client.post(f"/{kind}", data={"name": "Ada"})
        if protected:
            assert forged.status_code == 400
        else:
            assert list(forged.json()["errors"]) == ["csrf_token"]
        form = {"name": "Ada", "csrf_token": token}
        assert (await client.post(f"/{kind}", data=form)).json()["photo"] == 0
        files = {"photo": ("ada.png", b"x" * 100_000)}
        answer = await client.post(f"/{kind}", data=form, files=files)
        assert answer.json() == {"name": "Ada", "photo": 100_000}


class Shop:
    """The shop, with Flask-SQLAlchemy on a synchronous driver."""

    def __init__(self, url: str, **engine_options: Any) -> None:
        self.app = make_app()
        self.app.config["SQLALCHEMY_DATABASE_URI"] = url
        self.app.config["SQLALCHEMY_ENGINE_OPTIONS"] = engine_options
        self.db = SQLAlchemy(self.app)

    @property
    def checked_out(self) -> int:
        """How many connections of Flask-SQLAlchemy's pool are in use."""
        with self.app.app_context():
            pool: Any = self.db.engine.pool
            count: int = pool.checkedout()
            return count

    def dispose(self) -> None:
        """Close Flask-SQLAlchemy's connections."""
        with self.app.app_context():
            self.db.engine.dispose()


@pytest.fixture
def make_shop_app(postgres: str) -> Iterator[Callable[..., Shop]]:
    """Makes applications on the shop, and closes their connections."""
    made: list[Shop] = []

    def make(**engine_options: Any) -> Shop:
        made.append(Shop(postgres, **engine_options))
        return made[-1]

    yield make
    for shop in made:
        shop.dispose()


async def test_the_scoped_session_of_a_view_ends_in_its_teardown(
    make_shop_app: Callable[..., Shop],
) -> None:
    """Hook, view and teardown, in workers, share one session; then it is gone."""
    shop = make_shop_app()
    app, db = shop.app, shop.db
    seen: list[tuple[str, Any, str]] = []

    def note(place: str) -> None:
        seen.append((place, db.session(), where()))

    @app.before_request
    def before() -> None:
        db.session.execute(select(User))
        note("before")

    @app.get("/")
    def view() -> dict[str, int]:
        note("view")
        return {"users": len(db.session.scalars(select(User)).all())}

    @app.teardown_appcontext  # before Flask-SQLAlchemy's, which was registered first
    def teardown(_error: BaseException | None) -> None:
        note("teardown")

    async with browser(ASGIAdapter(app)) as client:
        seen.clear()  # the startup had a context too
        assert (await client.get("/")).json() == {"users": USERS}
        request_saw = [*seen]
        assert shop.checked_out == 0
    assert [place for place, _, _ in request_saw] == ["before", "view", "teardown"]
    assert len({id(session) for _, session, _ in request_saw}) == 1
    assert all(is_worker(thread) for _, _, thread in request_saw)
    registry: Any = db.session.registry
    assert registry.registry == {}


async def test_twenty_requests_share_flask_sqlalchemy_and_gathers(
    make_shop_app: Callable[..., Shop],
) -> None:
    """Ten sync views on psycopg2 meet while ten async ones gather; nothing is left."""
    shop = make_shop_app(pool_size=10, max_overflow=0)
    app, db = shop.app, shop.db
    in_threads, on_loop = threading.Barrier(10, timeout=30), asyncio.Barrier(10)
    count = select(func.count(Order.id))
    in_use: list[int] = []

    @app.get("/sync/<int:number>")
    def draft(number: int) -> dict[str, Any]:
        db.session.add(Order(id=1000 + number, user_id=1, total=number))
        db.session.flush()
        in_threads.wait()
        in_use.append(shop.db.engine.pool.checkedout())  # type: ignore[attr-defined]
        (committed,) = run_in_parallel(scalar(count))
        totals = db.session.scalars(select(Order.total).where(Order.id >= 1000)).all()
        return {"own": db.session.scalar(count), "all": committed, "mine": [*totals]}

    @app.get("/async/<int:number>")
    async def report(number: int) -> dict[str, Any]:
        await on_loop.wait()
        users, orders = await gather_queries(select(User.name), scalar(count))
        return {"users": len(users), "orders": orders}

    async with browser(ASGIAdapter(app, max_threads=10)) as client:
        answers = await asyncio.gather(
            *(
                client.get(f"/{kind}/{n}")
                for n in range(10)
                for kind in ("sync", "async")
            )
        )
        assert shop.checked_out == 0
    orders = USERS * ORDERS_EACH
    assert [answer.json() for answer in answers[::2]] == [
        {"own": orders + 1, "all": orders, "mine": [n]} for n in range(10)
    ]
    assert [answer.json() for answer in answers[1::2]] == [
        {"users": USERS, "orders": orders}
    ] * 10
    assert max(in_use) == 10
    registry: Any = db.session.registry
    assert registry.registry == {}


async def test_a_view_that_waits_for_a_connection_does_not_keep_it_from_coming_back(
    make_shop_app: Callable[..., Shop],
) -> None:
    """A request that holds one ends, though every worker waits for a connection."""
    shop = make_shop_app(pool_size=1, max_overflow=0, pool_timeout=5)
    together = asyncio.Barrier(2)

    @shop.app.before_request
    async def meet() -> None:
        await together.wait()

    @shop.app.get("/")
    def view() -> dict[str, int]:
        return {"users": len(shop.db.session.scalars(select(User)).all())}

    async with browser(ASGIAdapter(shop.app, max_threads=1)) as client:
        answers = await asyncio.gather(
            *(client.get("/") for _ in range(2)), return_exceptions=True
        )
    assert [
        answer if isinstance(answer, BaseException) else answer.json()
        for answer in answers
    ] == [{"users": USERS}] * 2
