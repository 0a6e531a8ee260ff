"""The ratios that the project promises itself, from the figures of one run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import contestants
import web
from results import Figure, Verdict, ratio

if TYPE_CHECKING:
    from collections.abc import Iterator

Key = tuple[str, str, str]

ENTITIES, ROWS, SLEEP = "5 x entities", "5 x rows", "5 x sleep"
VIEW, SLEEPING_VIEW = "queries, 16 clients", "sleep, 16 clients"


def verdicts(figures: list[Figure]) -> list[Verdict]:
    """Those whose parts were measured without a failure."""
    known = {
        (figure.part, figure.task, figure.contestant): figure
        for figure in figures
        if not figure.failures and figure.medians
    }
    found: list[Verdict] = []
    for name, of, above, below, bound, at_least in _wanted():
        if above in known and below in known:
            value = ratio(getattr(known[above], of), getattr(known[below], of))
            found.append(Verdict(name, value, bound, at_least))
    sleeping = known.get(("web", SLEEPING_VIEW, web.OURS))
    if sleeping is not None:
        name = "view of five sleeps: median / 100 ms"
        value = ratio(sleeping.medians, [100.0] * len(sleeping.medians))
        found.append(Verdict(name, value, 1.08, at_least=False))
    return found


def _wanted() -> Iterator[tuple[str, str, Key, Key, float, bool]]:
    """Name, what of a figure, the two figures, the bound, whether at least."""

    def gather(task: str, contestant: str = contestants.OURS) -> Key:
        return "gather", task, contestant

    def view(contestant: str) -> Key:
        return "web", VIEW, contestant

    hand, raw = contestants.BY_HAND, contestants.RAW
    medians, rates, p99s = "medians", "rates", "p99s"
    slow = "network, 1 ms each way"
    alone, beside = "alone", "beside a gather of 1000"
    yield "hand / ours", medians, gather(ENTITIES, hand), gather(ENTITIES), 1.8, True
    yield "ours / raw", medians, gather(ENTITIES), gather(ENTITIES, raw), 1.6, False
    one_by_one = gather(ENTITIES, contestants.ONE_BY_ONE)
    yield "one after another / ours", medians, one_by_one, gather(ENTITIES), 1.5, True
    yield "rows: ours / raw", medians, gather(ROWS), gather(ROWS, raw), 1.4, False
    far = slow, ENTITIES, hand
    near = slow, ENTITIES, contestants.OURS
    yield "1 ms each way: hand / ours", medians, far, near, 2.5, True
    yield "five sleeps / one", medians, gather(SLEEP), gather("1 x sleep"), 1.02, False
    ours = view(web.OURS)
    yield "view: ours / FastAPI, per second", rates, ours, view(web.FASTAPI), 3.0, True
    flask = view(web.ONE_BY_ONE)
    yield "view: ours / Flask one by one, per second", rates, ours, flask, 1.25, True
    starlette = view(web.STARLETTE)
    yield "view: ours / Starlette raw, per second", rates, ours, starlette, 0.8, True
    yield "view: ours / FastAPI, p99", p99s, ours, view(web.FASTAPI), 0.25, False
    for task in ("5 x values", ROWS, ENTITIES):
        name = f"{task} beside a gather of 1000 / alone, p99"
        yield (
            name,
            p99s,
            ("fairness", task, beside),
            ("fairness", task, alone),
            3,
            False,
        )
    for task, most in (("5 x values", 2), (ROWS, 2), (ENTITIES, 2), (SLEEP, 1.03)):
        seen, unseen = ("snapshot", task, "with"), ("snapshot", task, "without")
        yield f"{task} in a snapshot / without", medians, seen, unseen, most, False
    for kind in ("values", "rows", "entities"):
        many = "processor", f"one of 1000 x {kind}", contestants.OURS
        few = "processor", f"one of 5 x {kind}", contestants.OURS
        yield f"processor a query, 1000 / 5 x {kind}", medians, many, few, 1.0, False
