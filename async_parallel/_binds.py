"""The databases of a Flask application, by name, from its configuration."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import orm
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

from ._bind_keys import BindKeys
from ._engine import check_url
from ._gather import QueryGatherer
from ._holding import listen_to_sessions
from ._runner import LANE_TIMEOUT, MAX_CONNECTIONS, MAX_WAITING
from ._several import Gatherers
from ._sources import check_positive, isa
from .errors import (
    BindNotFoundError,
    ConfigurationError,
    UnsupportedDatabaseError,
)

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Engine

    from ._home_loop import HomeLoop
    from ._sessions import Sessions

    StandIn = tuple[AsyncEngine, Callable[[Sessions], Sessions]]
    """What a test has in the place of a database: an engine, and what sessions are."""

DEFAULT = "default"
"""The name of the bind that a gather uses unless told otherwise."""

_PREFIX = "ASYNC_PARALLEL_"


def set_defaults(config: Any) -> None:
    """Give each optional setting its default, and check those that are set.

    Raises:
        ConfigurationError: A limit that is not positive, or of the wrong type; or a
            setting that there is not.
        UnsupportedDatabaseError: A URL that cannot be used.
    """
    defaults: dict[str, Any] = {
        "ENGINE_OPTIONS": {},
        "MAX_CONNECTIONS": MAX_CONNECTIONS,
        "MAX_CONCURRENCY": None,
        "TIMEOUT": None,
        "LANE_TIMEOUT": LANE_TIMEOUT,
        "MAX_WAITING": MAX_WAITING,
        "MAX_AGE": None,
        "HOLD_AND_WAIT": None,
        "SHARED_LOOP": True,
    }
    _refuse_unknown(config, [*defaults, "DATABASE_URI", "BINDS"])
    for name, value in defaults.items():
        config.setdefault(_PREFIX + name, value)
    needed = ("MAX_CONNECTIONS", "LANE_TIMEOUT", "MAX_WAITING")
    limits = (*needed, "MAX_CONCURRENCY", "TIMEOUT", "MAX_AGE")
    try:
        check_positive(**{_PREFIX + name: config[_PREFIX + name] for name in limits})
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    for name in needed:
        if config[_PREFIX + name] is None:
            raise ConfigurationError(f"{_PREFIX}{name} must be a number, not None.")
    action = config[f"{_PREFIX}HOLD_AND_WAIT"]
    if action not in {None, "ignore", "warn", "error"}:
        raise ConfigurationError(
            f"{_PREFIX}HOLD_AND_WAIT must be 'ignore', 'warn' or 'error', and it is"
            f" {action!r}. Leave it out to be warned in debug mode."
        )
    if action in {"warn", "error"} or (action is None and config.get("DEBUG")):
        listen_to_sessions()  # the first gather comes after what it would miss
    for name, given in _configured(config).items():
        url, _ = _split(given)
        if not isinstance(url, AsyncEngine):
            _check_url(name, url)


def _refuse_unknown(config: Any, names: list[str]) -> None:
    for key in map(str, config):
        name = key.removeprefix(_PREFIX)
        if name in {key, *names}:
            continue
        near = difflib.get_close_matches(name, names, n=1)
        known = [_PREFIX + one for one in near or names]
        meant = (
            f"Did you mean {known[0]}?" if near else f"There are {', '.join(known)}."
        )
        raise ConfigurationError(f"{key} is no setting. {meant}")


def make_gatherer(
    app: Any,
    name: str,
    home: HomeLoop,
    sessions: Callable[[], Iterable[Any]],
    engine: AsyncEngine | None = None,
) -> QueryGatherer:
    """The gatherer of the bind ``name``; in an application context of ``app``.

    Args:
        app: The Flask application.
        name: The name of the bind.
        home: The extension's home loop.
        sessions: Finds the sessions of who gathers.
        engine: An engine in the place of what is configured.

    Raises:
        BindNotFoundError: There is no bind of this name.
        ConfigurationError: There is no database at all.
        UnsupportedDatabaseError: Its URL cannot be used.
    """
    binds = find_binds(app)
    if name not in binds and (engine is None or name != DEFAULT):
        if name == DEFAULT:
            raise ConfigurationError(
                "No database is configured. Set ASYNC_PARALLEL_DATABASE_URI, or"
                " initialise Flask-SQLAlchemy on the app."
            )
        raise BindNotFoundError(name, binds)
    url, options = _split(binds[name]) if engine is None else (engine, {})
    sessionmaker: Any = None
    if isinstance(url, AsyncEngine):  # Flask-SQLAlchemy-Lite's, with its sessions
        extension = app.extensions.get("sqlalchemy")
        sessionmaker = getattr(extension, "async_sessionmaker", None)
    config = app.config
    gatherer = QueryGatherer(
        url,
        max_connections=config[f"{_PREFIX}MAX_CONNECTIONS"],
        max_concurrency=config[f"{_PREFIX}MAX_CONCURRENCY"],
        timeout=config[f"{_PREFIX}TIMEOUT"],
        lane_timeout=config[f"{_PREFIX}LANE_TIMEOUT"],
        max_waiting=config[f"{_PREFIX}MAX_WAITING"],
        max_age=config[f"{_PREFIX}MAX_AGE"],
        sessionmaker=sessionmaker,
        engine_options={**config[f"{_PREFIX}ENGINE_OPTIONS"], **options},
        hold_and_wait=config[f"{_PREFIX}HOLD_AND_WAIT"]
        or ("warn" if app.debug else "ignore"),
        home=home,
        callers_sessions=sessions,
    )
    gatherer.name(name, one_of_several=bool(binds.keys() - {DEFAULT}))
    return gatherer


def route(
    app: Any, home: HomeLoop, find: Callable[[str], QueryGatherer]
) -> Gatherers | None:
    """What gathers where no bind is named; in an application context of ``app``.

    Args:
        app: The Flask application.
        home: The extension's home loop.
        find: Finds a gatherer by the name of its bind.

    Returns:
        ``None`` where there is one database at most.
    """
    if not find_binds(app).keys() - {DEFAULT}:
        return None
    limits = {
        name: app.config[_PREFIX + name.upper()]
        for name in ("max_concurrency", "timeout")
    }
    return Gatherers(find, BindKeys(DEFAULT, _assigned(app)), home, limits)


def _assigned(app: Any) -> dict[Any, str]:
    """The ``binds`` of the sessions of Flask-SQLAlchemy-Lite, by name."""
    extension = app.extensions.get("sqlalchemy")
    assigned: dict[Any, str] = {}
    for kind in ("", "async_"):
        maker: Any = getattr(extension, f"{kind}sessionmaker", None)
        if not isa(maker, (orm.sessionmaker, async_sessionmaker)):
            continue  # Flask-SQLAlchemy shows SQLAlchemy's class by this name
        names = {
            id(engine): name
            for name, engine in getattr(extension, f"{kind}engines").items()
        }
        binds: dict[Any, Any] = maker.kw.get("binds") or {}
        for key, engine in binds.items():
            if id(engine) in names:
                assigned[key] = names[id(engine)]
    return assigned


def find_binds(app: Any) -> dict[str, Any]:
    """Each bind's URL, options or engine, by name.

    What ``ASYNC_PARALLEL_*`` says goes before the engines of Flask-SQLAlchemy or
    Flask-SQLAlchemy-Lite, and those before a bare ``SQLALCHEMY_DATABASE_URI``, which
    Flask-SQLAlchemy reads relative to the instance folder.
    """
    binds: dict[str, Any] = {}
    if "SQLALCHEMY_DATABASE_URI" in app.config:
        binds[DEFAULT] = app.config["SQLALCHEMY_DATABASE_URI"]
    extension = app.extensions.get("sqlalchemy")
    if extension is not None:
        for name, engine in extension.engines.items():
            binds[name or DEFAULT] = engine.engine.url  # a test may put a connection
        binds |= getattr(extension, "async_engines", {})
    return binds | _configured(app.config)


def find_engines(app: Any) -> dict[str, Engine]:
    """The engines that the application's own sessions use, by the name of the bind."""
    engines: Mapping[str | None, Engine] = getattr(
        app.extensions.get("sqlalchemy"), "engines", {}
    )
    return {name or DEFAULT: engine for name, engine in engines.items()}


def _configured(config: Any) -> dict[str, Any]:
    given: Any = config.get(f"{_PREFIX}BINDS") or {}
    if not isa(given, Mapping):
        raise ConfigurationError(
            f"{_PREFIX}BINDS must be a mapping of name to URL, not"
            f" {type(given).__name__}. For one database set {_PREFIX}DATABASE_URI."
        )
    binds: dict[str, Any] = {**given}
    if config.get(f"{_PREFIX}DATABASE_URI"):
        binds[DEFAULT] = config[f"{_PREFIX}DATABASE_URI"]
    return binds


def _check_url(name: str, url: Any) -> None:
    try:
        check_url(url)
    except UnsupportedDatabaseError:
        raise
    except ArgumentError:
        raise ConfigurationError(
            f"The bind {name!r} of {_PREFIX}DATABASE_URI or {_PREFIX}BINDS is not a"
            " database URL such as 'postgresql://user@host/name'."
        ) from None


def _split(
    given: str | URL | AsyncEngine | Mapping[str, Any],
) -> tuple[Any, dict[str, Any]]:
    """The URL or engine of a bind, and the engine options that are its own."""
    if not isinstance(given, Mapping):
        return given, {}
    options = dict(given)
    try:
        return options.pop("url"), options
    except KeyError:
        raise ConfigurationError(
            f"A bind of {_PREFIX}BINDS is a mapping without a 'url': {sorted(options)}."
        ) from None
