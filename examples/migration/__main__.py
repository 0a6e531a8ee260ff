"""``python -m examples.migration``: ask for both views of each pair, and compare."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from .app import PAIRS, create_app
from .shop import db, executor, one_thread, parallel


def main() -> int:
    """Print what each pair answers; the status is 1 where two differ."""
    different = 0
    with tempfile.TemporaryDirectory() as directory:
        app = create_app(f"sqlite:///{Path(directory, 'shop.sqlite3')}")
        client = app.test_client()
        for pair in PAIRS:
            name = pair.__name__.rpartition(".")[2]
            before, after = (
                client.get(f"/{name}/{view}").text for view in ("before", "after")
            )
            different += before != after
            verdict = "the same" if before == after else "DIFFERENT"
            sys.stdout.write(f"{name:14} {verdict}  {after}")
        for threads in (executor, one_thread):
            threads.shutdown()
        parallel.close()
        with app.app_context():
            db.engine.dispose()
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
