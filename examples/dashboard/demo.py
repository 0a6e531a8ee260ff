"""The command: ``python examples/dashboard/demo.py --help``."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # A file that is run does not know its package.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    try:
        from dashboard.command import main
    except KeyboardInterrupt:
        sys.exit(1)
    main()
