"""A plain script: ``python -m examples.elsewhere.script``."""

from __future__ import annotations

import asyncio
import json
import sys

from async_parallel import QueryGatherer

from .shop import DATABASE_URL, LATEST, REVENUE, TOTALS


async def main() -> None:
    """Print three results of one gather, which see one state of the database."""
    async with QueryGatherer(DATABASE_URL) as gatherer:
        latest, totals, revenue = await gatherer.gather(
            LATEST, TOTALS, REVENUE, snapshot=True
        )
    answer = {
        "latest": [order.id for order in latest],
        "totals": dict(totals),
        "revenue": revenue,
    }
    sys.stdout.write(f"{json.dumps(answer)}\n")


if __name__ == "__main__":
    asyncio.run(main())
