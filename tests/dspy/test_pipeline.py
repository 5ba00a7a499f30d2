"""The guide's program: each stage on its module's model, on scripted servers and on the small model of this machine."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dspy
import pytest
from conftest import CANARY, WriteCatalog
from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from servers import Fault, Gate, Known, Reply, ScriptedServer

from modelrouter import configure, track
from modelrouter.cli.app import main
from modelrouter.cli.demo import MESSAGE, PROFILE, RECRUITER
from modelrouter.dspy import get_lm
from modelrouter.dspy.pipeline import Fit, Offer, Stage, get_pipeline
from modelrouter.dspy.pipeline import Reply as Written
from modelrouter.router.default import get_router

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
    """The closing table, by columns."""
    lines = out.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("STAGE"))
    return [re.split(r"\s{2,}", line.strip()) for line in itertools.takewhile(bool, lines[start:])]


def demo(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = main(["demo", *argv])
    out, err = capsys.readouterr()
    assert CANARY not in out + err
    assert "Traceback" not in out + err
    return code, out, err


def test_the_demo_plays_three_acts_and_shows_what_each_took(
    servers: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = demo(capsys)
    assert code == 0
    assert out.startswith(
        "Real models are asked, and paid for: analyzer small, scorer judge, response_generator writer.\n\n"
        "Maria Lindqvist writes:\n  I came across your profile"
    )
    first, second, third = re.findall(r"^\d\. .*\n(?:.+\n)*", out, re.MULTILINE)
    assert first == (
        "1. The pipeline: analyzer reads the message, scorer compares it with the profile, response_generator writes "
        "the reply.\n"
        "analyzer, answered by small:\n"
        "  Northwind Ledger looks for a senior backend engineer.\n"
        "  Senior Backend Engineer (senior) at Northwind Ledger; remote, or Berlin\n"
        "  95,000 to 115,000 euros; Python, Kafka\n"
        "scorer, answered by judge:\n"
        "  87 of 100: accept the call\n"
        "  The stack and the pay fit.\n"
        "response_generator, answered by writer:\n"
        f"  {WRITTEN.text}\n"
    )
    assert re.sub(r"\d+ \(\d\.\d s", "PORT (N s", second) == (
        "2. The scorer again, its first model down: a closed port of this machine plays that part, and refuses.\n"
        "  1. closed-port  openai/closed-port  connection: nothing answers at https://127.0.0.1:PORT (N s)\n"
        "scorer, answered by judge:\n"
        "  87 of 100: accept the call\n"
        "  The stack and the pay fit.\n"
    )
    assert "WARNING llm_fallback module=scorer from=closed-port to=judge reason=connection" in err
    assert re.sub(r"\d+(\.\d)? m?s", "N", third) == (
        "3. The whole program again, out of the cache.\n"
        "  Remembered: 3 of 3 answers. Requests: 0. Time: N. Cost: $0. It was $0.00006 the first time.\n"
    )
    assert asked(servers) == ["small", "judge", "writer", "judge"]
    head, *rows = table(out)
    assert head == ["STAGE", "ANSWERED BY", "SENT", "FALLBACKS", "TIME", "TOKENS IN", "OUT", "COST"]
    assert [row[:4] + row[5:] for row in rows] == [
        ["1 analyzer", "small", "1", "0", "10", "5", "$0.00002"],
        ["1 scorer", "judge", "1", "0", "10", "5", "$0.00002"],
        ["1 response_generator", "writer", "1", "0", "10", "5", "$0.00002"],
        ["2 scorer", "judge", "2", "1", "10", "5", "$0.00002"],
        ["3 analyzer", "the cache", "0", "0", "0", "0", "$0"],
        ["3 scorer", "the cache", "0", "0", "0", "0", "$0"],
        ["3 response_generator", "the cache", "0", "0", "0", "0", "$0"],
    ]
    # 30 and 15 tokens at 30 and 60 dollars per million
    assert out.endswith(
        "\nAct 1 with GPT-4 everywhere, at $30 and $60 per million tokens: $0.0018 per opportunity, 30 times as much.\n"
    )


def test_the_model_that_is_down_really_refuses_and_nothing_of_the_users_is_changed(
    servers: ScriptedServer, surroundings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (temporary := tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = {path: path.read_bytes() for path in surroundings.rglob("*") if path.is_file()}
    gate = Gate()
    servers.script("judge", ANSWERS["scorer"], replace(ANSWERS["scorer"], gate=gate))
    with ThreadPoolExecutor(1) as threads:
        playing = threads.submit(main, ["demo", "-q"])
        try:
            servers.wait_for(2, "judge", timeout=30)  # the second time, it stands in for the one that is down
            down = get_router().catalog.models["closed-port"]
            address = urlsplit(down.api_base)
            assert address.hostname == "127.0.0.1"
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((address.hostname, address.port), timeout=5)
            with socket.socket() as other, pytest.raises(OSError, match="in use"):
                other.bind((address.hostname, address.port))  # and nobody else can answer there
            assert list(temporary.iterdir())
        finally:
            gate.open()
        assert playing.result(30) == 0
    assert "closed-port" not in get_router().catalog.models
    assert {path: path.read_bytes() for path in surroundings.rglob("*") if path.is_file()} == before
    assert not list(temporary.iterdir())


def test_models_that_fail_by_themselves_are_told_of_too(
    servers: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    servers.script("judge", Known("overloaded")).script("spare", Fault(401)).script("llama2", ANSWERS["scorer"])
    code, out, err = demo(capsys)
    assert code == 0
    assert "scorer, answered by llama2:\n  87 of 100: accept the call\n" in out
    assert "WARNING llm_fallback module=scorer from=judge to=spare reason=server" in err
    rows = {row[0]: row[1:4] for row in table(out)}
    assert rows["1 scorer"] == ["llama2", "3", "2"]
    assert rows["2 scorer"] == ["llama2", "2", "1"]  # only who has answered is asked again
    assert rows["3 scorer"] == ["the cache", "2", "2"]  # the first of the chain might be back
    assert "Remembered: 3 of 3 answers. Requests: 2." in out


def test_the_second_demo_asks_again(servers: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    told = [demo(capsys, "-q") for _ in range(2)]
    assert asked(servers) == ["small", "judge", "writer", "judge"] * 2
    for code, out, err in told:
        assert (code, err) == (0, "")
        assert "Remembered: 3 of 3 answers. Requests: 0." in out
    assert [[row[:4] + row[5:] for row in table(out)] for _, out, _ in told[:1]] == [
        [row[:4] + row[5:] for row in table(out)] for _, out, _ in told[1:]
    ]


def test_a_cache_that_is_off_stays_off(
    servers: ScriptedServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHE_ENABLED", "false")
    code, out, _ = demo(capsys)
    assert (code, servers.count()) == (0, 4)
    assert "3. Left out, as CACHE_ENABLED turns off the cache" in out
    assert [row[0][0] for row in table(out)[1:]] == ["1", "1", "1", "2"]
    monkeypatch.delenv("CACHE_ENABLED")
    configure(registry=CollectorRegistry())
    get_pipeline()(**INPUTS)
    assert servers.count() == 7  # nothing was kept


def test_a_cache_that_keeps_nothing_is_told_of(
    servers: ScriptedServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHE_TTL", "0.000001")
    code, out, err = demo(capsys)
    assert (code, servers.count()) == (1, 7)
    assert "Remembered: 0 of 3 answers. Requests: 3." in out
    assert "The cache has not kept every answer" in err


def test_what_there_is_to_say_about_a_catalog_is_said_once(
    servers: ScriptedServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORRER_LLM_MODEL", "small")
    _, _, err = demo(capsys)
    assert err.count("SCORRER_LLM_MODEL matches no module") == 1


def test_a_demo_that_nobody_answers_says_why(servers: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    for model in WIRES:
        servers.script(model, Fault(403))
    code, out, err = demo(capsys)
    assert code == 1
    assert "STAGE" not in out
    assert "AllModelsFailed: module 'analyzer': no answer from 3 models in 3 attempts" in err


@pytest.mark.parametrize(
    "answers", [[Reply("87, I would say.")], [ANSWERS["scorer"], Reply("87, I would say.")]], ids=["act 1", "act 2"]
)
def test_an_answer_that_cannot_be_used_says_so(
    servers: ScriptedServer, capsys: pytest.CaptureFixture[str], answers: list[Reply]
) -> None:
    servers.script("judge", *answers)
    code, out, err = demo(capsys)
    assert code == 1
    assert "STAGE" not in out
    assert "A model answered, but not in the form that was asked for" in err


def test_a_machine_without_room_for_the_second_act(
    servers: ScriptedServer, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    code, _, err = demo(capsys)
    assert code == 1
    assert "The second act needs a temporary file and a port of this machine: [Errno 2]" in err


@pytest.mark.slow
def test_the_demo_on_the_small_model_fills_every_field_and_a_screen(surroundings: Path, refused: str) -> None:
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
    assert "Real models" not in ran.stdout
    assert re.search(
        r"^analyzer, answered by smollm2:\n  \S.{9,}\n  \S.* \(\w+\) at \S.+; \S.*\n  \S.*; \S",
        ran.stdout,
        re.MULTILINE,
    )
    scored = r"^scorer, answered by smollm2:\n  \d+ of 100: (?:decline|ask first|accept the call)\n  \S.{9}"
    assert len(re.findall(scored, ran.stdout, re.MULTILINE)) == 2
    assert re.search(r"^response_generator, answered by smollm2:\n  \S.{10}", ran.stdout, re.MULTILINE)
    assert [[*row[1:4], row[-1]] for row in table(ran.stdout)[1:]] == [
        *[["smollm2", "1", "0", "free"]] * 3,
        ["smollm2", "2", "1", "free"],
        *[["the cache", "0", "0", "$0"]] * 3,
    ]
    assert max(map(len, ran.stdout.splitlines())) <= 120
    lines = ran.stderr.splitlines()
    assert len(ran.stdout.splitlines()) + len(lines) <= 45
    (advice,) = [line for line in lines if line.startswith("No key is set")]
    assert "set ANTHROPIC_API_KEY or OPENAI_API_KEY" in advice
