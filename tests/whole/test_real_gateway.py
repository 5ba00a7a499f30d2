"""Models that are asked through LiteLLM's proxy, beside the same ones asked themselves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
import yaml
from conftest import CANARY, StartProxy, WriteCatalog
from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from servers import Answer, Break, Drop, Fault, Garbage, Gate, Hang, Known, ProxyServer, Reply, ScriptedServer, ToolUse

from modelrouter import AllModelsFailed, Completion, Router
from modelrouter.catalog.binding import load
from modelrouter.catalog.overrides import Environment, Overrides
from modelrouter.cli.app import main
from modelrouter.completion import Kind, add
from modelrouter.errors import CallFailed
from modelrouter.export.litellm_proxy import export

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_backoff", "keys")]

WIRES = ("openai", "anthropic", "ollama")
PRICE = {"input": 1, "output": 2, "cache_read": 0.5, "cache_write": 3}
TOOL = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}},
}
NAMES = {wire: (f"{wire}-1", f"{wire}-2") for wire in WIRES}


@pytest.fixture(scope="module")
def proxy(litellm_proxy: StartProxy, _scripted_server: ScriptedServer) -> ProxyServer:
    price = {"input": 3, "output": 4}
    models = {
        name: {**getattr(_scripted_server, wire)(name), "price": price, "api_key_env": "THE_KEY"}
        for wire, names in NAMES.items()
        for name in names
    }
    document = {"models": models, "modules": {"default": {"chain": list(models), "retries": 2}}}
    catalog = load(yaml.safe_dump(document).encode(), shown="fleet.yaml", environment=Environment(Overrides("LLM_")))
    config = yaml.safe_load(export(catalog, redis=False).text)
    config["litellm_settings"] |= {"cache": True, "cache_params": {"type": "local", "mode": "default_off"}}
    return litellm_proxy(yaml.safe_dump(config), {"THE_KEY": CANARY})


@pytest.fixture
def through(proxy: ProxyServer, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on the gateway is asked."""

    def turn() -> None:
        monkeypatch.setenv("GATEWAY_URL", proxy.base)
        monkeypatch.setenv("GATEWAY_API_KEY", proxy.key)

    return turn


@pytest.fixture
def models(catalog: WriteCatalog, server: ScriptedServer) -> Callable[..., Any]:
    def write(wire: str, price: Any = PRICE, gateway: Any = None, first: Any = None, **default: Any) -> None:
        """Writes a catalog with the two models of a wire."""
        priced = {"price": price} if price is not None else {}
        entries = {name: {**getattr(server, wire)(name), **priced} for name in NAMES[wire]}
        entries[NAMES[wire][0]] |= first or {}
        if price is None:
            for entry in entries.values():
                entry.pop("price", None)
        # Limits that only what is meant to runs into: on a busy machine the proxy is held up for seconds.
        path = catalog(entries, **{"retries": 2, "timeout": 60, "deadline": 240, "cache": False, **default})
        if gateway is not None:
            path.write_text(path.read_text() + yaml.safe_dump({"gateway": gateway}))

    return write


CASES: dict[str, Answer] = {
    "an answer": Reply("so it is"),
    "cached and reasoned": Reply(input_tokens=99, cache_read_tokens=60, cache_write_tokens=20, reasoning_tokens=3),
    "thoughts": Reply("so", thoughts=("well", " now"), reasoning_tokens=2),
    "a tool": Reply("", tools=[ToolUse("look", {"at": "it"})]),
    "filtered answer": Reply("so", finish_reason="content_filter"),
    "no choices": Reply("", choices=False),
    "no text": Reply(""),
    "all spent on reasoning": Reply("", finish_reason="length"),
    **{str(status): Fault(status) for status in (400, 402, 403, 408, 413, 422, 429, 500, 503, 529)},
    "429, a short wait": Fault(429, retry_after=0.2),
    "429, a long wait": Fault(429, retry_after=31),
    "overloaded": Known("overloaded"),
    "bad key": Known("bad_key"),
    "quota": Known("insufficient_quota"),
    "no such model": Known("model_not_found"),
    "unsupported": Known("unsupported"),
    "too long": Known("context_window"),
    "filtered": Known("content_policy"),
    "dropped": Drop(),
    "not JSON": Garbage(),
    "hang": Hang(),
}
STREAMS: dict[str, Answer] = {
    "cut": Reply(pieces=["one", Break.CUT]),
    "cut at once": Reply(pieces=[Break.CUT]),
    "no end": Reply(pieces=["one", Break.END]),
    "an error in it": Reply(pieces=["one", Break.ERROR]),
    "not JSON in it": Reply(pieces=["one", Break.GARBAGE, "two"]),
}

_UNUSED = "what a stream that broke had used is not known, or estimated"
_MADE_EMPTY = "a stream that is not JSON ends as an empty answer"
_BROKEN = "of OpenAI's, 422 is answered with a broken answer of its own, after a second request"
_SKIPPED = "a line that is not JSON is skipped in a stream of Ollama's, and ends Claude's"
_COUNTED = "reasoning that Ollama does not count is counted"
OWN: dict[tuple[str, str], tuple[tuple[str, ...], str]] = {
    ("422", "openai"): (("whole", "stream"), _BROKEN),
    **{("not JSON", wire): (("stream",), _MADE_EMPTY) for wire in WIRES},
    ("not JSON in it", "anthropic"): (("stream",), _SKIPPED),
    ("not JSON in it", "ollama"): (("stream",), _SKIPPED),
    ("no choices", "openai"): (("stream",), _UNUSED),
    **{(name, "anthropic"): (("stream",), _UNUSED) for name in ("cut", "cut at once", "no end", "an error in it")},
    ("thoughts", "ollama"): (("stream",), _COUNTED),
}
"""What is the proxy's own: the README names it."""


def _rows() -> Iterator[Any]:
    for wire in WIRES:
        for how, cases in (("whole", CASES), ("stream", CASES | STREAMS)):
            for name in cases:
                yield pytest.param(wire, how, name, id=f"{wire}-{how}-{name}")


def _ask(router: Router, how: str, **arguments: Any) -> Completion | CallFailed:
    try:
        if how == "whole":
            return router.complete("hi", **arguments)
        with router.stream("hi", **arguments) as pieces:
            assert "".join(pieces) == pieces.answer.text
            return pieces.answer
    except CallFailed as error:
        return error


def _answer(router: Router, how: str, **arguments: Any) -> Completion:
    got = _ask(router, how, **arguments)
    assert isinstance(got, Completion), got
    return got


def _seen(router: Router, server: ScriptedServer, wire: str, how: str, name: str) -> dict[str, Any]:
    """All that a caller learns, and whom it was asked."""
    first, second = NAMES[wire]
    server.script(first, {**CASES, **STREAMS}[name])
    server.script(second, Reply("second"))
    before = [server.count(each) for each in (first, second)]
    arguments = {"tools": [TOOL]} if name == "a tool" else {}
    got = _ask(router, how, **arguments)
    asked = [server.count(each) - had for each, had in zip((first, second), before, strict=True)]
    facts = ("model", "provider", "outcome", "error_kind", "usage", "cost_usd", "estimated", "retry_after")
    seen: dict[str, Any] = {"asked": asked, "type": type(got).__name__}
    seen["attempts"] = [[getattr(attempt, fact) for fact in facts] for attempt in got.attempts]
    if isinstance(got, Completion):
        names = ("text", "model", "provider", "usage", "cost_usd", "finish_reason", "fallback")
        seen |= {each: getattr(got, each) for each in names}
        seen["tools"] = [(call.name, call.arguments.replace(" ", "")) for call in got.tool_calls]
    else:
        seen["text"] = getattr(got, "partial_text", None)
    return seen


@pytest.mark.parametrize(("wire", "how", "name"), list(_rows()))
def test_what_comes_through_the_gateway_is_what_comes_without_it(
    wire: str, how: str, name: str, models: Any, server: ScriptedServer, through: Callable[[], None]
) -> None:
    models(wire, first={"timeout": 0.7} if name == "hang" else {})
    with Router() as direct:
        expected = _seen(direct, server, wire, how, name)
    through()
    with Router() as routed:
        found = _seen(routed, server, wire, how, name)
    hows, why = OWN.get((name, wire), ((), ""))
    if how in hows:
        assert found != expected, f"it is no more that {why}"
    else:
        assert found == expected
    assert all(attempt[0] in NAMES[wire] and attempt[1] == wire for attempt in found["attempts"])


def test_the_proxy_is_told_to_leave_the_rest_to_the_chain_and_gets_only_its_own_key(
    models: Any,
    server: ScriptedServer,
    through: Callable[[], None],
    proxy: ProxyServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    through()
    models("openai", retries=0)
    server.script("openai-1", Fault(503))
    with Router() as router:
        assert router.complete("hi", temperature=0.3).model == "openai-2"
    assert [server.count(name) for name in NAMES["openai"]] == [1, 1]
    assert server.requests("openai-2")[-1].headers["authorization"] == f"Bearer {CANARY}", (
        "the proxy's, not the client's"
    )
    assert server.requests("openai-2")[-1].body["temperature"] == 0.3


class _Score(BaseModel):
    points: int


@pytest.mark.parametrize("wire", WIRES)
def test_structured_output_and_calls_in_tasks(
    wire: str, models: Any, server: ScriptedServer, through: Callable[[], None]
) -> None:
    through()
    models(wire)
    first = NAMES[wire][0]
    scored = Reply('{"points": 7}')
    server.script(first, scored)

    async def run(router: Router) -> list[Any]:
        asked = (router.acomplete(f"hi {n}", response_format=_Score) for n in range(8))
        return [answer.parsed.points for answer in await asyncio.gather(*asked)]

    with Router() as router:
        assert router.complete("hi", response_format=_Score).parsed == _Score(points=7)
        assert asyncio.run(run(router)) == [7] * 8


def test_a_call_that_is_cancelled_closes_its_connection(
    models: Any, server: ScriptedServer, through: Callable[[], None], registry: CollectorRegistry
) -> None:
    through()
    models("openai")
    server.script("openai-1", Reply(gate=Gate()))

    async def run(router: Router) -> None:
        task = asyncio.create_task(router.acomplete("hi"))
        await asyncio.to_thread(server.wait_for, server.count("openai-1") + 1, "openai-1", 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with Router(registry=registry) as router:
        asyncio.run(run(router))
    labels = {"provider": "openai", "model": "openai-1", "status": "cancelled"}
    assert registry.get_sample_value("llm_provider_requests_total", labels) == 1


@pytest.mark.parametrize("how", ["whole", "stream"])
def test_without_a_price_in_the_catalog_the_proxys_word_counts_and_what_it_remembers_costs_nothing(
    how: str, models: Any, server: ScriptedServer, through: Callable[[], None]
) -> None:
    through()
    models("openai", price=None)
    server.script("openai-1", Reply("so", input_tokens=100, output_tokens=10))
    remembered = {"extra_body": {"cache": {"use-cache": True}}, "seed": 5 if how == "stream" else 6}
    with Router() as router:
        assert _answer(router, how, **remembered).cost_usd == Decimal("0.00034")
        for _ in range(100):  # it remembers when it has answered
            sent, again = server.count("openai-1"), _answer(router, how, **remembered)
            if server.count("openai-1") == sent:
                break
    assert again.cost_usd == 0
    assert server.count("openai-1") == sent


def test_a_key_that_it_does_not_take_and_a_model_that_it_does_not_have(
    models: Any,
    server: ScriptedServer,
    through: Callable[[], None],
    proxy: ProxyServer,
    catalog: WriteCatalog,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    through()
    catalog(
        {"nobody": server.openai("nobody", price=PRICE), "openai-1": server.openai("openai-1", price=PRICE)},
        cache=False,
    )
    with Router() as router:
        answer = router.complete("hi")
    assert [attempt.error_kind for attempt in answer.attempts] == [Kind.NOT_FOUND, None]
    assert "modelrouter export litellm-proxy" in (answer.attempts[0].error or "")
    assert main(["check"]) == 0
    assert f"the gateway at {proxy.base} has no model 'nobody'" in capsys.readouterr().out
    monkeypatch.setenv("GATEWAY_API_KEY", f"{CANARY}-wrong")
    with Router() as router, pytest.raises(AllModelsFailed) as failed:
        router.complete("hi")
    assert {attempt.error_kind for attempt in failed.value.attempts} == {Kind.AUTH}
    assert "GATEWAY_API_KEY" in str(failed.value)
    assert CANARY not in str(failed.value)
    assert main(["check"]) == 1
    assert "does not take the key in GATEWAY_API_KEY" in capsys.readouterr().out


def test_killed_and_started_again_under_load_the_books_are_those_of_the_servers(
    models: Any, server: ScriptedServer, through: Callable[[], None], proxy: ProxyServer, registry: CollectorRegistry
) -> None:
    through()
    models("openai", retries=0, chain=["openai-1"])
    server.script("openai-1", Reply("so", input_tokens=100, output_tokens=10, delay=0.01))
    up, got = threading.Event(), list[Completion | CallFailed]()

    def ask(number: int) -> None:
        if number == 60:
            proxy.stop()
            proxy.start()
            up.set()
        elif number > 150:
            up.wait(120)
        got.append(_ask(router, "stream" if number % 2 else "whole"))

    with Router(registry=registry) as router, ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, range(250)))
    answered = [each for each in got if isinstance(each, Completion)]
    failed = [attempt for each in got if isinstance(each, CallFailed) for attempt in each.attempts]
    sent = [attempt for attempt in failed if attempt.outcome == "error"]
    assert len(got) == 250
    assert len(answered) >= 100
    assert {attempt.error_kind for attempt in failed} <= {Kind.CONNECTION, Kind.TRUNCATED, Kind.SERVER}
    assert len(answered) <= server.count("openai-1") <= len(answered) + len(sent)
    cost = registry.get_sample_value("llm_cost_usd_total", {"provider": "openai", "model": "openai-1"})
    known = [each.cost_usd or Decimal(0) for each in (*answered, *failed)]
    assert cost == pytest.approx(float(add(known)), rel=1e-12)
    # Of a stream that was whole when the proxy went, but for its usage, the cost is unknown.
    assert {each.cost_usd for each in answered} <= {Decimal("0.00012"), None}


@pytest.mark.parametrize("otherwise", ["direct", "error"])
def test_when_the_gateway_itself_does_not_answer(
    otherwise: str, models: Any, server: ScriptedServer, refused: str, capsys: pytest.CaptureFixture[str]
) -> None:
    models("openai", retries=0, gateway={"url": refused, "otherwise": otherwise})
    with Router() as router:
        got = [_ask(router, how) for how in ("whole", "stream")]
    if otherwise == "direct":
        assert [str(each) for each in got] == ["ok", "ok"]
        assert main(["check"]) == 0
        assert "asked at their own addresses: openai-1, openai-2" in capsys.readouterr().out
        return
    for each in got:
        assert isinstance(each, AllModelsFailed)
        assert [attempt.error_kind for attempt in each.attempts] == [Kind.CONNECTION] * 2
        assert f"the gateway: nothing answers at {refused}" in str(each)
    assert server.count() == 0
    assert main(["check"]) == 1
    assert f"no gateway answers at {refused}" in capsys.readouterr().out


@pytest.mark.parametrize("wire", WIRES)
def test_what_is_asked_for_arrives(wire: str, models: Any, server: ScriptedServer, through: Callable[[], None]) -> None:
    asked: dict[str, Any] = {
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "Be.", "cache_control": {"type": "ephemeral"}}]},
            {"role": "user", "content": "hi"},
        ],
        "temperature": 0.3,
        "top_p": 0.9,
        "stop": ["."],
        "max_tokens": 2000,
        "tools": [TOOL],
        "user": "me",
        "extra_headers": {"x-team": "blue"},
    }
    more = {"anthropic": {"top_k": 3}, "openai": {"seed": 7, "reasoning_effort": "low"}, "ollama": {"top_k": 3}}[wire]
    first = NAMES[wire][0]
    models(wire)
    for turn in (lambda: None, through):
        turn()
        with Router() as router:
            router.complete(**asked, **more)
    direct, routed = server.requests(first)[-2:]
    assert routed.body == direct.body
    assert routed.headers["x-team"] == "blue"
