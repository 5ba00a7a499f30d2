"""Gates: functions of the application's that turn answers down."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from conftest import WriteCatalog
from prometheus_client import CollectorRegistry
from servers import Reply, ScriptedServer

import modelrouter
from modelrouter import AllModelsFailed, Completion, InvalidCatalog, InvalidRequest, Router
from modelrouter.completion import Kind
from modelrouter.store import DiskStore
from modelrouter.testing import Answer, ScriptedProvider

CATALOG = """
models:
  a: {model: openai/a, price: {input: 1, output: 2}}
  b: {model: openai/b, price: {input: 1, output: 2}}
modules: {default: {chain: [a, b], retries: 2, SETTINGS}}
"""
SCRIPTS = {"a": Answer("short"), "b": Answer("long enough")}


def long(answer: Completion) -> bool:
    return len(answer.text) > 8


async def long_too(answer: Completion) -> bool | str:
    await asyncio.sleep(0)
    return len(answer.text) > 8 or f"only {len(answer.text)} characters"


@pytest.fixture
def write(tmp_path: Path, registry: CollectorRegistry) -> Any:
    def router(settings: str = "cache: false") -> Router:
        (tmp_path / "models.yaml").write_text(CATALOG.replace("SETTINGS", settings))
        return Router(tmp_path / "models.yaml", registry=registry, store=DiskStore(tmp_path / "store"))

    return router


def ask(router: Router, how: str, **arguments: Any) -> Completion:
    async def acomplete() -> Completion:
        return await router.acomplete("hi", **arguments)

    async def astream() -> Completion:
        async with router.astream("hi", **arguments) as pieces:
            assert "".join([piece async for piece in pieces]) == pieces.answer.text
            return pieces.answer

    match how:
        case "acomplete":
            return asyncio.run(acomplete())
        case "astream":
            return asyncio.run(astream())
        case "stream":
            with router.stream("hi", **arguments) as pieces:
                assert "".join(pieces) == pieces.answer.text
                return pieces.answer
    return router.complete("hi", **arguments)


each_way = pytest.mark.parametrize("how", ["complete", "acomplete", "stream", "astream"])


@each_way
@pytest.mark.parametrize("gate", [long, long_too])
def test_an_answer_that_is_turned_down_is_booked_and_the_next_model_asked(
    how: str, gate: Any, write: Any, registry: CollectorRegistry
) -> None:
    with ScriptedProvider(SCRIPTS) as provider, write() as router:
        answer = ask(router, how, accept=gate)
    assert (answer.text, answer.model, answer.fallback) == ("long enough", "b", True)
    down, taken = answer.attempts
    assert (down.outcome, down.error_kind, taken.error_kind) == ("error", Kind.REJECTED, None)
    assert down.error in ("test_gates:long has turned it down", "only 5 characters")
    assert answer.cost_usd == sum(attempt.cost_usd or Decimal(0) for attempt in answer.attempts)
    assert down.cost_usd
    assert len(provider.requests) == 2, "it is not asked again"
    labels = {"module": "default", "from_model": "a", "to_model": "b", "reason": "rejected"}
    assert registry.get_sample_value("llm_fallbacks_total", labels) == 1


@each_way
def test_what_nobody_answers_well_enough_fails_unless_the_last_may(how: str, write: Any) -> None:
    scripts = {"a": Answer("short"), "b": Answer("brief")}
    with ScriptedProvider(scripts), write() as router, pytest.raises(AllModelsFailed) as failed:
        ask(router, how, accept=long)
    assert [attempt.error_kind for attempt in failed.value.attempts] == [Kind.REJECTED] * 2
    with ScriptedProvider(scripts), write("cache: false, accept_last: true") as router:
        answer = ask(router, how, accept=long)
    assert (answer.text, [attempt.error_kind for attempt in answer.attempts]) == ("brief", [Kind.REJECTED, None])


def test_a_module_names_its_gate_and_a_call_may_have_another_or_none(write: Any) -> None:
    with (
        ScriptedProvider({"*": ["short", "long enough", "short", "never"]}),
        write('cache: false, accept: "test_gates:long"') as router,
    ):
        assert router.complete("hi").model == "b"
        assert router.complete("hi", accept=False).model == "a"
        assert router.complete("hi", accept=lambda answer: answer.text == "never").model == "a"


@each_way
@pytest.mark.parametrize("said", [ValueError("no such score"), None, 1])
def test_what_a_gate_raises_is_the_calls_and_the_answer_is_booked(
    how: str, said: Any, write: Any, registry: CollectorRegistry
) -> None:
    def gate(_: Completion) -> Any:
        if isinstance(said, Exception):
            raise said
        return said

    expected = ValueError if isinstance(said, Exception) else TypeError
    with (
        ScriptedProvider(SCRIPTS) as provider,
        write() as router,
        pytest.raises(expected, match=r"score|True, False or"),
    ):
        ask(router, how, accept=gate)
    assert len(provider.requests) == 1
    labels = {"provider": "openai", "model": "a"}
    assert registry.get_sample_value("llm_provider_requests_total", {**labels, "status": "success"}) == 1
    assert registry.get_sample_value("llm_module_requests_total", {"module": "default", "outcome": "error"}) == 1


@each_way
def test_a_remembered_answer_has_to_pass_too(
    how: str, catalog: WriteCatalog, server: ScriptedServer, keys: str, router: Router
) -> None:
    catalog({name: server.openai(name, price="free") for name in ("a", "b")})
    server.script("a", Reply("short")).script("b", Reply("long enough"))
    assert ask(router, how).text == "short"
    assert ask(router, how).cached
    answer = ask(router, how, accept=long)
    assert (answer.text, answer.cached, server.count("a")) == ("long enough", False, 2)
    assert ask(router, how).text == "short", "what is turned down is not remembered, and nothing is forgotten for it"
    assert (server.count("a"), server.count("b")) == (2, 1)


def test_calls_that_share_an_answer_have_gates_of_their_own(
    catalog: WriteCatalog, server: ScriptedServer, keys: str, router: Router
) -> None:
    catalog({name: server.openai(name, price="free") for name in ("a", "b")})
    server.script("a", Reply("short", delay=0.3)).script("b", Reply("long enough"))

    async def together() -> list[Completion]:
        asked = [router.acomplete("hi", accept=gate) for gate in (long, None, long_too)]
        return await asyncio.gather(*asked)

    answers = asyncio.run(together())
    assert [answer.text for answer in answers] == ["long enough", "short", "long enough"]
    assert answers[2].attempts[0].error == "the answer that another call was given: only 5 characters"
    assert (server.count("a"), server.count("b")) == (1, 1)


def test_what_is_no_gate_is_refused(write: Any, tmp_path: Path) -> None:
    with ScriptedProvider(SCRIPTS), write() as router, pytest.raises(InvalidRequest, match="accept= takes a function"):
        router.complete("hi", accept="app.gates:long")
    for named, why in (
        ("test_gates:nobody", "cannot be imported: AttributeError"),
        ("no_such_app.gates:long", "cannot be imported: ModuleNotFoundError: No module named 'no_such_app'"),
        ("test_gates:SCRIPTS", "is no function but dict"),
        ("looks right", "expected a function such as app.gates:looks_right"),
    ):
        with pytest.raises(InvalidCatalog, match=r"line 5: modules\.default\.accept: ") as caught:
            write(f'accept: "{named}"').catalog  # noqa: B018
        assert why in str(caught.value)


def test_a_gate_is_given_the_whole_answer(write: Any) -> None:
    seen: list[Completion] = []

    def gate(answer: Completion) -> bool:
        seen.append(answer)
        return True

    with ScriptedProvider(SCRIPTS), write() as router:
        answer = router.complete("hi", accept=gate)
    [given] = seen
    assert (given.text, given.cost_usd, given.usage, given.attempts[-1].outcome) == (
        answer.text,
        answer.cost_usd,
        answer.usage,
        "ok",
    )
    assert modelrouter.Completion is type(given)
