"""The small Flask views under ``ASGIAdapter``."""

from __future__ import annotations

from small_flask import make_app

from async_parallel import AsyncParallel
from async_parallel.asgi import ASGIAdapter

app = make_app()
AsyncParallel(app)
asgi = ASGIAdapter(app)
