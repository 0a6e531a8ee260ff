"""Asks for pages, and draws when their queries ran."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .app import REPORT_HEADER
from .servers import http

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REQUESTS = 5
TIMEOUT = 30.0
WIDTH = 36


@dataclass(frozen=True, slots=True)
class QueryTimes:
    """When a query ran, in milliseconds since the first one of its page."""

    label: str
    start_ms: float
    end_ms: float


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as the client and the server saw it.

    Attributes:
        path: The page.
        elapsed_ms: Milliseconds from asking for the page until it was all here.
        queries: The queries of the page, in their order.
        threads: How many threads the server's process had.
    """

    path: str
    elapsed_ms: float
    queries: tuple[QueryTimes, ...]
    threads: int


def measure(address: str, path: str) -> Request:
    """Ask for a page several times; the request of median time, after a warm-up."""
    _request(address, path)
    requests = [_request(address, path) for _ in range(REQUESTS)]
    return sorted(requests, key=lambda request: request.elapsed_ms)[REQUESTS // 2]


def _request(address: str, path: str) -> Request:
    begin = time.perf_counter()
    with http.open(address + path, timeout=TIMEOUT) as response:
        response.read()
        elapsed = time.perf_counter() - begin
        report = json.loads(response.headers[REPORT_HEADER])
    queries = tuple(QueryTimes(**query) for query in report["queries"])
    return Request(path, elapsed * 1000, queries, report["threads"])


def draw(requests: Sequence[Request]) -> Iterator[str]:
    """Lines with a bar for each query, the bars of all pages on one time axis.

    Args:
        requests: The slow page first, the fast one last.
    """
    end_ms = max(request.elapsed_ms for request in requests)
    for request in requests:
        yield f"{request.path:<20}{request.elapsed_ms:>{WIDTH + 6}.0f} ms"
        for query in request.queries:
            bar = _bar(query, end_ms)
            length_ms = query.end_ms - query.start_ms
            span = f"{query.start_ms:.0f} to {query.end_ms:.0f}"
            yield f"  {query.label:<17} {bar} {length_ms:>5.0f} ms  ({span})"
        yield ""
    speed_up = requests[0].elapsed_ms / requests[-1].elapsed_ms
    yield f"Median of {REQUESTS} requests each: {speed_up:.1f} times as fast."
    yield f"Threads in the server: {max(request.threads for request in requests)}."


def _bar(query: QueryTimes, end_ms: float) -> str:
    """From the begin of ``query`` to its end, on an axis of ``end_ms``."""
    begin = min(round(query.start_ms / end_ms * WIDTH), WIDTH - 1)
    end = max(round(query.end_ms / end_ms * WIDTH), begin + 1)
    block, empty = ("█", "·") if _shows_blocks() else ("#", ".")
    return (empty * begin + block * (end - begin)).ljust(WIDTH, empty)


def _shows_blocks() -> bool:
    try:
        "█·".encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return False
    return True
