"""A comparison that is killed at any moment goes on where it was, and pays for no prompt twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from conftest import WriteCatalog
from servers import Reply, Request, ScriptedServer

MODELS = ("a", "b")
PROMPTS = 300
CONCURRENCY = 4
KILLS = 20
CALL = Decimal("0.00002")
"""What the scripted server's usual answer costs."""

PROGRAM = f"""
import json, sys, modelrouter
prompts = [f"Question {{number}}" for number in range({PROMPTS})]
found = modelrouter.compare(prompts, {list(MODELS)}, journal="j.jsonl", concurrency={CONCURRENCY}, max_usd=sys.argv[1])
print(json.dumps(found.to_dict()))
"""


def question(request: Request) -> tuple[str, str]:
    return str(request.model), request.body["messages"][-1]["content"]


def lines(journal: Path) -> list[dict[str, Any]]:
    text = journal.read_text() if journal.exists() else ""
    return [json.loads(line) for line in text.split("\n")[1:-1]]


@pytest.mark.slow
def test_killed_twenty_times_it_pays_for_no_prompt_twice(
    server: ScriptedServer, catalog: WriteCatalog, keys: str, surroundings: Path
) -> None:
    catalog({name: server.openai(name) for name in MODELS}, max_tokens=20, retries=0)
    for name in MODELS:
        server.script(name, Reply(delay=0.01))
    moments, journal = random.Random(11), surroundings / "j.jsonl"
    command = [sys.executable, "-c", PROGRAM, "1"]
    for kill in range(KILLS):
        before = server.count()
        child = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ})
        server.wait_for(before + moments.randint(1, 25), timeout=60)
        time.sleep(moments.random() * 0.02)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        begun, ended = (sum(name in line for line in lines(journal)) for name in ("most", "text"))
        assert begun - ended <= CONCURRENCY * (kill + 1)
    lost = begun - ended
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(ran.stdout)

    asked = [question(request) for request in server.requests()]
    times = {each: asked.count(each) for each in set(asked)}
    assert len(times) == len(MODELS) * PROMPTS  # all of them were asked
    again = sum(times.values()) - len(times)
    assert 0 < again <= lost <= CONCURRENCY * KILLS  # and a second time only what was under way at a kill
    assert [model["answers"] for model in found["models"]] == [PROMPTS, PROMPTS]
    assert Decimal(found["cost_usd"]) == len(times) * CALL
    assert any(note.startswith(f"{lost} calls were under way when an earlier run was ended") for note in found["notes"])

    ended_keys = [line["key"] for line in lines(journal) if "text" in line]
    assert len(ended_keys) == len(set(ended_keys))  # nothing that was remembered was asked again


@pytest.mark.slow
def test_killed_again_and_again_it_stays_below_its_limit(
    server: ScriptedServer, catalog: WriteCatalog, keys: str, surroundings: Path
) -> None:
    catalog({name: server.openai(name) for name in MODELS}, max_tokens=20, retries=0)
    for name in MODELS:
        server.script(name, Reply(delay=0.01))
    moments, limit = random.Random(12), Decimal("0.006")
    command = [sys.executable, "-c", PROGRAM, str(limit)]
    for _ in range(6):
        before = server.count()
        child = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ})
        server.wait_for(before + moments.randint(1, 20), timeout=60)
        child.send_signal(signal.SIGKILL)
        child.communicate()
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(ran.stdout)
    assert found["stopped"].startswith("what is left of max_usd does not do for another call")
    assert server.count() * CALL <= limit  # as if every request that was begun had been billed
