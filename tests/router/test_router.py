"""Calls as a user makes them: arguments, answers, money, threads, loops, forks, edits of the YAML."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from conftest import CANARY, WriteCatalog
from prometheus_client import CollectorRegistry
from servers import Hang, Reply, ScriptedServer, ToolUse

import modelrouter
import modelrouter.catalog.live
import modelrouter.router.performer
from modelrouter import InvalidRequest, Router, UnknownModel, UnknownModule
from modelrouter.completion import ToolCall
from modelrouter.metering import spend
from modelrouter.parameters import having
from modelrouter.store.default import default_store
from modelrouter.testing import Answer, ScriptedProvider

PRICE = {"input": 3, "output": 15, "cache_read": 0.3, "cache_write": 3.75}


@pytest.fixture
def router(router: Router, catalog: WriteCatalog, server: ScriptedServer, keys: str) -> Router:
    catalog(
        {"good": {"model": "anthropic/good", "price": PRICE}, "local": server.ollama("local")},
        providers={"anthropic": {"api_base": server.anthropic_base}},
        aliases={"best": "good"},
        modules={"scorer": {"chain": ["local"], "temperature": 0, "max_tokens": 40}},
    )
    return router


def sample(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_an_answer_has_text_tokens_money_and_where_it_came_from(router: Router, server: ScriptedServer) -> None:
    server.script(
        "good", Reply("Paris", input_tokens=1000, output_tokens=200, cache_read_tokens=600, cache_write_tokens=100)
    )
    answer = router.complete("The capital of France?")
    assert str(answer) == answer.text == "Paris"
    assert (answer.model, answer.litellm_model, answer.provider, answer.module) == (
        "good",
        "anthropic/good",
        "anthropic",
        "default",
    )
    assert (answer.usage.input_tokens, answer.usage.cache_read_tokens, answer.usage.cache_write_tokens) == (
        1000,
        600,
        100,
    )
    assert answer.cost_usd == (300 * Decimal(3) + 600 * Decimal("0.3") + 100 * Decimal("3.75") + 200 * 15) / 1_000_000
    assert (answer.cached, answer.fallback, answer.finish_reason) == (False, False, "stop")
    assert answer.response.choices[0].message.content == "Paris"
    [attempt] = answer.attempts
    assert attempt.cost_usd == answer.cost_usd


def test_a_module_decides_model_and_parameters(router: Router, server: ScriptedServer) -> None:
    router.complete("hi", module="scorer")
    router.complete("hi", module="scorer", model="best", temperature=0.5, max_tokens=7, top_p=0.9)
    [local], [good] = server.requests("local"), server.requests("good")
    assert (local.body["options"]["temperature"], local.body["options"]["num_predict"]) == (0, 40)
    assert {name: good.body[name] for name in ("temperature", "max_tokens", "top_p")} == {
        "temperature": 0.5,
        "max_tokens": 7,
        "top_p": 0.9,
    }


@pytest.mark.parametrize("model", ["good", "best", "anthropic/good", ["nowhere/x", "good"]])
def test_a_model_is_pinned_by_name_alias_string_or_list(model: Any, router: Router, server: ScriptedServer) -> None:
    if isinstance(model, list):
        model = ["local", "good"]
        server.ollama_models = {}  # nothing is pulled
    answer = router.complete("hi", module="scorer", model=model)
    assert answer.model == "good"
    assert answer.module == "scorer"
    assert answer.cost_usd == (10 * Decimal(3) + 5 * Decimal(15)) / 1_000_000


def test_messages_and_system_arrive_as_they_are(router: Router, server: ScriptedServer) -> None:
    messages = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": [{"type": "text", "text": "three"}]},
    ]
    before = pickle.dumps(messages)
    router.complete(messages=messages, system="be brief")
    body = server.requests("good")[0].body
    assert "be brief" in str(body["system"])
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert pickle.dumps(messages) == before


def test_a_parameter_that_litellm_does_not_know_reaches_the_provider(
    catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    catalog({"a": server.openai("a", params={"seed": 7})})
    Router(registry=CollectorRegistry()).complete("hi", top_k=3, extra_body={"vendor": True})
    body = server.requests("a")[0].body
    assert (body["top_k"], body["vendor"], body["seed"]) == (3, True, 7)


def test_tool_calls_are_answers_too(router: Router, server: ScriptedServer) -> None:
    server.script("good", Reply("", tools=[ToolUse("look", {"at": "Paris"})]))
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    answer = router.complete("hi", tools=[tool])
    assert answer.tool_calls == (ToolCall("call_1", "look", '{"at": "Paris"}'),)
    assert answer.text == ""


BAD = [
    (lambda r: r.complete(), "given neither"),
    (lambda r: r.complete("hi", messages=[{"role": "user", "content": "hi"}]), "given both"),
    (lambda r: r.complete("  "), "the prompt is empty"),
    (lambda r: r.complete(["hi"]), "the prompt is a string, not list"),
    (lambda r: r.complete(messages=[]), "messages= is empty"),
    (lambda r: r.complete(messages="hi"), "messages= takes a list"),
    (lambda r: r.complete(messages=["hi"]), r"messages\[0\] is not a message but str"),
    (lambda r: r.complete(messages=[{"content": "hi"}]), r"messages\[0\] has no 'role'"),
    (lambda r: r.complete(messages=[{"role": "usr", "content": "hi"}]), "has the role 'usr'. Roles: assistant"),
    (lambda r: r.complete(messages=[{"role": "user"}]), r"messages\[0\] has no 'content'"),
    (
        lambda r: r.complete(messages=[{"role": "user", "content": 3}]),
        "'content' is a string or a list of parts, not int",
    ),
    (lambda r: r.complete(messages=[{"role": "user", "content": ["x"]}]), r"content\[0\] is no part"),
    (lambda r: r.complete("hi", temprature=1), r"temprature= .* Did you mean temperature=\?"),
    (lambda r: r.complete("hi", n=2), "n=2: one call gives one answer"),
    (lambda r: r.complete("hi", stream=True), r"use modelrouter.stream\("),
    (lambda r: r.complete("hi", api_key="sk-x"), "'api_key_env' in the catalog names another variable"),
    (lambda r: r.complete("hi", num_retries=3), "use retries="),
    (
        lambda r: r.complete("hi", timeout=0),
        "timeout= takes a number of seconds above 0 and .*, not 0",
    ),
    (
        lambda r: r.complete("hi", deadline="soon"),
        "deadline= takes a number of seconds above 0 and .*, not 'soon'",
    ),
    (lambda r: r.complete("hi", timeout=1e10), "timeout= takes a number of seconds above 0 and up to 1,000,000,000"),
    (lambda r: r.complete("hi", tools=[1]), "tools= takes a list of mappings in OpenAI's form"),
    (lambda r: r.complete("hi", tools={}), "tools= takes a list of mappings in OpenAI's form"),
    (lambda r: r.complete("hi", client=5), "client= is not a parameter of a call: LiteLLM needs it for itself"),
    (lambda r: r.complete("hi", retries=-1), "retries= takes a whole number from 0, not -1"),
    (lambda r: r.complete("hi", response_format="json"), "response_format= takes a pydantic model or a mapping"),
]


@pytest.mark.parametrize(("wrong", "message"), BAD, ids=[row[1] for row in BAD])
def test_bad_arguments_are_named_before_anything_is_sent(
    wrong: Any, message: str, router: Router, server: ScriptedServer
) -> None:
    with pytest.raises(InvalidRequest, match=message) as raised:
        wrong(router)
    assert isinstance(raised.value, ValueError)
    assert server.ledger == []


async def _handle(arguments: dict[str, Any]) -> None:
    await modelrouter.get_llm_provider().complete("hi", **arguments)


async def _astream(arguments: dict[str, Any]) -> None:
    modelrouter.get_llm_provider().stream("hi", **arguments)


@pytest.mark.parametrize(
    "call",
    [
        lambda arguments: modelrouter.complete("hi", **arguments),
        lambda arguments: asyncio.run(modelrouter.acomplete("hi", **arguments)),
        lambda arguments: modelrouter.stream("hi", **arguments),
        lambda arguments: modelrouter.astream("hi", **arguments),
        lambda arguments: asyncio.run(_handle(arguments)),
        lambda arguments: asyncio.run(_astream(arguments)),
    ],
    ids=["complete", "acomplete", "stream", "astream", "handle", "handle's stream"],
)
def test_a_slip_reaches_nobody_whichever_way_it_is_asked(
    call: Any, catalog: WriteCatalog, server: ScriptedServer, process_router: Any, router: Router
) -> None:
    catalog({"a": server.openai("a")})
    process_router(router)
    for wrong, meant in ({"modul": "x"}, "module="), ({"deadine": 3}, "deadline="), ({"retry": 0}, "retries="):
        with pytest.raises(InvalidRequest, match=meant):
            call(wrong)
    assert server.ledger == []


@pytest.mark.parametrize(
    ("make", "meant"),
    [
        (lambda: Router(catlog="x"), "'catalog'"),  # type: ignore[call-arg]
        (lambda: modelrouter.configure(setings=1), "'settings'"),  # type: ignore[call-arg]
        (lambda: modelrouter.get_llm_provider(provider="openai"), "'provider_type'"),  # type: ignore[call-arg]
        (lambda: ScriptedProvider(script={}), "'scripts'"),  # type: ignore[call-arg]
    ],
    ids=["Router", "configure", "get_llm_provider", "ScriptedProvider"],
)
def test_a_misspelt_keyword_is_a_type_error_with_the_right_one(make: Any, meant: str) -> None:
    with pytest.raises(TypeError, match=f"Did you mean {meant}"):
        make()


def test_unknown_names_are_answered_with_the_nearest(router: Router, server: ScriptedServer) -> None:
    with pytest.raises(
        UnknownModule, match=r"no module 'scorr' in config/models.yaml. Did you mean 'scorer'\?"
    ) as raised:
        router.complete("hi", module="scorr")
    assert isinstance(raised.value, LookupError)
    assert "Defined: default, scorer." in str(raised.value)
    with pytest.raises(UnknownModel, match=r"Did you mean 'good'\?"):
        router.complete("hi", model="goood")
    with pytest.raises(UnknownModel):
        router.complete("hi", model=["good", "goood"])
    assert server.ledger == []


def test_known_parameters_are_those_of_the_installed_litellm(bare_litellm: Any) -> None:
    from litellm.constants import DEFAULT_CHAT_COMPLETION_PARAM_VALUES

    ours = {"model", "messages", "max_retries", "custom_llm_provider"}  # arguments of the router, or refused
    assert set(DEFAULT_CHAT_COMPLETION_PARAM_VALUES) - ours <= having("litellm")


def test_errors_and_answers_survive_pickling(router: Router, server: ScriptedServer) -> None:
    server.script("good", Reply(""))
    with pytest.raises(modelrouter.AllModelsFailed) as failed:
        router.complete("hi", model="good")
    again = pickle.loads(pickle.dumps(failed.value))  # noqa: S301 - our own bytes
    assert (str(again), again.attempts) == (str(failed.value), failed.value.attempts)


# Metering


def test_what_is_metered_is_what_the_server_saw(
    router: Router, server: ScriptedServer, registry: CollectorRegistry
) -> None:
    server.script("good", Reply(""), Reply("fine", input_tokens=100, output_tokens=50))
    assert router.complete("hi").model == "local"
    assert router.complete("hi").model == "good"
    assert sample(registry, "llm_provider_requests_total", provider="anthropic", model="good", status="success") == 1
    assert sample(registry, "llm_provider_requests_total", provider="anthropic", model="good", status="error") == 1
    assert sample(registry, "llm_provider_requests_total", provider="ollama", model="local", status="success") == 1
    assert sample(registry, "llm_errors_total", provider="anthropic", error_type="empty_response") == 1
    assert sample(registry, "llm_tokens_used_total", provider="anthropic", model="good", type="input") == 110
    cost = sample(registry, "llm_cost_usd_total", provider="anthropic", model="good")
    assert cost == pytest.approx((110 * 3 + 55 * 15) / 1e6)
    assert sample(registry, "llm_module_cost_usd_total", module="default") == cost
    assert sample(registry, "llm_module_requests_total", module="default", outcome="success") == 2
    reason = {"module": "default", "from_model": "good", "to_model": "local", "reason": "empty_response"}
    assert sample(registry, "llm_fallbacks_total", **reason) == 1


def test_a_price_that_is_not_known_is_none_and_never_0(
    catalog: WriteCatalog, server: ScriptedServer, keys: str, registry: CollectorRegistry
) -> None:
    catalog(
        {"a": {"model": "openai/gpt-4o", "api_base": server.openai_base}}
    )  # in LiteLLM's map, but this is not OpenAI's own address
    answer = Router(registry=registry).complete("hi")
    assert answer.cost_usd is None
    assert sample(registry, "llm_cost_unknown_total", provider="openai", model="gpt-4o") == 1


def test_each_fallback_is_one_warning_and_each_model_is_announced_once(
    router: Router, server: ScriptedServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modelrouter.router.performer, "_announced", set())
    server.script("good", Reply(""))
    with caplog.at_level(logging.INFO, "modelrouter"):
        router.complete("hi")
        router.complete("hi again")
    lines = [record.getMessage() for record in caplog.records]
    assert lines.count("llm_provider_created provider=anthropic model=good") == 1
    assert lines.count("llm_fallback module=default from=good to=local reason=empty_response") == 2


# Threads, loops, forks, cancellation


def test_many_threads_and_many_loops_share_a_router(router: Router, server: ScriptedServer) -> None:
    def one(number: int) -> str:
        if number % 2:
            return router.complete(f"{number}").text
        return asyncio.run(router.acomplete(f"{number}")).text

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(one, range(40))) == {"ok"}
    assert len(server.requests("good")) == 40


def test_a_synchronous_call_works_inside_a_running_loop(router: Router) -> None:
    async def handler() -> str:
        return router.complete("hi").text

    assert asyncio.run(handler()) == "ok"


def test_loops_that_end_leave_no_socket_behind(router: Router) -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    for _ in range(3):
        asyncio.run(router.acomplete("hi"))
    before = open_files()
    for _ in range(30):
        asyncio.run(router.acomplete("hi"))
    assert open_files() <= before


def test_a_cancelled_call_closes_its_connection_and_is_metered_as_no_error(
    router: Router, server: ScriptedServer, registry: CollectorRegistry
) -> None:
    server.script("good", Hang())

    async def cancelled() -> None:
        task = asyncio.create_task(router.acomplete("hi"))
        await asyncio.to_thread(server.wait_for, 1, "good")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert server.requests("good")[0].ended() == "abandoned"
    assert sample(registry, "llm_provider_requests_total", provider="anthropic", model="good", status="cancelled") == 1
    assert sample(registry, "llm_provider_requests_total", provider="anthropic", model="good", status="error") == 0
    assert sample(registry, "llm_module_requests_total", module="default", outcome="cancelled") == 1
    assert server.requests("local") == []


def test_a_call_whose_coroutine_is_closed_is_metered_too(router: Router, registry: CollectorRegistry) -> None:
    async def closed() -> None:
        call = router.acomplete("hi")
        call.send(None)
        call.close()

    with ScriptedProvider({"*": Answer("late", delay=60)}):
        asyncio.run(closed())
    assert sample(registry, "llm_module_requests_total", module="default", outcome="cancelled") == 1


def _child(router: Router, answers: Any) -> None:
    answers.put((router.complete("hi").text, asyncio.run(router.acomplete("hi")).text))


@pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)  # Python 3.12: the point here
def test_a_forked_child_calls_on(router: Router, server: ScriptedServer) -> None:
    router.complete("hi")
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=_child, args=(router, answers))
    child.start()
    child.join(20)
    assert child.exitcode == 0
    assert answers.get() == ("ok", "ok")
    assert router.complete("hi").text == "ok"


def test_a_process_ends_at_once_also_while_a_call_hangs(
    catalog: WriteCatalog, server: ScriptedServer, keys: str, surroundings: Path
) -> None:
    catalog({"a": server.openai("a")})
    server.script("a", Hang())
    code = (
        "import threading, time, modelrouter\n"
        "threading.Thread(target=modelrouter.complete, args=('hi',), daemon=True).start()\n"
        "while True:\n"
        "    time.sleep(0.2)\n"
        "    from modelrouter.backend.loading import loaded\n"
        "    if loaded(): break\n"
        "time.sleep(0.5)\n"
        "print('done')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, cwd=surroundings, check=False
    )
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert "Fatal" not in done.stderr


@pytest.mark.parametrize("background", [False, True])
def test_a_warm_up_sends_nothing_and_leaves_the_first_call_nothing_to_load(
    background: bool, catalog: WriteCatalog, server: ScriptedServer, surroundings: Path
) -> None:
    catalog({"a": server.ollama("a")})
    code = (
        f"import sys, threading, modelrouter; modelrouter.warm_up(background={background})\n"
        "[thread.join() for thread in threading.enumerate() if thread.name == 'modelrouter-warm-up']\n"
        "print('litellm' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=surroundings,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
    assert server.ledger == []


# The catalog under a running process


def test_an_edit_of_the_yaml_retargets_the_next_call_and_a_broken_one_changes_nothing(
    catalog: WriteCatalog,
    server: ScriptedServer,
    registry: CollectorRegistry,
    eager_catalog: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = catalog({"a": server.ollama("a"), "b": server.ollama("b")}, chain=["a"])
    router = Router(registry=registry)
    assert router.complete("hi").model == "a"
    catalog({"a": server.ollama("a"), "b": server.ollama("b")}, chain=["b"])
    assert router.complete("hi").model == "b"
    path.write_text(path.read_text().replace("chain", "chian"))
    for _ in range(3):
        assert router.complete("hi").model == "b"
    [error] = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "chian: unknown key. Did you mean 'chain'?" in error
    path.unlink()
    assert router.complete("hi").model == "b"
    catalog({"a": server.ollama("a")})
    assert router.complete("hi").model == "a"
    assert sample(registry, "llm_catalog_reloads_total", result="ok") == 2
    assert sample(registry, "llm_catalog_reloads_total", result="error") == 2


# The process's own router, and the guide's names


@pytest.fixture
def default(router: Router, process_router: object) -> None:
    modelrouter.configure(registry=CollectorRegistry())


def test_names_that_are_no_text_are_refused(default: None) -> None:
    with pytest.raises(InvalidRequest, match="the provider is named by a string, not by int"):
        modelrouter.get_llm_provider(5)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="the model is named by a string, not by int"):
        modelrouter.get_llm_provider("openai", 5)  # type: ignore[arg-type]


def test_a_router_that_is_replaced_leaves_what_it_has_counted(default: None, server: ScriptedServer) -> None:
    for _ in range(3):
        modelrouter.complete("hi", cache=True)
    modelrouter.configure(registry=CollectorRegistry())
    counted = spend.by(spend.lines(default_store(), spend.last(2)), lambda line: line.module)["default"]
    assert (counted.misses, counted.hits) == (1, 2)


def test_the_functions_of_the_package_use_one_router(default: None, server: ScriptedServer) -> None:
    assert modelrouter.complete("hi", module="scorer").model == "local"
    assert asyncio.run(modelrouter.acomplete("hi")).model == "good"
    assert modelrouter.get_router() is modelrouter.get_router()


def test_the_guides_names_work(default: None, server: ScriptedServer) -> None:
    async def guide() -> list[str]:
        handles = [
            modelrouter.get_llm_provider(),
            modelrouter.get_llm_provider("anthropic", "good"),
            modelrouter.get_llm_provider("ollama", "local"),
            modelrouter.get_module_provider("scorer"),
        ]
        return [(await handle.complete("Analyze this job posting: ...")).model for handle in handles]

    assert asyncio.run(guide()) == ["good", "good", "local", "local"]
    with pytest.raises(UnknownModule):
        modelrouter.get_module_provider("scorr")


# Secrets


def test_a_key_appears_nowhere(
    router: Router, server: ScriptedServer, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    from prometheus_client import generate_latest

    server.script("good", Reply("fine"), Reply(""))
    with caplog.at_level(logging.DEBUG):
        answer = router.complete("hi")
        asyncio.run(router.acomplete("hi"))
    assert server.requests("good")[0].headers["x-api-key"] == CANARY
    logged = "\n".join(f"{record.getMessage()} {record.args}" for record in caplog.records)
    shown = [logged, repr(answer), repr(router.catalog), repr(vars(router)), generate_latest(registry).decode()]
    assert all(CANARY not in text for text in shown)


COMMON: dict[str, Any] = {
    "response_format": {"type": "json_object"},
    "temperature": 0.1,
    "max_tokens": 7,
    "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
    "tool_choice": "auto",
    "stop": ["\n"],
    "seed": 3,
    "reasoning_effort": "low",
}


@pytest.mark.parametrize("method", ["complete", "acomplete", "stream", "astream"])
def test_each_named_parameter_arrives_under_its_own_name(method: str, registry: CollectorRegistry) -> None:
    async def ask() -> None:
        outcome = getattr(Router(registry=registry), method)("hi", **COMMON)
        if method == "acomplete":
            await outcome
        elif method == "stream":
            list(outcome)
        elif method == "astream":
            [piece async for piece in outcome]

    with ScriptedProvider({"*": Answer("{}")}) as provider:
        asyncio.run(ask())
    assert {name: provider.requests[-1].params.get(name) for name in COMMON} == COMMON
