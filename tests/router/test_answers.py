"""Answers as data: copied, pickled, sent to other processes, written as JSON."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import json
import pickle
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from conftest import WriteCatalog
from pydantic import BaseModel, TypeAdapter
from servers import Fault, Reply, ScriptedServer, ToolUse

import modelrouter
from modelrouter import Attempt, Completion, Router, Spent
from modelrouter.backend.insides import way
from modelrouter.metering.track import track

WIRES = ("openai", "anthropic", "ollama")


class Score(BaseModel):
    points: int


def whole(router: Router, **arguments: Any) -> Completion[Any]:
    return router.complete("hi", **arguments)


def remembered(router: Router, **arguments: Any) -> Completion[Any]:
    return [router.complete("hi", **arguments) for _ in range(2)][1]


def streamed(router: Router, **arguments: Any) -> Completion[Any]:
    with router.stream("hi", **arguments) as pieces:
        assert list(pieces)
    return pieces.answer


def streamed_asynchronously(router: Router, **arguments: Any) -> Completion[Any]:
    async def read() -> Completion[Any]:
        async with router.astream("hi", **arguments) as pieces:
            assert [piece async for piece in pieces]
        return pieces.answer

    return asyncio.run(read())


Ask = Callable[..., Completion[Any]]
each_way = pytest.mark.parametrize("ask", [whole, remembered, streamed, streamed_asynchronously])


@pytest.fixture(autouse=True)
def chosen_anew(server: ScriptedServer, litellms_litter: None) -> Iterator[None]:
    """After the test's variables are put back."""
    yield
    way.choose()


@pytest.fixture(params=["quick", "plain"])
def served(
    request: pytest.FixtureRequest,
    server: ScriptedServer,
    catalog: WriteCatalog,
    keys: str,
    monkeypatch: pytest.MonkeyPatch,
) -> ScriptedServer:
    """One model on each wire, called both ways."""
    if request.param == "plain":
        monkeypatch.setenv("MODELROUTER_LITELLM", "plain")
    way.choose()
    catalog({wire: {**getattr(server, wire)(wire), "price": {"input": 0.01, "output": 0.01}} for wire in WIRES})
    return server


@pytest.mark.parametrize("wire", WIRES)
@each_way
def test_an_answer_is_copied_and_pickled_before_its_response_was_asked_for(
    ask: Ask, wire: str, router: Router, served: ScriptedServer
) -> None:
    served.script(wire, Reply("Hello there", tools=[ToolUse("look", {"at": 1})]))
    for again in (
        lambda answer: pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(answer)))),  # noqa: S301 - our own
        copy.deepcopy,
        copy.copy,
        dataclasses.replace,
    ):
        answer = ask(router, model=wire)
        found = again(answer)
        assert found == answer
        assert found.response.choices[0].message.content == "Hello there"
        assert found.response.choices[0].message.tool_calls[0].function.name == "look"
        assert found.body is not None


@each_way
def test_every_form_of_an_answer_is_one_and_has_nothing_of_litellms(
    ask: Ask, router: Router, served: ScriptedServer
) -> None:
    served.script("openai", Fault(401))
    served.script("anthropic", Reply('{"points": 3}'))
    answer = ask(router, response_format=Score)
    said = answer.to_dict()
    assert said["parsed"] == {"points": 3}
    assert said["cost_usd"] in ("0", format(answer.cost_usd, "f"))
    assert [(each["model"], each["error_kind"]) for each in said["attempts"]] == [
        ("openai", "auth"),
        ("anthropic", None),
    ]
    assert said.keys() == {each.name for each in dataclasses.fields(Completion)} == dataclasses.asdict(answer).keys()
    assert not [name for name in said if name.startswith("_")]
    compact = json.dumps(said, separators=(",", ":"), ensure_ascii=False)
    for kind in (Completion, Completion[Any], Completion[Score]):
        adapter = TypeAdapter[Any](kind)
        assert adapter.dump_json(answer).decode() == compact
        assert adapter.validate_python(answer) is answer
        # As FastAPI does it, which compares them with the return type
        for dumped in (adapter.validate_json(compact), adapter.validate_python(dataclasses.asdict(answer))):
            assert adapter.dump_json(dumped).decode() == compact
    assert TypeAdapter(Completion[Score]).validate_json(compact) == answer
    shown = TypeAdapter(Completion[Score]).json_schema(mode="serialization")["properties"]
    assert shown.keys() == said.keys()


def test_an_answer_is_part_of_a_pydantic_model(router: Router, served: ScriptedServer) -> None:
    class Report(BaseModel):
        answer: Completion
        scored: Completion[Score]
        attempts: list[Attempt]
        spent: Spent

    served.script("openai", Reply("Hello"), Reply('{"points": 3}'))
    with track() as tracker:
        answer, scored = router.complete("hi"), router.complete("hi", response_format=Score)
    report = Report(answer=answer, scored=scored, attempts=list(answer.attempts), spent=tracker.total)
    written = report.model_dump_json()
    assert Report.model_validate_json(written) == report
    assert json.loads(written) == {
        "answer": answer.to_dict(),
        "scored": scored.to_dict(),
        "attempts": [each.to_dict() for each in answer.attempts],
        "spent": tracker.total.to_dict(),
    }


def test_small_money_has_all_its_digits_and_no_exponent() -> None:
    attempt = Attempt("a", "openai/a", "openai", "ok", cost_usd=Decimal("1.20E-9"))
    assert attempt.to_dict()["cost_usd"] == "0.00000000120"
    assert '"0.00000000120"' in TypeAdapter(Attempt).dump_json(attempt).decode()


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickle.dumps])
def test_what_is_under_way_says_that_it_cannot_be_copied(
    again: Callable[[Any], Any], router: Router, served: ScriptedServer
) -> None:
    for held in (router.stream("hi"), router.astream("hi")):
        with pytest.raises(TypeError, match="its answer can, once it has been read"):
            again(held)
    with pytest.raises(TypeError, match="make one in each process"):
        again(router)
    assert pickle.loads(pickle.dumps(modelrouter.complete)) is modelrouter.complete  # noqa: S301 - our own
