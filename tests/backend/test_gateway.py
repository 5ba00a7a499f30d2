"""What a gateway is sent, and what its word counts for. tests/whole/test_real_gateway.py asks a real one."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import yaml
from conftest import CANARY, WriteCatalog
from servers import Reply, ScriptedServer
from servers.raw import RawServer

from modelrouter import AllModelsFailed, Completion, Router
from modelrouter.completion import Kind

HOWS = ("whole", "stream")


def ask(router: Router, how: str, **arguments: Any) -> Completion:
    if how == "whole":
        return router.complete("hi", **arguments)
    with router.stream("hi", **arguments) as pieces:
        list(pieces)
        return pieces.answer


@pytest.fixture
def through(catalog: WriteCatalog, server: ScriptedServer, keys: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalog with a model without a price, asked through `server`."""
    catalog({"a": {"model": "anthropic/claude-x", "params": {"top_k": 3}}}, cache=False, retries=0, timeout=6.5)
    monkeypatch.setenv("GATEWAY_URL", server.openai_base)
    monkeypatch.setenv("GATEWAY_API_KEY", f"{CANARY}-of-the-gateway")


@pytest.mark.usefixtures("through")
@pytest.mark.parametrize("how", HOWS)
def test_it_is_asked_under_the_name_in_the_catalog_with_its_own_key_and_told_what_not_to_do(
    how: str, router: Router, server: ScriptedServer
) -> None:
    headers = {"extra_headers": {"x-team": "blue"}, "headers": {"authorization": "Bearer the provider's"}}
    answers = [ask(router, how, **headers, seed=7) for _ in range(2)]
    for answer, request in zip(answers, server.requests("a"), strict=True):
        assert (answer.model, answer.provider, answer.litellm_model) == ("a", "anthropic", "anthropic/claude-x")
        assert request.headers["authorization"] == f"Bearer {CANARY}-of-the-gateway"
        assert "x-team" not in request.headers
        said = {"disable_fallbacks": True, "num_retries": 0, "timeout": 8, "stream_timeout": 8, "drop_params": True}
        said |= {"extra_headers": {"x-team": "blue", "authorization": "Bearer the provider's"}}
        said |= {"top_k": 3, "seed": 7, "max_tokens": 4096}
        assert {name: request.body.get(name) for name in said} == said


@pytest.mark.usefixtures("through")
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(
    ("headers", "cost"),
    [
        ({}, None),
        ({"x-litellm-response-cost": "4.9999999999999996e-05"}, Decimal("0.00005")),
        ({"x-litellm-response-cost": "what?"}, None),
        ({"x-litellm-response-cost": "0.1", "x-litellm-cache-key": "k"}, Decimal(0)),
    ],
)
def test_what_an_answer_costs_is_its_word_where_the_catalog_has_none(
    either_way: str, how: str, headers: dict[str, str], cost: Decimal | None, router: Router, server: ScriptedServer
) -> None:
    server.script("a", Reply("so", headers=headers))
    assert [ask(router, how).cost_usd for _ in range(2)] == [cost, cost]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("otherwise", ["direct", "error"])
def test_what_stands_before_a_gateway_is_not_the_gateway(
    how: str, otherwise: str, catalog: WriteCatalog, server: ScriptedServer, keys: str, router: Router
) -> None:
    path = catalog({"a": server.openai("a", price={"input": 1, "output": 2})}, cache=False, retries=0)
    with RawServer() as raw:
        gateway = {"url": f"http://user:{CANARY}@{raw.base.removeprefix('http://')}", "otherwise": otherwise}
        path.write_text(path.read_text() + yaml.safe_dump({"gateway": gateway}))
        raw.says("<h1>Bad gateway</h1>", 502, content_type="text/html")
        if otherwise == "direct":
            assert ask(router, how).cost_usd == Decimal("0.00002")
            raw.says({"error": {"message": "Bad gateway"}}, 502, x_litellm_call_id="1")
        with pytest.raises(AllModelsFailed) as failed:
            ask(router, how)
        [attempt] = failed.value.attempts
        assert attempt.error_kind is Kind.SERVER
        assert ("the gateway: " in (attempt.error or "")) == (otherwise == "error")
        assert CANARY not in str(failed.value)
        assert not any(CANARY in str(body) for body in raw.bodies)


@pytest.mark.parametrize("how", HOWS)
def test_a_gateway_that_passes_on_a_503_is_not_bypassed(
    how: str, either_way: str, catalog: WriteCatalog, server: ScriptedServer, keys: str, router: Router
) -> None:
    path = catalog({"a": server.openai("direct", price="free")}, cache=False, retries=0)
    with RawServer() as raw:
        path.write_text(path.read_text() + yaml.safe_dump({"gateway": {"url": raw.base, "otherwise": "direct"}}))
        raw.says({"error": {"message": "Overloaded"}}, 503, x_litellm_call_id="1")
        with pytest.raises(AllModelsFailed):
            ask(router, how)
    assert server.ledger == []


@pytest.mark.parametrize("how", HOWS)
def test_asked_directly_a_model_costs_what_it_does_at_its_own_address(
    how: str,
    catalog: WriteCatalog,
    server: ScriptedServer,
    keys: str,
    router: Router,
    refused: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = catalog({"a": {"model": "ollama_chat/llama9", "api_base": server.ollama_base}}, cache=False, retries=0)
    path.write_text(path.read_text() + yaml.safe_dump({"gateway": {"url": refused, "otherwise": "direct"}}))
    server.ollama("llama9")
    assert ask(router, how).cost_usd == 0
    assert "gateway_bypassed model=a" in caplog.text


def test_the_strings_of_litellms_proxy_are_asked_where_its_variables_say(
    catalog: WriteCatalog, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, router: Router
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    catalog({"a": {"model": "litellm_proxy/foo"}}, cache=False, retries=0)
    with pytest.raises(AllModelsFailed):
        ask(router, "whole")
    monkeypatch.setenv("LITELLM_PROXY_API_BASE", server.openai_base)
    monkeypatch.setenv("LITELLM_PROXY_API_KEY", CANARY)
    with Router() as anew:
        for how in HOWS * 2:
            assert str(ask(anew, how)) == "ok"
    assert {request.headers["authorization"] for request in server.requests("foo")} == {f"Bearer {CANARY}"}
