"""The adapter under real servers, with clients that stall, vanish and dawdle."""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from servers import ADAPTED, Server, connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no signals, no /proc")

MIB = 1024 * 1024
# Of a server that has seen nothing but what its clients did.
UNCLEAN = ("Traceback", "never awaited", "unclosed", "was not closed", "Exception")
HTTP_1 = [name for name in ADAPTED if "HTTP/2" not in name]


@pytest.fixture
def serve(postgres: str, tmp_path: Path) -> Iterator[Callable[[str], Server]]:
    """Starts a server, and looks at how it ends, and at its log."""
    servers: list[Server] = []

    def start(name: str) -> Server:
        server = Server(
            ADAPTED[name], postgres, tmp_path / "log", http2="HTTP/2" in name
        )
        servers.append(server)
        server.wait_until_it_listens()
        server.get("/state")  # it now knows its loop
        return server

    yield start
    for server in servers:
        status = server.stop()
        assert status in {0, -signal.SIGTERM, 128 + signal.SIGTERM}, server.log
        for trace in UNCLEAN:
            assert trace not in server.log, server.log


@contextlib.contextmanager
def raw(server: Server, head: str, body: bytes = b"") -> Iterator[socket.socket]:
    """A connection on which a request was begun, and which is reset in the end."""
    with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
        request = f"{head} HTTP/1.1\r\nHost: localhost\r\n".encode()
        connection.sendall(request + body)
        yield connection
        # Without waiting for what is still to come or to go.
        reset = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)


def read_until(connection: socket.socket, end: bytes) -> bytes:
    """What comes up to ``end``."""
    received = b""
    while end not in received:
        piece = connection.recv(65536)
        assert piece, f"closed after {received!r}"
        received += piece
    return received


def ended(server: Server, name: str) -> bool:
    """Whether something of this name ends; the server waits for it."""
    return server.get(f"/ended/{name}") == {"ended": name}


@pytest.mark.parametrize("name", ADAPTED)
def test_under_every_server(
    name: str, serve: Callable[[str], Server], backends: Callable[[str], int]
) -> None:
    """Streams flow, and end with their client, as do gathers and their queries."""
    server = serve(name)
    state = server.get("/state")
    assert state["http"] == ("HTTP/2" if "HTTP/2" in name else "HTTP/1.1")
    if "uvicorn" in name:
        assert name.split()[2] in state["loop"]
    for path, size in (("/upload/async", 3 * MIB), ("/upload/sync", 3 * MIB)):
        pieces = (b"x" * 4096 for _ in range(size // 4096))
        assert server.client.post(path, content=pieces).json() == {"size": size}
    assert server.client.head("/state").content == b""
    check_limit(server)
    assert server.client.post("/nowhere", content=b"x" * 2048).status_code == 404
    with visit(server, "/events") as response:
        assert next(response.iter_lines()) == "data: 1"
    assert ended(server, "events")
    for kind in ("sync", "async"):
        with visit(server, f"/flood/{kind}") as response:
            next(response.iter_raw())
        assert ended(server, "flood")
    with pytest.raises(httpx.ReadTimeout), visit(server, "/gather", timeout=0.5):
        pass
    assert ended(server, "gather")
    assert backends("state = 'active'") == 0
    with pytest.raises(httpx.ReadTimeout), visit(server, "/late", timeout=0.1):
        pass
    assert ended(server, "late")
    workers = "async_parallel worker"
    assert any(thread.startswith(workers) for thread in server.get("/state")["threads"])


@contextlib.contextmanager
def visit(server: Server, path: str, **options: Any) -> Iterator[httpx.Response]:
    """A response, and a client that leaves without having read all of it."""
    with (
        connect(server.port, http2=server.http2) as client,
        client.stream("GET", path, **options) as response,
    ):
        yield response
        client.close()  # HTTP/2 would keep the connection


def check_limit(server: Server) -> None:
    """A body over the limit is answered with 413, whether announced or not."""
    for content in (b"x" * 2048, iter([b"x" * 2048])):
        assert server.client.post("/limited", content=content).status_code == 413
    assert server.client.post("/limited", content=b"x" * 1023).json() == {"size": 1023}


@pytest.mark.parametrize("name", HTTP_1)
def test_clients_that_vanish_and_stall(
    name: str, serve: Callable[[str], Server]
) -> None:
    """Each ends what it began, disturbs nobody else, and leaves no error in the log."""
    server = serve(name)
    begun = b"Content-Length: 1000\r\n\r\nhalf"
    for path in ("/upload/async", "/upload/sync"):
        with raw(server, f"POST {path}", begun):
            server.get("/state")  # others are served meanwhile
        assert ended(server, "upload")
    for kind in ("sync", "async"):  # takes the beginning, and then nothing
        with raw(server, f"GET /flood/{kind}", b"\r\n") as connection:
            read_until(connection, b"xxxx")
            server.get("/state")
        assert ended(server, "flood")
    with raw(server, "GET /events", b"\r\n") as connection:
        read_until(connection, b"data: 1")
    assert ended(server, "events")
    with raw(server, "POST /limited", b"Content-Length: 3\r\n\r\n") as connection:
        for piece in (b"a", b"b", b"c"):
            connection.sendall(piece)
            server.get("/state")
        assert b'"size":3' in read_until(connection, b"}")


@pytest.mark.parametrize("name", HTTP_1)
def test_100_continue_is_said_when_the_body_is_read(
    name: str, serve: Callable[[str], Server]
) -> None:
    """And a client that waits for it is answered without, where it is not."""
    server = serve(name)
    expects = b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    with raw(server, "POST /limited", expects) as connection:
        assert b"HTTP/1.1 100 " in read_until(connection, b"\r\n\r\n")
        connection.sendall(b"abc")
        assert b'"size":3' in read_until(connection, b"}")
    if not name.startswith("uvicorn"):  # others say it at once, whoever reads
        return
    with raw(server, "POST /unread", expects) as connection:
        answer = read_until(connection, b"answered")
        assert b"HTTP/1.1 100 " not in answer


@pytest.mark.parametrize(
    ("head", "statuses"),
    [
        (b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
        (b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", {400}),
        (b"".join(b"A%d: x\r\n" % n for n in range(101)) + b"\r\n", {400, 431}),
    ],
)
@pytest.mark.parametrize("name", HTTP_1)
def test_ambiguous_requests_are_refused(
    name: str, head: bytes, statuses: set[int], serve: Callable[[str], Server]
) -> None:
    """By the server or by the adapter, and never answered by the application."""
    server = serve(name)
    if name == "granian" and b"Transfer" in head:
        statuses = {200}  # it takes the Content-Length out, as RFC 9112 allows
    with raw(server, "POST /unread", head) as connection:
        status_line = read_until(connection, b"\r\n").split(b"\r\n")[0]
    assert int(status_line.split()[1]) in statuses


@pytest.mark.parametrize("path", ["/upload/async", "/upload/sync"])
def test_an_upload_of_a_gigabyte_is_not_buffered(
    path: str, serve: Callable[[str], Server]
) -> None:
    """The process grows by less than 32 MiB, and the view gets every byte."""
    server = serve("uvicorn httptools uvloop")
    before: int = server.get("/state")["peak_kib"]
    size, block = 1024 * MIB, b"x" * MIB
    head = f"Content-Length: {size}\r\n\r\n".encode()
    with raw(server, f"POST {path}", head) as connection:
        for _ in range(size // len(block)):
            connection.sendall(block)
        assert f'"size":{size}'.encode() in read_until(connection, b"}")
    grown: Any = server.get("/state")["peak_kib"] - before
    assert grown <= 32 * 1024
