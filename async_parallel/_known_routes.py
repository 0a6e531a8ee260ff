"""What Flask and werkzeug find for a request, remembered for those that are like it.

For each request Flask binds its URL map anew to the host, scheme and prefix that the
request came by, which are the same for nearly all of them, and in which there is much
to parse. That and finding the rule take longer than all that the adapter does, and what
finding it leaves behind has the garbage collector run. So the last bindings are kept,
and with each the rules that were found for paths without variables. All else is asked
of Flask and werkzeug, as is each of these the first time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from werkzeug.routing import Map, MapAdapter

if TYPE_CHECKING:
    from werkzeug.routing import Rule

# Clients choose the hosts that they name.
_MOST_BINDINGS = 256
_OF_NO_HOST_HERE = "<invalid>"
_JUST_THE_RULE = {"return_rule": True}


def remember_routes(app: Any) -> None:
    """Have a Flask application remember its routes, if it finds them in Flask's way."""
    create = getattr(app, "create_url_adapter", None)
    is_flasks = getattr(create, "__module__", "") == "flask.app"
    if is_flasks and app.url_map.__class__ is Map:
        _KnownRoutes(app)


class _KnownRoutes:
    """Stands before the routes of an application."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._create = app.create_url_adapter
        self._add = app.url_map.add
        # The attributes of an adapter that is bound so, by what it is bound by.
        self._known: dict[tuple[Any, ...], dict[str, Any]] = {}
        app.create_url_adapter = self.create_url_adapter
        app.url_map.add = self.add

    def add(self, rulefactory: Any) -> None:
        """Do what ``Map.add`` does, and forget what it may change."""
        self._add(rulefactory)
        self._known.clear()

    def create_url_adapter(self, request: Any) -> Any:
        """Do what ``Flask.create_url_adapter`` does: bind the URL map to a request."""
        config = self._app.config
        if request is None:
            return None if config["SERVER_NAME"] is None else self._create(None)
        environ = request.environ
        if "HTTP_UPGRADE" in environ or config["TRUSTED_HOSTS"] is not None:
            return self._create(request)  # of a websocket, or to be looked at each time
        key = (
            environ.get("HTTP_HOST"),
            environ.get("SERVER_NAME"),
            environ.get("SERVER_PORT"),
            environ.get("SCRIPT_NAME"),
            environ.get("wsgi.url_scheme"),
            config["SERVER_NAME"],
        )
        known = self._known.get(key)
        if known is None or known["map"] is not self._app.url_map:
            return self._learn(key, request)
        return _bound(known, environ)

    def _learn(self, key: tuple[Any, ...], request: Any) -> Any:
        noted: dict[str, Any] = request.__dict__
        before = noted.copy()
        adapter = self._create(request)
        # A request finds its host itself; Flask does so now to refuse what is none.
        is_plain = noted.keys() - before <= {"host"} and adapter.__class__ is MapAdapter
        # werkzeug warns of each request by a host that is not of the application.
        if not is_plain or adapter.subdomain == _OF_NO_HOST_HERE:
            return adapter
        if len(self._known) >= _MOST_BINDINGS:
            self._known.clear()
        known = self._known[key] = {**vars(adapter), "rules": {}}
        return _bound(known, request.environ)


class _Adapter(MapAdapter):
    """A URL map bound to a request, that knows what others like it have found."""

    rules: dict[tuple[str, str], Rule]

    def match(self, *args: Any, **options: Any) -> Any:
        """Find the rule of the request, or of what is given instead of it."""
        if args or options != _JUST_THE_RULE:
            return super().match(*args, **options)
        key = self.default_method, self.path_info
        rule = self.rules.get(key)
        if rule is not None:
            return rule, {}
        rule, values = super().match(return_rule=True)
        if not values:
            self.rules[key] = rule
        return rule, values


def _bound(known: dict[str, Any], environ: dict[str, Any]) -> _Adapter:
    adapter = _Adapter.__new__(_Adapter)
    adapter.__dict__.update(known)
    path, query = environ.get("PATH_INFO", "/"), environ.get("QUERY_STRING", "")
    adapter.path_info = path if path.isascii() else _decoded(path)
    adapter.default_method = environ["REQUEST_METHOD"]
    adapter.query_args = query if query.isascii() else _decoded(query)
    return adapter


def _decoded(disguised: str) -> str:
    """Text that WSGI has in the disguise of latin-1."""
    return disguised.encode("latin-1").decode(errors="replace")
