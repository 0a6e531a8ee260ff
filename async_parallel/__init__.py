"""Run the database queries of a Flask view at once instead of one after another."""

from ._gather import QueryGatherer
from ._query import Query
from ._shapes import (
    first,
    mappings,
    one,
    one_or_none,
    rows,
    scalar,
    scalar_one,
    scalars,
)
from ._snapshot import Snapshot
from .flask import AsyncParallel, gather_queries, run_in_parallel

__all__ = [
    "AsyncParallel",
    "Query",
    "QueryGatherer",
    "Snapshot",
    "first",
    "gather_queries",
    "mappings",
    "one",
    "one_or_none",
    "rows",
    "run_in_parallel",
    "scalar",
    "scalar_one",
    "scalars",
]
