"""The picture that the README shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from verdicts import ENTITIES, VIEW

if TYPE_CHECKING:
    from pathlib import Path

    from results import Figure

_OURS, _OTHERS, _LIMIT, _FAILED = "#0b6e4f", "#9aa5b1", "#d9b44a", "#c0392b"


def draw(path: Path, figures: list[Figure]) -> bool:
    """Draw gathers and views side by side; false where neither was measured."""
    panels: list[tuple[str, list[Figure], str]] = []
    gathers = [f for f in figures if (f.part, f.task) == ("gather", ENTITIES)]
    views = [f for f in figures if (f.part, f.task) == ("web", VIEW)]
    if gathers:
        title = "Five small ORM queries in one gather\nmilliseconds, less is better"
        panels.append((title, gathers, "median"))
    if views:
        title = "A view with them, 16 clients\nanswers per second, more is better"
        panels.append((title, views, "rate"))
    if not panels:
        return False
    mpl.use("svg")
    from matplotlib import pyplot as plt

    # Text stays text, and the same figures give the same file.
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "async_parallel"}
    settings |= {"font.family": "sans-serif", "font.size": 9}
    with mpl.rc_context(settings):
        figure, axes = plt.subplots(
            1, len(panels), figsize=(6.2 * len(panels), 3.4), squeeze=False
        )
        for axis, (title, chosen, value) in zip(axes[0], panels, strict=True):
            _panel(axis, title, chosen, value)
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None}, facecolor="white")
        plt.close(figure)
    return True


def _panel(axis: Any, title: str, chosen: list[Figure], value: str) -> None:
    more_is_better = value == "rate"
    ordered = sorted(
        chosen,
        key=lambda f: (
            f.failures > 0,
            (-1 if more_is_better else 1) * getattr(f, value),
        ),
    )
    ordered.reverse()  # the best at the top
    names = [f.contestant for f in ordered]
    values = [0.0 if f.failures else getattr(f, value) for f in ordered]
    axis.barh(names, values, color=[_colour(f) for f in ordered])
    for place, (one, length) in enumerate(zip(ordered, values, strict=True)):
        label = f" {length:.0f}" if more_is_better else f" {length:.2f}"
        if one.failures:
            label = f" {one.failures} requests failed: no rank"
        axis.text(length, place, label, va="center", color=_text_colour(one))
    axis.set_title(title, loc="left", fontsize=10)
    axis.set_xlim(0, max(values) * 1.15)
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    axis.set_xticks([])


def _colour(figure: Figure) -> str:
    if figure.contestant.startswith("async_parallel"):
        return _OURS
    return _LIMIT if "raw asyncpg" in figure.contestant else _OTHERS


def _text_colour(figure: Figure) -> str:
    return _FAILED if figure.failures else "black"
