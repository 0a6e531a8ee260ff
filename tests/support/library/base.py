"""What the models are made of."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, ClassVar

from flask_sqlalchemy import SQLAlchemy

if TYPE_CHECKING:
    from sqlalchemy.orm import DeclarativeBase

db = SQLAlchemy()

if TYPE_CHECKING:

    class Model(DeclarativeBase):
        """The base of the mapped classes."""

        __bind_key__: ClassVar[str]
        query: ClassVar[Any]
else:
    Model = db.Model


class Role(enum.Enum):
    """What someone did for an item."""

    WRITER = "writer"
    EDITOR = "editor"
    TRANSLATOR = "translator"


class State(enum.Enum):
    """What became of a copy."""

    ON_SHELF = "on shelf"
    LENT = "lent"
    LOST = "lost"
