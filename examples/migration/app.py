"""The application: two views for each pair, at ``/PAIR/before`` and ``/PAIR/after``."""

from __future__ import annotations

import os

from flask import Flask

from async_parallel.asgi import ASGIAdapter

from . import (
    completed,
    context,
    failures,
    five_queries,
    functions,
    job,
    mapping,
    named_results,
    pool,
    submit,
    timeouts,
)
from .shop import db, executor, make_rows, one_thread, parallel

PAIRS = (
    five_queries,
    submit,
    functions,
    mapping,
    job,
    named_results,
    completed,
    context,
    failures,
    timeouts,
    pool,
)

DATABASE_URL = "MIGRATION_DATABASE_URL"
"""The environment variable that ``create_app`` reads; default: a file of SQLite."""


def create_app(database_url: str | None = None) -> Flask:
    """Make the application, and the rows that it shows."""
    app = Flask(__name__)
    url = database_url or os.environ.get(DATABASE_URL, "sqlite:///migration.sqlite3")
    app.config.update(SQLALCHEMY_DATABASE_URI=url, ONE_EXECUTOR_MAX_WORKERS=1)
    for extension in (db, executor, one_thread, parallel):
        extension.init_app(app)
    for pair in PAIRS:
        name = pair.__name__.rpartition(".")[2]
        views = {"before": pair.before, "after": pair.after}
        if hasattr(pair, "after_in_async_view"):
            views["after-in-async-view"] = pair.after_in_async_view
        for view, function in views.items():
            app.add_url_rule(f"/{name}/{view}", f"{name} {view}", function)
    with app.app_context():
        make_rows()
        db.engine.dispose()  # a server that forks now takes no connection along
    return app


def create_asgi_app() -> ASGIAdapter:
    """Make the application for an ASGI server."""
    return ASGIAdapter(create_app())
