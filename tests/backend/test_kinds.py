"""Each kind of failure on each wire format, from a real server over real sockets: what follows, and how many
requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from conftest import CANARY, WriteCatalog
from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from servers import Answer, Drip, Drop, Fault, Garbage, Hang, Known, Reply, ScriptedServer

from modelrouter import AllModelsFailed, BadRequest, Completion, DeadlineExceeded, MissingKey, Router
from modelrouter.backend.abilities import lacks
from modelrouter.catalog.target import Target
from modelrouter.completion import Kind
from modelrouter.planning.exchange import Request

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("quick_backoff")]

Call = Callable[..., Completion]
WIRES = ("openai", "anthropic", "ollama")


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, router: Router) -> Call:
    """`Router.complete` and `Router.acomplete`: one behaviour."""
    if request.param == "sync":
        return router.complete
    return lambda *args, **kwargs: asyncio.run(router.acomplete(*args, **kwargs))


def model(server: ScriptedServer, wire: str, name: str, **facts: Any) -> dict[str, Any]:
    entry: dict[str, Any] = getattr(server, wire)(name)
    return {"price": "free", **entry, **facts}


ALL_WIRES: list[tuple[str, Answer, Kind, int]] = [
    ("429", Fault(429), Kind.RATE_LIMIT, 3),
    ("500", Fault(500), Kind.SERVER, 3),
    ("503", Fault(503), Kind.SERVER, 3),
    ("409", Fault(409), Kind.SERVER, 3),
    ("504", Fault(504), Kind.SERVER, 3),
    ("529", Fault(529), Kind.SERVER, 3),
    ("overloaded", Known("overloaded"), Kind.SERVER, 3),
    ("dropped", Drop(), Kind.CONNECTION, 3),
    ("not JSON", Garbage(), Kind.SERVER, 3),
    ("499", Fault(499), Kind.SERVER, 3),
    ("425", Fault(425), Kind.SERVER, 3),
    ("522", Fault(522), Kind.SERVER, 3),
    ("408", Fault(408), Kind.TIMEOUT, 1),
    ("429, a long Retry-After", Fault(429, retry_after=31), Kind.RATE_LIMIT, 1),
    ("bad key", Known("bad_key"), Kind.AUTH, 1),
    ("402", Fault(402), Kind.QUOTA, 1),
    ("403", Fault(403), Kind.PERMISSION, 1),
    ("insufficient quota", Known("insufficient_quota"), Kind.QUOTA, 1),
    ("no such model", Known("model_not_found"), Kind.NOT_FOUND, 1),
    ("unsupported", Known("unsupported"), Kind.UNSUPPORTED, 1),
    ("prompt too long", Known("context_window"), Kind.CONTEXT_WINDOW, 1),
    ("413", Fault(413), Kind.CONTEXT_WINDOW, 1),
    ("filtered prompt", Known("content_policy"), Kind.CONTENT_POLICY, 1),
    ("filtered answer", Reply("so", finish_reason="content_filter"), Kind.CONTENT_POLICY, 1),
    ("no choices", Reply("", choices=False), Kind.EMPTY_RESPONSE, 1),
    ("no text", Reply(""), Kind.EMPTY_RESPONSE, 1),
    ("all spent on reasoning", Reply("", finish_reason="length"), Kind.MAX_TOKENS, 1),
]


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    ("answer", "kind", "requests"), [row[1:] for row in ALL_WIRES], ids=[row[0] for row in ALL_WIRES]
)
def test_a_failure_is_classified_retried_or_not_and_the_next_model_answers(
    wire: str,
    answer: Answer,
    kind: Kind,
    requests: int,
    call: Call,
    catalog: WriteCatalog,
    server: ScriptedServer,
    keys: str,
) -> None:
    catalog({"a": model(server, wire, "first"), "b": model(server, wire, "second")}, retries=2)
    server.script("first", answer)
    answered = call("hi")
    assert (answered.text, answered.model, answered.fallback) == ("ok", "b", True)
    assert [a.error_kind for a in answered.attempts] == [kind] * requests + [None]
    assert (len(server.requests("first")), len(server.requests("second"))) == (requests, 1)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("status", [400, 418, 422])
def test_any_other_refusal_of_the_request_is_the_callers_to_mend(
    wire: str, status: int, call: Call, catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    catalog({"a": model(server, wire, "first"), "b": model(server, wire, "second")})
    server.script("first", Fault(status, "no such thing"))
    with pytest.raises(BadRequest, match=f"status {status}: {status}, no such thing"):
        call("hi")
    assert (len(server.requests("first")), len(server.requests("second"))) == (1, 0)


@pytest.mark.parametrize("wire", WIRES)
def test_a_hanging_model_is_asked_again_only_when_it_is_the_last(
    wire: str, call: Call, catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    catalog({"a": model(server, wire, "first"), "b": model(server, wire, "second")}, timeout=0.2, retries=1)
    server.script("first", Hang())
    server.script("second", Hang())
    with pytest.raises(AllModelsFailed) as failed:
        call("hi")
    assert [str(a) for a in failed.value.attempts] == ["timeout after 0.2 s"] * 3
    assert [len(server.requests(name)) for name in ("first", "second")] == [1, 2]
    assert [request.ended() for request in server.requests("first")] == ["abandoned"]


def test_a_short_retry_after_is_waited_for(
    call: Call, catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    catalog({"a": model(server, "openai", "first")})
    server.script("first", Fault(429, retry_after=0.5), Reply("at last"))
    answered = call("hi")
    first, second = server.requests("first")
    assert second.at - first.at >= 0.5
    assert [a.retry_after for a in answered.attempts] == [0.5, None]


def test_a_missing_key_costs_no_request(call: Call, catalog: WriteCatalog, server: ScriptedServer) -> None:
    catalog({"a": model(server, "openai", "first", api_key_env="FIRST_KEY"), "b": model(server, "ollama", "second")})
    answered = call("hi")
    assert str(answered.attempts[0]) == "skipped: FIRST_KEY is not set"
    assert (len(server.requests("first")), len(server.requests("second"))) == (0, 1)
    with pytest.raises(MissingKey, match="needs FIRST_KEY, which is not set"):
        call("hi", model="a")
    assert server.requests("first") == []


def test_an_ollama_that_does_not_run_is_asked_once(
    call: Call, catalog: WriteCatalog, server: ScriptedServer, refused: str
) -> None:
    catalog({"a": {"model": "ollama/llama2", "api_base": refused}, "b": model(server, "ollama", "second")})
    attempt, _ = call("hi").attempts
    assert f"connection: nothing answers at {refused}; start it with 'ollama serve'" in str(attempt)


def test_an_ollama_model_that_is_not_pulled_says_so(call: Call, catalog: WriteCatalog, server: ScriptedServer) -> None:
    catalog({"a": {"model": "ollama/mymodel", "api_base": server.ollama_base}})
    server.ollama_models = {}
    with pytest.raises(AllModelsFailed, match="model 'mymodel' is not pulled; run 'ollama pull mymodel'"):
        call("hi")
    assert len(server.requests("mymodel")) == 1


def test_a_refused_connection_of_another_provider_may_pass(
    call: Call, catalog: WriteCatalog, refused: str, keys: str
) -> None:
    catalog(
        {"a": {"model": "openai/x", "api_base": refused}, "b": {"model": "anthropic/x", "api_base": refused}}, retries=1
    )
    with pytest.raises(AllModelsFailed) as failed:
        call("hi")
    assert [a.error_kind for a in failed.value.attempts] == [Kind.CONNECTION] * 4
    assert f"nothing answers at {refused}" in str(failed.value)


TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


@pytest.mark.parametrize(
    ("need", "arguments"),
    [
        ("tools", {"prompt": "hi", "tools": [TOOL]}),
        ("response_format", {"prompt": "hi", "response_format": {"type": "json_object"}}),
        ("images", {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}, IMAGE]}]}),
    ],
)
def test_a_model_known_to_lack_what_is_needed_costs_no_request(
    need: str, arguments: dict[str, Any], call: Call, catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    catalog({"a": model(server, "openai", "first", supports={need: False}), "b": model(server, "openai", "second")})
    answered = call(**arguments)
    assert str(answered.attempts[0]) == f"skipped: it takes no {need}"
    assert (len(server.requests("first")), len(server.requests("second"))) == (0, 1)
    assert need == "images" or need in server.requests("second")[0].body


SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}


@pytest.mark.parametrize("wire", ["openai", "anthropic", "ollama"])
def test_what_a_model_is_said_to_support_goes_out_in_its_providers_form(
    wire: str, catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    supports = {"response_format": True, "tools": True}
    catalog({"a": {**getattr(server, wire)("a"), "supports": supports}}, cache=False)
    Router(registry=CollectorRegistry()).complete("hi", response_format=SCHEMA)
    body = server.requests()[0].body
    asked = {"openai": "response_format", "anthropic": "tools", "ollama": "format"}
    assert [name for name in asked.values() if name in body] == [asked[wire]]
    assert not body.get("options", {}).get("response_format")


def test_a_picture_at_an_address_goes_past_ollama_which_takes_none(
    catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    catalog({"a": server.ollama("a"), "b": server.openai("b")}, cache=False)
    part = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    answer = Router(registry=CollectorRegistry()).complete(messages=[{"role": "user", "content": [part]}])
    assert (answer.model, server.count("a")) == ("b", 0)
    assert "pass them as data: URLs" in str(answer.attempts[0].error)


@pytest.mark.parametrize(("effort", "limit"), [(None, 4096), ("high", 4096 + 4096)])
def test_claudes_limit_of_tokens_has_room_for_its_reasoning(
    effort: str | None, limit: int, catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    catalog({"a": server.anthropic("claude-sonnet-4-5")}, cache=False)
    Router(registry=CollectorRegistry()).complete("hi", reasoning_effort=effort)
    assert server.requests()[0].body["max_tokens"] == limit


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("wire", ["openai", "anthropic", "ollama"])
def test_what_litellm_cannot_send_is_no_error_of_the_provider(
    wire: str, stream: bool, catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    catalog({"a": getattr(server, wire)("a")}, cache=False)
    registry = CollectorRegistry()
    router = Router(registry=registry)
    odd = [{"role": "user", "content": [{"type": "image", "data": "..."}]}]
    for _ in range(4):
        with pytest.raises(AllModelsFailed, match="LiteLLM can make no request in") as caught:
            list(router.stream(messages=odd)) if stream else router.complete(messages=odd)
        [attempt] = caught.value.attempts
        assert (attempt.outcome, attempt.error_kind, attempt.status) == ("skipped", Kind.UNSUPPORTED, None)
    assert server.ledger == []
    for status in ("success", "error"):
        labels = {"provider": wire, "model": "a", "status": status}
        assert not registry.get_sample_value("llm_provider_requests_total", labels)
    assert router.complete("hi").attempts[0].outcome == "ok", "it was set aside"


def test_a_requirement_is_never_dropped_in_silence(
    call: Call, catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    # LiteLLM's tables say that gpt-4 takes no response_format, and with drop_params it would be left out. Of a server
    # of one's own they know nothing.
    catalog({"a": model(server, "openai", "gpt-4"), "b": model(server, "openai", "second")})
    assert call("hi", response_format={"type": "json_object"}).model == "a"
    assert server.requests()[0].body["response_format"] == {"type": "json_object"}
    at_home = Target("gpt-4", "openai/gpt-4", "openai")
    why = lacks(at_home, Request((), {"response_format": {"type": "json_object"}}))
    assert why == "it takes no response_format"


class City(BaseModel):
    name: str
    people: int


def test_an_answer_that_does_not_validate_goes_to_the_next_model_with_its_cost(
    call: Call, catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    price = {"input": 1, "output": 2}
    catalog({name: model(server, "openai", name, price=price) for name in ("first", "second")})
    server.script("first", Reply("Paris is nice"))
    server.script("second", Reply('{"name": "Paris", "people": 2100000}'))
    answered = call("hi", response_format=City)
    assert answered.parsed == City(name="Paris", people=2100000)
    turned_down, good = answered.attempts
    assert turned_down.error_kind is Kind.EMPTY_RESPONSE
    assert turned_down.cost_usd == good.cost_usd == Decimal(20) / 1_000_000  # 10 tokens in, 5 out
    assert answered.cost_usd == Decimal(40) / 1_000_000


@pytest.mark.parametrize(
    "answer", [Hang(), Drip("body", 0.05), Drip("head", 0.05)], ids=["hangs", "drips", "drips a head"]
)
@pytest.mark.parametrize("wire", WIRES)
def test_a_call_ends_within_its_deadline_and_later_calls_work(
    wire: str, answer: Answer, call: Call, catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    catalog({"a": model(server, wire, "first")}, timeout=30)
    server.script("first", answer, Reply("fine"))
    with pytest.raises(DeadlineExceeded) as failed:
        call("hi", deadline=0.3)
    assert failed.value.elapsed < 1.3
    assert server.requests("first")[0].ended() == "abandoned"  # the connection is closed, not left behind
    assert call("hi").text == "fine"


def test_a_server_that_never_accepts_ends_with_the_deadline(
    call: Call, catalog: WriteCatalog, server: ScriptedServer, unaccepted: str, keys: str
) -> None:
    catalog({"a": {"model": "openai/x", "api_base": unaccepted}, "b": model(server, "openai", "second")})
    with pytest.raises(DeadlineExceeded) as failed:
        call("hi", model="a", deadline=0.3)
    assert failed.value.elapsed < 1.3
    assert call("hi", deadline=0.6).model == "b"


@pytest.mark.parametrize("wire", WIRES)
def test_a_server_that_repeats_the_key_leaks_it_nowhere(
    wire: str, call: Call, catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    catalog({"a": model(server, wire, "first", api_key_env="OPENAI_API_KEY")})
    server.script("first", Fault(401, body=lambda request: {"error": {"message": f"bad headers {request.headers}"}}))
    with pytest.raises(AllModelsFailed) as failed:
        call("hi")
    error: BaseException | None = failed.value
    while error is not None:
        assert CANARY not in f"{error} {error!r} {vars(error)}"
        error = error.__cause__ or error.__context__
