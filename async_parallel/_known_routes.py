"""What Flask and werkzeug find for a request, remembered for those that are like it.

For each request Flask binds its URL map anew to the host, scheme and prefix that the
request came by, which are the same for nearly all of them, and in which there is much
to parse. That and finding the rule take longer than all that the adapter does, and what
finding it leaves behind has the garbage collector run. So the last bindings are kept,
and with each the rules without variables that were found. All else is asked of Flask
and werkzeug, as is each of these the first time.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from werkzeug.routing import Map, MapAdapter

from ._origin import is_from

if TYPE_CHECKING:
    from werkzeug.routing import Rule

# Clients choose the hosts that they name.
_MOST_BINDINGS = 256
_OF_NO_HOST_HERE = "<invalid>"
_reached_by = operator.itemgetter(
    "HTTP_HOST", "SERVER_NAME", "SERVER_PORT", "SCRIPT_NAME", "wsgi.url_scheme"
)
_JUST_THE_RULE = {"return_rule": True}


def remember_routes(app: Any) -> None:
    """Have a Flask application remember its routes, if it finds them in Flask's way."""
    create = getattr(app, "create_url_adapter", None)
    if is_from(create, "flask.app") and app.url_map.__class__ is Map:
        _KnownRoutes(app)


class _KnownRoutes:
    """Stands before the routes of an application."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._map = app.url_map
        self._add = app.url_map.add
        self._flasks = app.__class__.create_url_adapter
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
        app, url_map = self._app, self._map
        create, config = app.__class__.create_url_adapter, app.config
        if create is not self._flasks:  # somebody has changed it since
            return create(app, request)
        if request is None:
            return None if config["SERVER_NAME"] is None else create(app, None)
        if (
            app.url_map is not url_map
            or "HTTP_UPGRADE" in request.environ  # it may be a websocket's
            or config["TRUSTED_HOSTS"] is not None  # to be looked at each time
            or request.trusted_hosts is not None
        ):
            return create(app, request)
        environ = request.environ
        try:
            by_environ = _reached_by(environ)
        except KeyError:  # a client of HTTP/1.0 may name no host
            return create(app, request)
        key = (
            by_environ,
            config["SERVER_NAME"],
            app.subdomain_matching,
            url_map.default_subdomain,
        )
        known = self._known.get(key)
        return self._learn(key, request) if known is None else _bound(known, environ)

    def _learn(self, key: tuple[Any, ...], request: Any) -> Any:
        noted: dict[str, Any] = request.__dict__
        before = noted.copy()
        adapter = self._flasks(self._app, request)
        # Flask asks for the host, to refuse what is none; later requests do when they
        # want to know it. If it notes something else, that may be for each of them.
        is_plain = noted.keys() - before == {"host"} and adapter.__class__ is MapAdapter
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

    def __setattr__(self, name: str, value: object) -> None:
        """Be another from now on, of which nothing is known."""
        self.__dict__.update({name: value, "rules": {}})

    def match(self, *args: Any, **options: Any) -> Any:
        """Find the rule of the request, or of what is given instead of it."""
        if args or options != _JUST_THE_RULE:
            return super().match(*args, **options)
        method, path = self.default_method, self.path_info
        rule: Any = self.rules.get((method, path))
        if rule is not None and method in rule.methods and rule.redirect_to is None:
            return rule, {}
        rule, values = super().match(return_rule=True)
        # Clients can write other paths to it in endless ways, and make up methods.
        is_for_all = rule.methods is None
        if path == rule.rule and not (values or is_for_all or rule.redirect_to):
            self.rules[method, path] = rule
        return rule, values


def _bound(known: dict[str, Any], environ: dict[str, Any]) -> _Adapter:
    adapter = object.__new__(_Adapter)
    path, query = environ.get("PATH_INFO", "/"), environ.get("QUERY_STRING", "")
    attributes: dict[str, Any] = adapter.__dict__
    attributes |= known
    attributes["path_info"] = path if path.isascii() else _decoded(path)
    attributes["default_method"] = environ["REQUEST_METHOD"]
    attributes["query_args"] = query if query.isascii() else _decoded(query)
    return adapter


def _decoded(disguised: str) -> str:
    """Text that WSGI has in the disguise of latin-1."""
    return disguised.encode("latin-1").decode(errors="replace")
