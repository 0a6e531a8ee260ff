"""What the router found is remembered: the same answers, and for what is the same."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask, Request, request, url_for
from werkzeug.routing import Map, Rule, StateMachineMatcher
from werkzeug.test import EnvironBuilder, run_wsgi_app

from async_parallel import AsyncParallel
from async_parallel.asgi import ASGIAdapter

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.filterwarnings("ignore:Current server name")


@dataclasses.dataclass(frozen=True)
class Get:
    """A request, as the router knows it."""

    path: str = "/static"
    base: str = "http://example.com"
    method: str = "GET"
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    def ask(self, app: Flask) -> tuple[int, str, str | None, str]:
        """Status, body, location and allowed methods."""
        client = app.test_client()
        answer = client.open(
            self.path,
            base_url=self.base,
            method=self.method,
            query_string=self.query,
            headers=list(self.headers),
        )
        allowed = ",".join(sorted(answer.allow))
        return answer.status_code, answer.text, answer.location, allowed


def make_app(**options: Any) -> Flask:
    """An application whose views tell what was found."""
    app = Flask(__name__, static_folder=None, **options)
    app.config["SERVER_NAME"] = None if not options else "example.com"

    def found(**values: Any) -> dict[str, Any]:
        rule: Any = request.url_rule
        return {
            "rule": [str(rule), request.endpoint],
            "values": [values, request.view_args],
            "url": url_for(request.endpoint or "", **values),
            "external": url_for(request.endpoint or "", _external=True, **values),
            "query": request.args.to_dict(),
            "host": request.host,
        }

    for number, (rule, settings) in enumerate(RULES):
        app.add_url_rule(rule, f"view{number}", found, **settings)
    app.add_url_rule("/of-api", "of_api", found, subdomain="api")
    if options.get("subdomain_matching"):
        app.add_url_rule("/static", "api", found, subdomain="api")
        app.add_url_rule("/static", "user", found, subdomain="<user>")
    if options.get("host_matching"):
        app.add_url_rule("/static", "other", found, host="other.example")
    return app


RULES: list[tuple[str, dict[str, Any]]] = [
    ("/static", {}),
    ("/static", {"methods": ["POST"]}),
    ("/folder/", {}),
    ("/loose/", {"strict_slashes": False}),
    ("/loose", {"strict_slashes": False, "methods": ["PUT"]}),
    ("/page", {"defaults": {"page": 1}}),
    ("/page/<int:page>", {}),
    ("/<name>/about", {}),
    ("/moved", {"redirect_to": "static"}),
    ("/ü", {}),
    ("/ws", {"websocket": True}),
]

GETS = [
    *(Get(method=method) for method in ("GET", "HEAD", "POST", "OPTIONS", "DELETE")),
    *(Get(path) for path in ("/folder/", "/folder", "/loose", "/loose/", "//static")),
    *(Get("/loose/", method=method) for method in ("PUT", "DELETE")),
    *(Get(path) for path in ("/page", "/page/1", "/page/2", "/a/about", "/static/")),
    *(Get(path) for path in ("/moved", "/%C3%BC", "/%FC", "/nowhere", "/", "/STATIC")),
    *(Get(base=f"http://{host}") for host in ("example.com:80", "example.com:81")),
    *(Get(base=f"http://{host}") for host in ("EXAMPLE.com", "api.example.com")),
    *(Get(base=f"http://{host}") for host in ("other.example", "ü.example.com")),
    *(Get(base=f"https://{host}") for host in ("example.com", "example.com:443")),
    *(Get(base=f"http://example.com{prefix}") for prefix in ("/app", "/app/", "/ü")),
    *(Get(query=query) for query in ("a=1", "a=%C3%BC", "")),
    Get("/folder", query="a=%C3%BC"),
    *(
        Get(path, headers=(("Connection", "keep-alive, Upgrade"), ("Upgrade", it)))
        for it in ("websocket", "h2c")
        for path in ("/static", "/ws")
    ),
    Get("/ws"),
]


@pytest.mark.parametrize("repeats", [2])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"subdomain_matching": True},
        {"host_matching": True, "static_host": None},
    ],
    ids=str,
)
def test_all_is_found_as_before(options: dict[str, Any], repeats: int) -> None:
    """The first time and later, in any order, for hosts, prefixes, methods, slashes."""
    plain, remembering = make_app(**options), make_app(**options)
    AsyncParallel(remembering)
    ASGIAdapter(remembering)
    assert known(remembering) is not None
    for get in GETS * repeats + GETS[::-1]:
        assert get.ask(remembering) == get.ask(plain), get


def known(app: Flask) -> Any:
    """What an application has remembered; ``None`` where it does not."""
    create: Any = app.create_url_adapter
    return getattr(create.__self__, "_known", None)


BOUND_BY = [
    ("HTTP_HOST", ["example.com", "api.example.com", "example.com:81"]),
    ("SERVER_NAME", ["example.com", "api.example.com"]),
    ("SERVER_PORT", ["80", "81"]),
    ("SCRIPT_NAME", ["", "/app"]),
    ("wsgi.url_scheme", ["http", "https"]),
    ("QUERY_STRING", ["a=1", "a=\u00c3\u00bc"]),
    ("PATH_INFO", ["/static", "/\u00c3\u00bc", "/folder"]),
]


@pytest.mark.parametrize(("name", "values"), BOUND_BY, ids=[n for n, _ in BOUND_BY])
@pytest.mark.parametrize("matching", [False, True])
def test_each_thing_that_it_is_bound_by_counts(
    name: str, values: list[str], *, matching: bool
) -> None:
    """Even if it is the only one that differs."""
    options = {"subdomain_matching": True} if matching else {}
    apps = make_app(**options), make_app(**options)
    AsyncParallel(apps[1])
    ASGIAdapter(apps[1])
    environ = EnvironBuilder("/folder", base_url="http://example.com").get_environ()
    if name.startswith("SERVER"):
        del environ["HTTP_HOST"]
    for value in values * 2:
        environ[name] = value
        plain, found = (run_wsgi_app(app.wsgi_app, dict(environ)) for app in apps)
        assert [*found[0]] == [*plain[0]]
        assert found[1:] == plain[1:]


def test_the_configured_name_counts() -> None:
    """It may be set at any time."""
    apps = [make_app(subdomain_matching=True) for _ in range(2)]
    AsyncParallel(apps[1])
    ASGIAdapter(apps[1])
    at_api = Get(base="http://api.example.com")
    for name in ("example.com", "api.example.com", "example.com"):
        for app in apps:
            app.config["SERVER_NAME"] = name
        answers = [at_api.ask(app) for app in apps]
        assert answers[0] == answers[1]


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths for which werkzeug searched for a rule."""
    paths: list[str] = []
    match = StateMachineMatcher.match

    def note(self: Any, domain: str, path: str, *args: Any) -> Any:
        paths.append(path)
        return match(self, domain, path, *args)

    monkeypatch.setattr(StateMachineMatcher, "match", note)
    return paths


def remembering_app() -> Flask:
    """One whose routes are remembered."""
    app = make_app()
    AsyncParallel(app)
    ASGIAdapter(app)
    return app


def test_a_path_without_variables_is_searched_for_once(searched: list[str]) -> None:
    """For each method; one with variables each time, and so what is not found."""
    app = remembering_app()
    for _ in range(3):
        for get in (Get(), Get(method="POST"), Get("/page/2"), Get("/nowhere")):
            get.ask(app)
    assert searched.count("/static") == 2
    assert searched.count("/page/2") == searched.count("/nowhere") == 3


def test_no_request_gets_what_another_has_changed() -> None:
    """The arguments of a view are its own."""
    app = remembering_app()

    @app.get("/mine")
    def mine() -> str:
        values: Any = request.view_args
        values["seen"] = True
        return str(len(values))

    assert [Get("/mine").ask(app)[1] for _ in range(3)] == ["1", "1", "1"]


def test_a_rule_that_is_added_counts_at_once(searched: list[str]) -> None:
    """Flask's own way to add one is closed by then, the map's is not."""
    app = remembering_app()
    Get().ask(app)
    app.view_functions["new"] = lambda: "new"
    app.url_map.add(Rule("/static", endpoint="new", methods=["DELETE"]))
    assert Get(method="DELETE").ask(app)[1] == "new"
    Get().ask(app)
    assert searched.count("/static") == 3


def test_what_clients_choose_does_not_grow_it() -> None:
    """They name hosts as they like."""
    app = remembering_app()
    sizes = []
    for number in range(600):
        Get(base=f"http://{number}.example.com").ask(app)
        sizes.append(len(known(app)))
    assert max(sizes) == 256


def test_paths_that_clients_make_up_do_not_grow_it() -> None:
    """What is not found, what has variables, and other ways to write the same."""
    app = remembering_app()
    app.url_map.add(Rule("/any", endpoint="view0"))
    for number in range(1, 100):
        Get(f"/no/{number}").ask(app)
        Get(f"/page/{number}").ask(app)
        Get("/any", method=f"METHOD{number}").ask(app)
        environ = EnvironBuilder("/", base_url="http://example.com").get_environ()
        environ["PATH_INFO"] = "/" * number + "static"
        *_, status, _ = run_wsgi_app(app.wsgi_app, environ)
        assert status == "200 OK"
    (binding,) = known(app).values()
    assert [*binding["rules"]] == [("GET", "/static")]


def test_each_request_by_an_unknown_host_is_warned_of(
    recwarn: pytest.WarningsRecorder,
) -> None:
    """As werkzeug does."""
    app = make_app(subdomain_matching=True)
    AsyncParallel(app)
    ASGIAdapter(app)
    with pytest.warns(UserWarning, match="doesn't match configured"):
        Get(base="http://elsewhere.example").ask(app)
    with pytest.warns(UserWarning, match="doesn't match configured"):
        Get(base="http://elsewhere.example").ask(app)
    assert not recwarn.list


def test_the_adapter_of_a_request_does_all_that_one_does() -> None:
    """It finds what it is asked for, and not only the rule of its request."""
    app = remembering_app()
    for _ in range(2):
        with app.test_request_context("/static", base_url="http://example.com"):
            adapter: Any = app.create_url_adapter(request)
            assert adapter.match() == ("view0", {})
            assert adapter.match("/page/7") == ("view6", {"page": 7})
            assert adapter.match(method="POST") == ("view1", {})
            assert adapter.match(return_rule=True)[0].endpoint == "view0"
            assert adapter.match("/ü", return_rule=True)[0].endpoint == "view9"
            assert adapter.test("/nowhere") is False
            allowed = sorted(adapter.allowed_methods("/folder/"))
            assert allowed == ["GET", "HEAD", "OPTIONS"]


def serve(kind: type[Flask]) -> Flask:
    """An application of a class of its own, and what it asks to be remembered."""
    app = kind(__name__)
    AsyncParallel(app)
    ASGIAdapter(app)
    return app


class OwnMap(Map):
    """Finds routes in its own way, for all that is known."""


class WithMap(Flask):
    """Has a map of a class of its own."""

    url_map_class = OwnMap


class WithAdapters(Flask):
    """Binds them in its own way."""

    def create_url_adapter(self, request: Any) -> Any:
        return super().create_url_adapter(request)


class WithWrapped(Flask):
    """Binds them in its own way, and says that this is Flask's."""

    @functools.wraps(Flask.create_url_adapter)
    def create_url_adapter(self, request: Any) -> Any:  # type: ignore[override]
        return super().create_url_adapter(request)


@pytest.mark.parametrize("kind", [WithMap, WithAdapters, WithWrapped])
def test_who_has_ways_of_his_own_is_left_alone(kind: type[Flask]) -> None:
    """They are not known here."""
    assert known(serve(kind)) is None


class Told(Request):
    """A request that is told its host."""

    told = "nothing"

    @property
    def host(self) -> str:
        return f"told {self.told}"

    @host.setter
    def host(self, host: str) -> None:
        self.told = host


def test_a_request_that_takes_its_host_otherwise_is_told_it_each_time() -> None:
    """Only what Flask itself would note is noted for it."""

    class WithRequests(Flask):
        request_class = Told

    app = serve(WithRequests)
    app.add_url_rule("/static", "own", lambda: request.host)
    for host in ("a", "b", "a", "b"):
        assert Get(base=f"http://{host}").ask(app)[1] == f"told {host}"
    assert not known(app)


class Elsewhere(Request):
    """A request that keeps its host in the environment."""

    @property
    def host(self) -> str:
        return str(self.environ.get("the.host"))

    @host.setter
    def host(self, host: str) -> None:
        self.environ["the.host"] = host


class Careful(Request):
    """A request that trusts some hosts for some paths."""

    @property
    def trusted_hosts(self) -> list[str] | None:
        return ["good.example"] if self.path == "/own" else None

    @trusted_hosts.setter
    def trusted_hosts(self, hosts: list[str] | None) -> None:
        raise AssertionError(hosts)


@pytest.mark.parametrize("kind", [Elsewhere, Careful])
def test_classes_of_requests_have_their_say(kind: type[Request]) -> None:
    """About each of them."""
    apps = make_app(), make_app()
    for app in apps:
        app.request_class = kind
        app.add_url_rule("/own", "own", lambda: "own")  # asks for no host
    AsyncParallel(apps[1])
    ASGIAdapter(apps[1])
    for path in ("/page", "/own", "/page", "/own"):
        plain, found = (Get(path).ask(app) for app in apps)
        assert plain == found


def test_an_adapter_that_is_changed_finds_what_it_is_then() -> None:
    """As applications do that have tenants; nothing of it is remembered."""

    class Tenants(Flask):
        def request_context(self, environ: Any) -> Any:
            context = super().request_context(environ)
            adapter: Any = context.url_adapter
            adapter.subdomain = environ.get("HTTP_X_TENANT", "")
            return context

    app = serve(Tenants)
    for tenant in ("a", "b"):
        app.add_url_rule("/", tenant, lambda: str(request.endpoint), subdomain=tenant)
    for tenant in ("b", "a", "b", "c"):
        status, text, *_ = Get("/", headers=(("X-Tenant", tenant),)).ask(app)
        assert text == tenant if tenant != "c" else status == 404


def change_default(app: Flask) -> None:
    """Have another subdomain where none is said."""
    app.url_map.default_subdomain = "api"


def change_matching(app: Flask) -> None:
    """Match subdomains."""
    app.subdomain_matching = True


def change_methods(app: Flask) -> None:
    """Take a method from a rule."""
    rule: Any = next(app.url_map.iter_rules("view0"))
    rule.methods.discard("GET")


def change_target(app: Flask) -> None:
    """Have a rule lead elsewhere."""
    next(app.url_map.iter_rules("view0")).redirect_to = "elsewhere"


def change_map(app: Flask) -> None:
    """Have other rules."""
    app.url_map = Map([Rule("/static", endpoint="view1")])


@pytest.mark.parametrize(
    "change",
    [change_default, change_matching, change_methods, change_target, change_map],
)
def test_what_is_changed_between_requests_counts(
    change: Callable[[Flask], None],
) -> None:
    """Each time, as Flask asks for it each time."""
    apps = make_app(), make_app()
    for app in apps:
        app.config["SERVER_NAME"] = "example.com"
    AsyncParallel(apps[1])
    ASGIAdapter(apps[1])
    gets = [
        Get(path, base=f"http://{host}")
        for path in ("/static", "/of-api")
        for host in ("example.com", "api.example.com")
    ]
    for _ in range(2):
        for get in gets * 2:
            plain, found = (get.ask(app) for app in apps)
            assert plain == found
        for app in apps:
            change(app)


def test_rules_that_another_map_gets_count() -> None:
    """Nothing is remembered of it."""
    app = remembering_app()
    Get().ask(app)
    app.url_map = Map([Rule("/static", endpoint="view0")])
    assert Get().ask(app)[0] == 200
    app.view_functions["new"] = lambda: "new"
    app.url_map.add(Rule("/late", endpoint="new"))
    assert Get("/late").ask(app)[1] == "new"


def test_a_method_that_is_changed_in_the_class_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At any time."""
    app, seen = remembering_app(), []
    Get().ask(app)
    original: Any = Flask.create_url_adapter

    def changed(self: Flask, request: Any) -> Any:
        seen.append(request)
        return original(self, request)

    monkeypatch.setattr(Flask, "create_url_adapter", changed)
    assert Get().ask(app)[0] == 200
    assert len(seen) == 2  # for the application, and for the request


def test_hosts_that_must_be_trusted_are_looked_at_each_time() -> None:
    """Whatever was answered before, as the setting may be made at any time."""
    app = remembering_app()
    assert Get().ask(app)[0] == 200
    assert len(known(app)) == 1
    app.config["TRUSTED_HOSTS"] = ["other.example"]
    assert Get().ask(app)[0] == 400
    assert Get(base="http://other.example").ask(app)[0] == 200
    assert len(known(app)) == 1


def test_another_map_is_asked_instead() -> None:
    """An application may replace it."""
    app = remembering_app()
    assert Get().ask(app)[0] == 200
    app.url_map = Map()
    assert Get().ask(app)[0] == 404
    assert Get().ask(app)[0] == 404


def test_a_second_adapter_does_not_come_before_the_first() -> None:
    """What the first has learned is for both."""
    app = remembering_app()
    first: Any = app.create_url_adapter
    ASGIAdapter(app)
    second: Any = app.create_url_adapter
    assert first is second


def test_what_a_server_leaves_out_is_empty() -> None:
    """PEP 3333 lets the path and the query be absent."""
    app = remembering_app()
    app.add_url_rule("/", "root", lambda: request.path + request.query_string.decode())
    for _ in range(2):
        environ = EnvironBuilder("/", query_string="").get_environ()
        del environ["PATH_INFO"], environ["QUERY_STRING"]
        body, status, _ = run_wsgi_app(app.wsgi_app, environ)
        assert (b"".join(body), status) == (b"/", "200 OK")


def test_outside_a_request_it_is_flasks() -> None:
    """There the configuration says where URLs lead."""
    app = remembering_app()
    app.config["SERVER_NAME"] = "example.com"
    with app.app_context():
        assert url_for("view0") == "http://example.com/static"
