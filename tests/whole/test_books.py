"""Randomised runs: what metrics, answers and errors say is what the server saw, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import logging
from pathlib import Path

import pytest
from conftest import WriteCatalog
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from servers import ScriptedServer
from soak.books import Books
from soak.leftovers import Leftovers
from soak.sessions import environment

from modelrouter import Router
from modelrouter.process import event_loops as _loop

CALLS = 2_000
AT_ONCE = 40
"""Sessions, of two or three calls each."""


@pytest.mark.slow
def test_the_books_agree_with_the_server_whatever_happens(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    for talkative in ("modelrouter", "aiohttp.server"):
        caplog.set_level(logging.CRITICAL, talkative)

    with Books(server, tmp_path / "books.yaml", slots=AT_ONCE) as books:
        _loop.stop()  # and what its connections need: the calls below start a new one
        before = Leftovers.now()

        # A seed is a session, so that what is reported is the session that failed: `make soak ARGS="--seed ..."`.
        @settings(
            max_examples=CALLS // (2 * AT_ONCE),
            deadline=None,
            phases=[Phase.reuse, Phase.generate],
            suppress_health_check=[HealthCheck.too_slow],
        )
        @given(st.lists(st.integers(0, 2**32 - 1), min_size=AT_ONCE, max_size=AT_ONCE))
        def run(seeds: list[int]) -> None:
            books.run(seeds)

        run()
        _loop.stop()
    assert Leftovers.now().beyond(before) == []
    assert books.calls >= CALLS


def test_a_loop_of_its_own_for_each_call_leaves_no_socket_open(
    server: ScriptedServer, catalog: WriteCatalog, keys: str
) -> None:
    wires = ("openai", "anthropic", "ollama")
    catalog({wire: getattr(server, wire)(wire) for wire in wires}, cache=False)
    router = Router(registry=CollectorRegistry())

    def after(runs: int) -> int:
        for number in range(runs):
            assert asyncio.run(router.acomplete("hi", model=wires[number % 3])).text == "ok"
        gc.collect()
        return Leftovers.now().descriptors

    few = after(10)
    assert after(300) <= few
