"""What a type checker shows of the calls, and what it must refuse. Nobody runs this file: `make lint` has it read by
mypy and by pyright, for which a comment that ignores nothing is an error, too."""

from __future__ import annotations

from decimal import Decimal
from typing import assert_type

from pydantic import BaseModel

import modelrouter
from modelrouter.dspy import RouterLM, get_lm


def compare() -> None:
    found = modelrouter.compare(["a"], ["fast", "best"], score="exact", max_usd=0.5)
    assert_type(found.differences[0].verdict, str)
    modelrouter.compare(["a"], ["fast"], scores="exact")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]


class Score(BaseModel):
    points: int


def complete(router: modelrouter.Router) -> None:
    answer = modelrouter.complete("Hi", module="analyzer", temperature=0.2, max_tokens=50, stop=["\n"], seed=1)
    assert_type(answer.text, str)
    assert_type(answer.cost_usd, Decimal | None)
    assert_type(answer.parsed, None)

    assert_type(modelrouter.complete("Rate it", response_format=Score).parsed.points, int)
    assert_type(router.complete("Rate it", response_format=Score), modelrouter.Completion[Score])
    assert_type(router.complete("Rate it", response_format={"type": "json_object"}).parsed, None)

    # Another provider's parameters go by, and so do lists of models and messages in OpenAI's form.
    router.complete(messages=[{"role": "user", "content": "Hi"}], model=["fast", "openai/gpt-4.1"], top_k=3)


async def acomplete(router: modelrouter.Router) -> None:
    assert_type((await modelrouter.acomplete("Rate it", response_format=Score)).parsed.points, int)
    assert_type((await router.acomplete("Hi", cache="refresh")).parsed, None)


async def stream(router: modelrouter.Router) -> None:
    with modelrouter.stream("Rate it", response_format=Score) as pieces:
        for piece in pieces:
            assert_type(piece, str)
    assert_type(pieces.answer, modelrouter.Completion[Score])
    assert_type(router.stream("Hi").answer.cost_usd, Decimal | None)

    async with modelrouter.astream("Rate it", response_format=Score) as apieces:
        async for piece in apieces:
            assert_type(piece, str)
    assert_type(apieces.answer.parsed.points, int)


async def handles() -> None:
    scorer = modelrouter.get_module_provider("scorer")
    assert_type((await scorer.complete("Rate it", response_format=Score)).parsed.points, int)
    assert_type(scorer.stream("Hi"), modelrouter.AsyncStream)
    assert_type(get_lm("scorer", temperature=0.2, max_tokens=200, cache=False, top_k=3), RouterLM)


async def refused(router: modelrouter.Router) -> None:
    modelrouter.complete(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    modelrouter.complete("Hi", "analyzer")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    modelrouter.complete("Hi", timeout="soon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    modelrouter.complete("Hi", cache="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    _ = modelrouter.complete("Hi").parsed.points  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    _ = modelrouter.complete("Rate it", response_format=Score).parsed.marks  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    _ = modelrouter.acomplete("Hi").text  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    router.stream("Hi", retries="twice")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    router.complete("Hi", messages=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await modelrouter.get_module_provider("scorer").complete("Hi", deadline="noon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    get_lm("scorer", temperature="warm")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
