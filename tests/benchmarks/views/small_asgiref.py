"""The small Flask views under asgiref's adapter, which Flask's documentation names."""

from __future__ import annotations

from typing import Any

from asgiref.wsgi import WsgiToAsgi  # type: ignore[import-untyped, unused-ignore]
from small_flask import make_app

adapter: Any = WsgiToAsgi
asgi = adapter(make_app())
