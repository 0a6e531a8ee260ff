"""What Flask's current contexts tell: the application, and the caller's sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from flask import (
    appcontext_tearing_down,
    current_app,
    g,
    has_app_context,
    has_request_context,
    request,
    request_tearing_down,
    stream_with_context,
)
from sqlalchemy import orm
from werkzeug.test import run_wsgi_app
from werkzeug.wrappers import Response

from .errors import ExtensionNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask
    from werkzeug.exceptions import HTTPException

_NOTHING: dict[str, Any] = {}
_LITE = "_sqlalchemy_sessions"


def find_app() -> Flask:
    """The current application.

    Raises:
        ExtensionNotFoundError: There is none.
    """
    if not current_app:
        raise ExtensionNotFoundError(
            "There is no current app. Gather in a view, or inside"
            " 'with app.app_context():'; without Flask use QueryGatherer."
        )
    app: Flask = cast("Any", current_app)._get_current_object()  # noqa: SLF001 - Flask's own way
    return app


def is_current(app: Any) -> bool:
    """Whether a context of ``app`` is the current one."""
    return has_app_context() and current_app == app


def keep_context(items: Iterator[Any]) -> Iterator[Any]:
    """``items``, made in the request's context if there is one."""
    return stream_with_context(items) if has_request_context() else items


def has_teardown(app: Any) -> bool:
    """Whether anything is called when a request of ``app`` is torn down."""
    return bool(app.teardown_request_funcs or request_tearing_down.receivers)


def has_app_teardown(app: Any) -> bool:
    """Whether anything is called when a context of ``app`` is torn down."""
    return bool(app.teardown_appcontext_funcs or appcontext_tearing_down.receivers)


def respond(error: HTTPException) -> Any:
    """The response of ``error`` to the current request.

    Flask has the error called in the same way, and takes the first part of its answer.
    """
    response: Any = error.get_response(request.environ)
    if not response.is_sequence:
        return response  # it may block
    return Response(*run_wsgi_app(response, request.environ, buffered=True))


def callers_sessions() -> Iterator[Any]:
    """The sessions that the current code has from Flask-SQLAlchemy(-Lite)."""
    extension: Any = current_app.extensions.get("sqlalchemy")
    # Not Flask-SQLAlchemy-Lite's property of that name, which would make a session.
    scoped: Any = getattr(extension, "__dict__", _NOTHING).get("session")
    registry = getattr(scoped, "registry", None)
    if registry is not None and registry.has():
        yield registry()
    for name in (_LITE, "_sqlalchemy_async_sessions"):
        yield from g.get(name, {}).values()


def flush_sessions() -> None:
    """Flush the synchronous ones of them."""
    for session in callers_sessions():
        if isinstance(session, orm.Session):
            session.flush()


def drop_sessions() -> None:
    """Close the synchronous ones of them, so that others are made when next needed."""
    extension: Any = current_app.extensions.get("sqlalchemy")
    scoped: Any = getattr(extension, "__dict__", _NOTHING).get("session")
    if scoped is not None:
        scoped.remove()
    for session in g.pop(_LITE, _NOTHING).values():
        session.close()
