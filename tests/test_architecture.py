"""The modules: imports run one way, and each holds one thought."""

from __future__ import annotations

import ast
import graphlib
import io
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import async_parallel

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(async_parallel.__file__).parent
FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

# A module imports from earlier lines only.
LAYERS = [
    {
        "errors",
        "instrumentation",
        "_blocking",
        "_forks",
        "_memo",
        "_origin",
        "_signatures",
        "_waiting",
    },
    {"_flask_context", "_legacy"},
    {
        "_client",
        "_environ",
        "_greenlets",
        "_headers",
        "_known_routes",
        "_whole",
        "_workers",
        "_pool",
        "_reader",
    },
    {"_serving", "_sources", "_libpq", "_sqlite", "_portal", "_remote"},
    {"_driver", "_snapshot", "_detached"},
    {"_holding", "_attaching"},
    {"_body", "_streams", "_postgres_snapshot", "_sqlite_snapshot"},
    {"_query", "_backends", "_bind_keys", "_job", "_recovery"},
    {"_shared_snapshot"},
    {"_batch", "_connections", "_engine", "_shapes", "_wsgi"},
    {"_sessions"},
    {"_nested"},
    {"_member"},
    {"_lane", "_deadlock"},
    {"_lanes", "_home_loop", "_calls"},
    {"_runner", "_routing"},
    {"_overload"},
    {"_gather", "_one_connection", "_answering", "_several"},
    {"_binds", "_isolation"},
    {"flask", "asgi", "testing"},
    {"__init__"},
]
RANK = {module: rank for rank, layer in enumerate(LAYERS) for module in layer}

MODULE_LINES = 300
FUNCTION_LINES = 40


def parse(name: str) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(FILES[name].read_text(encoding="utf-8"))


def top(name: str) -> str:
    """The module or subpackage at the top that ``name`` belongs to."""
    return name.partition(".")[0]


def is_type_checking(node: ast.AST) -> bool:
    """Whether ``node`` is ``if TYPE_CHECKING:``."""
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def imports(node: ast.AST, *, typing: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports below ``node``, inside functions too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        elif typing or not is_type_checking(child):
            yield from imports(child, typing=typing)
        elif isinstance(child, ast.If):
            for other in child.orelse:
                yield from imports(other, typing=typing)


def imported(name: str, *, typing: bool) -> set[str]:
    """The full names of what a module imports, its own package's beginning with it."""
    names: set[str] = set()
    package = ["async_parallel", *name.split(".")[:-1]]
    for node in imports(parse(name), typing=typing):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
            continue
        parts = package[: len(package) - node.level + 1] if node.level else []
        origin = ".".join([*parts, *filter(None, [node.module])])
        names |= {f"{origin}.{alias.name}" for alias in node.names}
    return names


def own_imports(name: str, *, typing: bool = False) -> set[str]:
    """The modules of the package that a module imports."""
    own: set[str] = set()
    for full in imported(name, typing=typing):
        first, _, rest = full.partition(".")
        if first == "async_parallel":
            module = top(rest)
            own.add(module if module in {top(file) for file in FILES} else "__init__")
    return own - {top(name)}


def docstring_lines(tree: ast.AST) -> set[int]:
    """The numbers of the lines that are docstrings."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(
            node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        ):
            # Also the string below an assignment, which documents it.
            for statement in node.body:
                if isinstance(statement, ast.Expr) and isinstance(
                    statement.value, ast.Constant
                ):
                    end = statement.end_lineno or statement.lineno
                    lines |= set(range(statement.lineno, end + 1))
    return lines


def code_lines(name: str) -> int:
    """How many lines are neither blank, comment nor docstring."""
    source = FILES[name].read_text(encoding="utf-8")
    nothing = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in nothing:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - docstring_lines(ast.parse(source)))


def test_each_module_has_its_layer() -> None:
    """A module is in one layer, and a layer names no module that is gone."""
    assert set(RANK) == {top(name) for name in FILES}
    assert sum(map(len, LAYERS)) == len(RANK)


@pytest.mark.parametrize("name", FILES)
def test_imports_run_one_way(name: str) -> None:
    """A module imports modules of earlier layers only, inside functions too."""
    upward = {module for module in own_imports(name) if RANK[module] >= RANK[top(name)]}
    assert not upward, f"{name} imports {upward}"


def test_there_is_no_cycle() -> None:
    """The modules can be imported one after another."""
    graph = {name: own_imports(name) for name in FILES if "." not in name}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) >= len(graph)


@pytest.mark.parametrize("name", sorted(set(FILES) - {"flask", "_flask_context"}))
def test_only_the_extension_imports_flask(name: str) -> None:
    """No other module knows Flask, not even for its types."""
    assert "flask" not in {top(full) for full in imported(name, typing=True)}


@pytest.mark.parametrize("name", sorted(set(FILES) - {"flask", "__init__"}))
def test_no_module_imports_the_extension(name: str) -> None:
    """The extension is the outermost part: only the package itself shows it."""
    assert "flask" not in own_imports(name, typing=True)


@pytest.mark.parametrize("name", sorted(set(FILES) - {"__init__"}))
def test_no_module_imports_the_package_itself(name: str) -> None:
    """Inside the package a name is imported from where it is defined."""
    assert "__init__" not in own_imports(name, typing=True)


@pytest.mark.parametrize("name", FILES)
def test_a_module_is_short(name: str) -> None:
    """A module has fewer than 300 lines of code."""
    assert code_lines(name) < MODULE_LINES


@pytest.mark.parametrize("name", FILES)
def test_functions_are_short(name: str) -> None:
    """A function has fewer than 40 lines, its docstring not counted."""
    tree = parse(name)
    documented = docstring_lines(tree)
    lengths = {
        f"{node.name}, line {node.lineno}": len(
            set(range(node.lineno, (node.end_lineno or 0) + 1)) - documented
        )
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    long = {function: n for function, n in lengths.items() if n >= FUNCTION_LINES}
    assert not long, f"{name}: {long}"
