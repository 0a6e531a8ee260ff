"""The public names, and that what their docstrings promise is real."""

from __future__ import annotations

import builtins
import importlib
import inspect
import pkgutil
import re
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy.exc
import werkzeug.exceptions

import async_parallel
from async_parallel import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

PUBLIC = {
    "async_parallel": [
        "AsyncParallel",
        "Query",
        "QueryGatherer",
        "Snapshot",
        "first",
        "gather_queries",
        "mappings",
        "one",
        "one_or_none",
        "rows",
        "run_in_parallel",
        "scalar",
        "scalar_one",
        "scalars",
    ],
    "async_parallel.asgi": ["ASGIAdapter", "nonblocking"],
    "async_parallel.errors": [
        "AsyncParallelError",
        "BindConflictError",
        "BindNotFoundError",
        "ConfigurationError",
        "DetachedAttributeError",
        "ExtensionNotFoundError",
        "GatherTimeoutError",
        "GathererClosedError",
        "HoldAndWaitError",
        "HoldAndWaitWarning",
        "HomeLoopError",
        "LaneDeadlockError",
        "LaneTimeoutError",
        "OverloadError",
        "PatchedProcessError",
        "QueryTimeoutError",
        "QueryTypeError",
        "QueueFullError",
        "ReadOnlyError",
        "SnapshotLostError",
        "SnapshotUnsupportedError",
        "UnansweredQueryError",
        "UnattachableError",
        "UncommittedChangesError",
        "UnsupportedDatabaseError",
    ],
    "async_parallel.flask": ["AsyncParallel", "gather_queries", "run_in_parallel"],
    "async_parallel.instrumentation": [
        "GatherReport",
        "Outcome",
        "QueryReport",
        "SnapshotReport",
        "record_gathers",
    ],
    "async_parallel.testing": [
        "FakeGatherer",
        "RecordedGathers",
        "answers",
        "on_connection",
        "recording",
        "rolled_back",
    ],
}
# What only the documentation of a type could hold.
ALIASES = {"async_parallel.instrumentation.Outcome"}

MODULES = [
    importlib.import_module(found.name)
    for found in pkgutil.walk_packages(async_parallel.__path__, "async_parallel.")
] + [async_parallel]

# A line of the tree: branches, the class, and in parentheses what else it is.
BRANCH = re.compile(r"^(?P<branch>[│├└─ ]*)(?P<name>\w+Error)(?: +\((?P<also>\w+)\))?")


def documented() -> Iterator[tuple[str, Any]]:
    """Every public object, and the public attributes of the classes among them."""
    for module, names in PUBLIC.items():
        for name in names:
            value = getattr(importlib.import_module(module), name)
            if f"{module}.{name}" in ALIASES:
                continue
            yield f"{module}.{name}", value
            if inspect.isclass(value):
                for attribute, member in vars(value).items():
                    if not attribute.startswith("_") and (
                        inspect.isroutine(member) or isinstance(member, property)
                    ):
                        yield f"{module}.{name}.{attribute}", member


def docstrings() -> Iterator[tuple[str, str]]:
    """Every docstring of the package, of what is public and of what is not."""
    for module in MODULES:
        for name, value in vars(module).items():
            if getattr(value, "__module__", None) != module.__name__:
                continue
            yield f"{module.__name__}.{name}", getattr(value, "__doc__", None) or ""
            if inspect.isclass(value):
                for attribute, member in vars(value).items():
                    doc = getattr(member, "__doc__", None)
                    if inspect.isroutine(member) or isinstance(member, property):
                        yield f"{module.__name__}.{name}.{attribute}", doc or ""


def raised(doc: str) -> list[str]:
    """The names in the section ``Raises:`` of a docstring."""
    lines = r"^Raises:\n((?: +.*\n?|\n)*)"
    section = re.search(lines, inspect.cleandoc(doc), re.MULTILINE)
    if section is None:
        return []
    return re.findall(r"^ {4}(\S+?):", section[1], re.MULTILINE)


RAISES = [(where, name) for where, doc in docstrings() for name in raised(doc)]


def drawn() -> dict[str, tuple[str | None, str | None]]:
    """The tree in the docstring of ``errors``: parent and other base by class."""
    tree: dict[str, tuple[str | None, str | None]] = {}
    above: dict[int, str] = {}
    for line in inspect.cleandoc(errors.__doc__ or "").splitlines():
        found = BRANCH.match(line.removeprefix("    "))
        if line.startswith("    ") and found is not None:
            depth = len(found["branch"]) // 4
            above[depth] = found["name"]
            tree[found["name"]] = above.get(depth - 1), found["also"]
    return tree


@pytest.mark.parametrize("module", PUBLIC)
def test_the_public_names_are_these(module: str) -> None:
    """``__all__`` is what is promised, in order, and each name is there."""
    loaded = importlib.import_module(module)
    assert loaded.__all__ == PUBLIC[module]
    assert sorted(loaded.__all__) == loaded.__all__
    assert [name for name in loaded.__all__ if not hasattr(loaded, name)] == []


def test_public_modules_are_the_words_that_users_type() -> None:
    """Every module without an underscore is listed here, and has a docstring."""
    public = {
        module.__name__
        for module in MODULES
        if not any(part.startswith("_") for part in module.__name__.split("."))
    }
    assert public == set(PUBLIC)
    assert [module.__name__ for module in MODULES if not module.__doc__] == []


@pytest.mark.parametrize(
    ("name", "value"), [pytest.param(*found, id=found[0]) for found in documented()]
)
def test_what_is_public_is_documented(name: str, value: Any) -> None:
    """Each public class, function, method and property says what it does."""
    doc = inspect.getdoc(value) or ""
    assert doc.partition("\n")[0].strip(), f"{name} has no docstring"
    if inspect.isclass(value):
        own = value.__doc__ or ""
        assert own, f"{name} has the docstring of its base"
        assert not own.startswith(f"{value.__name__}("), f"{name}: a made docstring"


def test_the_sections_are_found() -> None:
    """The docstrings have sections of errors for the next test to look at."""
    names = {name for _, name in RAISES}
    assert {"QueryTypeError", "ValueError", "HomeLoopError", "DBAPIError"} <= names


@pytest.mark.parametrize(("where", "name"), RAISES)
def test_each_error_that_a_docstring_names_is_real(where: str, name: str) -> None:
    """Each name under ``Raises:`` is one of Python, SQLAlchemy, werkzeug or ours."""
    places = (errors, sqlalchemy.exc, werkzeug.exceptions, builtins)
    found = next((getattr(place, name) for place in places if hasattr(place, name)), 0)
    assert isinstance(found, type), f"{where} names {name}"
    assert issubclass(found, Exception)


def test_the_tree_has_every_error() -> None:
    """The tree drawn in the docstring of ``errors`` has all errors, and no other."""
    listed = {name for name in errors.__all__ if not name.endswith("Warning")}
    assert set(drawn()) == listed
    assert {
        name for name, value in vars(errors).items() if inspect.isclass(value)
    } == set(errors.__all__)


@pytest.mark.parametrize(("name", "bases"), drawn().items())
def test_the_tree_is_drawn_as_it_is(
    name: str, bases: tuple[str | None, str | None]
) -> None:
    """An error derives from what it hangs on, and from what is in parentheses."""
    error = getattr(errors, name)
    parent, also = bases
    assert (parent is None) == (error is errors.AsyncParallelError)
    above = [base.__name__ for base in error.__mro__[1:]]
    assert parent is None or error.__bases__[0].__name__ == parent
    assert also is None or also in above
    assert issubclass(error, errors.AsyncParallelError)


def test_no_error_is_defined_elsewhere() -> None:
    """Every error that leaves its module is in ``async_parallel.errors``."""
    elsewhere = {
        f"{module.__name__}.{name}"
        for module in MODULES
        for name, value in vars(module).items()
        if isinstance(value, type)
        and not name.startswith("_")
        and issubclass(value, BaseException)
        and value.__module__.startswith("async_parallel")
        and value.__module__ != "async_parallel.errors"
    }
    assert elsewhere == set()
