"""An application whose objects the garbage collector is told to pass over."""

from __future__ import annotations

import gc
import importlib
import os
from typing import Any

_module, _, _name = os.environ["BENCH_FROZEN"].partition(":")
app: Any = getattr(importlib.import_module(_module), _name)
gc.collect()
gc.freeze()
