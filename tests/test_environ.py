"""From an ASGI scope to a WSGI environment."""

from __future__ import annotations

import io
from typing import Any

import pytest
from conversation import http_scope
from werkzeug.exceptions import BadRequest, RequestHeaderFieldsTooLarge

from async_parallel._environ import environ_keys, make_environ


def environ(**changes: Any) -> dict[str, Any]:
    """The environment of a GET of ``/``, with what ``changes`` says of the scope."""
    scope = http_scope("GET", changes.pop("path", "/"), **changes)
    return make_environ(scope, io.BytesIO(), max_headers=100)


@pytest.mark.parametrize(
    ("path", "raw_path", "expected"),
    [
        ("/plain", b"/plain", b"/plain"),
        ("/ü", "/ü".encode(), "/ü".encode()),
        ("/ü", b"/%C3%BC", "/ü".encode()),
        ("/a/b", b"/a%2Fb", b"/a/b"),
        ("/a b", b"/a%20b", b"/a b"),
        ("/\ufffd", b"/%FC", b"/\xfc"),  # no UTF-8: what the server lost is there
        ("/changed", b"/original", b"/changed"),  # by something on the way
        ("/bare", b"", b"/bare"),
    ],
)
def test_the_path_is_the_bytes_that_were_asked_for(
    path: str, raw_path: bytes, expected: bytes
) -> None:
    """PATH_INFO is decoded once, in the disguise that PEP 3333 wants."""
    path_info: str = environ(path=path, raw_path=raw_path)["PATH_INFO"]
    assert path_info.encode("latin-1") == expected


@pytest.mark.parametrize(
    ("root_path", "path", "raw_path", "expected"),
    [
        ("/api", "/api/x", b"/api/x", ("/api", "/x")),
        ("/api/", "/api/x", b"/api/x", ("/api", "/x")),
        ("/api", "/api", b"/api", ("/api", "")),
        ("/api", "/apiv2/x", b"/apiv2/x", ("/api", "/apiv2/x")),
        ("/api", "/x", b"/x", ("/api", "/x")),  # by a server that took it off
        ("/\xe4", "/\xe4/x", b"/%C3%A4/x", ("/\xc3\xa4", "/x")),
    ],
)
def test_the_root_path_is_the_script_name(
    root_path: str, path: str, raw_path: bytes, expected: tuple[str, str]
) -> None:
    """What the application is mounted at is no part of its paths."""
    made = environ(root_path=root_path, path=path, raw_path=raw_path)
    assert (made["SCRIPT_NAME"], made["PATH_INFO"]) == expected


def test_the_raw_uri_is_what_the_client_sent() -> None:
    """Undecoded, with its query."""
    made = environ(path="/a b", raw_path=b"/a%20b", query_string=b"c=%20")
    assert made["RAW_URI"] == made["REQUEST_URI"] == "/a%20b?c=%20"
    assert made["QUERY_STRING"] == "c=%20"


def test_a_unix_socket_has_a_name_and_a_port() -> None:
    """PEP 3333 wants both, and a path of the file system is neither."""
    made = environ(server=("/run/app.sock", None), client=None, scheme="https")
    assert (made["SERVER_NAME"], made["SERVER_PORT"]) == ("localhost", "443")
    assert made["HTTPS"] == "on"
    assert "REMOTE_ADDR" not in made
    assert environ(server=None)["SERVER_PORT"] == "80"


def test_repeated_headers_are_joined() -> None:
    """By commas; cookies, which HTTP/2 sends one by one, by semicolons."""
    headers = [(b"a", b"1"), (b"cookie", b"x=1"), (b"A", b"2"), (b"cookie", b"y=2")]
    made = environ(headers=headers)
    assert (made["HTTP_A"], made["HTTP_COOKIE"]) == ("1,2", "x=1; y=2")


def test_a_header_with_an_underscore_is_left_out() -> None:
    """It could be taken for the one with a hyphen."""
    made = environ(headers=[(b"x_user", b"forged"), (b"content_length", b"9")])
    assert not {"HTTP_X_USER", "CONTENT_LENGTH", "HTTP_CONTENT_LENGTH"} & set(made)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([(b"content-length", b"1"), (b"content-length", b"2")], "twice"),
        ([(b"content-length", b"1"), (b"Content-Length", b"1")], "twice"),
        ([(b"transfer-encoding", b"chunked")] * 2, "twice"),
        ([(b"host", b"a"), (b"host", b"b")], "twice"),
        ([(b"content-type", b"a/b"), (b"content-type", b"c/d")], "twice"),
        ([(b"content-length", b"1"), (b"transfer-encoding", b"chunked")], "both"),
        ([(b"content-length", b"-1")], "no number"),
        ([(b"content-length", b"1_0")], "no number"),
        ([(b"content-length", "²".encode("latin-1"))], "no number"),
        ([(b"content-length", b"")], "no number"),
        ([(b"a", b"1\r\nx-user: forged")], "line break"),
        ([(b"a", b"1\nx-user: forged")], "line break"),
        ([(b"a", b"\0")], "a zero"),
        ([(b"x-user ", b"forged")], "no name"),
        ([(b"x-user:", b"forged")], "no name"),
        ([(b"a\r\nx-user", b"forged")], "no name"),
        ([(b"", b"")], "no name"),
        ([("ü".encode(), b"")], "no name"),
    ],
)
def test_ambiguous_headers_are_refused(
    headers: list[tuple[bytes, bytes]], reason: str
) -> None:
    """What a proxy may read in another way than the application is no request."""
    with pytest.raises(BadRequest, match=reason):
        environ(headers=headers)


def test_there_is_a_limit_of_headers() -> None:
    """Up to it they pass, and one more is too many."""
    headers = [(f"a{number}".encode(), b"") for number in range(101)]
    assert environ(headers=headers[:100])["HTTP_A99"] == ""
    with pytest.raises(RequestHeaderFieldsTooLarge, match="101 headers, and 100"):
        environ(headers=headers)


def test_names_that_clients_make_up_do_not_grow_what_is_kept() -> None:
    """512 are kept, and those that are no names are not."""
    for number in range(3000):
        environ(headers=[(f"x-{number}".encode(), b"")])
    assert 0 < len(environ_keys) <= 512
    with pytest.raises(BadRequest):
        environ(headers=[(b"no name", b"")])
    assert b"no name" not in environ_keys


def test_what_is_not_of_a_request_is_not_in_the_next() -> None:
    """Requests that reach a server in the same way share nothing that changes."""
    first = environ(query_string=b"a=1", headers=[(b"x-one", b"1")])
    first["added"] = True
    second = environ(client=None, headers=[])
    assert second["QUERY_STRING"] == ""
    assert not {"HTTP_X_ONE", "added", "REMOTE_ADDR", "REMOTE_PORT"} & second.keys()
