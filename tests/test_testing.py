"""`modelrouter.testing`: what users test their own fallbacks with, in all four ways to call."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from conftest import CANARY, WriteCatalog
from prometheus_client import CollectorRegistry
from servers import Fault, ScriptedServer

import modelrouter
from modelrouter import AllModelsFailed, BadRequest, BudgetExceeded, Completion, MissingKey, Router, StreamInterrupted
from modelrouter.metering import spend
from modelrouter.testing import Answer, Error, Kind, ScriptedProvider, ToolCall, UnexpectedCall, Usage, no_real_calls

Ask = Callable[..., Completion]
PRICE = {"input": 2, "output": 10}


@pytest.fixture(autouse=True)
def two_models(catalog: WriteCatalog) -> None:
    first = {"model": "anthropic/claude-x", "price": PRICE}
    catalog({"first": first, "second": {"model": "openai/gpt-x", "price": PRICE}}, timeout=5, deadline=10)


def _complete(prompt: str = "hi there", **arguments: Any) -> Completion:
    return modelrouter.complete(prompt, **arguments)


def _acomplete(prompt: str = "hi there", **arguments: Any) -> Completion:
    return asyncio.run(modelrouter.acomplete(prompt, **arguments))


def _stream(prompt: str = "hi there", **arguments: Any) -> Completion:
    with modelrouter.stream(prompt, **arguments) as pieces:
        list(pieces)
    return pieces.answer


def _astream(prompt: str = "hi there", **arguments: Any) -> Completion:
    async def read() -> Completion:
        async with modelrouter.astream(prompt, **arguments) as pieces:
            async for _ in pieces:
                pass
        return pieces.answer

    return asyncio.run(read())


@pytest.fixture(params=[_complete, _acomplete, _stream, _astream], ids=lambda way: way.__name__.strip("_"))
def ask(request: pytest.FixtureRequest) -> Ask:
    """Each of the four ways to call."""
    way: Ask = request.param
    return way


def test_a_failing_model_is_asked_again_and_then_the_next_one(ask: Ask) -> None:
    with ScriptedProvider({"first": 529, "second": "a fine answer"}) as provider:
        answer = ask(temperature=0)
    assert (answer.text, answer.model, answer.fallback) == ("a fine answer", "second", True)
    assert [request.model for request in provider.requests] == ["first"] * 3 + ["second"]
    assert {a.error_kind for a in answer.attempts[:3]} == {Kind.SERVER}
    last = provider.requests[-1]
    assert last.messages == ({"role": "user", "content": "hi there"},)
    assert (last.litellm_model, last.params) == ("openai/gpt-x", {"temperature": 0})
    assert last.stream is (ask in (_stream, _astream))


def test_tokens_and_cost_are_counted_as_of_a_real_answer(ask: Ask) -> None:
    with ScriptedProvider({"first": [Answer("one two three"), Answer("x", usage=Usage(1000, 100))]}):
        counted, given = ask(), ask()
    assert (counted.usage, counted.cost_usd) == (Usage(2, 3), Decimal("0.000034"))
    assert (given.usage, given.cost_usd) == (Usage(1000, 100), Decimal("0.003"))


def test_tool_calls_are_answers(ask: Ask) -> None:
    call = ToolCall("1", "weather", '{"city": "Berlin"}')
    with ScriptedProvider({"first": Answer(tool_calls=[call])}):
        answer = ask()
    assert (answer.tool_calls, answer.finish_reason, answer.text) == ((call,), "tool_calls", "")


def test_an_answer_that_is_too_slow_is_a_timeout(ask: Ask) -> None:
    with ScriptedProvider({"first": Answer("late", delay=60), "second": "in time"}):
        answer = ask(timeout=0.05)
    assert answer.model == "second"
    assert str(answer.attempts[0]) == "timeout after 0.05 s"


def test_a_key_is_missing_only_where_the_test_says_so(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedProvider({"*": "yes"}):
        assert ask().model == "first"
    monkeypatch.setenv("ANTHROPIC_API_KEY", CANARY)
    with ScriptedProvider({"*": "yes"}, missing_keys={"ANTHROPIC_API_KEY"}) as provider:
        assert ask().attempts[0].error == "ANTHROPIC_API_KEY is not set"
        with pytest.raises(MissingKey):
            ask(model="first")
    assert [request.model for request in provider.requests] == ["second"]


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.CANCELLED])
def test_every_kind_of_error_can_be_scripted(ask: Ask, kind: Kind) -> None:
    with ScriptedProvider({"first": kind, "second": "saved"}):
        if kind is Kind.BAD_REQUEST:
            with pytest.raises(BadRequest):
                ask()
        else:
            assert ask().attempts[0].error_kind is kind


SAID: list[tuple[int, str | None]] = [
    (400, "temperature is out of range"),
    (400, "This model does not support tools"),
    (401, None),
    (402, None),
    (403, None),
    (404, None),
    (413, None),
    (429, None),
    (429, "You exceeded your current quota, please check your plan"),
    (500, None),
    (529, None),
]


@pytest.mark.parametrize(("status", "message"), SAID)
def test_a_status_means_what_it_means_from_a_real_provider(
    status: int, message: str | None, server: ScriptedServer, catalog: WriteCatalog, keys: str
) -> None:
    def failed() -> Any:
        with pytest.raises((AllModelsFailed, BadRequest)) as caught:
            Router(registry=CollectorRegistry()).complete("hi", retries=0)
        (attempt,) = caught.value.attempts
        return attempt.error_kind, attempt.status, attempt.retry_after

    catalog({"a": server.openai("gpt-x")})
    server.script("gpt-x", Fault(status, message or "no", retry_after=60))
    real = failed()
    with ScriptedProvider({"a": Error(status, message, retry_after=60)}):
        assert failed() == real


def test_a_stream_comes_in_pieces_and_may_break_off() -> None:
    script = [Answer(" a b\nc "), Answer(pieces=["He", "llo"]), Answer("one two three four", cut_after=2)]
    with ScriptedProvider({"first": script, "second": "never asked"}):
        assert list(modelrouter.stream("hi")) == [" ", "a ", "b\n", "c "]
        assert list(modelrouter.stream("hi")) == ["He", "llo"]
        with pytest.raises(StreamInterrupted) as caught:
            list(modelrouter.stream("hi"))
    assert caught.value.partial_text == "one two "
    (attempt,) = caught.value.attempts
    assert (attempt.error_kind, attempt.usage, attempt.estimated) == (Kind.CONNECTION, Usage(1, 2), True)
    assert attempt.cost_usd == Decimal("0.000022")


def test_a_stream_that_breaks_before_its_first_piece_falls_over(ask: Ask) -> None:
    with ScriptedProvider({"first": Answer("x", cut_after=0, cut=Error(401)), "second": "saved"}):
        answer = ask()
    assert (answer.text, answer.attempts[0].error_kind) == ("saved", Kind.AUTH)


def test_the_gap_between_two_pieces_is_limited_by_the_timeout() -> None:
    with ScriptedProvider({"first": Answer("one two", gap=60)}), pytest.raises(StreamInterrupted) as caught:
        list(modelrouter.stream("hi", timeout=0.05))
    assert (caught.value.partial_text, caught.value.attempts[-1].error_kind) == ("one ", Kind.TIMEOUT)


def test_a_script_goes_by_the_catalogs_name_before_litellms() -> None:
    by_name = {"*": "any", "gpt-x": "label", "openai/gpt-x": "string", "second": "name"}
    while by_name:
        with ScriptedProvider(by_name):
            assert modelrouter.complete("hi", model="second").text == by_name.popitem()[1]


def test_a_call_that_is_not_planned_for_is_no_failure_of_a_provider(ask: Ask) -> None:
    with pytest.raises(UnexpectedCall, match=r"'first' \(anthropic/claude-x\), and no real calls"), no_real_calls():
        ask()
    with pytest.raises(UnexpectedCall, match=r"no script\. Did you mean 'frist'"), ScriptedProvider({"frist": "x"}):
        ask()
    with pytest.raises(UnexpectedCall, match="'first' is used up"), ScriptedProvider({"first": [503], "second": "x"}):
        ask()


def test_an_unexpected_call_that_was_swallowed_comes_up_at_the_end() -> None:
    guard = no_real_calls()
    guard.__enter__()
    with contextlib.suppress(Exception):  # as an application may
        modelrouter.complete("hi")
    with pytest.raises(UnexpectedCall):
        guard.__exit__(None, None, None)


def test_blocks_nest_and_leave_nothing_behind(tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("{models: {third: {model: openai/x}}, modules: {default: {chain: [third]}}}")
    with no_real_calls():
        before = modelrouter.get_router()
        with ScriptedProvider({"first": 500, "second": "yes"}) as provider:
            for _ in range(3):
                assert modelrouter.complete("hi", retries=0).model == "second"
            provider.script("first", "well again")
            assert modelrouter.complete("hi").model == "second"  # because the first is set aside
            modelrouter.configure(other)
        assert modelrouter.get_router() is before
        with ScriptedProvider({"*": "yes"}):
            assert modelrouter.complete("hi").model == "first"
    with pytest.raises(MissingKey):
        Router(registry=CollectorRegistry()).complete("hi", model="first")


def test_answers_are_remembered_only_where_the_test_says_so(tmp_path: Path) -> None:
    with ScriptedProvider({"*": "yes"}) as provider:
        for _ in range(2):
            assert not modelrouter.complete("hi").cached
    assert len(provider.requests) == 2
    assert not (tmp_path / "state").exists()
    with ScriptedProvider({"*": "yes"}, cache=True) as provider:
        assert [modelrouter.complete("hi").cached for _ in range(2)] == [False, True]
    assert len(provider.requests) == 1


def test_threads_and_loops_share_one_script() -> None:
    async def several() -> list[Completion]:
        return await asyncio.gather(*(modelrouter.acomplete(f"async {n}") for n in range(10)))

    with ScriptedProvider({"first": [str(n) for n in range(40)]}) as provider, ThreadPoolExecutor(4) as threads:
        loops = [threads.submit(lambda: asyncio.run(several())) for _ in range(2)]
        calls = [threads.submit(modelrouter.complete, f"sync {n}") for n in range(20)]
        texts = [answer.text for loop in loops for answer in loop.result()] + [call.result().text for call in calls]
    assert sorted(texts, key=int) == [str(n) for n in range(40)]
    assert len(provider.requests) == 40


@pytest.mark.heavy
def test_litellm_is_never_loaded() -> None:
    script = """
        import asyncio, sys, modelrouter
        from modelrouter.testing import ScriptedProvider
        with ScriptedProvider({"*": "yes"}):
            modelrouter.complete("hi", model="embedded/any")
            asyncio.run(modelrouter.acomplete("hi", model="openai/gpt-4", tools=[{"type": "function"}]))
        assert not {"litellm", "pytest"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-W", "error", "-c", textwrap.dedent(script)], check=True)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Error(200),
        lambda: Error("conection"),
        lambda: Error(Kind.CANCELLED),
        lambda: Answer("both", pieces=["both"]),
        lambda: ScriptedProvider({"a": [200]}),
    ],
)
def test_a_script_that_cannot_be_played_is_refused_at_once(wrong: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"^(Error|Answer)"):
        wrong()


@pytest.mark.heavy
def test_the_fixtures_in_a_project_of_a_users_own(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "pytest.ini").write_text("[pytest]\nusefixtures = no_real_calls\nfilterwarnings = error\n")
    (project / "conftest.py").write_text(
        'from modelrouter.testing import ScriptedProvider\npytest_plugins = ["modelrouter.pytest_plugin"]\n'
    )
    (project / "test_it.py").write_text(
        textwrap.dedent("""
            import modelrouter
            from modelrouter.testing import Error

            def test_scripted(scripted_provider):
                scripted_provider.script("claude-sonnet", Error(429, retry_after=60))
                scripted_provider.script("gpt-6.1-sol", "71")
                assert modelrouter.complete("hi", module="scorer").text == "71"
                assert [request.model for request in scripted_provider.requests] == ["claude-sonnet", "gpt-6.1-sol"]

            def test_not_scripted():
                modelrouter.complete("hi")

            def test_swallowed():
                try:
                    modelrouter.complete("hi")
                except Exception:
                    pass
        """)
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:llmock", "-p", "no:cacheprovider"]
    run = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert "1 failed, 2 passed, 1 error" in run.stdout, run.stdout + run.stderr
    assert "UnexpectedCall: a call would have reached 'claude-sonnet' (anthropic/claude-sonnet-5-5)" in run.stdout


def test_what_a_script_answers_is_in_nobodys_books(catalog: WriteCatalog) -> None:
    price = {"input": 1, "output": 1000}
    catalog({"a": {"model": "openai/a", "price": price}}, max_tokens=1, budget={"usd": 0.0015, "per": "month"})
    with Router(registry=CollectorRegistry()) as router:
        with ScriptedProvider({"a": "fine"}):
            assert router.complete("hi").cost_usd == Decimal("0.001001")
            with pytest.raises(BudgetExceeded):
                router.complete("hi")
        router.close()
        assert not list(spend.lines(router.performer.store, spend.last(2)))
        [(balance, _)] = router.performer.budgets.standing(router.catalog.resolve().budgets).values()
        assert balance.spent == 0
