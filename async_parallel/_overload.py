"""What an application answers when its database is asked for too much."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import ServiceUnavailable

from ._routing import nonblocking
from .errors import OverloadError

if TYPE_CHECKING:
    from collections.abc import Callable


def answer_overload(app: Any) -> None:
    """Have ``app`` answer an ``OverloadError`` with 503, unless it handles it itself.

    Its own handlers are asked first: those of the error's other classes, such as
    ``TimeoutError``, and then those for 503, for ``HTTPException`` and ``Exception``.
    """

    @nonblocking
    def answer(error: OverloadError) -> Any:
        own = _own_handler(app)
        if own is not None:
            return app.ensure_sync(own)(error)
        unavailable = ServiceUnavailable(
            "The database is asked for more than it can answer. Try again later.",
            retry_after=error.retry_after,
        )
        unavailable.__cause__ = error
        response = app.make_response(app.handle_http_exception(unavailable))
        if response.status_code == unavailable.code:
            response.headers.setdefault("Retry-After", str(error.retry_after))
        return response

    if OverloadError not in app.error_handler_spec[None][None]:
        app.register_error_handler(OverloadError, answer)


def _own_handler(app: Any) -> Callable[..., Any] | None:
    """The application's handler of one of the classes behind ``OverloadError``."""
    handlers = app.error_handler_spec[None][None]
    classes = OverloadError.__mro__[1 : OverloadError.__mro__.index(Exception)]
    return next((handlers[cls] for cls in classes if cls in handlers), None)
