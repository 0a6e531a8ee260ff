"""The signatures that type checkers see: they are in the stub beside this.

What a gather returns depends on each of its queries, which takes many overloads to say.
They are kept out of the modules that do the work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")


class Shapes:
    """At run time only names."""

    first = one = one_or_none = rows = scalar = scalar_one = scalars = None


class Signatures:
    """At run time only names."""

    as_completed = gather = gather_queries = run_in_parallel = None


def typed_as(signature: object) -> Callable[[F], F]:
    """Give a function another signature for type checkers, and change nothing else."""
    del signature

    def unchanged(function: F) -> F:
        return function

    return unchanged
