"""Fixtures for pytest: ``pytest_plugins = ["modelrouter.pytest_plugin"]`` in the topmost conftest.py.

Not registered by itself: whoever installs modelrouter for something else has a pytest that starts as quickly as before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from . import testing

__all__ = ["no_real_calls", "pytest_runtest_makereport", "scripted_provider"]


@pytest.fixture
def no_real_calls() -> Iterator[None]:
    """No call of the test reaches a provider: it raises `modelrouter.testing.UnexpectedCall` unless it is scripted.

    For all tests: ``usefixtures = ["no_real_calls"]`` in pytest's configuration.
    """
    with testing.no_real_calls():
        yield


@pytest.fixture
def scripted_provider(no_real_calls: None) -> Iterator[testing.ScriptedProvider]:  # noqa: ARG001 - the outer of the two
    """A `modelrouter.testing.ScriptedProvider` to be given scripts: ``scripted_provider.script("gpt-4", 429)``."""
    with testing.ScriptedProvider() as provider:
        yield provider


def pytest_runtest_makereport(call: pytest.CallInfo[Any]) -> None:
    """Have a test that failed with an unexpected call not fail with it again when its fixtures end."""
    if call.excinfo is not None and isinstance(call.excinfo.value, testing.UnexpectedCall):
        call.excinfo.value.reported = True
