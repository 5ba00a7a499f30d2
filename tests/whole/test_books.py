"""Randomised runs: what metrics, answers and errors say is what the server saw, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

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
from modelrouter.cli.app import main
from modelrouter.process import event_loops as _loop

ROOT = Path(__file__).parents[2]
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
        books.close()
        _loop.stop()
    assert Leftovers.now().beyond(before) == []
    assert books.calls >= CALLS


PROCESS = """
import json, logging, os, sys
from pathlib import Path
from random import Random
from servers import ScriptedServer
from soak.books import Books
from soak.sessions import environment

logging.disable(logging.CRITICAL)
os.environ |= environment()
random, calls, slots = Random(int(sys.argv[1])), int(sys.argv[3]), 20
with ScriptedServer() as server, Books(server, Path(sys.argv[2]), slots=slots) as books:
    while books.calls < calls:
        books.run([random.getrandbits(32) for _ in range(slots)])
print(json.dumps([[*series, str(amount)] for series, amount in books.entered.items()]))
"""


ENTERED = {
    "llm_provider_requests_total": (1, "requests"),
    "llm_tokens_used_total": (1, "{}_tokens"),
    "llm_cost_usd_total": (1, "cost_usd"),
    "llm_cost_unknown_total": (1, "unknown"),
    "llm_fallbacks_total": (2, "fallbacks"),
}
"""By series of the metrics: which label is the model, and what the books of spend call the number."""


@pytest.mark.slow
def test_what_four_processes_spend_is_the_servers_ledgers_to_the_last_digit(
    shared_store: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(seed), str(tmp_path / f"{seed}.yaml"), str(CALLS // 4)],
            env=environment,
            **pipes,
        )
        for seed in range(4)  # all with the same models: they add to the same counters
    ]
    calls, ledger = 0, defaultdict[tuple[str, str], Decimal](Decimal)
    for process in running:
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        for name, *labels, amount in json.loads(out):
            if name == "llm_module_requests_total":
                calls += int(amount)
            elif name in ENTERED:
                model, *kind = labels[ENTERED[name][0] :]
                ledger[model, ENTERED[name][1].format(*kind)] += Decimal(amount)
    assert calls >= CALLS

    assert main(["--config", str(tmp_path / "0.yaml"), "spend", "--since", "1d", "--by", "model", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    spent = {
        (model, what): Decimal(amount)
        for model, row in told["rows"].items()
        for what, amount in (row["spending"] | row["spending"]["usage"]).items()
        if what != "usage"
    }
    assert {name: amount for name, amount in spent.items() if amount} == {
        name: amount for name, amount in ledger.items() if amount
    }
    paid = sum(amount for (_, what), amount in ledger.items() if what == "cost_usd")
    assert Decimal(told["total"]["spending"]["cost_usd"]) == paid > 0


def test_a_loop_of_its_own_for_each_call_leaves_no_socket_open(
    server: ScriptedServer, catalog: WriteCatalog, keys: str
) -> None:
    wires = ("openai", "anthropic", "ollama")
    catalog({wire: getattr(server, wire)(wire) for wire in wires}, cache=False)
    router = Router(registry=CollectorRegistry())

    def after(runs: int) -> int:
        for number in range(runs):
            assert asyncio.run(router.acomplete("hi", model=wires[number % 3])).text == "ok"
        router.close()  # the store, which the books are written to meanwhile
        gc.collect()
        return Leftovers.now().descriptors

    few = after(10)
    assert after(300) <= few
