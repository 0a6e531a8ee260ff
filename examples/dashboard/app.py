"""The Flask application: one page, two ways to get its rows."""

from __future__ import annotations

import calendar
import json
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Flask, Response, jsonify, render_template, request
from sqlalchemy import event

from async_parallel import AsyncParallel, gather_queries
from async_parallel.asgi import ASGIAdapter
from async_parallel.instrumentation import record_gathers

from .queries import PANELS
from .shop import LAST_DAY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine import RowMapping

    from async_parallel.instrumentation import GatherReport

    Panels = Mapping[str, Sequence[RowMapping]]

DATABASE_URL = "DASHBOARD_DATABASE_URL"
"""The environment variable that ``create_asgi_app`` reads."""

REPORT_HEADER = "Dashboard-Report"
"""The header with the times of the queries, as JSON."""

pages = Blueprint("pages", __name__)


def create_app(database_url: str) -> Flask:
    """Make the application for a database with the shop in it."""
    app = Flask(__name__)
    app.config["ASYNC_PARALLEL_DATABASE_URI"] = database_url
    parallel = AsyncParallel(app)
    app.register_blueprint(pages)
    app.add_template_filter(format_money, "money")
    with app.app_context():
        engine = parallel.gatherer().engine.sync_engine
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _add_pg_sleep)
    return app


def create_asgi_app() -> ASGIAdapter:
    """Make the application for an ASGI server; the environment names the database."""
    return ASGIAdapter(create_app(os.environ[DATABASE_URL]))


@pages.get("/")
async def index() -> str:
    """Show where the two pages are."""
    return render_template("dashboard.html", today=LAST_DAY)


@pages.get("/one-after-another")
async def one_after_another() -> Response:
    """Show the dashboard, each query awaited before the next one begins."""
    panels: dict[str, Sequence[RowMapping]] = {}
    with record_gathers() as reports:
        for label, query in PANELS.items():
            # The same queries, connections and call as in the other view, so that
            # waiting for each one is all that differs.
            panels |= await gather_queries({label: query})
    return _show(panels, reports)


@pages.get("/gathered")
async def gathered() -> Response:
    """Show the dashboard, all queries at once."""
    with record_gathers() as reports:
        panels = await gather_queries(PANELS)
    return _show(panels, reports)


def format_money(cents: int) -> str:
    """Cents as whole euros."""
    return f"€{round(cents / 100):,}"


def _show(panels: Panels, reports: Sequence[GatherReport]) -> Response:
    report = _make_report(reports)
    if request.args.get("format") == "json":
        rows = {label: [dict(row) for row in panels[label]] for label in panels}
        response = jsonify(panels=rows, report=report)
    else:
        page = render_template(
            "dashboard.html",
            panels=panels,
            report=report,
            today=LAST_DAY,
            months=calendar.month_abbr,
        )
        response = Response(page)
    response.headers[REPORT_HEADER] = json.dumps(report)
    return response


def _make_report(reports: Sequence[GatherReport]) -> dict[str, Any]:
    """When each query began and ended, in milliseconds since the first gather."""
    queries = []
    gathered_at = 0.0
    for report in reports:
        for query in report.queries:
            start = gathered_at + query.queued_s
            queries.append(
                {
                    "label": query.label,
                    "start_ms": round(start * 1000, 1),
                    "end_ms": round((start + query.elapsed_s) * 1000, 1),
                }
            )
        gathered_at += report.elapsed_s
    return {
        "queries": queries,
        "total_ms": round(gathered_at * 1000, 1),
        "threads": threading.active_count(),
    }


def _add_pg_sleep(dbapi_connection: Any, _record: object) -> None:
    """Give SQLite what PostgreSQL has; it sleeps in the connection's own thread."""
    dbapi_connection.create_function("pg_sleep", 1, _sleep)


def _sleep(seconds: float) -> str:
    time.sleep(seconds)
    return ""
