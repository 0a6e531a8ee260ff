"""Gunicorn's worker that is uvicorn, told to end before gunicorn kills it."""

from __future__ import annotations

import warnings
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from uvicorn.workers import UvicornWorker


class Worker(UvicornWorker):
    """A worker that cancels its requests after a second."""

    CONFIG_KWARGS: dict[str, Any] = {  # noqa: RUF012 - declared so there
        **UvicornWorker.CONFIG_KWARGS,
        "timeout_graceful_shutdown": 1,
    }
