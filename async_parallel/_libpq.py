"""From the parameters of libpq, which psycopg's URLs carry, to those of asyncpg."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from .errors import UnsupportedDatabaseError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import URL

# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
# asyncpg reads these from a DSN only, in libpq's own spelling.
_IN_DSN = {
    "gsslib",
    "krbsrvname",
    "passfile",
    "service",
    "sslcert",
    "sslcrl",
    "sslkey",
    "sslmode",
    "sslnegotiation",
    "sslpassword",
    "sslrootcert",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "target_session_attrs",
}
# What asyncpg does by itself, or what has no meaning without libpq's blocking socket.
_WITHOUT_MEANING = {
    "client_encoding",
    "fallback_application_name",
    "gssencmode",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "tcp_user_timeout",
}
# The dialect takes these, or asyncpg.connect() by the same name.
_AS_THEY_ARE = {
    "command_timeout",
    "database",
    "direct_tls",
    "dsn",
    "host",
    "max_cacheable_statement_size",
    "max_cached_statement_lifetime",
    "password",
    "port",
    "prepared_statement_cache_size",
    "prepared_statement_name_func",
    "servicefile",
    "ssl",
    "statement_cache_size",
    "timeout",
    "user",
}
_NUMBERS = {
    "command_timeout": float,
    "max_cacheable_statement_size": int,
    "max_cached_statement_lifetime": int,
    "statement_cache_size": int,
    "timeout": float,
}


def shown(url: URL) -> str:
    """``url`` for a message, without its passwords."""
    query = {
        name: "***" if "password" in name else value
        for name, value in url.query.items()
    }
    return url.set(query=query).render_as_string().replace("%3Amemory%3A", ":memory:")


def asyncpg_connect_args(
    url: URL, given: Mapping[str, Any]
) -> tuple[URL, dict[str, Any]]:
    """The URL without libpq's parameters, and the arguments that carry their meaning.

    Args:
        url: The URL, as psycopg takes it.
        given: ``connect_args`` of the user; libpq's names are understood here too,
            and win over the URL.

    Raises:
        UnsupportedDatabaseError: A parameter that is neither libpq's nor asyncpg's.
    """
    asked: dict[str, Any] = {**url.query, **given}
    # The dialect splits these itself where there are several.
    in_url = {
        name: value
        for name, value in url.query.items()
        if name in {"host", "port"} and name not in given
    }
    dsn: dict[str, str] = {}
    settings: dict[str, str] = {}
    arguments: dict[str, Any] = {}
    for name, value in asked.items():
        if name in in_url or name in _WITHOUT_MEANING:
            continue
        if name in _IN_DSN:
            dsn[name] = str(value)
        elif name == "connect_timeout":
            arguments["timeout"] = _connect_timeout(value)
        elif name == "application_name":
            settings[name] = str(value)
        elif name == "options":
            settings |= _settings(url, str(value))
        elif name == "dbname":
            arguments["database"] = value
        elif name in _AS_THEY_ARE or name in given:
            arguments[name] = _NUMBERS[name](value) if name in _NUMBERS else value
        else:
            raise UnsupportedDatabaseError(
                shown(url),
                f"asyncpg does not know the parameter {name!r}. Remove it, or set"
                " ASYNC_PARALLEL_DATABASE_URI to a URL without it.",
            )
    if dsn:
        arguments.setdefault("dsn", f"postgresql://?{urlencode(dsn)}")
    arguments["server_settings"] = {**settings, **arguments.get("server_settings", {})}
    return url.set(query=in_url), arguments


def _connect_timeout(value: Any) -> float | None:
    # libpq: zero, negative or not specified means wait indefinitely.
    seconds = float(value)
    return seconds if seconds > 0 else None


def _settings(url: URL, options: str) -> dict[str, str]:
    """The ``-c name=value`` and ``--name=value`` of libpq's ``options``."""
    settings: dict[str, str] = {}
    words = iter(_words(options))
    for word in words:
        pair = next(words, "") if word == "-c" else word.removeprefix("-c")
        if pair == word and not word.startswith("--"):
            break
        name, equals, value = pair.removeprefix("--").partition("=")
        if not equals:
            break
        settings[name.replace("-", "_")] = value
    else:
        return settings
    raise UnsupportedDatabaseError(
        shown(url),
        f"options={options!r} has a word other than '-c name=value' and"
        " '--name=value'; asyncpg takes settings only.",
    )


def _words(options: str) -> list[str]:
    # As the server splits them: at white space that no backslash precedes. Quotes mean
    # nothing here.
    words = re.findall(r"(?:\\.|[^\s\\])+", options, re.DOTALL)
    return [re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL) for word in words]
