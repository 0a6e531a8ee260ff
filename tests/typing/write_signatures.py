"""Writes the overloads at the end of ``async_parallel/_signatures.pyi``.

With ``--check`` it writes nothing, and fails where they are not what it would write.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STUB = Path(__file__).parents[2] / "async_parallel" / "_signatures.pyi"
MARK = "# All below is written by tests/typing/write_signatures.py.\n"
WIDTH = 88

POSITIONS = 8  # how many arguments are told apart
EXACT = 4  # up to how many of them, with the columns of their rows

# What one list or mapping may hold, and what its result then holds. Where several fit,
# the first is taken. A Select of a tuple is one of SQLAlchemy 2.0; there mypy takes
# any mapping of them for one of rows.
LISTS = {
    "Mixed": "Any",
    "list[Select[tuple[T]]]": "list[T]",
    "list[Select[tuple[A, *C]]]": "Any",
    "list[Select[*tuple[T]]]": "list[T]",
    "list[Select[A, B, *C]]": "Rows[A, B, *C]",
    "list[LegacyQuery[T]]": "list[T]",
    "list[Query[R]]": "R",
    "AsyncFunctions[R]": "R",
    "Functions[R]": "R",
}
MAPPINGS = {
    "Mapping[K, Select[tuple[T]]]": "list[T]",
    "Mapping[K, Select[tuple[A, *C]]]": "Any",
    "Mapping[K, Select[*tuple[T]]]": "list[T]",
    "Mapping[K, LegacyQuery[T]]": "list[T]",
    "Mapping[K, Query[R]]": "R",
}
# Without and with ``return_exceptions``: what it is told by, and what a result may be.
OUTCOMES = {"Raising": "{}", "Returning": "Outcome[{}]"}


class Case(NamedTuple):
    """One kind of call."""

    parameters: list[str]
    result: str
    options: str


def collections(of_list: str, of_mapping: str) -> Iterator[Case]:
    """The calls with one list or mapping; what they give for an item is put in."""
    for options, outcome in OUTCOMES.items():
        for kinds, result in ((LISTS, of_list), (MAPPINGS, of_mapping)):
            for kind, item in kinds.items():
                found = item if item == "Any" else outcome.format(item)
                yield Case([f"queries: {kind}", "/"], result.format(found), options)
    yield Case(["queries: list[Any]", "/"], of_list.format("Any"), "Either")
    yield Case(["queries: Mapping[K, object]", "/"], of_mapping.format("Any"), "Either")


def positional() -> Iterator[Case]:
    """The calls with a query for each argument."""
    yield Case([], "tuple[()]", "Either")
    for options, outcome in OUTCOMES.items():
        for count in range(1, POSITIONS + 1):
            exact = count <= EXACT and options == "Raising"
            for several in choices(count if exact else 0):
                parameters: list[str] = []
                results: list[str] = []
                for n in range(1, count + 1):
                    kind = "Given" if exact else "Unnamed"
                    given = f"{kind}[T{n}, R{n}]"
                    parameters.append(
                        f"q{n}: Several[*C{n}]" if n in several else f"q{n}: {given}"
                    )
                    result = f"Rows[*C{n}]" if n in several else f"R{n}"
                    results.append(outcome.format(result))
                yield Case([*parameters, "/"], f"tuple[{', '.join(results)}]", options)
    yield Case(["query: Single", "/"], "tuple[Any, ...]", "Either")
    yield Case(["q1: Any", "q2: Any", "/", "*more: Any"], "tuple[Any, ...]", "Either")


def choices(count: int) -> Iterator[tuple[int, ...]]:
    """Which of ``count`` arguments have several columns: the fewest first.

    For ``Several`` are also taken what is in truth one column.
    """
    for chosen in range(count + 1):
        yield from itertools.combinations(range(1, count + 1), chosen)


def gathers() -> Iterator[Case]:
    """The calls of a function that gathers."""
    yield from collections("list[{}]", "dict[K, {}]")
    yield from positional()


def completions() -> Iterator[Case]:
    """The calls of a function that gives each result with its label."""
    pair = "AsyncGenerator[tuple[{}, {{}}]]"
    yield from collections(pair.format("int"), pair.format("K"))
    result = pair.format("int").format("Any")
    yield Case(["query: Single", "/"], result, "Either")
    yield Case(["q1: Any", "q2: Any", "/", "*more: Any"], result, "Either")


def overload(start: str, case: Case, prefix: str) -> Iterator[str]:
    """One overload, laid out as the formatter does."""
    yield "    @overload"
    if "self: object" not in case.parameters:
        yield "    @staticmethod"
    options = f"**options: Unpack[{prefix}{case.options}]"
    yield f"    {start}("
    yield from (f"        {parameter}," for parameter in (*case.parameters, options))
    line = f"    ) -> {case.result}: ..."
    if len(line) <= WIDTH:
        yield line
        return
    yield "    ) -> tuple["
    parts = case.result.removeprefix("tuple[").removesuffix("]")
    yield from (f"        {part}," for part in parts.split(", "))
    yield "    ]: ..."


def variables() -> Iterator[str]:
    """The type variables of each argument, and the scope in which mypy knows them."""
    names: list[str] = []
    for n in range(1, POSITIONS + 1):
        yield f'T{n} = TypeVar("T{n}", default=Any)'
        yield f'R{n} = TypeVar("R{n}", default=list[T{n}])'
        if n <= EXACT:
            yield f'C{n} = TypeVarTuple("C{n}", default=Unpack[tuple[Any, ...]])'
        names += [f"T{n}", f"R{n}"]
    yield ""
    yield "if MYPY:"
    yield "    class Scope("
    yield "        Generic["
    yield from (f"            {name}," for name in names)
    yield "        ]"
    yield "    ): ..."
    yield ""
    yield "else:"
    yield "    class Scope:"
    yield "        def __class_getitem__(cls, names: Any) -> Any: ..."
    yield ""
    yield "class Signatures("
    yield "    Scope["
    yield from (f"        {name}," for name in names)
    yield "    ]"
    yield "):"


def generated() -> str:
    """What belongs below the mark."""
    lines = list(variables())
    for case in gathers():
        lines += overload("async def gather_queries", case, "Bound")
    for case in gathers():
        lines += overload("def run_in_parallel", case, "Bound")
    for case in gathers():
        method = case._replace(parameters=["self: object", *case.parameters])
        lines += overload("async def gather", method, "")
    for case in completions():
        method = case._replace(parameters=["self: object", *case.parameters])
        lines += overload("def as_completed", method, "")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write the stub, or check it."""
    stub = STUB.read_text(encoding="utf-8")
    by_hand, mark, _ = stub.partition(MARK)
    if not mark:
        sys.stderr.write(f"{STUB} has no line {MARK!r}.\n")
        return 1
    wanted = f"{by_hand}{mark}\n{generated()}"
    if "--check" not in arguments:
        STUB.write_text(wanted, encoding="utf-8")
    elif stub != wanted:
        sys.stderr.write(f"{STUB} is out of date. Run: python {__file__}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
