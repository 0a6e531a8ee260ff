"""Run the database queries of a Flask view at once instead of one after another."""

from ._gather import QueryGatherer
from ._query import (
    Query,
    first,
    mappings,
    one,
    one_or_none,
    rows,
    scalar,
    scalar_one,
    scalars,
)

__all__ = [
    "Query",
    "QueryGatherer",
    "first",
    "mappings",
    "one",
    "one_or_none",
    "rows",
    "scalar",
    "scalar_one",
    "scalars",
]
