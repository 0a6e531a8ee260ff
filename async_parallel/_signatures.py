"""The signatures that type checkers see: they are in the stub beside this.

What a gather returns depends on each of its queries, which takes a hundred overloads to
say. They are kept out of the modules that do the work.
"""

from __future__ import annotations

from typing import Any


class Shapes:
    """At run time a place for names."""

    first = one = one_or_none = rows = scalar = scalar_one = scalars = None


class Signatures:
    """At run time a place for names."""

    as_completed = gather = gather_queries = run_in_parallel = None


def typed_as(_: object) -> Any:
    """Have type checkers see another signature; the function stays as it is."""
    return lambda function: function
