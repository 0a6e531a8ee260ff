"""From a URL, or an engine, to read-only connections, and the sessions on them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qs, urlsplit

import asyncpg  # type: ignore[import-untyped]
import pytest
import sqlalchemy as sa
from asyncpg.connect_utils import (  # type: ignore[import-untyped]
    _parse_connect_dsn_and_args,
)
from shop import ORDERS_EACH, USERS, Order, User, make_shop
from sqlalchemy import event, func, select, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, sessionmaker, with_loader_criteria
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool
from sqlalchemy.util import greenlet_spawn

from async_parallel import scalar, scalar_one
from async_parallel._engine import async_url
from async_parallel.errors import (
    ConfigurationError,
    ReadOnlyError,
    UnsupportedDatabaseError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sqlalchemy.orm import ORMExecuteState

    from async_parallel import QueryGatherer

IDS = select(User.id).order_by(User.id)


# URLs.


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("postgresql://u:p@h:1/db", "postgresql+asyncpg://u:p@h:1/db"),
        ("postgres://u:p@h:1/db", "postgresql+asyncpg://u:p@h:1/db"),
        ("postgresql+psycopg2://u:p@h/db", "postgresql+asyncpg://u:p@h/db"),
        ("postgresql+psycopg://u:p@h/db", "postgresql+asyncpg://u:p@h/db"),
        ("postgresql+pg8000://u:p@h/db", "postgresql+asyncpg://u:p@h/db"),
        ("postgresql+asyncpg://u:p@h/db", "postgresql+asyncpg://u:p@h/db"),
        ("postgres+asyncpg://u:p@h/db", "postgresql+asyncpg://u:p@h/db"),
        ("postgresql://u:p%40%2F@h/db", "postgresql+asyncpg://u:p%40%2F@h/db"),
        ("postgresql:///db", "postgresql+asyncpg:///db"),
        (
            "postgresql://u@/db?host=/run/postgresql",
            "postgresql+asyncpg://u@/db?host=%2Frun%2Fpostgresql",
        ),
        (
            "postgresql://u@/db?host=a:1&host=b:2",
            "postgresql+asyncpg://u@/db?host=a%3A1&host=b%3A2",
        ),
        (
            "postgresql://u@/db?host=a,b&port=1,2",
            "postgresql+asyncpg://u@/db?host=a%2Cb&port=1%2C2",
        ),
        ("sqlite:///shop.db", "sqlite+aiosqlite:///shop.db"),
        ("sqlite:////var/shop.db", "sqlite+aiosqlite:////var/shop.db"),
        ("sqlite+pysqlite:///shop.db", "sqlite+aiosqlite:///shop.db"),
        ("sqlite+aiosqlite:///shop.db", "sqlite+aiosqlite:///shop.db"),
        ("sqlite:///shop.db?timeout=9", "sqlite+aiosqlite:///shop.db?timeout=9"),
        (
            "sqlite:///file:shop.db?mode=ro&uri=true",
            "sqlite+aiosqlite:///file:shop.db?mode=ro&uri=true",
        ),
    ],
)
def test_a_url_becomes_its_async_twin(given: str, wanted: str) -> None:
    """The driver changes, and nothing else does, whether given as text or as URL."""
    for url in (given, make_url(given)):
        assert async_url(url) == make_url(wanted)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:secret@h/db",
        "mysql+pymysql://u:secret@h/db",
        "mysql+aiomysql://u:secret@h/db",
        "mariadb://u:secret@h/db",
        "oracle://u:secret@h/db",
        "mssql+pyodbc://u:secret@h/db",
        "postgresql+odd://u:secret@h/db",
        "sqlite+pysqlcipher://:secret@/shop.db",
    ],
)
async def test_other_databases_are_refused_with_those_there_are(
    url: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """A database without an async driver is refused, and the error lists the others."""
    with pytest.raises(UnsupportedDatabaseError) as caught:
        make_gatherer(url)
    assert isinstance(caught.value, (ConfigurationError, sa.exc.ArgumentError))
    assert f"there is no async driver for {make_url(url).drivername!r}" in str(
        caught.value
    )
    assert "postgresql (with asyncpg), sqlite (with aiosqlite)" in str(caught.value)
    assert "secret" not in str(caught.value)


PRIVATE = [
    "sqlite://",
    "sqlite:///",
    "sqlite:///:memory:",
    "sqlite+pysqlite://",
    "sqlite+pysqlite:///:memory:",
    "sqlite+aiosqlite://",
    "sqlite+aiosqlite:///:memory:",
    "sqlite:///file::memory:?uri=true",
    "sqlite:///file::memory:?cache=private&uri=true",
    "sqlite:///file:shop?mode=memory&uri=true",
    "sqlite:///:memory:?cache=shared",
]


@pytest.mark.parametrize("url", PRIVATE)
async def test_private_memory_is_refused(
    url: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """SQLite's private memory is refused, and the error names what works instead."""
    with pytest.raises(UnsupportedDatabaseError, match="an empty database of its own"):
        make_gatherer(url)
    with pytest.raises(UnsupportedDatabaseError) as caught:
        async_url(url)
    assert "'sqlite:///app.db'" in str(caught.value)
    assert "'sqlite:///file::memory:?cache=shared&uri=true'" in str(caught.value)


@pytest.mark.parametrize("poolclass", [None, AsyncAdaptedQueuePool])
async def test_an_engine_on_private_memory_is_refused(
    make_gatherer: Callable[..., QueryGatherer], poolclass: type[sa.Pool] | None
) -> None:
    """A given engine on private memory is refused, whatever its pool is."""
    engine = create_async_engine("sqlite+aiosqlite://", poolclass=poolclass)
    with pytest.raises(UnsupportedDatabaseError, match="an empty database of its own"):
        make_gatherer(engine)


@pytest.mark.parametrize("name", ["shop.db", "file::memory:?cache=shared&uri=true"])
async def test_an_engine_with_one_connection_for_all_is_refused(
    make_gatherer: Callable[..., QueryGatherer], name: str
) -> None:
    """A pool that hands one connection to everyone cannot serve several lanes."""
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{name}", poolclass=sa.pool.StaticPool
    )
    with pytest.raises(UnsupportedDatabaseError):
        make_gatherer(engine)


async def test_an_engine_of_another_database_is_refused(
    make_gatherer: Callable[..., QueryGatherer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A given engine is of one of the databases that are supported."""
    engine = create_async_engine("sqlite+aiosqlite:///shop.db")
    monkeypatch.setattr(engine.dialect, "name", "mysql")
    with pytest.raises(UnsupportedDatabaseError, match=r"There is for: postgresql"):
        make_gatherer(engine)


@pytest.mark.parametrize(
    "query",
    [
        "file::memory:?cache=shared&uri=true",
        "file:shop?mode=memory&cache=shared&uri=true",
        "file:shop?mode=memory&cache=shared&uri=True",
        "file:shop?mode=memory&cache=shared&uri=1",
    ],
)
@pytest.mark.parametrize("given", ["url", "engine"])
@pytest.mark.filterwarnings("ignore:Selection of the .* pool class")
async def test_shared_memory_serves_several_connections(
    make_gatherer: Callable[..., QueryGatherer], query: str, given: str
) -> None:
    """Queries on several connections at once see one database in shared memory."""
    keeper = sa.create_engine(f"sqlite:///{query}", poolclass=sa.StaticPool)
    with keeper.connect():
        shop = sa.create_engine(f"sqlite:///{query}", poolclass=NullPool)
        make_shop(shop.url)
        url = f"sqlite+aiosqlite:///{query}"
        engine = None
        if given == "engine":
            engine = create_async_engine(url, poolclass=AsyncAdaptedQueuePool)
        overlap = asyncio.Barrier(3)

        async def count(session: AsyncSession) -> int | None:
            async with overlap:
                return await session.scalar(select(func.count()).select_from(Order))

        try:
            gatherer = make_gatherer(engine or url)
            assert await gatherer.gather(count, count, count, timeout=30) == (
                (USERS * ORDERS_EACH,) * 3
            )
            await gatherer.aclose()
        finally:
            if engine is not None:
                await engine.dispose()
    keeper.dispose()


# Parameters of libpq.


class _ArgumentsSeenError(OSError):
    """Ends a connect, whose arguments have been seen."""


@pytest.fixture
def connecting(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What ``asyncpg.connect`` is called with, by name; it then fails."""
    seen: dict[str, Any] = {}

    async def connect(**arguments: Any) -> NoReturn:
        seen.update(arguments)
        raise _ArgumentsSeenError

    monkeypatch.setattr(asyncpg, "connect", connect)
    return seen


async def connect_to(
    url: str, make_gatherer: Callable[..., QueryGatherer], **connect_args: Any
) -> None:
    """Let a gatherer connect to ``url``, where that is only seen."""
    gatherer = make_gatherer(url, engine_options={"connect_args": connect_args})
    with pytest.raises(_ArgumentsSeenError):
        await gatherer.open()


def parsed(arguments: dict[str, Any]) -> tuple[Any, Any]:
    """The addresses and the parameters that asyncpg makes of its arguments."""
    names = (
        "dsn host port user password passfile database ssl service servicefile"
        " direct_tls server_settings target_session_attrs krbsrvname gsslib"
    )
    known = {name: arguments.get(name) for name in names.split()}
    addresses, parameters = _parse_connect_dsn_and_args(**known)
    return addresses, parameters


SEEN = "postgresql://user:secret@host:7/db"


@pytest.mark.parametrize(
    ("query", "attribute", "expected"),
    [
        ("sslmode=disable", "sslmode.name", "disable"),
        ("sslmode=prefer", "sslmode.name", "prefer"),
        ("sslmode=require", "sslmode.name", "require"),
        ("sslmode=allow", "sslmode.name", "allow"),
        ("sslmode=require&sslnegotiation=direct", "ssl_negotiation.value", "direct"),
        (
            "sslmode=require&ssl_min_protocol_version=TLSv1.3",
            "ssl.minimum_version.name",
            "TLSv1_3",
        ),
        (
            "sslmode=require&ssl_max_protocol_version=TLSv1.2",
            "ssl.maximum_version.name",
            "TLSv1_2",
        ),
        ("target_session_attrs=read-only", "target_session_attrs.value", "read-only"),
        ("krbsrvname=odd", "krbsrvname", "odd"),
        ("gsslib=sspi", "gsslib", "sspi"),
        ("user=other", "user", "other"),
        ("password=other", "password", "other"),
        ("dbname=other", "database", "other"),
        ("database=other", "database", "other"),
    ],
)
async def test_parameters_of_libpq_reach_asyncpg(
    make_gatherer: Callable[..., QueryGatherer],
    connecting: dict[str, Any],
    query: str,
    attribute: str,
    expected: str,
) -> None:
    """What libpq's parameters mean is what asyncpg's own parser makes of them."""
    await connect_to(f"{SEEN}?{query}", make_gatherer)
    addresses, parameters = parsed(connecting)
    value = parameters
    for name in attribute.split("."):
        value = getattr(value, name)
    assert value == expected
    assert addresses == [("host", 7)]
    assert parameters.server_settings == {"default_transaction_read_only": "on"}


@pytest.mark.parametrize("name", ["sslcert", "sslkey", "sslrootcert", "sslcrl"])
async def test_certificates_reach_asyncpg(
    make_gatherer: Callable[..., QueryGatherer], connecting: dict[str, Any], name: str
) -> None:
    """The paths of certificates arrive in the DSN, whatever characters they have."""
    path = "/etc/my certs/a+b&c.pem"
    url = make_url(SEEN).update_query_dict({name: path, "sslmode": "verify-full"})
    await connect_to(url.render_as_string(hide_password=False), make_gatherer)
    dsn = parse_qs(urlsplit(connecting["dsn"]).query, strict_parsing=True)
    assert dsn == {name: [path], "sslmode": ["verify-full"]}


@pytest.mark.parametrize("written", ["service", "servicefile"])
async def test_a_service_file_names_the_host(
    make_gatherer: Callable[..., QueryGatherer],
    connecting: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
    written: str,
) -> None:
    """A service is looked up in the environment's file, or in that of the URL."""
    path = tmp_path / "services"
    path.write_text("[shop]\nhost=found\nport=9\n")
    query = "service=shop"
    if written == "servicefile":
        query += f"&servicefile={path}"
    else:
        monkeypatch.setenv("PGSERVICEFILE", str(path))
    await connect_to(f"postgresql://user:p@/db?{query}", make_gatherer)
    addresses, parameters = parsed(connecting)
    assert addresses == [("found", 9)]
    assert parameters.server_settings == {"default_transaction_read_only": "on"}


async def test_a_password_file_is_read(
    make_gatherer: Callable[..., QueryGatherer],
    connecting: dict[str, Any],
    tmp_path: Any,
) -> None:
    """``passfile`` gives the password, where the URL has none."""
    path = tmp_path / "passwords"
    path.write_text("*:*:*:*:from the file\n")
    path.chmod(0o600)
    await connect_to(f"postgresql://user@host/db?passfile={path}", make_gatherer)
    assert parsed(connecting)[1].password == "from the file"


@pytest.mark.parametrize(
    ("query", "addresses"),
    [
        ("host=a:1&host=b:2", [("a", 1), ("b", 2)]),
        ("host=/run/pg", ["/run/pg/.s.PGSQL.5432"]),
        ("host=/run/pg&port=9", ["/run/pg/.s.PGSQL.9"]),
        ("host=a,b&port=1,2", [("a", 1), ("b", 2)]),
    ],
)
async def test_hosts_of_the_query_reach_asyncpg(
    make_gatherer: Callable[..., QueryGatherer],
    connecting: dict[str, Any],
    query: str,
    addresses: list[Any],
) -> None:
    """A socket, or several hosts, are connected to as they are written."""
    await connect_to(f"postgresql://user:p@/db?{query}&sslmode=disable", make_gatherer)
    assert parsed(connecting)[0] == addresses


@pytest.mark.parametrize(
    ("query", "arguments"),
    [
        ("connect_timeout=3", {"timeout": 3.0}),
        ("connect_timeout=0", {"timeout": None}),
        ("connect_timeout=-1", {"timeout": None}),
        ("command_timeout=1.5", {"command_timeout": 1.5}),
        ("statement_cache_size=0", {"statement_cache_size": 0}),
    ],
)
async def test_limits_of_the_url_are_numbers(
    make_gatherer: Callable[..., QueryGatherer],
    connecting: dict[str, Any],
    query: str,
    arguments: dict[str, Any],
) -> None:
    """Timeouts and sizes are handed on as numbers; libpq's 0 is no limit."""
    await connect_to(f"{SEEN}?{query}", make_gatherer)
    expected = {
        "host": "host",
        "port": 7,
        "user": "user",
        "password": "secret",
        "database": "db",
        "server_settings": {"default_transaction_read_only": "on"},
        **arguments,
    }
    assert connecting == expected


@pytest.mark.parametrize(
    "name",
    [
        "client_encoding",
        "fallback_application_name",
        "gssencmode",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "tcp_user_timeout",
    ],
)
async def test_parameters_without_meaning_are_dropped(
    make_gatherer: Callable[..., QueryGatherer], connecting: dict[str, Any], name: str
) -> None:
    """What asyncpg does by itself, or cannot do, leaves nothing behind."""
    await connect_to(f"{SEEN}?{name}=1", make_gatherer)
    assert set(connecting) == {
        "host",
        "port",
        "user",
        "password",
        "database",
        "server_settings",
    }
    assert connecting["server_settings"] == {"default_transaction_read_only": "on"}


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ("-c a=b", {"a": "b"}),
        ("-ca=b", {"a": "b"}),
        ("--a=b", {"a": "b"}),
        ("--a-b=c", {"a_b": "c"}),
        ("-c a-b=c", {"a_b": "c"}),
        ("-c a=b=c", {"a": "b=c"}),
        ("-c a=", {"a": ""}),
        ("-c a=b -cc=d  --e=f", {"a": "b", "c": "d", "e": "f"}),
        (r"-c a=b\ c", {"a": "b c"}),
        (r"-c a=b\\c", {"a": r"b\c"}),
        ('-c search_path="Odd",public', {"search_path": '"Odd",public'}),
        ("-c a='b'", {"a": "'b'"}),
        ("-c a=it's", {"a": "it's"}),
        ("", {}),
    ],
)
async def test_options_become_server_settings(
    make_gatherer: Callable[..., QueryGatherer],
    connecting: dict[str, Any],
    options: str,
    settings: dict[str, str],
) -> None:
    """Each spelling of a setting in ``options`` is read as the server reads it."""
    url = make_url(SEEN).update_query_dict({"options": options})
    await connect_to(url.render_as_string(hide_password=False), make_gatherer)
    assert connecting["server_settings"] == {
        **settings,
        "default_transaction_read_only": "on",
    }


@pytest.mark.parametrize(
    "options", ["word", "-d 5", "-E", "-c", "-c a", "--a", "-c a=b word", "-"]
)
async def test_options_that_are_no_settings_are_refused(
    make_gatherer: Callable[..., QueryGatherer], options: str
) -> None:
    """Words that asyncpg cannot send refuse the URL, and the error shows them."""
    url = make_url(SEEN).update_query_dict({"options": options})
    with pytest.raises(UnsupportedDatabaseError, match="-c name=value") as caught:
        make_gatherer(url)
    assert f"options={options!r}" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["sslmod", "hostaddr", "requirepeer", "replication"])
async def test_unknown_parameters_are_refused(
    make_gatherer: Callable[..., QueryGatherer], name: str
) -> None:
    """A parameter that asyncpg does not know refuses the URL by name."""
    with pytest.raises(UnsupportedDatabaseError, match=f"parameter {name!r}") as caught:
        make_gatherer(f"{SEEN}?{name}=1")
    assert "ASYNC_PARALLEL_DATABASE_URI" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["password", "sslpassword"])
async def test_a_password_in_the_query_is_not_shown(
    make_gatherer: Callable[..., QueryGatherer], name: str
) -> None:
    """An error hides a password wherever in the URL it is."""
    with pytest.raises(UnsupportedDatabaseError) as caught:
        make_gatherer(f"postgresql://user@host/db?{name}=secret&odd=1")
    assert "secret" not in str(caught.value)
    assert "secret" not in caught.value.url


async def test_connect_args_win_over_the_url(
    make_gatherer: Callable[..., QueryGatherer], connecting: dict[str, Any]
) -> None:
    """The same parameter in ``connect_args`` replaces that of the URL."""
    await connect_to(
        f"{SEEN}?connect_timeout=3&application_name=url&sslmode=require&host=a",
        make_gatherer,
        connect_timeout=4,
        server_settings={"application_name": "mine"},
        sslmode="disable",
        host="b",
    )
    addresses, parameters = parsed(connecting)
    assert connecting["timeout"] == 4
    assert connecting["server_settings"]["application_name"] == "mine"
    assert parameters.sslmode.name == "disable"
    assert [address[0] for address in addresses] == ["b"]


async def test_other_connect_args_are_handed_on(
    make_gatherer: Callable[..., QueryGatherer], connecting: dict[str, Any]
) -> None:
    """A connect argument of asyncpg's own arrives, and the caller's is not changed."""
    given = {"max_cached_statement_lifetime": 1, "server_settings": {"a": "b"}}
    await connect_to(SEEN, make_gatherer, **given)
    assert connecting["max_cached_statement_lifetime"] == 1
    assert connecting["server_settings"] == {
        "a": "b",
        "default_transaction_read_only": "on",
    }
    assert given["server_settings"] == {"a": "b"}


# On the server.


async def shown(gatherer: QueryGatherer, name: str) -> str:
    """A setting of the server's, as a gather's session has it."""
    (value,) = await gatherer.gather(scalar_one(text(f"SHOW {name}")))
    return str(value)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ({"application_name": "the shop"}, "application_name"),
        ({"options": "-c statement_timeout=5s"}, "statement_timeout"),
        ({"options": "-cstatement_timeout=5s"}, "statement_timeout"),
        ({"options": "--statement-timeout=5s"}, "statement_timeout"),
        ({"options": r"-c application_name=a\ b"}, "application_name"),
        ({"options": '-c search_path="Odd",public'}, "search_path"),
        ({"options": "-c default_transaction_read_only=off"}, "search_path"),
        ({"sslmode": "prefer", "connect_timeout": "9"}, "search_path"),
    ],
)
async def test_settings_arrive_on_the_server_as_by_psycopg(
    postgres: str,
    make_gatherer: Callable[..., QueryGatherer],
    query: dict[str, str],
    name: str,
) -> None:
    """The server has the settings that psycopg would have sent, and is read-only."""
    url = make_url(postgres).update_query_dict(query)
    engine = sa.create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        by_psycopg = connection.scalar(text(f"SHOW {name}"))
    gatherer = make_gatherer(url)
    assert await shown(gatherer, name) == by_psycopg
    assert await shown(gatherer, "default_transaction_read_only") == "on"


async def test_each_connection_is_read_only(gatherer: QueryGatherer) -> None:
    """A write that only the database can see is refused by it, in every kind."""
    write = text("UPDATE users SET name = 'changed'")

    async def asynchronous(session: AsyncSession) -> None:
        await session.execute(write)

    def synchronous(session: Session) -> None:
        session.execute(write)

    for query in (write, asynchronous, synchronous):
        with pytest.raises(ReadOnlyError):
            await gatherer.gather(query)
    names = scalar(select(func.count()).where(User.name == "changed"))
    assert await gatherer.gather(names) == (0,)


# Engines of the caller's.


@pytest.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    """An engine of the caller's own, with three connections."""
    engine = create_async_engine(async_url(database), pool_size=2, max_overflow=1)
    yield engine
    await engine.dispose()


def read_only_of(engine: AsyncEngine) -> sa.TextClause:
    """Asks a connection whether it is read-only."""
    if engine.dialect.name == "sqlite":
        return text("SELECT query_only = 1 FROM pragma_query_only")
    return text("SELECT current_setting('default_transaction_read_only') = 'on'")


async def states(engine: AsyncEngine) -> list[bool]:
    """Whether each of the three connections of ``engine`` is read-only."""
    connections = [await engine.connect() for _ in range(3)]
    try:
        return [
            bool(await connection.scalar(read_only_of(engine)))
            for connection in connections
        ]
    finally:
        for connection in connections:
            await connection.close()


async def test_a_given_engine_is_used_and_not_disposed_of(
    engine: AsyncEngine, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """The engine is the caller's, during the gatherer's life and after it."""
    gatherer = make_gatherer(engine)
    assert gatherer.engine is engine
    assert await gatherer.gather(IDS) == ([1, 2, 3],)
    pool = engine.pool
    await gatherer.aclose()
    assert engine.pool is pool
    async with engine.connect() as connection:
        assert (await connection.scalars(IDS)).all() == [1, 2, 3]


async def test_a_given_engine_keeps_the_connections_that_it_has(
    engine: AsyncEngine, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Connections that were in the pool before the first gather are used, and stay."""
    opened: list[object] = []
    event.listen(engine.sync_engine, "connect", lambda *args: opened.append(1))
    async with engine.connect():
        pool = engine.pool
    gatherer = make_gatherer(engine)
    await gatherer.gather(IDS)
    await gatherer.aclose()
    kept = engine.pool is pool
    await greenlet_spawn(pool.dispose)
    assert kept
    assert len(opened) == 1


@pytest.mark.parametrize("read_only", [True, False])
async def test_a_connection_of_a_given_engine_is_read_only_while_held(
    engine: AsyncEngine,
    make_gatherer: Callable[..., QueryGatherer],
    read_only: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Each lane's connection refuses writes, and takes them when it is given back."""
    # Writers of SQLite wait for one another, each with its connection in its lane.
    together = 1 if engine.dialect.name == "sqlite" and not read_only else 3
    overlap = asyncio.Barrier(together)
    question = read_only_of(engine)

    async def ask(session: AsyncSession) -> bool:
        async with overlap:
            return bool(await session.scalar(question))

    gatherer = make_gatherer(engine)
    held = await gatherer.gather(ask, ask, ask, read_only=read_only, timeout=30)
    assert held == (read_only,) * 3
    assert await states(engine) == [False] * 3


async def test_a_given_engine_can_write_after_a_refused_write(
    engine: AsyncEngine, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """A gather that failed gives its connection back writable, too."""
    gatherer = make_gatherer(engine)
    change = text("UPDATE users SET name = name")
    for query in (change, lambda session: session.execute(change)):
        with pytest.raises(ReadOnlyError):
            await gatherer.gather(query)
    async with engine.connect() as connection:
        assert (await connection.execute(change)).rowcount == USERS
        await connection.rollback()


async def test_a_given_engine_keeps_its_isolation_level(
    database: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """AUTOCOMMIT lasts as long as a lane holds the connection."""
    engine = create_async_engine(
        async_url(database), isolation_level="SERIALIZABLE", pool_size=1
    )
    gatherer = make_gatherer(engine)
    await gatherer.gather(IDS, lambda session: session.scalar(IDS))
    async with engine.connect() as connection:
        level = await connection.run_sync(lambda sync: sync.get_isolation_level())
        assert level == "SERIALIZABLE"
    await engine.dispose()


async def test_a_given_engine_that_is_read_only_stays_so(
    database: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Connections that the caller made read-only come back read-only."""
    engine = create_async_engine(async_url(database), pool_size=3)

    @event.listens_for(engine.sync_engine, "connect")
    def protect(dbapi_connection: Any, record: object) -> None:
        cursor = dbapi_connection.cursor()
        if engine.dialect.name == "sqlite":
            cursor.execute("PRAGMA query_only = 1")
        else:
            cursor.execute("SET default_transaction_read_only = on")
            dbapi_connection.commit()
        cursor.close()

    try:
        await make_gatherer(engine).gather(IDS, IDS, IDS)
        assert await states(engine) == [True] * 3
    finally:
        await engine.dispose()


async def test_lanes_are_no_more_than_the_pool_of_a_given_engine_allows(
    database: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """More queries than connections wait for a lane, and none for the pool."""
    # Whoever waits for this pool at all gets an error.
    engine = create_async_engine(
        async_url(database), pool_size=2, max_overflow=1, pool_timeout=1e-6
    )
    gatherer = make_gatherer(engine, max_connections=10)
    overlap = asyncio.Barrier(3)
    running: set[object] = set()
    peak = 0

    async def query(session: AsyncSession) -> None:
        nonlocal peak
        running.add(session)
        peak = max(peak, len(running))
        await overlap.wait()
        await session.scalar(IDS)
        running.discard(session)

    try:
        await gatherer.gather(*[query] * 9, timeout=30)
        assert peak == 3
    finally:
        await gatherer.aclose()
        await engine.dispose()


async def test_max_connections_may_be_less_than_the_pool_of_a_given_engine(
    engine: AsyncEngine, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """A gatherer leaves connections of the engine to others where it is told to."""
    gatherer = make_gatherer(engine, max_connections=1)
    running = 0

    async def query(session: AsyncSession) -> int:
        nonlocal running
        running += 1
        await session.scalar(IDS)
        seen = running
        running -= 1
        return seen

    assert await gatherer.gather(*[query] * 4) == (1, 1, 1, 1)


@pytest.mark.parametrize("pool", [{"poolclass": NullPool}, {"max_overflow": -1}])
async def test_a_pool_without_limit_leaves_max_connections_as_it_is(
    database: str, make_gatherer: Callable[..., QueryGatherer], pool: dict[str, Any]
) -> None:
    """An engine whose pool has no limit serves as many lanes as are asked for."""
    engine = create_async_engine(async_url(database), **pool)
    gatherer = make_gatherer(engine, max_connections=8)
    overlap = asyncio.Barrier(8)

    async def query(session: AsyncSession) -> list[int]:
        async with overlap:
            return list(await session.scalars(IDS))

    assert await gatherer.gather([query] * 8, timeout=30) == [[1, 2, 3]] * 8
    await gatherer.aclose()
    await engine.dispose()


async def test_engine_options_reach_the_engine(
    database: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """``engine_options`` are those of ``create_async_engine``."""
    gatherer = make_gatherer(
        database, engine_options={"logging_name": "shop", "poolclass": NullPool}
    )
    assert gatherer.engine.sync_engine.logging_name == "shop"
    assert isinstance(gatherer.engine.pool, NullPool)
    assert await gatherer.gather(IDS) == ([1, 2, 3],)


async def test_the_pool_is_as_large_as_the_lanes(
    database: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """``max_connections`` bounds what a gatherer of a URL connects."""
    gatherer = make_gatherer(database, max_connections=2)
    opened: list[object] = []
    event.listen(gatherer.engine.sync_engine, "connect", lambda *args: opened.append(1))
    overlap = asyncio.Barrier(2)

    async def query(session: AsyncSession) -> None:
        await overlap.wait()
        await session.scalar(IDS)

    await gatherer.gather(*[query] * 6, timeout=30)
    assert len(opened) == 2


# Sessions of the caller's.


class TenantSession(Session):
    """A synchronous session that shows one tenant its users."""


class TenantAsyncSession(AsyncSession):
    """An asynchronous session of the same tenant."""

    sync_session_class = TenantSession


class LoudSession(AsyncSession):
    """A session that does something when it is made."""

    def __init__(self, *args: Any, greeting: str = "hello", **options: Any) -> None:
        super().__init__(*args, **options)
        self.sync_session.info["greeting"] = greeting


@event.listens_for(TenantSession, "do_orm_execute")
def _restrict(state: ORMExecuteState) -> None:
    state.statement = state.statement.options(
        with_loader_criteria(User, User.id == state.session.info.get("tenant", 1))
    )


async def asynchronous_ids(session: AsyncSession) -> list[int]:
    """The users that a session shows."""
    return list(await session.scalars(IDS))


def synchronous_ids(session: Session) -> list[int]:
    """The users that a session shows."""
    return list(session.scalars(IDS))


def every_kind() -> list[Any]:
    """The same query in each of its kinds."""
    legacy = Session().query(User.id).order_by(User.id)
    return [IDS, asynchronous_ids, synchronous_ids, legacy]


@pytest.mark.parametrize(
    "maker",
    [
        async_sessionmaker(class_=TenantAsyncSession),
        async_sessionmaker(sync_session_class=TenantSession),
        async_sessionmaker(class_=TenantAsyncSession, info={"tenant": 1}),
    ],
)
@pytest.mark.parametrize("read_only", [True, False])
async def test_events_of_the_session_class_apply(
    database: str,
    make_gatherer: Callable[..., QueryGatherer],
    maker: async_sessionmaker[Any],
    read_only: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A ``do_orm_execute`` event of the caller's session class sees every query."""
    gatherer = make_gatherer(database, sessionmaker=maker)
    shown = await gatherer.gather(every_kind(), read_only=read_only)
    assert shown == [[1], [1], [1], [(1,)]]


async def test_a_sessionmaker_may_be_the_synchronous_class(
    database: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """``sync_session_class`` may be a ``sessionmaker`` with events of its own."""
    synchronous = sessionmaker()
    event.listen(synchronous, "do_orm_execute", _restrict)
    maker = async_sessionmaker(sync_session_class=synchronous)
    gatherer = make_gatherer(database, sessionmaker=maker)
    assert await gatherer.gather(every_kind()) == [[1], [1], [1], [(1,)]]


async def test_options_of_the_sessionmaker_apply(
    database: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Sessions have the caller's options, such as ``info`` and ``autoflush``."""
    maker = async_sessionmaker(
        class_=TenantAsyncSession, info={"tenant": 2}, autoflush=False
    )
    gatherer = make_gatherer(database, sessionmaker=maker)

    async def asynchronous(session: AsyncSession) -> tuple[Any, ...]:
        return type(session), session.info["tenant"], session.autoflush

    def synchronous(session: Session) -> tuple[Any, ...]:
        return type(session), session.info["tenant"], session.autoflush

    assert await gatherer.gather(asynchronous, synchronous, IDS) == (
        (TenantAsyncSession, 2, False),
        (TenantSession, 2, False),
        [2],
    )


async def test_the_engine_of_the_sessionmaker_is_not_used(
    database: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Sessions are on the gatherer's connections, whatever the maker is bound to."""
    other = create_async_engine("sqlite+aiosqlite:////nowhere/at/all.db")
    maker = async_sessionmaker(other, binds={User: other})
    gatherer = make_gatherer(database, sessionmaker=maker)
    assert await gatherer.gather(every_kind()) == [
        [1, 2, 3],
        [1, 2, 3],
        [1, 2, 3],
        [(1,), (2,), (3,)],
    ]


@pytest.mark.parametrize("read_only", [True, False])
async def test_a_session_class_with_its_own_init_works(
    database: str,
    make_gatherer: Callable[..., QueryGatherer],
    read_only: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """What an ``AsyncSession`` subclass does when it is made happens for all kinds."""
    seen: list[object] = []

    class Listening(Session):
        """Notes what each of its statements sees."""

    @event.listens_for(Listening, "do_orm_execute")
    def note(state: ORMExecuteState) -> None:
        seen.append(state.session.info.get("greeting"))

    maker = async_sessionmaker(
        class_=LoudSession, greeting="ahoy", sync_session_class=Listening
    )
    gatherer = make_gatherer(database, sessionmaker=maker)
    results = await gatherer.gather(every_kind(), read_only=read_only)
    assert results == [[1, 2, 3], [1, 2, 3], [1, 2, 3], [(1,), (2,), (3,)]]
    assert seen == ["ahoy"] * 4


async def test_each_query_has_a_session_of_its_own(gatherer: QueryGatherer) -> None:
    """No two queries, of one gather or of two, get the same session."""
    kept: list[Session] = []
    for _ in range(2):
        await gatherer.gather(kept.append, kept.append, kept.append)
    assert len({id(session) for session in kept}) == 6


async def test_what_was_committed_stays_readable(
    database: str, make_gatherer: Callable[..., QueryGatherer]
) -> None:
    """Entities of a query that was committed keep their loaded attributes."""
    change = update(User).where(User.id == 1).values(name="user 1").returning(User)
    (users,) = await make_gatherer(database).gather(change, read_only=False)
    assert [user.name for user in users] == ["user 1"]
