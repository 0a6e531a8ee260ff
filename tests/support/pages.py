"""A small database beside the shop's, which its models name as their bind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

if TYPE_CHECKING:
    from pathlib import Path


class Archived(DeclarativeBase):
    """Of all models that live in the archive."""

    metadata = sa.MetaData(info={"bind_key": "archive"})


class Page(Archived):
    """One of some."""

    __tablename__ = "pages"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(default="new")


def make_pages(directory: Path, number: int) -> str:
    """Create a SQLite file with so many pages, from 1, and return its URL."""
    url = f"sqlite:///{directory / 'archive.sqlite3'}"
    engine = sa.create_engine(url)
    Archived.metadata.create_all(engine)
    pages = [{"id": i, "text": f"page {i}"} for i in range(1, number + 1)]
    with engine.begin() as connection:
        connection.execute(sa.insert(Page), pages)
    engine.dispose()
    return url
