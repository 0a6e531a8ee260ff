"""What a forked child inherits from its parent and must never touch."""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """Something with a part that belongs to the process that made it."""

    def after_fork(self) -> None:
        """Start afresh; called in the child."""


_forkables: weakref.WeakSet[Forkable] = weakref.WeakSet()


def watch(forkable: Forkable) -> None:
    """Have ``after_fork`` called in every forked child."""
    _forkables.add(forkable)


def keep_for_ever(inherited: object) -> None:
    """Never finalise ``inherited``, not even when the interpreter exits.

    The finaliser of an asyncpg connection tells the server goodbye, on a socket that
    the parent still uses.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


def _after_fork() -> None:
    for forkable in list(_forkables):
        forkable.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
