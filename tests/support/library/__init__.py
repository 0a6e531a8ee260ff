"""A library: an application of medium size on Flask-SQLAlchemy, with two databases."""

from __future__ import annotations

from library.application import Library, make_library
from library.picture import picture

__all__ = ["Library", "make_library", "picture"]
