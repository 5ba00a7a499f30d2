"""The guide's program: each stage on its module's model, on scripted servers and on the small model of this machine."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import dspy
import pytest
from conftest import CANARY, WriteCatalog
from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from servers import Fault, Known, Reply, ScriptedServer

from modelrouter import configure, track
from modelrouter.cli.app import main
from modelrouter.cli.demo import MESSAGE, PROFILE, RECRUITER
from modelrouter.dspy import get_lm
from modelrouter.dspy.pipeline import Fit, Offer, Stage, get_pipeline
from modelrouter.dspy.pipeline import Reply as Written

OFFER = Offer(
    summary="Northwind Ledger looks for a senior backend engineer.",
    company="Northwind Ledger",
    role="Senior Backend Engineer",
    seniority="senior",
    stack=["Python", "Kafka"],
    place="remote, or Berlin",
    pay="95,000 to 115,000 euros",
)
FIT = Fit(reason="The stack and the pay fit.", score=87, verdict="accept the call")
WRITTEN = Written(text="Dear Maria, Thursday at 15:30 would suit me. Best, Alex")
STAGES = ("analyzer", "scorer", "response_generator")
MODELS = {"analyzer": "small", "scorer": "judge", "response_generator": "writer"}
"""The first of each module's chain."""
WIRES = {"small": "openai", "judge": "anthropic", "writer": "openai", "spare": "openai", "llama2": "ollama"}
INPUTS = {"message": MESSAGE, "recruiter_name": RECRUITER, "profile": PROFILE}
CALL = Decimal("0.00002")


def said(**fields: BaseModel) -> Reply:
    """An answer in the form of DSPy's `ChatAdapter`."""
    sections = [f"[[ ## {name} ## ]]\n{value.model_dump_json()}" for name, value in fields.items()]
    return Reply("\n\n".join([*sections, "[[ ## completed ## ]]"]))


ANSWERS = {"analyzer": said(offer=OFFER), "scorer": said(fit=FIT), "response_generator": said(reply=WRITTEN)}


@pytest.fixture(autouse=True)
def _own_router(process_router: object) -> Iterator[None]:
    """The process's router is this test's, and so is what DSPy is configured with."""
    with dspy.context(lm=None):
        yield


@pytest.fixture
def servers(catalog: WriteCatalog, server: ScriptedServer, keys: str) -> ScriptedServer:
    """Three modules with a model each, which answer as their stage should, and a spare one behind each."""
    models = {name: getattr(server, wire)(name, context_window=8000) for name, wire in WIRES.items()}
    models["spare"]["context_window"] = 100_000
    modules = {stage: {"chain": [MODELS[stage], "spare", "llama2"]} for stage in STAGES}
    catalog(models, chain=["spare"], modules=modules, retries=0, temperature=0)
    for stage, model in MODELS.items():
        server.script(model, ANSWERS[stage])
    configure(registry=CollectorRegistry())
    return server


def asked(server: ScriptedServer) -> list[str | None]:
    return [request.model for request in server.requests()]


# -- each stage on its module's model


async def _acall(pipeline: Any) -> Any:
    return await pipeline.acall(**INPUTS)


ways = pytest.mark.parametrize(
    "call",
    [lambda pipeline: pipeline(**INPUTS), lambda pipeline: asyncio.run(_acall(pipeline))],
    ids=["sync", "async"],
)


@ways
def test_each_stage_asks_its_own_modules_model(servers: ScriptedServer, call: Callable[[Any], Any]) -> None:
    with track() as spent:
        result = call(get_pipeline())
    assert (result.offer, result.fit, result.reply) == (OFFER, FIT, WRITTEN)
    assert asked(servers) == ["small", "judge", "writer"]
    assert {stage: each.cost_usd for stage, each in spent.by_module.items()} == dict.fromkeys(STAGES, CALL)
    analyzed, scored, written = (json.dumps(request.body) for request in servers.requests())
    assert "Settlement team" in analyzed
    assert "Settlement team" not in scored + written  # the later stages are given what the first one found
    assert "Does not want" in scored
    assert RECRUITER in written


def test_the_configured_lm_does_not_stand_in_for_a_stages_module(servers: ScriptedServer) -> None:
    lm = get_lm("default", temperature=0.9)
    with dspy.context(lm=lm):
        get_pipeline()(**INPUTS)
    assert asked(servers) == ["small", "judge", "writer"]
    assert {request.body["temperature"] for request in servers.requests()} == {0}


def test_one_model_for_everything_and_an_lm_set_on_a_stage(servers: ScriptedServer) -> None:
    servers.script("spare", *ANSWERS.values())
    get_pipeline(model="spare")(**INPUTS)
    assert asked(servers) == ["spare"] * 3
    servers.script("spare", ANSWERS["scorer"])
    pipeline = get_pipeline()
    pipeline.scorer.set_lm(get_lm("default", cache=False))
    pipeline(**INPUTS)
    assert asked(servers)[3:] == ["small", "spare", "writer"]


@pytest.mark.parametrize("profile", [PROFILE, {"name": "Alex", "years": 8}, FIT], ids=["text", "dict", "pydantic"])
def test_a_profile_is_text_a_dictionary_or_an_object(
    servers: ScriptedServer, profile: Any, caplog: pytest.LogCaptureFixture
) -> None:
    get_pipeline()(**INPUTS | {"profile": profile})
    assert not caplog.records


def test_only_the_scorer_falls_over_when_its_model_is_down(servers: ScriptedServer) -> None:
    servers.script("judge", Known("overloaded")).script("spare", ANSWERS["scorer"])
    with track() as spent:
        result = get_pipeline()(**INPUTS)
    assert result.fit == FIT
    assert asked(servers) == ["small", "judge", "spare", "writer"]
    assert {stage: each.fallbacks for stage, each in spent.by_module.items()} == {
        "analyzer": 0,
        "scorer": 1,
        "response_generator": 0,
    }


def test_a_message_that_is_too_long_goes_to_the_larger_model(servers: ScriptedServer) -> None:
    servers.script("small", Known("context_window")).script("spare", ANSWERS["analyzer"])
    assert get_pipeline()(**INPUTS).offer == OFFER
    assert asked(servers) == ["small", "spare", "judge", "writer"]
    assert asked(servers).count("llama2") == 0


def test_the_second_run_costs_nothing_and_reaches_no_server(servers: ScriptedServer) -> None:
    first = get_pipeline()(**INPUTS)
    with track() as spent:
        second = get_pipeline()(**INPUTS)
    assert (second.offer, second.fit, second.reply) == (first.offer, first.fit, first.reply)
    assert servers.count() == 3
    assert (spent.total.cache_hits, spent.total.requests, spent.total.cost_usd) == (3, 0, 0)
    assert spent.total.saved_usd == 3 * CALL


def test_an_answer_in_the_wrong_form_is_asked_for_again_as_json(servers: ScriptedServer) -> None:
    servers.script("judge", Reply("87, I would say."), Reply(json.dumps({"fit": FIT.model_dump()})))
    assert get_pipeline()(**INPUTS).fit == FIT
    assert asked(servers) == ["small", "judge", "judge", "writer"]


# -- what DSPy does with programs


def test_it_is_saved_without_keys_and_loaded(servers: ScriptedServer, tmp_path: Path) -> None:
    pipeline = get_pipeline()
    pipeline.scorer.predict.demos = [dspy.Example(offer=OFFER.model_dump_json(), profile="x", fit="y")]
    pipeline.save(tmp_path / "program.json")
    assert CANARY not in (tmp_path / "program.json").read_text()
    loaded = get_pipeline()
    loaded.load(tmp_path / "program.json")
    assert len(loaded.scorer.predict.demos) == 1
    assert loaded.deepcopy()(**INPUTS).fit == FIT
    assert asked(servers) == ["small", "judge", "writer"]


def good(example: Any, prediction: Any, trace: Any = None) -> bool:
    return bool(prediction.fit.score > 50)


def examples(count: int) -> list[dspy.Example]:
    given = [INPUTS | {"message": f"{MESSAGE}\n{number}"} for number in range(count)]
    return [dspy.Example(**each).with_inputs(*INPUTS) for each in given]


def calls(server: ScriptedServer) -> dict[str, int]:
    return {model: server.count(model) for model in MODELS.values()}


def test_threads_that_dspy_starts_are_counted(servers: ScriptedServer) -> None:
    configured = get_lm()
    with dspy.context(lm=configured), track() as outer:
        with track() as spent:
            evaluate = dspy.Evaluate(devset=examples(4), metric=good, num_threads=2, display_progress=False)
            assert evaluate(get_pipeline()).score == 100
        pairs = [(get_pipeline(cache=False), each) for each in examples(2)]
        dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)
    # The later stages are given the same by all messages: they are asked once, and remembered or shared.
    assert spent.by_module["analyzer"].requests == 4
    assert {stage: each.calls for stage, each in spent.by_module.items()} == dict.fromkeys(STAGES, 4)
    assert {stage: each.calls for stage, each in outer.by_module.items()} == dict.fromkeys(STAGES, 6)
    assert outer.total.requests == servers.count()


def test_bootstrap_asks_each_stage_once_for_each_example_it_needs(servers: ScriptedServer) -> None:
    with dspy.context(lm=get_lm()), track() as spent:
        optimizer = dspy.BootstrapFewShot(metric=good, max_bootstrapped_demos=2, max_labeled_demos=0)
        compiled = optimizer.compile(get_pipeline(), trainset=examples(3))
    assert {stage: each.calls for stage, each in spent.by_module.items()} == dict.fromkeys(STAGES, 2)
    assert [len(getattr(compiled, stage).predict.demos) for stage in STAGES] == [2, 2, 2]
    asked_before = servers.count()
    compiled(**INPUTS)
    assert asked(servers)[asked_before:] == ["small", "judge", "writer"]


def test_further_rounds_of_bootstrap_ask_for_other_answers(servers: ScriptedServer) -> None:
    bad = said(fit=FIT.model_copy(update={"score": 10}))
    servers.script("judge", bad, ANSWERS["scorer"])
    with dspy.context(lm=get_lm()):
        optimizer = dspy.BootstrapFewShot(metric=good, max_bootstrapped_demos=1, max_labeled_demos=0, max_rounds=2)
        optimizer.compile(get_pipeline(), trainset=examples(1))
    # The second round has a rollout_id, so that nothing of the first is remembered, and is warmer.
    assert calls(servers) == dict.fromkeys(MODELS.values(), 2)
    assert [request.body["temperature"] for request in servers.requests("small")] == [0, 1]
    assert "rollout" not in json.dumps([request.body for request in servers.requests()])


def test_random_search_runs_to_its_end(servers: ScriptedServer) -> None:
    with dspy.context(lm=get_lm()), track() as spent:
        optimizer = dspy.BootstrapFewShotWithRandomSearch(
            metric=good, max_bootstrapped_demos=1, max_labeled_demos=1, num_candidate_programs=1, num_threads=2
        )
        compiled = optimizer.compile(get_pipeline(), trainset=examples(2), valset=examples(2))
    assert compiled.candidate_programs[0]["score"] == 100
    # Four candidates (as it is, with examples, bootstrapped, bootstrapped at random), each judged by two messages; the
    # two bootstraps ran one example each.
    assert {stage: each.calls for stage, each in spent.by_module.items()} == dict.fromkeys(STAGES, 4 * 2 + 2)
    assert spent.total.requests == servers.count()


def test_best_of_three_asks_three_times(servers: ScriptedServer) -> None:
    scores = [said(fit=FIT.model_copy(update={"score": score})) for score in (10, 60, 30)]
    servers.script("judge", *scores)
    with dspy.context(lm=get_lm()):
        best = dspy.BestOfN(get_pipeline(), N=3, reward_fn=lambda _, result: result.fit.score / 100, threshold=1.0)
        assert best(**INPUTS).fit.score == 60
    assert calls(servers) == dict.fromkeys(MODELS.values(), 3)


def test_a_stage_of_ones_own(servers: ScriptedServer) -> None:
    servers.script("judge", Reply("[[ ## answer ## ]]\nBlue.\n\n[[ ## completed ## ]]"))
    assert Stage("scorer", "question -> answer", max_tokens=7)(question="Which colour?").answer == "Blue."
    assert servers.requests("judge")[0].body["max_tokens"] == 7


# -- the demo


def table(out: str) -> list[list[str]]:
    """The rows of the closing table, by columns."""
    lines = out.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("STAGE"))
    return [re.split(r"\s{2,}", line.strip()) for line in lines[start : start + 5]]


def demo(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = main(["demo", *argv])
    out, err = capsys.readouterr()
    assert CANARY not in out + err
    return code, out, err


def test_the_demo_shows_who_answered_what_it_took_and_what_failed(
    servers: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    servers.script("judge", Known("overloaded")).script("spare", Fault(401)).script("llama2", ANSWERS["scorer"])
    code, out, err = demo(capsys)
    assert code == 0
    assert "Settlement team" in out
    assert "--- analyzer, answered by small\nsummary    Northwind Ledger looks for" in out
    assert "--- scorer, answered by llama2\n87 of 100: accept the call\nThe stack and the pay fit." in out
    assert f"--- response_generator, answered by writer\n{WRITTEN.text}\n" in out
    head, *rows = table(out)
    assert head == ["STAGE", "MODEL", "FALLBACKS", "LATENCY", "TOKENS IN", "OUT", "COST"]
    assert [row[:3] + row[4:] for row in rows[:3]] == [
        ["analyzer", "small", "0", "10", "5", "$0.00002"],
        ["scorer", "llama2", "2", "10", "5", "free"],
        ["response_generator", "writer", "0", "10", "5", "$0.00002"],
    ]
    assert rows[3][0] == "one opportunity"
    assert rows[3][-1] == "$0.00004"
    # 30 and 15 tokens at 30 and 60 dollars per million
    assert "with GPT-4 everywhere, at $30 and $60 per million: $0.0018 per opportunity, 45 times as much." in out
    assert "WARNING llm_fallback module=scorer from=judge to=spare reason=server" in err


def test_the_second_demo_is_remembered(servers: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    demo(capsys)
    code, out, _ = demo(capsys, "-q")
    assert (code, servers.count()) == (0, 3)
    assert [row[-1] for row in table(out)[1:]] == ["remembered"] * 4
    assert out.endswith("All of it was remembered from an earlier run. That had cost $0.00006.\n")


def test_a_demo_that_nobody_answers_says_why(servers: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    for model in WIRES:
        servers.script(model, Fault(403))
    code, out, err = demo(capsys)
    assert code == 1
    assert "STAGE" not in out
    assert "AllModelsFailed: module 'analyzer': no answer from 3 models in 3 attempts" in err


def test_an_answer_that_cannot_be_used_says_so(servers: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    servers.script("small", Reply("A nice offer."))
    code, _, err = demo(capsys)
    assert code == 1
    assert "A model answered, but not in the form that was asked for" in err


@pytest.mark.slow
def test_the_demo_on_the_small_model_fills_every_field(surroundings: Path, refused: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "modelrouter", "demo"],
        env=os.environ | {"OLLAMA_URL": refused},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    for name in Offer.model_fields:
        assert re.search(rf"^{name} +\S\S", ran.stdout, re.MULTILINE), name
    assert re.search(r"^\d+ of 100: (decline|ask first|accept the call)\n\S.{9}", ran.stdout, re.MULTILINE)
    assert re.search(r"^--- response_generator, answered by smollm2\n\S.{10}", ran.stdout, re.MULTILINE)
    assert [row[1:3] + row[-1:] for row in table(ran.stdout)[1:4]] == [["smollm2", "0", "free"]] * 3
    (advice,) = [line for line in ran.stderr.splitlines() if line.startswith("No key is set")]
    assert "set ANTHROPIC_API_KEY or OPENAI_API_KEY" in advice
