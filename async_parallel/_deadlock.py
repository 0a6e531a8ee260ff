"""Gathers inside queries, on lanes of another database: whether one can ever go on.

Such a query holds its lane while it waits for one of another database. Where all lanes
of both are held by such queries, in opposite directions, each waits for the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._batch import Batch
    from ._lane import Lane
    from ._lanes import Lanes


def is_stuck(lanes: Lanes, batch: Batch, path: frozenset[Lanes] = frozenset()) -> bool:
    """Whether no lane becomes free for ``batch`` before it has run itself.

    Args:
        lanes: Those that it waits for.
        batch: The jobs of a gather.
        path: The lanes that wait for these, as was found on the way here.
    """
    if not batch.starving:
        return any(_holds_for_ever(lane, path) for lane in batch.lanes)
    if lanes in path:
        return True
    path |= {lanes}
    return lanes.in_use >= lanes.limit and all(
        _holds_for_ever(lane, path) for lane in lanes.all
    )


def _holds_for_ever(lane: Lane, path: frozenset[Lanes]) -> bool:
    inner = () if lane.inner is None else lane.inner.all
    return any(is_stuck(*waited, path) for waited in lane.waits_for) or any(
        _holds_for_ever(other, path) for other in inner
    )
