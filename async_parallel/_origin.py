"""Whose a function is."""

from __future__ import annotations

from types import FunctionType
from typing import Any


def is_from(function: object, module: str) -> bool:
    """Whether a function, or what a method is of, was defined in a module.

    What is wrapped around it was not, whatever ``functools.wraps`` makes it say.
    """
    plain: Any = getattr(function, "__func__", function)
    return type(plain) is FunctionType and plain.__globals__["__name__"] == module
