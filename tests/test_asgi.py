"""``ASGIAdapter``: requests, responses, threads, contexts, lifespan."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import threading
import weakref
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import werkzeug
from conversation import Conversation, http_scope
from flask import (
    Flask,
    Response,
    abort,
    current_app,
    g,
    redirect,
    render_template_string,
    request,
    send_file,
    session,
    stream_with_context,
)
from flask.views import MethodView
from lifespan import Lifespan
from sqlalchemy import text
from werkzeug.exceptions import ClientDisconnected, HTTPException
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from async_parallel import AsyncParallel, gather_queries, run_in_parallel
from async_parallel._serving import served_request
from async_parallel.asgi import ASGIAdapter
from async_parallel.errors import ExtensionNotFoundError, HomeLoopError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
    from pathlib import Path

marker: contextvars.ContextVar[str] = contextvars.ContextVar("marker", default="none")


@pytest.fixture
def app(sqlite: str) -> Flask:
    """An application with the extension and a SQLite database."""
    app = Flask(__name__)
    app.config["SECRET_KEY"] = "tests"
    app.config["ASYNC_PARALLEL_DATABASE_URI"] = sqlite
    AsyncParallel(app)
    return app


@pytest.fixture
async def client(app: Flask) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application under the adapter, within its lifespan."""
    adapter = ASGIAdapter(app)
    async with (
        Lifespan(adapter),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(adapter, raise_app_exceptions=False),
            base_url="http://testserver",
        ) as client,
    ):
        yield client


def where() -> str:
    """The name of the thread that runs this."""
    return threading.current_thread().name


async def test_an_async_view_runs_on_the_loop_without_a_thread(
    app: Flask, client: httpx.AsyncClient
) -> None:
    """View, hooks and error handler are all on the server's loop."""
    loop = asyncio.get_running_loop()
    seen: list[bool] = []

    def note() -> None:
        seen.append(
            asyncio.get_running_loop() is loop
            and threading.current_thread() is threading.main_thread()
        )

    @app.before_request
    async def before() -> None:
        note()

    @app.after_request
    async def after(response: Response) -> Response:
        note()
        return response

    @app.teardown_request
    async def teardown(_error: BaseException | None) -> None:
        note()

    @app.errorhandler(LookupError)
    async def handle(_error: LookupError) -> str:
        note()
        return "handled"

    @app.get("/")
    async def view() -> str:
        await asyncio.sleep(0)
        note()
        raise LookupError

    assert (await client.get("/")).text == "handled"
    assert seen == [True] * 5


async def test_synchronous_code_runs_in_a_worker_with_the_requests_context(
    app: Flask, client: httpx.AsyncClient
) -> None:
    """A sync view blocks a thread, not the loop, and sees its request."""

    @app.before_request
    def before() -> None:
        g.hook = where()
        marker.set("by the hook")

    @app.get("/<name>")
    def view(name: str) -> dict[str, Any]:
        return {
            "name": name,
            "path": request.path,
            "hook": g.hook,
            "view": where(),
            "marker": marker.get(),
        }

    answer = (await client.get("/x")).json()
    assert answer["name"] == "x"
    assert answer["path"] == "/x"
    assert answer["hook"].startswith("async_parallel worker")
    assert answer["view"].startswith("async_parallel worker")
    assert answer["marker"] == "by the hook"


async def test_class_based_async_views_need_no_thread(
    app: Flask, client: httpx.AsyncClient
) -> None:
    """Flask's own synchronous dispatch of a MethodView is not sent to a worker."""

    class Item(MethodView):
        async def get(self) -> str:
            return where()

    app.add_url_rule("/", view_func=Item.as_view("item"))
    assert (await client.get("/")).text == where()


@pytest.mark.parametrize("path", ["/nowhere", "/gone", "/post", "/moved", "/broken"])
async def test_an_error_that_nobody_handles_needs_no_thread(
    path: str, app: Flask, client: httpx.AsyncClient
) -> None:
    """So it is answered also where all threads are taken by what blocks."""

    class Gone(HTTPException):
        code = 410

        def get_response(self, environ: Any = None, scope: Any = None) -> Any:
            response: Any = super().get_response(environ, scope)
            response.headers["X-Path"] = environ["PATH_INFO"]
            return response

    @app.get("/gone")
    async def gone() -> str:
        raise Gone

    @app.get("/broken")
    async def broken() -> str:
        raise LookupError

    app.add_url_rule("/post", view_func=gone, methods=["POST"], endpoint="post")
    app.add_url_rule("/moved/", view_func=gone, endpoint="moved")
    answer = await client.get(path)
    codes = {"/nowhere": 404, "/gone": 410, "/post": 405, "/moved": 308, "/broken": 500}
    assert answer.status_code == codes[path]
    assert answer.headers.get("X-Path") == ("/gone" if path == "/gone" else None)
    names = [thread.name for thread in threading.enumerate()]
    assert [name for name in names if name.startswith("async_parallel worker")] == []


async def test_an_error_with_an_answer_of_its_own_keeps_it(
    app: Flask, client: httpx.AsyncClient
) -> None:
    """One that is for others too, or that it makes when it is called."""
    refusal = werkzeug.Response("not you", status=403)

    class Called(HTTPException):
        code = 418

        def __call__(self, environ: Any, start_response: Any) -> Any:
            return werkzeug.Response("called", self.code)(environ, start_response)

    @app.get("/refuse")
    async def refuse() -> str:
        abort(refusal)

    @app.get("/call")
    async def call() -> str:
        raise Called

    @app.after_request
    def mark(response: Response) -> Response:
        response.headers["X-Mark"] = "marked"
        return response

    answer = await client.get("/refuse")
    assert (answer.text, answer.headers["X-Mark"]) == ("not you", "marked")
    assert type(refusal) is werkzeug.Response
    assert "X-Mark" not in refusal.headers
    assert (await client.get("/call")).text == "called"


async def test_an_application_that_makes_its_responses_itself_sees_errors(
    sqlite: str,
) -> None:
    """As it does under any server."""

    class App(Flask):
        def make_response(self, rv: Any) -> Response:
            if isinstance(rv, HTTPException):
                rv = {"error": rv.name}, rv.code
            return super().make_response(rv)

    app = App(__name__)
    app.config["ASYNC_PARALLEL_DATABASE_URI"] = sqlite
    AsyncParallel(app)
    adapter = ASGIAdapter(app)
    async with Lifespan(adapter), Conversation(adapter, "GET", "/nowhere") as it:
        pass
    assert (it.status, it.body) == (404, b'{"error":"Not Found"}\n')


async def test_an_error_that_streams_is_made_where_it_may_block(
    app: Flask, client: httpx.AsyncClient
) -> None:
    """As any response that does not exist yet."""

    class Streamed(HTTPException):
        code = 418

        def get_response(self, environ: Any = None, scope: Any = None) -> Any:
            return werkzeug.Response((where() for _ in range(1)), self.code)

    @app.get("/")
    async def view() -> str:
        raise Streamed

    answer = await client.get("/")
    assert answer.status_code == 418
    assert answer.text.startswith("async_parallel worker")


async def test_requests_under_way_at_once_keep_their_contexts(
    app: Flask, client: httpx.AsyncClient
) -> None:
    """Fifty requests meet in their views, and each still sees itself alone."""
    together = asyncio.Barrier(50)

    @app.get("/<int:number>")
    async def view(number: int) -> dict[str, bool]:
        g.number = session["number"] = number
        await together.wait()
        await gather_queries(text("SELECT 1"))
        return {
            "same": (g.number, session["number"], request.path)
            == (number, number, f"/{number}")
        }

    answers = await asyncio.gather(*(client.get(f"/{n}") for n in range(50)))
    assert all(answer.json()["same"] for answer in answers)


async def test_an_async_view_reads_the_body_as_it_arrives(app: Flask) -> None:
    """The view begins before the body is complete, and waits for what it reads."""
    adapter = ASGIAdapter(app)
    chunks: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    sent: list[MutableMapping[str, Any]] = []
    first_read = asyncio.Event()

    @app.post("/")
    async def view() -> dict[str, str]:
        begin = request.stream.read(3)
        first_read.set()
        return {"begin": begin.decode(), "rest": request.stream.read().decode()}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    task = asyncio.create_task(adapter(http_scope("POST", "/"), chunks.get, send))
    await chunks.put({"type": "http.request", "body": b"abc", "more_body": True})
    await first_read.wait()
    await chunks.put({"type": "http.request", "body": b"def", "more_body": False})
    await task
    assert [message["type"] for message in sent] == [
        "http.response.start",
        "http.response.body",
    ]
    assert b'"rest":"def"' in sent[1]["body"]


async def test_a_sync_view_reads_the_body(
    app: Flask, client: httpx.AsyncClient
) -> None:
    """From a worker thread too, also where the client announces no length."""

    async def body() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 50_000

    @app.post("/")
    def view() -> dict[str, int]:
        return {"size": len(request.get_data())}

    assert (await client.post("/", content=body())).json() == {"size": 150_000}


async def test_json_and_forms_are_parsed_in_async_views(
    app: Flask, client: httpx.AsyncClient
) -> None:
    """Flask's synchronous accessors work in a coroutine."""

    @app.post("/json")
    async def parse_json() -> Any:
        return request.get_json()

    @app.post("/form")
    async def parse_form() -> dict[str, str]:
        return request.form.to_dict()

    assert (await client.post("/json", json={"a": 1})).json() == {"a": 1}
    assert (await client.post("/form", data={"b": "ü"})).json() == {"b": "ü"}


async def test_a_decorated_async_view_reads_the_body(
    app: Flask, client: httpx.AsyncClient
) -> None:
    """Flask's pattern for decorators, ``current_app.ensure_sync(view)``, works."""

    def decorator(view: Any) -> Any:
        @functools.wraps(view)
        def wrapper(**values: Any) -> Any:
            return current_app.ensure_sync(view)(**values)

        return wrapper

    @app.post("/")
    @decorator
    async def view() -> Any:
        await asyncio.sleep(0)
        return {**request.get_json(), "thread": where()}

    answer = (await client.post("/", json={"a": 1})).json()
    assert answer == {"a": 1, "thread": where()}


@pytest.mark.parametrize("path", ["/query", "/task", "/sync"])
async def test_reading_the_body_beside_the_view_is_refused(
    path: str, app: Flask, client: httpx.AsyncClient
) -> None:
    """It would block the loop for every request; the error says what to do."""

    def read(_session: Any) -> Any:
        return request.get_data()

    @app.post("/query")
    async def query() -> Any:
        return await gather_queries(read)

    @app.post("/task")
    async def task() -> Any:
        async def subtask() -> Any:
            return request.get_data()

        return await asyncio.create_task(subtask())

    @app.post("/sync")
    def sync() -> Any:
        return run_in_parallel(read)

    @app.errorhandler(HomeLoopError)
    async def handle(error: HomeLoopError) -> str:
        return str(error)

    assert "Read it in the view first" in (await client.post(path, content=b"x")).text


@pytest.mark.parametrize("path", ["/async/1", "/sync/1", "/stop"])
async def test_errors_of_every_kind_reach_the_handler(
    path: str, app: Flask, client: httpx.AsyncClient
) -> None:
    """Also a view with the wrong arguments, and a StopIteration, which hang not."""

    @app.get("/async/<number>")
    async def wrong_async() -> str:
        return ""

    @app.get("/sync/<number>")
    def wrong_sync() -> str:
        return ""

    @app.get("/stop")
    def stop() -> str:
        return str(next(iter(())))

    @app.errorhandler(Exception)
    def handle(error: Exception) -> str:
        return type(error).__name__

    expected = "StopIteration" if path == "/stop" else "TypeError"
    assert (await client.get(path)).text == expected


async def test_a_streamed_response_of_an_async_view_keeps_its_context(
    app: Flask, client: httpx.AsyncClient
) -> None:
    """The generator enters and leaves Flask's contexts in one context variable map."""

    @app.get("/<name>")
    async def view(name: str) -> Response:
        def chunks() -> Iterator[str]:
            for number in range(3):
                yield f"{request.path}{number}"

        return Response(stream_with_context(chunks()))

    assert (await client.get("/x")).text == "/x0/x1/x2"


async def test_a_body_that_is_cut_off_is_an_error_in_the_view(app: Flask) -> None:
    """The view sees werkzeug's ClientDisconnected instead of half a body."""
    seen: list[str] = []

    @app.post("/")
    async def view() -> str:
        try:
            request.get_data()
        except ClientDisconnected:
            seen.append("disconnected")
        return ""

    messages: list[MutableMapping[str, Any]] = [
        {"type": "http.disconnect"},
        {"type": "http.request", "body": b"half", "more_body": True},
    ]

    async def receive() -> MutableMapping[str, Any]:
        return messages.pop()

    await ASGIAdapter(app)(http_scope("POST", "/"), receive, ignore)
    assert seen == ["disconnected"]


async def test_a_decorated_class_based_view_runs_in_a_worker(
    app: Flask, client: httpx.AsyncClient
) -> None:
    """A decorator of the user's may block, though Flask's dispatch does not."""

    def decorator(view: Any) -> Any:
        @functools.wraps(view)
        def wrapper(**values: Any) -> Any:
            return where().split("_worker")[0] + view(**values)

        return wrapper

    class Item(MethodView):
        decorators = [decorator]  # noqa: RUF012 - as Flask documents it

        async def get(self) -> str:
            return f" {where()}"

    app.add_url_rule("/", view_func=Item.as_view("item"))
    answer = (await client.get("/")).text
    assert answer.startswith("async_parallel worker")
    assert answer.endswith(f" {where()}")


async def test_an_app_without_the_extension_is_told_so() -> None:
    """Its views would run on the loop, so the first request is refused."""
    bare = ASGIAdapter(Flask("bare"))
    with pytest.raises(ExtensionNotFoundError, match=r"AsyncParallel\(app\)"):
        await bare(http_scope("GET", "/"), never, ignore)


async def test_a_generator_streams_from_a_worker(
    app: Flask, client: httpx.AsyncClient
) -> None:
    """A response of unknown length is made off the loop, in its context."""
    closed = threading.Event()

    @app.get("/<name>")
    def view(name: str) -> Response:
        def chunks() -> Iterator[str]:
            for _ in range(3):
                yield f"{request.path} {where().split('_')[0]}\n"

        response = Response(stream_with_context(chunks()))
        response.call_on_close(closed.set)
        return response

    answer = await client.get("/x")
    assert answer.text == "/x async\n" * 3
    assert closed.is_set()


async def test_a_file_is_sent(
    app: Flask, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    """Also a part of it."""
    path = tmp_path / "file.bin"
    path.write_bytes(bytes(range(256)) * 1000)

    @app.get("/")
    async def view() -> Response:
        return send_file(path)

    assert (await client.get("/")).content == path.read_bytes()
    part = await client.get("/", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, bytes(range(10, 20)))


async def test_head_redirects_and_errors(app: Flask, client: httpx.AsyncClient) -> None:
    """What Flask answers is what the client gets."""

    @app.get("/")
    async def view() -> str:
        return "body"

    @app.get("/away")
    async def away() -> Any:
        return redirect("/")

    @app.get("/empty")
    async def empty() -> tuple[str, int]:
        return "", 204

    head = await client.head("/")
    assert (head.status_code, head.content, head.headers["content-length"]) == (
        200,
        b"",
        "4",
    )
    assert (await client.get("/away")).headers["location"] == "/"
    assert (await client.get("/empty")).status_code == 204
    assert (await client.get("/nothing")).status_code == 404
    assert (await client.post("/")).status_code == 405


async def test_cookies_and_the_session_come_back(
    app: Flask, client: httpx.AsyncClient
) -> None:
    """The session cookie survives two requests, beside other cookies."""

    @app.get("/set")
    async def set_it() -> str:
        session["name"] = "me"
        return ""

    @app.get("/get")
    async def get_it() -> dict[str, Any]:
        return {"name": session["name"], "other": request.cookies["other"]}

    await client.get("/set")
    client.cookies.set("other", "cookie")
    assert (await client.get("/get")).json() == {"name": "me", "other": "cookie"}


async def test_a_template_renders_in_an_async_view(
    app: Flask, client: httpx.AsyncClient
) -> None:
    """Context processors of both kinds take part."""

    @app.context_processor
    def sync_values() -> dict[str, str]:
        return {"a": "A"}

    @app.context_processor
    async def async_values() -> dict[str, str]:
        return {"b": "B"}

    @app.get("/")
    async def view() -> str:
        return render_template_string("{{ a }}{{ b }}{{ request.path }}")

    assert (await client.get("/")).text == "AB/"


async def test_wsgi_middleware_keeps_working(app: Flask) -> None:
    """ProxyFix and a mounted application, around and beside Flask."""
    other = Flask("other")

    @app.get("/")
    async def view() -> dict[str, Any]:
        return {"url": request.url, "rows": len(await gather_queries(text("SELECT 1")))}

    @other.get("/")
    async def other_view() -> str:
        return f"other at {request.script_root}"

    AsyncParallel(other)
    wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/other": other.wsgi_app})
    app.wsgi_app = ProxyFix(wsgi_app, x_host=1)  # type: ignore[method-assign]
    adapter = ASGIAdapter(app)
    transport = httpx.ASGITransport(adapter)
    async with (
        Lifespan(adapter),
        httpx.AsyncClient(transport=transport, base_url="http://testserver") as client,
    ):
        answer = await client.get("/", headers={"X-Forwarded-Host": "public"})
        assert answer.json() == {"url": "http://public/", "rows": 1}
        assert (await client.get("/other/")).text == "other at /other"


async def test_headers_with_underscores_are_dropped(
    app: Flask, client: httpx.AsyncClient
) -> None:
    """They could be taken for the hyphenated name that a proxy checks."""

    @app.get("/")
    async def view() -> dict[str, Any]:
        return {"user": request.headers.get("X-User"), "a": request.headers.get("A")}

    headers = [("X_User", "forged"), ("A", "1"), ("A", "2")]
    answer = await client.get("/", headers=headers)
    assert answer.json() == {"user": None, "a": "1,2"}


async def test_run_in_parallel_works_in_sync_views(
    app: Flask, client: httpx.AsyncClient
) -> None:
    """A worker thread waits while the loop runs the queries."""

    @app.get("/")
    def view() -> dict[str, int]:
        return {"queries": len(run_in_parallel([text("SELECT 1")] * 3))}

    assert (await client.get("/")).json() == {"queries": 3}


async def test_run_in_parallel_in_an_async_view_names_the_remedy(
    app: Flask, client: httpx.AsyncClient
) -> None:
    """It would block the loop, so it is refused with what to write instead."""
    app.testing = True

    @app.get("/")
    async def view() -> str:
        with pytest.raises(Exception, match="await gather_queries") as caught:
            run_in_parallel([text("SELECT 1")])
        return type(caught.value).__name__

    assert (await client.get("/")).text == "HomeLoopError"


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_nothing_of_a_request_is_kept_after_it(kind: str, app: Flask) -> None:
    """Neither by the thread that it had, nor by the greenlet that it ran in."""

    class Thing:
        """Something that a weak reference can watch."""

    variable: contextvars.ContextVar[Thing] = contextvars.ContextVar("variable")
    watched: list[weakref.ref[object]] = []

    def remember() -> str:
        thing = Thing()
        variable.set(thing)
        watched.append(weakref.ref(thing))
        watched.append(weakref.ref(served_request.get()))
        return ""

    async def view() -> str:
        return remember()

    app.add_url_rule("/", "view", view if kind == "async" else remember)
    adapter = ASGIAdapter(app)
    async with Lifespan(adapter):
        request = adapter(http_scope("GET", "/"), never, ignore)
        await asyncio.create_task(request)
        del request
        gc.collect()
        async with asyncio.timeout(10):  # the thread may still be at its end
            while any(reference() for reference in watched):  # noqa: ASYNC110
                await asyncio.sleep(0.001)


async def test_a_cancelled_request_waits_for_its_worker(app: Flask) -> None:
    """Nothing goes on beside a sync view that has begun, and nothing after it."""
    adapter = ASGIAdapter(app)
    begun, go_on = threading.Event(), threading.Event()
    order: list[str] = []

    async def send(message: Any) -> None:
        order.append(message["type"])

    @app.get("/")
    def view() -> str:
        begun.set()
        go_on.wait()
        order.append("view ended")
        return ""

    @app.teardown_request
    async def teardown(_error: BaseException | None) -> None:
        order.append("teardown")

    async with Lifespan(adapter):
        task = asyncio.create_task(adapter(http_scope("GET", "/"), never, send))
        await asyncio.to_thread(begun.wait)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        go_on.set()
        await asyncio.wait([task])
    assert task.cancelled()
    assert order == ["view ended", "teardown"]


@pytest.mark.parametrize("of", ["request", "appcontext"])
async def test_a_cancel_during_a_teardown_waits_for_the_others(
    of: str, app: Flask
) -> None:
    """What they give back is given back, and then the cancel is raised."""
    begun, go_on = threading.Event(), threading.Event()
    order: list[str] = []
    teardown: Any = getattr(app, f"teardown_{of}")
    answered = threading.Event()

    def second(_error: BaseException | None) -> None:
        if answered.is_set():  # contexts of an application end without requests too
            order.append("second")

    def first(_error: BaseException | None) -> None:
        if answered.is_set():
            begun.set()
            go_on.wait()
            order.append("first")

    teardown(second)
    teardown(first)

    @app.get("/")
    async def view() -> str:
        answered.set()
        return ""

    adapter = ASGIAdapter(app)
    async with Lifespan(adapter):
        task = asyncio.create_task(adapter(http_scope("GET", "/"), never, ignore))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.wait([task])
        answered.clear()
    assert task.cancelled()
    assert order == ["first", "second"]


async def test_the_lifespan_closes_the_engine_and_can_begin_again(
    app: Flask,
) -> None:
    """After shutdown no connection is open; after another startup it serves again."""

    @app.get("/")
    async def view() -> dict[str, int]:
        return {"rows": len(await gather_queries(text("SELECT 1")))}

    adapter = ASGIAdapter(app)
    for _ in range(2):
        async with (
            Lifespan(adapter),
            httpx.AsyncClient(
                transport=httpx.ASGITransport(adapter), base_url="http://testserver"
            ) as client,
        ):
            assert (await client.get("/")).json() == {"rows": 1}


async def test_a_database_that_is_down_is_logged_at_startup(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The application starts all the same, and the log names the database."""
    app = Flask(__name__)
    url = f"sqlite:///{tmp_path}/missing/x.sqlite3"
    app.config["ASYNC_PARALLEL_DATABASE_URI"] = url
    AsyncParallel(app)
    async with Lifespan(ASGIAdapter(app)):
        pass
    assert "The database 'default', QueryGatherer('sqlite+aiosqlite:" in caplog.text
    assert "Traceback" not in caplog.text


async def test_a_database_that_is_down_can_fail_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By choice; the server is told why, and so is the log."""
    app = Flask(__name__)
    url = f"sqlite:///{tmp_path}/missing/x.sqlite3"
    app.config["ASYNC_PARALLEL_DATABASE_URI"] = url
    extension = AsyncParallel(app)
    answer = await Lifespan(ASGIAdapter(app, require_databases=True)).start()
    assert answer["type"] == "lifespan.startup.failed"
    assert "unable to open database file" in answer["message"]
    assert "The database 'default', QueryGatherer('sqlite+aiosqlite:" in caplog.text
    assert "Traceback" not in caplog.text
    await extension.aclose()


async def test_every_bind_is_opened_at_startup(
    sqlite: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the one that does not answer, and no other."""
    app = Flask(__name__)
    app.config["ASYNC_PARALLEL_DATABASE_URI"] = sqlite
    app.config["ASYNC_PARALLEL_BINDS"] = {
        "reports": f"sqlite:///{tmp_path}/missing/x.sqlite3"
    }
    AsyncParallel(app)
    async with Lifespan(ASGIAdapter(app)):
        pass
    (record,) = caplog.records
    assert "The database 'reports', QueryGatherer(" in record.getMessage()


async def test_an_app_without_the_extension_does_not_start() -> None:
    """A server that asks at startup learns it there, not at the first request."""
    answer = await Lifespan(ASGIAdapter(Flask("bare"))).start()
    assert answer["type"] == "lifespan.startup.failed"
    assert "AsyncParallel(app)" in answer["message"]


async def test_the_shutdown_waits_for_workers_and_not_for_ever(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    """A function that does not end is named in the log, and the server may go on."""
    go_on, begun = threading.Event(), threading.Event()

    @app.get("/")
    def view() -> str:
        begun.set()
        go_on.wait()
        return ""

    adapter = ASGIAdapter(app, shutdown_timeout=0.01)
    async with Lifespan(adapter):
        task = asyncio.create_task(adapter(http_scope("GET", "/"), never, ignore))
        await asyncio.to_thread(begun.wait)
    go_on.set()
    await task
    assert "1 requests of 'tests.test_asgi' still run synchronous" in caplog.text


async def test_a_request_has_one_thread_for_its_synchronous_functions(
    app: Flask, client: httpx.AsyncClient
) -> None:
    """So what is thread-local is its own, until its teardown; no other request's."""
    local = threading.local()
    together, seen = asyncio.Barrier(10), []

    @app.before_request
    def before() -> None:
        assert not hasattr(local, "path")
        local.path = request.path

    @app.get("/<int:number>")
    async def view(number: int) -> str:
        await together.wait()
        return current_app.ensure_sync(lambda: str(local.path))()  # type: ignore[no-any-return]

    @app.teardown_appcontext
    def teardown(_error: BaseException | None) -> None:
        seen.append(local.path)
        del local.path

    paths = [f"/{number}" for number in range(10)]
    answers = await asyncio.gather(*(client.get(path) for path in paths))
    assert [answer.text for answer in answers] == paths
    assert sorted(seen) == paths


async def test_what_one_function_sets_another_resets_by_its_token(
    app: Flask, client: httpx.AsyncClient
) -> None:
    """All functions of a request, of both kinds, run in one and the same context."""

    @app.before_request
    def before() -> None:
        g.token = marker.set("by the hook")

    @app.get("/")
    async def view() -> str:
        return marker.get()

    @app.after_request
    def after(response: Response) -> Response:
        marker.reset(g.token)
        response.headers["X-Marker"] = marker.get()
        return response

    answer = await client.get("/")
    assert (answer.text, answer.headers["X-Marker"]) == ("by the hook", "none")


async def test_the_body_cannot_be_read_in_two_places_at_once(
    app: Flask,
) -> None:
    """The second is refused; waiting for the first would block the loop."""
    reading = threading.Event()
    seen: list[str] = []
    visitor = Conversation(ASGIAdapter(app), "POST", "/")

    def read_on() -> None:
        reading.set()
        request.stream.read(10)

    @app.post("/")
    async def view() -> str:
        elsewhere = asyncio.create_task(asyncio.to_thread(read_on))
        await asyncio.to_thread(reading.wait)
        await until(lambda: visitor.received == 1)
        with pytest.raises(HomeLoopError, match="read elsewhere"):
            request.get_data()
        seen.append("refused")
        visitor.say(b"67890")
        await elsewhere
        return ""

    async with visitor:
        visitor.say(b"12345", more=True)
    assert seen == ["refused"]


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop's other tasks turns until it is so."""
    while not condition():  # noqa: ASYNC110 - another thread makes it so
        await asyncio.sleep(0)


@pytest.mark.parametrize("path", ["/nested", "/query"])
async def test_an_exit_in_an_async_function_does_not_end_the_server(
    path: str, app: Flask
) -> None:
    """It comes to the request's task, as if the view had called it itself."""

    async def leave(*_: Any) -> str:
        await asyncio.sleep(0)
        raise SystemExit(3)

    @app.get("/nested")
    def nested() -> str:
        return current_app.ensure_sync(leave)()  # type: ignore[no-any-return]

    @app.get("/query")
    def query() -> str:
        return str(run_in_parallel(leave))

    adapter = ASGIAdapter(app)
    caught: list[BaseException] = []

    async def ask() -> None:
        try:
            await adapter(http_scope("GET", path), never, ignore)
        except SystemExit as error:
            caught.append(error)

    async with Lifespan(adapter):
        await asyncio.create_task(ask())
    assert [error.code for error in caught if isinstance(error, SystemExit)] == [3]


async def test_a_portal_gives_way_to_the_servers_loop(app: Flask) -> None:
    """An app that gathered before the server took over moves to the server's loop."""

    @app.get("/")
    async def view() -> str:
        await gather_queries(text("SELECT 1"))
        return where()

    def ask() -> str:
        return app.test_client().get("/").text

    assert await asyncio.to_thread(ask) == "async_parallel portal"
    adapter = ASGIAdapter(app)
    transport = httpx.ASGITransport(adapter)
    async with (
        Lifespan(adapter),
        httpx.AsyncClient(transport=transport, base_url="http://testserver") as client,
    ):
        assert (await client.get("/")).text == where()


async def test_a_websocket_is_closed(app: Flask) -> None:
    """With an explanation, because Flask serves none."""
    received: list[MutableMapping[str, Any]] = [{"type": "websocket.connect"}]
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return received.pop()

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await ASGIAdapter(app)({"type": "websocket"}, receive, send)
    assert sent[0]["type"] == "websocket.close"
    assert sent[0]["code"] == 1000


def test_max_threads_must_be_positive(app: Flask) -> None:
    """The error names the argument."""
    with pytest.raises(ValueError, match="max_threads must be a number greater"):
        ASGIAdapter(app, max_threads=0)


async def never() -> MutableMapping[str, Any]:
    """Receive nothing."""
    await asyncio.Event().wait()
    raise AssertionError


async def ignore(_message: MutableMapping[str, Any]) -> None:
    """Send to nobody."""


async def test_the_root_path_ends_at_a_slash(app: Flask) -> None:
    """A path that only begins with the same letters is not below it."""
    seen: list[tuple[str, str]] = []

    @app.get("/<path:rest>")
    async def view(rest: str) -> str:
        seen.append((request.script_root, rest))
        return ""

    for path in ("/api/x", "/apiv2/x"):
        below = {**http_scope("GET", path), "root_path": "/api"}
        await ASGIAdapter(app)(below, never, ignore)
    assert seen == [("/api", "x"), ("/api", "apiv2/x")]
