"""Measure ``ASGIAdapter`` beside other ways to serve the same small views.

Run by ``nox -s bench -- adapters``, on Linux, with ``wrk``. All servers are uvicorn
(uvloop, httptools). They are started once, on one core, and loaded in turn, in several
rounds of short loads, each round in another order, while the others idle. Ratios are
medians over the rounds.

- ``/json``, an async view, ``/items/7``, the same on a path with a variable, and
  ``/sync``, a synchronous one: 32 clients.
- ``/sleep``, an async view of one second: 1,000 clients. asgiref and a2wsgi do not take
  part, for they serve 1 and 40 such requests at once. Nobody can answer more than 1,000
  a second. The clients go in waves, so that what wrk counts depends on which part of a
  wave the end cuts off; 1,000 / the mean time of an answer is the same rate without
  that. Both are reported. wrk itself ends up to 0.1 s after the time that was asked
  for, in which hardly anybody is answered (some of 19,000), so what it counts is
  divided by the time asked for. In the first wave all connect at once, which is why
  these loads are long.
- Memory and threads: see ``in_flight``. Each reading is of a fresh server.

Who fails a request gets no rank. asgiref always fails some; of its answers only those
that are right are counted.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import resource
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import in_flight
import web
from in_flight import Footprint
from results import Figure, Verdict, ratio, save
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from run import ratios, tables
from servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ANSWER = {"message": "hello", "items": [1, 2, 3]}
OURS, FASTAPI, QUART = "ASGIAdapter", "FastAPI", "Quart"
A2WSGI, ASGIREF = "a2wsgi", "asgiref's WsgiToAsgi"
MODULES = {
    OURS: "small_ours",
    FASTAPI: "small_fastapi",
    QUART: "small_quart",
    A2WSGI: "small_a2wsgi",
    ASGIREF: "small_asgiref",
}
MANY = (OURS, FASTAPI, QUART)
FILES = 4096
WARM_UP = 1.0


@dataclasses.dataclass(frozen=True)
class Task:
    """A load.

    Attributes:
        path: The view.
        clients: How many ask at once.
        contestants: Who takes part.
        wanted: Whom ours is compared with, and what the ratio has to be.
        tail: Seconds until what wrk left behind is answered, and the server idles.
        in_waves: Whether hardly anybody is answered between the end that was asked for
            and that of wrk, so that its rate is of the time asked for.
        steady: Whether its rate is taken from the mean time of an answer.
    """

    path: str
    clients: int
    contestants: tuple[str, ...]
    wanted: tuple[tuple[str, float], ...]
    tail: float = 0.1
    in_waves: bool = False
    steady: bool = False

    @property
    def name(self) -> str:
        """The title of its table."""
        how = f" ({self.clients:,} / mean time)" if self.steady else ""
        return f"{self.path}, {self.clients:,} clients{how}"

    def record(self, figure: Figure, measured: dict[str, Any]) -> None:
        """Add a round to a figure."""
        if self.in_waves:
            measured = {**measured, "seconds": measured["asked"]}
        web.record(figure, measured)
        if self.steady and measured["requests"]:
            figure.rates[-1] = self.clients / measured["mean_ms"] * 1000


JSON = Task(
    "/json",
    32,
    tuple(MODULES),
    ((ASGIREF, 4.0), (A2WSGI, 5.0), (QUART, 1.4), (FASTAPI, 0.75)),
)
# No rule of it is remembered, so it is searched for each time.
ITEMS = Task("/items/7", 32, MANY, ((QUART, 1.0), (FASTAPI, 0.75)))
SYNC = Task("/sync", 32, tuple(MODULES), ((A2WSGI, 1.1),))
SLEEP = Task("/sleep", in_flight.REQUESTS, MANY, ((FASTAPI, 1.0),), 1.5, in_waves=True)
STEADY = dataclasses.replace(SLEEP, steady=True)
TASKS = (JSON, ITEMS, SYNC, SLEEP, STEADY)

Figures = dict[tuple[Task, str], Figure]


def main() -> None:
    """Measure all, print it and write it."""
    options = parse()
    console = Console()
    if message := web.missing("wrk"):
        raise SystemExit(message)
    allow_many_files()
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=steps(options))

        def advance(what: str) -> None:
            progress.update(bar, description=what, advance=1)

        footprints = measure_memory(options.memory_rounds, advance)
        figures = measure_loads(options, advance)
    found = verdicts(figures, footprints)
    for table in tables(list(figures.values())):
        console.print(table)
    console.print(memory(footprints))
    console.print(ratios(found))
    held = [footprint.as_json() for footprint in footprints]
    save(options.json, list(figures.values()), found, memory=held)
    console.print(f"Written: {options.json}")


def parse() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="of all but /sleep")
    parser.add_argument("--seconds", type=float, default=1, help="of each such load")
    parser.add_argument("--sleep-rounds", type=int, default=4, help="of /sleep")
    parser.add_argument("--sleep-seconds", type=float, default=20, help="of each")
    parser.add_argument("--memory-rounds", type=int, default=3, help="fresh servers")
    default = Path(__file__).parent / "adapters.json"
    parser.add_argument("--json", type=Path, default=default)
    return parser.parse_args()


def steps(options: argparse.Namespace) -> int:
    """How many times ``advance`` will be called."""
    short = sum(len(task.contestants) for task in (JSON, ITEMS, SYNC))
    long: int = options.sleep_rounds + 1 + options.memory_rounds
    rounds: int = options.rounds + 1
    return rounds * short + long * len(MANY)


def allow_many_files() -> None:
    """Let this process, the servers and wrk have a thousand connections open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = FILES if hard == unlimited else min(FILES, hard)
    if soft not in {unlimited, max(soft, wanted)}:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextlib.contextmanager
def started(name: str) -> Iterator[tuple[int, str]]:
    """The process and the address of a contestant's server, which answers."""
    port = free_port()
    command = [*web.UVICORN, "--loop=uvloop", "--http=httptools"]
    address = f"http://127.0.0.1:{port}"
    with web.running([*command, f"{MODULES[name]}:asgi"], port, {}) as process:
        if not web.answers(f"{address}/json", ANSWER):
            raise RuntimeError(f"{name} did not come up, or gave a wrong answer.")
        yield process.pid, address


def measure_memory(rounds: int, advance: Callable[[str], None]) -> list[Footprint]:
    """What requests in flight cost, contestant by contestant, in several rounds."""
    footprints = [Footprint(name) for name in MANY]
    for _ in range(rounds):
        for footprint in footprints:
            advance(f"{footprint.contestant}: memory")
            with started(footprint.contestant) as (pid, address):
                in_flight.measure(footprint, pid, address, ANSWER)
    return footprints


def measure_loads(
    options: argparse.Namespace, advance: Callable[[str], None]
) -> Figures:
    """All loads, on servers that are started once."""
    figures: Figures = {
        (task, name): Figure("adapters", task.name, name)
        for task in TASKS
        for name in task.contestants
    }
    with contextlib.ExitStack() as stack:
        bases = {name: stack.enter_context(started(name))[1] for name in MODULES}

        def load(name: str, seconds: float, *tasks: Task) -> None:
            advance(f"{name}: {tasks[0].name}")
            address = f"{bases[name]}{tasks[0].path}"
            measured = web.load(address, tasks[0].clients, seconds)
            time.sleep(tasks[0].tail)
            for task in tasks:
                task.record(figures[task, name], measured)

        for task, name in figures:
            wrong = not web.answers(f"{bases[name]}{task.path}", ANSWER)
            figures[task, name].failures += wrong
            if not task.steady:
                advance(f"{name}: {task.name}, warm-up")
                web.load(f"{bases[name]}{task.path}", task.clients, WARM_UP)
                time.sleep(task.tail)
        for number in range(options.rounds):
            for task in (JSON, ITEMS, SYNC):
                for name in turned(task.contestants, number):
                    load(name, options.seconds, task)
        for number in range(options.sleep_rounds):
            for name in turned(MANY, number):
                load(name, options.sleep_seconds, SLEEP, STEADY)
    return figures


def turned(contestants: tuple[str, ...], number: int) -> tuple[str, ...]:
    """All of them, another one first in each round, and backwards in each second.

    So nobody always comes after the same one, whose load may leave something behind.
    """
    first = number % len(contestants)
    order = contestants[first:] + contestants[:first]
    return order[::-1] if number % 2 else order


def verdicts(figures: Figures, footprints: list[Footprint]) -> list[Verdict]:
    """Those of contestants that failed nothing, and the ratio against asgiref."""
    found: list[Verdict] = []
    for task in TASKS:
        ours = figures[task, OURS]
        for name, bound in task.wanted:
            other = figures[task, name]
            if ours.failures or (other.failures and name != ASGIREF):
                continue
            title = f"{task.name}: ours / {name}, per second"
            if other.failures:
                title += " (which fails requests)"
            value = ratio(ours.rates, other.rates)
            found.append(Verdict(title, value, bound, at_least=True))
    held = next(each for each in footprints if each.contestant == OURS)
    if held.rest and not held.failures:
        much = in_flight.MOST_KIB
        found += [
            Verdict("KiB a request in flight", held.request, much, at_least=False),
            Verdict("KiB of it and its connection", held.both, much, at_least=False),
            Verdict("threads more in flight", max(held.threads), 0, at_least=False),
        ]
    return found


def memory(footprints: list[Footprint]) -> Table:
    """The table of what requests in flight cost."""
    many = f"{in_flight.REQUESTS:,}"
    table = Table(title="memory and threads", title_justify="left")
    table.add_column("")
    for each in footprints:
        table.add_column(each.contestant, justify="right")

    def row(name: str, cells: Iterable[str]) -> None:
        table.add_row(name, *cells)

    def mib(held: list[int]) -> str:
        return f"{statistics.median(held) / 1024:.1f}" if held else ""

    row("MiB at rest", (mib(each.rest) for each in footprints))
    row(f"MiB, {many} connections idle", (mib(each.idle) for each in footprints))
    row(f"MiB, {many} requests asleep", (mib(each.sleeping) for each in footprints))
    row("KiB a connection", (f"{each.connection:.2f}" for each in footprints))
    row("KiB a request in flight", (f"{each.request:.2f}" for each in footprints))
    row("KiB of both", (f"{each.both:.2f}" for each in footprints))
    row("threads more", (str(max(each.threads, default="")) for each in footprints))
    row("failures", (str(each.failures) for each in footprints))
    row("readings left out", (str(each.uneven) for each in footprints))
    return table


if __name__ == "__main__":
    main()
