"""What type checkers infer; checked by mypy and pyright, and run as a test."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, assert_type

from sqlalchemy import Row, RowMapping, text

from async_parallel import (
    Query,
    QueryGatherer,
    gather_queries,
    mappings,
    rows,
    run_in_parallel,
    scalars,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def test_shapes_are_typed_queries() -> None:
    """Each shape is a ``Query`` of what it returns."""
    statement = text("SELECT 1")
    assert_type(rows(statement), Query[list[Row[Any]]])
    assert_type(scalars(statement), Query[list[Any]])
    assert_type(mappings(statement), Query[list[RowMapping]])


async def _gathered() -> None:
    assert_type(await gather_queries([text("SELECT 1")]), list[Any])
    assert_type(await gather_queries({1: text("SELECT 1")}), dict[int, Any])
    assert_type(
        await gather_queries(text("SELECT 1"), text("SELECT 2")), tuple[Any, ...]
    )


def _run() -> None:
    assert_type(run_in_parallel([text("SELECT 1")]), list[Any])
    assert_type(run_in_parallel({"a": text("SELECT 1")}), dict[str, Any])


def _as_completed(gatherer: QueryGatherer) -> None:
    assert_type(
        gatherer.as_completed(text("SELECT 1")), AsyncGenerator[tuple[Any, Any], None]
    )


CHECKED_BY_TYPE_CHECKERS: list[Callable[..., Any]] = [_gathered, _run, _as_completed]
