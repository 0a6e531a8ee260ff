"""The small Flask views under a2wsgi."""

from __future__ import annotations

from typing import Any

from a2wsgi import WSGIMiddleware
from small_flask import make_app

application: Any = make_app()
asgi = WSGIMiddleware(application, workers=40)
