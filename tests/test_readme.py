"""The README's program runs, and its snippets are code."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import async_parallel

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
PROGRAM = SNIPPETS[0]


def run(directory: Path, *arguments: str) -> str:
    """What Python prints in ``directory``, where a warning is an error."""
    result = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=directory,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(async_parallel.__file__).parents[1]),
            "PYTHONSAFEPATH": "",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_program_answers_as_its_comments_say(tmp_path: Path) -> None:
    """Copied into a file, made and asked twice, it gives the five figures."""
    (tmp_path / "app.py").write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "ask.py").write_text(
        textwrap.dedent("""
            from app import app
            client = app.test_client()
            for _ in range(2):
                print(sorted(client.get("/").get_json().items()))
            app.extensions["async_parallel"].close()
        """),
        encoding="utf-8",
    )
    run(tmp_path, "app.py")
    answer = "[('customers', {'Ada': 3, 'Bob': 4}), ('latest', [2, 1]), ('revenue', 7)]"
    assert run(tmp_path, "ask.py") == f"{answer}\n{answer}\n"


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_each_snippet_is_python(snippet: str) -> None:
    """A snippet that no program holds is at least free of typing errors."""
    compile(snippet, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_each_picture_is_there() -> None:
    """What the README shows is part of the repository."""
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", README)
    assert pictures
    for picture in pictures:
        assert (Path(__file__).parents[1] / picture).is_file()
