"""By WSGI and through the adapter an application answers the same."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
from typing import TYPE_CHECKING, Any

import pytest
from both_ways import METHODS, Answer, Ask, by_asgi, by_wsgi, make_app
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lifespan import Lifespan

from async_parallel.asgi import ASGIAdapter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Both = Callable[[Ask], tuple[Answer, Answer]]

MULTIPART = (
    b'--cut\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    b'--cut\r\nContent-Disposition: form-data; name="f"; filename="f.bin"\r\n\r\n'
    + bytes(range(256)) * 40
    + b"\r\n--cut--\r\n"
)
FORM = ("Content-Type", "application/x-www-form-urlencoded")
UPLOAD = ("Content-Type", "multipart/form-data; boundary=cut")


@pytest.fixture
def both() -> Iterator[Both]:
    """Asks two of the same application, one by WSGI and one through the adapter."""
    plain, adapted = make_app(), make_app()
    adapter = ASGIAdapter(adapted)
    with asyncio.Runner() as runner, contextlib.ExitStack() as stack:
        stack.callback(plain.extensions["async_parallel"].close)
        lifespan = Lifespan(adapter)
        runner.run(lifespan.__aenter__())
        stack.callback(lambda: runner.run(lifespan.__aexit__()))
        yield lambda ask: (by_wsgi(plain, ask), runner.run(by_asgi(adapter, ask)))


@pytest.mark.parametrize("kind", ["/async", "/sync"])
def test_the_answers_are_the_same(kind: str, both: Both) -> None:
    """For methods, redirects, errors, cookies, flashes, uploads, streams, files."""
    asks = [
        *(Ask(method, f"{kind}/show/ü%20x?a=1&a=%C3%BC&b") for method in METHODS),
        *(Ask("GET", f"{kind}/status/{code}") for code in (200, 201, 204, 304, 500)),
        *(Ask("GET", f"{kind}/fail/{code}") for code in (400, 401, 403, 404, 500)),
        *(Ask(method, f"{kind}/only-get") for method in METHODS),
        *(Ask(method, f"{kind}/away") for method in ("GET", "POST", "HEAD")),
        Ask("GET", f"{kind}/show/", (("Cookie", "a=1; b=2; a=3"), ("X-A", "ü"))),
        Ask("GET", f"{kind}/cookies"),
        Ask("GET", f"{kind}/flash"),
        Ask("GET", f"{kind}/stream"),
        Ask("HEAD", f"{kind}/stream"),
        Ask("GET", f"{kind}/file"),
        Ask("HEAD", f"{kind}/file"),
        Ask("GET", f"{kind}/file", (("Range", "bytes=10-99"),)),
        Ask("GET", f"{kind}/file", (("Range", "bytes=999999-"),)),
        Ask("GET", f"{kind}/file", (("If-None-Match", '"tag"'),)),
        Ask("GET", f"{kind}/error"),
        *(Ask("HEAD", f"{kind}/fail/{code}") for code in (404, 500)),
        *(Ask(method, f"{kind}/refuse") for method in ("GET", "HEAD", "GET")),
        *(Ask(method, f"{kind}/nowhere") for method in ("GET", "POST", "HEAD")),
        Ask("GET", "/nothing"),
        Ask("GET", "/mounted/show?a"),
        Ask("POST", f"{kind}/show/", (FORM,), (b"a=1&", b"b=%C3", b"%BC&a=2")),
        Ask("POST", f"{kind}/show/", (UPLOAD,), (MULTIPART[:77], MULTIPART[77:])),
        Ask("PUT", f"{kind}/show/", (), (b"x" * 70_000, b"y" * 20_000)),
        Ask("PUT", f"{kind}/show/", (), (b"x" * 100_001,)),  # more than is allowed
    ]
    for ask in asks:
        by_wsgi, by_asgi = both(ask)
        assert undated(by_asgi) == undated(by_wsgi), ask


def undated(answer: Answer) -> Answer:
    """The answer without the second in which it was made, or its session signed."""
    headers = [
        (name, re.sub(r"^(session=[^.]+)\.[^;]+|\d\d:\d\d:\d\d GMT$", r"\1", value))
        for name, value in answer.headers
    ]
    return dataclasses.replace(answer, headers=headers)


@pytest.mark.parametrize("kind", ["/async", "/sync"])
def test_sessions_and_flashes_go_on_in_the_next_request(kind: str, both: Both) -> None:
    """The cookie that one request sets is the next one's session."""
    for first, second, seen in (
        (f"{kind}/cookies", f"{kind}/cookies", b"2"),
        (f"{kind}/flash", f"{kind}/flashes", b"[&#39;saved&#39;]"),
    ):
        for way in (0, 1):
            set_cookie = [
                value
                for name, value in both(Ask("GET", first))[way].headers
                if name == "set-cookie" and value.startswith("session=")
            ]
            cookie = ("Cookie", set_cookie[0].partition(";")[0])
            assert both(Ask("GET", second, (cookie,)))[way].body == seen


def test_no_detail_of_an_exception_is_in_the_answer(both: Both) -> None:
    """A client learns that something failed, and not what."""
    for ask in (Ask("GET", "/async/error"), Ask("GET", "/sync/error")):
        answer = both(ask)[1]
        assert answer.status == 500
        for detail in (b"detail", b"LookupError", b"Traceback", b".py"):
            assert detail not in answer.body


# What a URL may have as it is; the rest is percent-encoded by both ways alike.
text = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=20)
names = st.from_regex(r"X-[A-Za-z][A-Za-z0-9-]{0,10}", fullmatch=True)
values = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)
asks = st.builds(
    Ask,
    st.sampled_from(METHODS),
    st.builds(
        lambda kind, rest, query: f"/{kind}/show/{rest}?{query}",
        st.sampled_from(["async", "sync"]),
        text.map(lambda rest: rest.translate(str.maketrans("", "", "?#%[]\\"))),
        text.map(lambda query: query.translate(str.maketrans("", "", "#%[]\\"))),
    ),
    st.dictionaries(names.map(str.title), values, max_size=5).map(
        lambda headers: tuple(headers.items())
    ),
    st.lists(st.binary(max_size=200), max_size=5).map(tuple),
)


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(ask=asks)
def test_generated_requests_are_answered_the_same(both: Any, ask: Ask) -> None:
    """Whatever the path, the query, the headers and the pieces of the body."""
    by_wsgi, by_asgi = both(ask)
    assert by_asgi == by_wsgi
