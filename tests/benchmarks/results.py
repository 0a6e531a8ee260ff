"""What was measured: medians, 99th percentiles, ratios, failures."""

from __future__ import annotations

import dataclasses
import json
import math
import platform
import statistics
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

PACKAGES = (
    *("async-parallel", "sqlalchemy", "asyncpg", "flask", "uvicorn", "fastapi"),
    *("quart", "asgiref", "a2wsgi"),
)


@dataclasses.dataclass
class Figure:
    """One contestant at one task.

    Attributes:
        part: The part of the benchmark.
        task: What was asked for.
        contestant: Who was asked.
        medians: The median of each round, in milliseconds.
        p99s: The 99th percentile of each round, in milliseconds.
        rates: For the web, answers per second in each round.
        times: The milliseconds of each answer, where they are known.
        failures: Answers that were not as they must be; with any there is no rank.
    """

    part: str
    task: str
    contestant: str
    medians: list[float] = dataclasses.field(default_factory=list)
    p99s: list[float] = dataclasses.field(default_factory=list)
    rates: list[float] = dataclasses.field(default_factory=list)
    times: list[float] = dataclasses.field(default_factory=list)
    failures: int = 0

    def add(self, times: list[float]) -> None:
        """Add a round: the milliseconds that each answer took."""
        self.medians.append(statistics.median(times))
        self.p99s.append(percentile(times, 0.99))
        self.times += times

    @property
    def median(self) -> float:
        """The median of the rounds' medians, in milliseconds."""
        return statistics.median(self.medians) if self.medians else math.nan

    @property
    def p99(self) -> float:
        """The 99th percentile of all answers, or for the web the rounds' median."""
        if self.times:
            return percentile(self.times, 0.99)
        return statistics.median(self.p99s) if self.p99s else math.nan

    @property
    def rate(self) -> float:
        """The median of the rounds' answers per second."""
        return statistics.median(self.rates) if self.rates else math.nan


def percentile(times: list[float], share: float) -> float:
    """The value below which ``share`` of ``times`` lie."""
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def ratio(above: list[float], below: list[float]) -> float:
    """The median of the rounds' ratios, each of figures taken side by side."""
    pairs = zip(above, below, strict=True)
    ratios = [numerator / denominator for numerator, denominator in pairs]
    return statistics.median(ratios) if ratios else math.nan


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A ratio, and what it has to be."""

    name: str
    value: float
    bound: float
    at_least: bool

    @property
    def holds(self) -> bool:
        """Whether it is as it has to be, by the three decimals that are written."""
        value = round(self.value, 3)
        return value >= self.bound if self.at_least else value <= self.bound

    @property
    def wanted(self) -> str:
        """The bound, in words."""
        return f"{'at least' if self.at_least else 'at most'} {self.bound:g}"


def save(
    path: Path, figures: list[Figure], verdicts: list[Verdict], **more: Any
) -> None:
    """Write all of it as JSON, with ``more`` at its end."""
    content: dict[str, Any] = {
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "figures": [
            {
                "part": figure.part,
                "task": figure.task,
                "contestant": figure.contestant,
                "median_ms": rounded(figure.median),
                "p99_ms": rounded(figure.p99),
                "per_second": rounded(figure.rate),
                "rounds": len(figure.medians),
                "failures": figure.failures,
            }
            for figure in figures
        ],
        "ratios": [
            {
                "name": verdict.name,
                "value": rounded(verdict.value),
                "wanted": verdict.wanted,
                "holds": verdict.holds,
            }
            for verdict in verdicts
        ],
        **more,
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def rounded(value: float) -> float | None:
    """Three decimals; ``None`` where nothing was measured."""
    return None if math.isnan(value) else round(value, 3)
