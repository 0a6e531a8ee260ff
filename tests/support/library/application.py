"""The application, with its two databases filled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask

from async_parallel import AsyncParallel
from library.base import db
from library.rows import daily_rows, rows

if TYPE_CHECKING:
    from pathlib import Path


class Library:
    """An application on two databases.

    Args:
        url: That of the default database.
        archive_url: That of the bind ``archive``.
        folder: Where the application is.

    Attributes:
        has_threads: Whether the driver has one for each connection.
    """

    def __init__(self, url: str, archive_url: str, folder: Path) -> None:
        self.app = Flask("library", root_path=str(folder), instance_path=str(folder))
        self.app.config.update(
            TESTING=True,
            SQLALCHEMY_DATABASE_URI=url,
            SQLALCHEMY_BINDS={"archive": archive_url},
        )
        self.has_threads = url.startswith("sqlite")
        db.init_app(self.app)
        self.extension = AsyncParallel(self.app)

    def fill(self) -> None:
        """Make the tables and the rows."""
        with self.app.app_context():
            db.create_all()
            for entities in rows():
                db.session.add_all(entities)
                db.session.flush()
            db.session.commit()
            table, values = daily_rows()
            with db.engines["archive"].begin() as connection:
                connection.execute(table.insert(), values)

    def close(self) -> None:
        """Close every connection."""
        self.extension.close()
        with self.app.app_context():
            for engine in db.engines.values():
                engine.dispose()


def make_library(url: str, archive_url: str, folder: Path) -> Library:
    """A library with its tables and rows."""
    library = Library(url, archive_url, folder)
    library.fill()
    return library
