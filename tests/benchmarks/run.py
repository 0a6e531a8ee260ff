"""Measure ``async_parallel`` beside what people write instead, all in one run.

Run by ``nox -s bench``. Prints tables of medians, 99th percentiles and ratios, and
writes them as JSON and as a picture. Ratios are medians over the rounds, each of
figures that were taken side by side; the figures are of the machine that made them.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import gathers
import web
from database import Database, database, keep_off_the_first_core
from picture import draw
from results import Figure, Verdict, save
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from shelves import fill
from slow_network import slow_network
from verdicts import verdicts

if TYPE_CHECKING:
    from collections.abc import Callable

PARTS = ("gather", "snapshot", "network", "web")
DELAY = 0.001


def main() -> None:
    """Measure what the command line asks for."""
    options = parse()
    console = Console()
    parts = set(options.parts or PARTS)
    if "web" in parts and (message := web.missing("wrk", "nginx")):
        console.print(f"[bold red]{message}")
        parts.discard("web")
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with database() as server, Progress(*columns, console=console) as progress:
        fill(server.url.render_as_string(hide_password=False))
        bar = progress.add_task("", total=steps(parts, options))

        def advance(what: str) -> None:
            progress.update(bar, description=what, advance=1)

        figures = measure(server, parts, options, advance)
    found = verdicts(figures)
    for table in tables(figures):
        console.print(table)
    console.print(ratios(found))
    save(options.json, figures, found)
    drawn = draw(options.svg, figures)
    console.print(f"Written: {options.json}{f', {options.svg}' if drawn else ''}")


def parse() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all")
    parser.add_argument("--rounds", type=int, default=30, help="of gathers")
    parser.add_argument("--web-rounds", type=int, default=3, help="of loads")
    parser.add_argument("--seconds", type=float, default=4, help="of each load")
    here = Path(__file__).parent
    parser.add_argument("--json", type=Path, default=here / "figures.json")
    parser.add_argument("--svg", type=Path, default=here / "figures.svg")
    return parser.parse_args()


def steps(parts: set[str], options: argparse.Namespace) -> int:
    """How many times ``advance`` will be called."""
    rounds, few = options.rounds, max(2, options.rounds // 3)
    return sum(
        [
            ("gather" in parts) * (gathers.steps(gathers.LOCAL, rounds) + 6 * few),
            ("snapshot" in parts) * len(gathers.IN_SNAPSHOT) * rounds,
            ("network" in parts) * gathers.steps(gathers.SLOW, rounds),
            ("web" in parts) * web.steps(options.web_rounds),
        ]
    )


def measure(
    server: Database,
    parts: set[str],
    options: argparse.Namespace,
    advance: Callable[[str], None],
) -> list[Figure]:
    """The figures of all parts."""
    figures: list[Figure] = []
    url, rounds = server.url, options.rounds
    if "gather" in parts:
        local = gathers.measure("gather", url, gathers.LOCAL, rounds, advance)
        figures += asyncio.run(local)
        few = max(2, rounds // 3)
        figures += asyncio.run(gathers.fairness(url, few, advance))
        figures += asyncio.run(gathers.processor(url, few, advance))
    if "snapshot" in parts:
        figures += asyncio.run(gathers.snapshots(url, rounds, advance))
    if "network" in parts:
        part = f"network, {DELAY * 1000:g} ms each way"
        with slow_network(url, DELAY) as far:
            slow = gathers.measure(part, far, gathers.SLOW, rounds, advance)
            figures += asyncio.run(slow)
    if "web" in parts:
        if server.pid is not None:
            keep_off_the_first_core(server.pid)
        figures += web.measure(url, options.web_rounds, options.seconds, advance)
    return figures


def tables(figures: list[Figure]) -> list[Table]:
    """A table for each task, the best first, those that fail last."""
    tasks = dict.fromkeys((figure.part, figure.task) for figure in figures)
    made: list[Table] = []
    for part, task in tasks:
        table = Table(title=f"{part}: {task}", title_justify="left")
        for name in ("", "median ms", "p99 ms", "per second", "failures"):
            table.add_column(name, justify="right" if name else "left")
        chosen = [f for f in figures if (f.part, f.task) == (part, task)]
        for figure in sorted(chosen, key=rank):
            table.add_row(
                figure.contestant,
                f"{figure.median:.3f}",
                f"{figure.p99:.3f}",
                f"{figure.rate:.0f}" if figure.rates else "",
                f"[bold red]{figure.failures}, no rank" if figure.failures else "0",
            )
        made.append(table)
    return made


def rank(figure: Figure) -> tuple[bool, float]:
    """The order in a table."""
    speed = -figure.rate if figure.rates else figure.median
    return figure.failures > 0, speed


def ratios(found: list[Verdict]) -> Table:
    """The table of ratios."""
    table = Table(title="ratios", title_justify="left")
    for name in ("", "measured", "wanted"):
        table.add_column(name, justify="right" if name == "measured" else "left")
    for verdict in found:
        colour = "green" if verdict.holds else "red"
        table.add_row(verdict.name, f"[{colour}]{verdict.value:.2f}", verdict.wanted)
    return table


if __name__ == "__main__":
    main()
