"""Gemini, as what a row of the table of providers gives: its key, its default model, its address, and answers."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

import pytest
from conftest import CANARY, WriteCatalog
from servers.raw import RawServer

from modelrouter import MissingKey, Router
from modelrouter.catalog import known_providers
from modelrouter.testing import ScriptedProvider

PRICE = {"input": 2, "output": 10, "cache_read": 0.1}
USED = {
    "promptTokenCount": 1000,
    "candidatesTokenCount": 20,
    "thoughtsTokenCount": 30,
    "cachedContentTokenCount": 600,
    "totalTokenCount": 1050,
}
COST = (400 * Decimal(2) + 600 * Decimal("0.1") + 50 * Decimal(10)) / 1_000_000


def part(text: str, **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}} | more]}


def last(text: str) -> dict[str, Any]:
    return part(text, finishReason="STOP") | {"usageMetadata": USED}


@pytest.mark.heavy
@pytest.mark.parametrize("variable", ["GEMINI_API_KEY", "GOOGLE_API_KEY"])
@pytest.mark.parametrize("how", ["sync", "async"])
def test_its_answer_is_read_and_priced_and_its_key_goes_along(
    variable: str, how: str, catalog: WriteCatalog, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, CANARY)
    with RawServer() as raw:
        catalog({"a": {"model": "gemini/gemini-4-argon", "api_base": raw.base, "price": PRICE}}, retries=0)
        raw.says(last("hello"))
        answer = router.complete("hi") if how == "sync" else asyncio.run(router.acomplete("hi"))
        assert CANARY in raw.headers[0].values()
    assert (answer.text, answer.provider, answer.finish_reason) == ("hello", "gemini", "stop")
    assert answer.usage.counts == (1000, 50, 600, 0, 30)
    assert answer.cost_usd == COST


@pytest.mark.heavy
def test_its_stream_is_read_and_priced(catalog: WriteCatalog, router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", CANARY)
    with RawServer() as raw:
        catalog({"a": {"model": "gemini/gemini-4-argon", "api_base": raw.base, "price": PRICE}}, retries=0)
        raw.says("".join(f"data: {json.dumps(each)}\n\n" for each in (part("hel"), last("lo"))))
        with router.stream("hi") as pieces:
            assert "".join(pieces) == "hello"
        assert pieces.answer.cost_usd == COST


def test_without_its_key_nothing_is_sent(router: Router) -> None:
    with pytest.raises(MissingKey, match="needs GEMINI_API_KEY, which is not set"):
        router.complete("hi", model="gemini/gemini-4-argon")


def test_alone_it_means_its_default_model(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_PROVIDER", "gemini")
    with ScriptedProvider({"gemini-flash": "hello"}):
        answer = router.complete("hi", module="scorer")
    assert answer.litellm_model == "gemini/gemini-3.8-flash"
    assert answer.cost_usd is not None


@pytest.mark.parametrize(
    ("name", "meant"),
    [("gemni", "gemini"), ("opnai", "openai"), ("gemini", None), ("ollama_chat", None), ("vertex_ai", None)],
)
def test_only_what_is_nearly_the_name_of_one_is_a_slip(name: str, meant: str | None) -> None:
    assert known_providers.mistyped(name) == meant


def test_what_no_row_knows_is_like_any_other_provider() -> None:
    row = known_providers.known("cohere")
    assert (row.name, row.string, row.key_envs, row.on_this_machine, row.client) == (
        "cohere",
        "cohere",
        (),
        False,
        None,
    )
    assert known_providers.of_string("ollama_chat/llama2") is known_providers.known("ollama")
