"""What werkzeug's router found for a request, remembered for those that are like it.

For each request a URL map is bound anew to the host, scheme and prefix that it came by,
which are the same for nearly all of them, and in which there is much to parse. That and
finding the rule take as long as the rest of a small request's way through the adapter,
and what finding it leaves behind has the garbage collector run. So the last bindings
are kept, and with each the rules that were found for paths without variables. All else
is asked of werkzeug, as is each of these the first time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from werkzeug.routing import Map, MapAdapter

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.routing import Rule

    _Rules = dict[tuple[str, str], Rule]
    _Binding = tuple[str, str, str | None, str, _Rules]

# Clients choose the hosts that they name.
_MOST_BINDINGS = 256
_OF_NO_HOST_HERE = "<invalid>"


def remember_routes(app: Any) -> None:
    """Have the URL map of an application, if it is werkzeug's, remember its routes."""
    url_map: Any = getattr(app, "url_map", None)
    is_werkzeugs = url_map.__class__ is Map
    if is_werkzeugs and "bind_to_environ" not in vars(url_map):
        known = _KnownRoutes(url_map)
        url_map.bind_to_environ = known.bind_to_environ
        url_map.add = known.add


class _KnownRoutes:
    """Stands before a URL map."""

    def __init__(self, url_map: Map) -> None:
        self._map = url_map
        self._bind: Callable[..., MapAdapter] = url_map.bind_to_environ
        self._add = url_map.add
        self._known: dict[tuple[Any, ...], _Binding] = {}

    def add(self, rulefactory: Any) -> None:
        """Do what ``Map.add`` does, and forget what it may change."""
        self._add(rulefactory)
        self._known.clear()

    def bind_to_environ(
        self, environ: Any, server_name: str | None = None, subdomain: str | None = None
    ) -> MapAdapter:
        """Do what ``Map.bind_to_environ`` does."""
        is_one = environ.__class__ is dict  # it may be a request
        if not is_one or "HTTP_UPGRADE" in environ:  # of a websocket
            return self._bind(environ, server_name, subdomain)
        try:
            path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
        except KeyError:  # PEP 3333 lets them be absent
            return self._bind(environ, server_name, subdomain)
        key = (
            environ.get("HTTP_HOST"),
            environ.get("SERVER_NAME"),
            environ.get("SERVER_PORT"),
            environ.get("SCRIPT_NAME"),
            environ.get("wsgi.url_scheme"),
            server_name,
            subdomain,
        )
        known = self._known.get(key)
        if known is None:
            adapter = self._bind(environ, server_name, subdomain)
            if adapter.subdomain == _OF_NO_HOST_HERE:
                return adapter  # werkzeug warns of each such request
            known = self._remember(key, adapter)
        adapter = _Adapter(
            self._map,
            *known[:4],
            path if path.isascii() else _decoded(path),
            environ["REQUEST_METHOD"],
            query if query.isascii() else _decoded(query),
        )
        adapter.known = known[4]
        return adapter

    def _remember(self, key: tuple[Any, ...], adapter: MapAdapter) -> _Binding:
        if len(self._known) >= _MOST_BINDINGS:
            self._known.clear()
        known: _Binding = (
            adapter.server_name,
            adapter.script_name,
            adapter.subdomain,
            adapter.url_scheme,
            {},
        )
        self._known[key] = known
        return known


class _Adapter(MapAdapter):
    """A URL map bound to a request, that knows what others like it have found."""

    known: _Rules

    def match(self, *args: Any, **options: Any) -> Any:
        """Find the rule of the request, or of what is given instead of it."""
        if args or options != _JUST_THE_RULE:
            return super().match(*args, **options)
        key = self.default_method, self.path_info
        rule = self.known.get(key)
        if rule is not None:
            return rule, {}
        rule, values = super().match(return_rule=True)
        if not values:
            self.known[key] = rule
        return rule, values


_JUST_THE_RULE = {"return_rule": True}


def _decoded(disguised: str) -> str:
    """Text that WSGI has in the disguise of latin-1."""
    return disguised.encode("latin-1").decode(errors="replace")
