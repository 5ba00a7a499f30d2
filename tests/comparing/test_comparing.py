"""`modelrouter.compare`: the winner is found, errors are data, the judge is asked both ways, and money is kept to."""

from __future__ import annotations

import asyncio
import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from conftest import WriteCatalog
from servers import Fault, Reply, ScriptedServer

import modelrouter
from modelrouter import InvalidRequest, UnknownModel
from modelrouter.comparing.journal import Journal
from modelrouter.comparing.result import Comparison, Progress
from modelrouter.completion import Kind
from modelrouter.testing import Answer, Error, ScriptedProvider

CALL = Decimal("0.00002")
"""What the scripted server's usual answer costs: 10 tokens in, 5 out."""
PROMPTS = [{"prompt": f"Question {number}", "expected": "yes"} for number in range(120)]


@pytest.fixture(autouse=True)
def models(catalog: WriteCatalog, process_router: Any) -> None:
    """The first is dear, the second a twentieth of that, and the third free."""
    catalog(
        {
            "dear": {"model": "openai/dear", "price": {"input": 2, "output": 10}},
            "cheap": {"model": "anthropic/cheap", "price": {"input": 0.1, "output": 0.5}},
            "own": {"model": "ollama_chat/own", "price": "free"},
            "priceless": {"model": "openai/priceless", "api_base": "http://127.0.0.1:9/v1"},
        },
        aliases={"best": "dear"},
        max_tokens=50,
        retries=0,
    )


def answers(good: int, of: int = 120, seed: int = 1) -> list[Any]:
    """So many that are right, in an order of their own."""
    texts = ["yes"] * good + ["no"] * (of - good)
    random.Random(seed).shuffle(texts)
    return list(texts)


def compared(scripts: Any, prompts: Any = PROMPTS, **options: Any) -> Comparison:
    with ScriptedProvider(scripts, cache=True):
        return modelrouter.compare(prompts, list(scripts), **{"score": "exact", **options})


def test_the_known_winner_is_found() -> None:
    found = compared({"dear": answers(60), "cheap": answers(105, seed=2)})
    (difference,) = found.differences
    assert difference.outcome == "better"
    assert difference.score is not None
    assert difference.score.value == pytest.approx(45 / 120)
    assert difference.score.low > 0.2
    assert str(found).startswith("cheap costs 95 % less; its score is 37.5 points higher, 95 % interval +")
    assert str(found).endswith(": better")
    dear, cheap = found.models
    assert (dear.answers, dear.usage.input_tokens, dear.cost_per_call_usd) == (120, 240, Decimal("0.000014"))
    assert cheap.score is not None
    assert (cheap.score.value, round(cheap.score.low, 2)) == (105 / 120, 0.80)
    assert found.cost_usd == 120 * Decimal("0.000014") + 120 * Decimal("0.0000007")


def test_a_module_that_turns_answers_down_compares_them_all_the_same(catalog: WriteCatalog) -> None:
    prices = {"price": {"input": 2, "output": 10}}
    both = {name: {"model": f"openai/{name}", **prices} for name in ("dear", "cheap")}
    catalog(both, max_tokens=50, accept="operator:not_")
    assert [model.answers for model in compared({"dear": "yes", "cheap": "yes"}).models] == [120, 120]


def test_the_known_loser_is_found_and_what_cannot_be_told_is_said() -> None:
    found = compared({"dear": answers(105), "cheap": answers(60), "own": answers(104, seed=3)})
    worse, unclear = found.differences
    assert (worse.outcome, unclear.outcome) == ("worse", "cannot tell")
    assert "with an allowance for 2 comparisons: worse by more than 3 points" in worse.verdict
    assert unclear.enough is not None
    assert unclear.enough > 120
    assert unclear.verdict.endswith(f": 120 prompts cannot tell; about {unclear.enough:,} would")
    assert unclear.verdict.startswith("own costs nothing; its score is 0.8 points lower, 95 % interval ")


def test_with_a_wider_margin_less_has_to_be_known() -> None:
    found = compared({"dear": "yes", "cheap": "yes"}, margin=5)
    assert found.differences[0].outcome == "not worse"
    assert "; its score is the same, 95 % interval -3." in str(found)
    assert str(found).endswith(": not worse than 5 points")


def test_without_a_score_it_is_cost_and_speed() -> None:
    found = compared({"dear": "yes", "cheap": "no"}, score=None, prompts=["a", "b"])
    assert str(found).startswith("cheap costs 95 % less and takes ")
    assert str(found).endswith("; no answer was scored")
    assert found.models[0].score is None
    texts = {name: [each.text for each in given] for name, given in found.answers_to(found.prompts[1]).items()}
    assert texts == {"dear": ["yes"], "cheap": ["no"]}


def test_errors_are_counted_by_kind_and_only_pairs_are_compared() -> None:
    flaky = [*["yes"] * 110, *[529] * 4, *[Error(400, "no such thing")] * 6]
    random.Random(5).shuffle(flaky)
    found = compared({"dear": "yes", "cheap": flaky}, margin=10)
    assert found.models[1].errors == {Kind.SERVER: 4, Kind.BAD_REQUEST: 6}
    assert (found.models[1].answers, found.differences[0].prompts) == (110, 110)
    assert str(found).endswith("not worse than 10 points (over the 110 of 120 prompts that could be compared)")
    assert any(note.startswith("What was not answered has no score") for note in found.notes)


def test_a_model_that_never_answers_is_no_model_to_compare_with() -> None:
    found = compared({"dear": 401, "cheap": "yes"}, prompts=PROMPTS[:3])
    assert str(found) == "cheap: nothing to compare with dear: dear gave no answer (auth 3)"
    assert found.differences[0].outcome == "nothing to compare"


def test_an_unknown_price_is_unknown_and_never_nothing() -> None:
    found = compared({"dear": "yes", "priceless": "yes"}, prompts=PROMPTS[:3])
    assert found.models[1].cost_per_call_usd is None
    assert str(found).startswith("priceless costs an unknown amount (the cost of priceless is not known); ")


def test_a_prompt_that_is_repeated_is_one_prompt() -> None:
    found = compared({"dear": "yes", "cheap": ["yes", "no"] * 10}, prompts=PROMPTS[:10], repeat=2, concurrency=1)
    score = found.models[1].score
    assert score is not None
    assert (found.models[1].answers, score.count, score.value) == (20, 10, 0.5)
    assert found.differences[0].score is not None
    assert found.differences[0].score.count == 10


def test_no_model_stands_in_for_another_and_nothing_comes_from_the_cache(catalog: WriteCatalog) -> None:
    with ScriptedProvider(
        {"dear": 529, "cheap": "yes", "own": "yes"},
    ) as provider:
        modelrouter.complete("Question 0", model="cheap", cache=True)
        found = modelrouter.compare(PROMPTS[:1], ["dear", "cheap"])
    assert [request.model for request in provider.requests].count("cheap") == 2
    assert found.models[0].errors == {Kind.SERVER: 1}


def test_progress_is_told_after_each_call() -> None:
    told: list[Progress] = []
    compared({"dear": "yes", "cheap": "yes"}, prompts=PROMPTS[:5], progress=told.append)
    assert [each.done for each in told] == list(range(11))
    assert {each.total for each in told} == {10}
    assert told[-1].cost_usd == 5 * Decimal("0.000014") + 5 * Decimal("0.0000007")


def test_asynchronously_it_is_the_same() -> None:
    with ScriptedProvider({"dear": "yes", "cheap": "no"}):
        found = asyncio.run(modelrouter.acompare(PROMPTS[:2], ["best", "cheap"], score="exact"))
    assert [each.model for each in found.models] == ["dear", "cheap"]
    assert json.loads(json.dumps(found.to_dict()))["cost_usd"] == "0.0000294"


# -- a judge


def judged(winners: list[str], **options: Any) -> Comparison:
    """One winner for each question to the judge, one question at a time."""
    Path("rubric.md").write_text("Prefer what is true.")
    verdicts: list[Any] = [json.dumps({"winner": each}) if len(each) < 4 else each for each in winners]
    with ScriptedProvider({"dear": "one", "cheap": "two", "own": verdicts}) as provider:
        options = {"judge": "own", "rubric": "rubric.md", "concurrency": 1, **options}
        found = modelrouter.compare(PROMPTS[: len(winners) // 2], ["dear", "cheap"], **options)
    sent = [request for request in provider.requests if request.model == "own"]
    assert all(request.params["temperature"] == 0 for request in sent)
    shown = [json.loads(request.messages[1]["content"]) for request in sent]
    assert [each["answer A"] for each in shown] == ["one", "two"] * (len(sent) // 2)
    return found


def test_a_judge_is_asked_in_both_orders_and_a_contradiction_is_a_tie() -> None:
    #               wins      loses     contradicts itself, both ways; ties
    found = judged(["B", "A", "A", "B", "A", "A", "B", "B", "tie", "tie"])
    assert [each.score for each in found.answers if each.model == "cheap"] == [1, 0, 0.5, 0.5, 0.5]
    assert found.score == "judge"
    assert found.judge_cost_usd == 0
    assert "The judge, own, contradicted itself on 2 of 5 pairs when their order was changed" in found.notes[0]
    assert "; the judge prefers it in 50.0 of 100, ties halved (0.0 above dear's even share, 95 %" in str(found)


def test_a_judge_that_gives_no_verdict_decides_nothing() -> None:
    found = judged(["B", "A", "none of them", "none of them"])
    assert [each.score for each in found.answers if each.model == "cheap"] == [1, None]
    assert "On 1 pair the judge gave no verdict." in found.notes


def test_equal_answers_need_no_judge_and_its_cost_is_apart() -> None:
    Path("rubric.md").write_text("Prefer what is true.")
    with ScriptedProvider(
        {"own": "same", "cheap": ["same", "other"], "dear": '{"winner": "A"}'}, cache=True
    ) as provider:
        options: Any = {"judge": "dear", "rubric": "rubric.md", "concurrency": 1}
        found = modelrouter.compare(["a", "b"], ["own", "cheap"], **options)
        again = modelrouter.compare(["a", "b"], ["own", "cheap"], **options)
    assert len(provider.requests) == 6
    assert found.judge_cost_usd == again.judge_cost_usd
    assert found.judge_cost_usd is not None
    assert 0 < found.judge_cost_usd < found.cost_usd == again.cost_usd


# -- what is asked for


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"models": []}, "models is a list of at least one name"),
        ({"models": "dear"}, "models is a list of at least one name, not 'dear'"),
        ({"models": ["dear", "best"]}, "'dear' and 'best' are the same model, 'dear'"),
        ({"repeat": 0}, "repeat is a whole number from 1, not 0"),
        ({"concurrency": True}, "concurrency is a whole number from 1"),
        ({"margin": 0}, "margin is in points of a score"),
        ({"judge": "own"}, "a judge needs a model and a rubric.\n  Give --rubric"),
        ({"rubric": "r.md"}, "a judge needs a model and a rubric.\n  Give --judge"),
        ({"judge": "own", "rubric": "r.md", "score": "json"}, "a judge is the whole score"),
        ({"max_usd": -1}, "max_usd= takes US dollars from 0"),
        ({"prompts": ["a", {"messages": [{"role": "x", "content": "y"}]}]}, "prompts[1]: "),
    ],
)
def test_a_mistake_is_told_before_anything_is_sent(options: Any, said: str) -> None:
    Path("r.md").write_text("x")
    with ScriptedProvider({}) as provider, pytest.raises(InvalidRequest) as raised:
        modelrouter.compare(**{"prompts": ["a"], "models": ["dear", "cheap"], **options})
    assert said in str(raised.value)
    assert not provider.requests


def test_an_unknown_model_is_told_as_everywhere() -> None:
    with pytest.raises(UnknownModel, match="Did you mean 'dear'"):
        modelrouter.compare(["a"], ["deer"])
    with pytest.raises(TypeError, match=r"^compare\(\) takes no scores=. Did you mean 'score'"):
        modelrouter.compare(["a"], ["dear"], scores="exact")


# -- what it may cost


def test_what_has_no_known_price_cannot_be_held_to_a_limit() -> None:
    with (
        ScriptedProvider({}),
        pytest.raises(InvalidRequest, match=r"'priceless' costs at most is not known.\n  Give it"),
    ):
        modelrouter.compare(["a"], ["dear", "priceless"], max_usd=1)


@pytest.mark.heavy
@pytest.mark.parametrize("limit", ["0.0009", "0.0031", "0.00011"])
def test_the_limit_is_never_overshot(
    server: ScriptedServer, catalog: WriteCatalog, keys: str, limit: str, quick_backoff: None
) -> None:
    catalog({name: server.openai(name) for name in ("a", "b")}, max_tokens=20, retries=1)
    server.script("b", Reply(delay=0.002), Fault(503), Reply(delay=0.001))
    prompts = [f"Question {number}" for number in range(150)]

    def paid() -> Decimal:
        return CALL * sum(request.status == 200 for request in server.requests())

    found = modelrouter.compare(prompts, ["a", "b"], max_usd=limit, concurrency=16)
    assert found.stopped in {f"what is left of max_usd does not do for another call of {name}." for name in "ab"}
    assert found.cost_usd == paid() <= Decimal(limit)
    # What is left would do for no further call, nor does a second run begin anew.
    sent = server.count()
    again = modelrouter.compare(prompts, ["a", "b"], max_usd=limit, concurrency=16)
    assert again.cost_usd == paid() <= Decimal(limit)
    assert server.count() - sent <= 16
    whole = modelrouter.compare(prompts, ["a", "b"], max_usd=1, concurrency=16)
    assert whole.stopped is None
    assert [each.answers for each in whole.models] == [150, 150]
    assert whole.cost_usd == paid() == 300 * CALL


def test_what_was_cut_off_or_under_way_counts_at_its_highest(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    options: Any = {"journal": path, "concurrency": 1}
    with ScriptedProvider({"dear": "yes"}):
        first = modelrouter.compare(["a"], ["dear"], **options)
    head, begun, ended = path.read_text().splitlines()
    path.write_text(f"{head}\n{begun}\n")  # killed before its answer came
    most = Decimal(json.loads(begun)["most"])
    assert most > first.cost_usd
    with Journal(path) as journal:
        key = json.loads(ended)["key"]
        assert (journal.spent([key]), journal.charged([key]), journal.lost([key])) == (0, most, 1)
    with ScriptedProvider({"dear": "yes"}) as provider:
        found = modelrouter.compare(["a"], ["dear"], max_usd=most, **options)
        assert not provider.requests
        assert found.stopped is not None
        found = modelrouter.compare(["a"], ["dear"], max_usd=2 * most, **options)
    assert found.stopped is None
    assert "1 call was under way when an earlier run was ended: asked again, and perhaps billed twice." in found.notes


# -- what is remembered


def test_only_what_is_new_is_asked() -> None:
    with ScriptedProvider({"dear": "yes", "cheap": "yes", "own": "yes"}, cache=True) as provider:

        def asked(names: list[str], **options: Any) -> int:
            before = len(provider.requests)
            modelrouter.compare("p.jsonl", names, **options)
            return len(provider.requests) - before

        lines = [json.dumps(each) for each in PROMPTS[:5]]
        Path("p.jsonl").write_text("\n".join(lines))
        assert asked(["dear", "cheap"]) == 10
        assert asked(["dear", "cheap"], score="exact") == 0
        assert asked(["cheap", "dear"], repeat=2) == 10
        assert asked(["dear", "own"]) == 5
        Path("p.jsonl").write_text("\n".join(['{"prompt": "Another"}', *lines, lines[0].replace("{", '{"id": "x",')]))
        assert asked(["dear", "cheap"]) == 2  # the other repeat of the first is the answer to the same prompt below
        assert asked(["dear", "cheap"], fresh=True) == 14
        assert len(list(Path("../state/comparisons").iterdir())) == 2


def test_errors_that_may_pass_are_asked_again_and_others_are_not() -> None:
    options: Any = {"prompts": PROMPTS[:2], "concurrency": 1}
    first = compared({"dear": "yes", "cheap": [529, Error(400, "wrong")]}, **options)
    assert first.models[1].failed == 2
    with ScriptedProvider({"cheap": "yes"}, cache=True) as provider:
        found = modelrouter.compare(PROMPTS[:2], ["dear", "cheap"])
    assert len(provider.requests) == 1
    assert (found.models[1].answers, found.models[1].errors) == (1, {Kind.BAD_REQUEST: 1})
    assert found.notes[1].startswith("3 of 4 answers are from before, the oldest of 20")


def test_a_line_that_was_being_written_is_no_line(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with ScriptedProvider({"dear": "yes"}) as provider:
        modelrouter.compare(["a", "b"], ["dear"], journal=path, concurrency=1)
        head, lines = path.read_bytes()[:-20].split(b"\n", 1)
        path.write_bytes(head + b'\n{"key": 7}\nnonsense\n' + lines)
        found = modelrouter.compare(["a", "b"], ["dear"], journal=path)
    assert len(provider.requests) == 3
    assert found.models[0].answers == 2
    assert path.read_bytes().endswith(b"}\n")


@pytest.mark.parametrize("content", ['{"prompt": "a"}\n{"prompt": "b"}', '{"modelrouter": "other"}\n'])
def test_no_other_file_is_written_to(content: str) -> None:
    Path("prompts.jsonl").write_text(content)
    with ScriptedProvider({}), pytest.raises(InvalidRequest, match="is no file of answers that a comparison has"):
        modelrouter.compare(["a"], ["dear"], journal="prompts.jsonl")
    assert Path("prompts.jsonl").read_text() == content
    Path("begun.jsonl").write_text('{"modelro')  # killed in the middle of its first line
    with ScriptedProvider({"dear": "yes"}):
        assert modelrouter.compare(["a"], ["dear"], journal="begun.jsonl").models[0].answers == 1


def test_one_that_is_cancelled_goes_on_where_it_was(tmp_path: Path) -> None:
    options: Any = {"journal": tmp_path / "j.jsonl", "concurrency": 4}

    async def cancelled() -> int:
        told: list[Progress] = []
        enough = asyncio.Event()

        def tell(progress: Progress) -> None:
            told.append(progress)
            if progress.done >= 20:
                enough.set()

        comparing = asyncio.ensure_future(modelrouter.acompare(PROMPTS, ["dear"], progress=tell, **options))
        await enough.wait()
        comparing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await comparing
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return told[-1].done

    with ScriptedProvider({"dear": Answer("yes", delay=0.005)}) as provider:
        done = asyncio.run(cancelled())
        sent = len(provider.requests)
        assert done <= sent <= done + 4
        found = modelrouter.compare(PROMPTS, ["dear"], **options)
        assert found.models[0].answers == 120
        assert len(provider.requests) - sent <= 120 - done


def test_what_a_script_says_is_not_taken_for_an_answer_later() -> None:
    for text in ("yes", "no"):
        with ScriptedProvider({"dear": text}):
            assert modelrouter.compare(["a"], ["dear"]).answers[0].text == text
    assert not Path("../state/comparisons").exists()


def test_two_processes_do_not_pay_for_the_same(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path), ScriptedProvider({}), pytest.raises(InvalidRequest, match="is running already"):
        modelrouter.compare(["a"], ["dear"], journal=path)


def test_where_nothing_can_be_remembered_is_told(tmp_path: Path) -> None:
    with ScriptedProvider({}), pytest.raises(InvalidRequest, match="answers cannot be remembered in"):
        modelrouter.compare(["a"], ["dear"], journal=tmp_path)
