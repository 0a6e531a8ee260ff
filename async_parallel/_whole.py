"""Responses of werkzeug's that are whole, so that WSGI would change nothing of them."""

from __future__ import annotations

from typing import Any

from werkzeug.datastructures import Headers
from werkzeug.wrappers import Response

from ._origin import is_from

NO_BODY = {204, 304}
_FIRST_FINAL = 200
_METHODS = ("get_wsgi_response", "get_wsgi_headers", "get_app_iter", "iter_encoded")
_OF_CLASS = frozenset((*_METHODS, "close"))
# What answers WSGI, as werkzeug has it; somebody may change it in the class.
_status, _status_code = Response.status, Response.status_code
_call, _close = Response.__call__, Response.close
_get_response, _get_headers = Response.get_wsgi_response, Response.get_wsgi_headers
_get_iter, _iter_encoded = Response.get_app_iter, Response.iter_encoded
_IS_WERKZEUGS = all(
    is_from(getattr(Response, name), "werkzeug.wrappers.response")
    for name in ("__call__", *_OF_CLASS)
)


def whole_body(response: Any) -> bytes | None:
    """The body of a response that is one piece of bytes, which werkzeug would send so.

    Returns:
        The body; ``None`` where only calling the response tells what it sends.
    """
    if not (
        _answers_as_werkzeugs(response.__class__)
        and (made_of := response.response).__class__ is list
        and len(made_of) == 1
        and response.headers.__class__ is Headers
        and not response.direct_passthrough
        and _OF_CLASS.isdisjoint(response.__dict__)
    ):
        return None
    chunk, code = made_of[0], response.status_code
    has_body = code >= _FIRST_FINAL and code not in NO_BODY
    return chunk if has_body and chunk.__class__ is bytes else None


def _answers_as_werkzeugs(kind: Any) -> bool:
    """Whether objects of a class are responses that answer WSGI as werkzeug's do.

    It is asked each time, as somebody may change a class at any time.
    """
    return (
        _IS_WERKZEUGS
        and issubclass(kind, Response)
        # By identity, as a wrapper may say that it equals what it is around.
        and kind.status is _status
        and kind.status_code is _status_code
        and kind.__call__ is _call
        and kind.close is _close
        and kind.get_wsgi_response is _get_response
        and kind.get_wsgi_headers is _get_headers
        and kind.get_app_iter is _get_iter
        and kind.iter_encoded is _iter_encoded
    )
