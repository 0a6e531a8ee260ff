"""The pytest plugin of ``async_parallel``: fixtures for the tests of an application.

Loaded by pytest wherever the package is installed, so it stands beside the package and
imports nothing of it before a test asks for a fixture.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from async_parallel.testing import RecordedGathers


@pytest.fixture
def recorded_gathers(request: pytest.FixtureRequest) -> Iterator[RecordedGathers]:
    """The gathers that the test makes; ``recorded_gathers.expect(5)`` asserts one."""
    from async_parallel.instrumentation import GatherReport, record_into
    from async_parallel.testing import RecordedGathers

    reports: list[GatherReport] = []
    test: Any = request.node
    function = test.obj
    if inspect.iscoroutinefunction(function):
        # Its task may have another context than the fixtures: anyio's has.
        @functools.wraps(function)
        async def recorded(*args: Any, **kwargs: Any) -> Any:
            with record_into(reports):
                return await function(*args, **kwargs)

        test.obj = recorded
    with record_into(reports):
        yield RecordedGathers(reports)
    test.obj = function
