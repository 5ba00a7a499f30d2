"""What is counted is what is paid for: tokens as each provider counts them, whole and as a stream, both ways."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from conftest import CANARY
from servers.raw import RawServer

from modelrouter.backend.current import LITELLM
from modelrouter.backend.insides import way
from modelrouter.catalog.prices import cost
from modelrouter.catalog.target import Price, Target
from modelrouter.completion import Usage
from modelrouter.planning.exchange import Piece, Reply, Request

pytestmark = pytest.mark.heavy

HELLO = Request(({"role": "user", "content": "hi"},))
SONNET = Price(Decimal(3), Decimal(15), Decimal("0.3"), Decimal("3.75"))

Count = Callable[..., Usage]


@pytest.fixture(scope="module")
def raw() -> Iterator[RawServer]:
    with RawServer() as server:
        yield server


@pytest.fixture(params=["quick", "plain"])
def counted(
    request: pytest.FixtureRequest, raw: RawServer, monkeypatch: pytest.MonkeyPatch, keys: str, litellms_litter: None
) -> Iterator[Count]:
    """The usage of one answer of a server of this provider's form, which counts so."""
    for provider in ("DEEPSEEK", "GEMINI", "GROQ", "OPENROUTER", "PERPLEXITYAI", "XAI"):
        monkeypatch.setenv(f"{provider}_API_KEY", CANARY)
    for name, value in {"ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": CANARY, "REGION_NAME": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    if request.param == "plain":
        monkeypatch.setenv("MODELROUTER_LITELLM", "plain")
    LITELLM.load()
    way.choose()

    def count(model: str, usage: Any, *, stream: bool = False) -> Usage:
        provider = model.partition("/")[0]
        said, headers = (STREAMS if stream else BODIES)[FORMS.get(provider, "openai")](usage)
        raw.says(said, **headers)
        base = raw.base + ("/v1" if FORMS.get(provider, "openai") == "openai" else "")
        target = Target("a", model, provider, api_base=base, own_address=False)
        if provider in ("openai", "anthropic"):
            target = replace(target, key_env=f"{provider.upper()}_API_KEY")
        reply = asyncio.run(streamed(target) if stream else LITELLM.send(target, HELLO, within=20))
        assert isinstance(reply, Reply)
        assert reply.text == "so"
        assert reply.usage is not None
        return reply.usage

    yield count
    monkeypatch.undo()
    way.choose()


async def streamed(target: Target) -> Any:
    came: Any = await LITELLM.open(target, HELLO, within=20, thinking=False)
    while isinstance(came, Piece):
        came = await came.stream.next(20)
    return came


FORMS = {"anthropic": "anthropic", "bedrock": "bedrock", "gemini": "gemini"}


def events(*said: Any, named: bool = False) -> tuple[str, dict[str, str]]:
    lines = (f"{'event: ' + each['type'] + chr(10) if named else ''}data: {json.dumps(each)}\n\n" for each in said)
    return "".join(lines), {"content_type": "text/event-stream"}


def openai_body(usage: Any) -> tuple[Any, dict[str, str]]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "so"}, "finish_reason": "stop"}
    head = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
    return {**head, "choices": [choice], "usage": usage}, {}


def openai_stream(usage: Any) -> tuple[str, dict[str, str]]:
    head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    said = {"index": 0, "delta": {"role": "assistant", "content": "so"}, "finish_reason": None}
    end = {"index": 0, "delta": {}, "finish_reason": "stop"}
    return events({**head, "choices": [said]}, {**head, "choices": [end]}, {**head, "choices": [], "usage": usage})


def anthropic_body(usage: Any) -> tuple[Any, dict[str, str]]:
    head = {"id": "1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None}
    return {**head, "content": [{"type": "text", "text": "so"}], "stop_reason": "end_turn", "usage": usage}, {}


def anthropic_stream(usage: Any) -> tuple[str, dict[str, str]]:
    message = {**anthropic_body(None)[0], "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    return events(
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "so"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": usage["output_tokens"]},
        },
        {"type": "message_stop"},
        named=True,
    )


def gemini_body(usage: Any) -> tuple[Any, dict[str, str]]:
    content = {"role": "model", "parts": [{"text": "so"}]}
    return {"candidates": [{"index": 0, "content": content, "finishReason": "STOP"}], "usageMetadata": usage}, {}


def bedrock_body(usage: Any) -> tuple[Any, dict[str, str]]:
    message = {"role": "assistant", "content": [{"text": "so"}]}
    return {"output": {"message": message}, "stopReason": "end_turn", "usage": usage, "metrics": {"latencyMs": 1}}, {}


BODIES = {"openai": openai_body, "anthropic": anthropic_body, "gemini": gemini_body, "bedrock": bedrock_body}
STREAMS = {
    "openai": openai_stream,
    "anthropic": anthropic_stream,
    "gemini": lambda usage: events(gemini_body(usage)[0]),
}

# Written to a provider's cache

WRITTEN: dict[str, tuple[str, Any]] = {
    "anthropic": (
        "anthropic/claude-x",
        {
            "input_tokens": 5,
            "cache_creation_input_tokens": 1000,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 1000},
            "output_tokens": 6,
        },
    ),
    "bedrock": (
        "bedrock/converse/anthropic.claude-sonnet-4-5-20250929-v1:0",
        {
            "inputTokens": 5,
            "outputTokens": 6,
            "totalTokens": 1011,
            "cacheReadInputTokens": 0,
            "cacheWriteInputTokens": 1000,
            "cacheDetails": [{"ttl": "1h", "inputTokens": 1000}],
        },
    ),
    "a gateway, in Anthropic's words": (
        "openai/claude-x",
        {
            "prompt_tokens": 1005,
            "completion_tokens": 6,
            "total_tokens": 1011,
            "cache_creation_input_tokens": 1000,
            "cache_creation": {"ephemeral_1h_input_tokens": 1000},
        },
    ),
    "a gateway, in LiteLLM's": (
        "openai/claude-x",
        {
            "prompt_tokens": 1005,
            "completion_tokens": 6,
            "total_tokens": 1011,
            "prompt_tokens_details": {
                "cached_tokens": 0,
                "cache_creation_tokens": 1000,
                "cache_creation_token_details": {"ephemeral_1h_input_tokens": 1000},
            },
        },
    ),
    "openai": (
        "openai/gpt-x",
        {
            "prompt_tokens": 1005,
            "completion_tokens": 6,
            "total_tokens": 1011,
            "prompt_tokens_details": {
                "cached_tokens": 0,
                "cache_write_tokens": 1000,
                "cache_write_tokens_details": {"ttl_30m_tokens": 0, "ttl_12h_tokens": 1000},
            },
        },
    ),
}


@pytest.mark.parametrize(
    ("name", "stream"),
    [(name, stream) for name in WRITTEN for stream in (False, True) if (name, stream) != ("bedrock", True)],
)
def test_what_is_written_to_a_cache_for_long_is_counted_and_paid_so(name: str, stream: bool, counted: Count) -> None:
    usage = counted(*WRITTEN[name], stream=stream)
    assert usage == Usage(1005, 6, cache_write_tokens=1000, cache_write_long_tokens=1000)
    assert cost(usage, SONNET) == Decimal("0.006105")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("split", "long"),
    [
        ({"ephemeral_5m_input_tokens": 600, "ephemeral_1h_input_tokens": 400}, 400),
        ({"ephemeral_5m_input_tokens": 1000, "ephemeral_1h_input_tokens": 0}, 0),
        ({"ephemeral_5m_input_tokens": None, "ephemeral_1h_input_tokens": None}, 0),
        ({}, 0),
        (None, 0),
    ],
)
def test_a_split_of_all_sorts(split: Any, long: int, stream: bool, counted: Count) -> None:
    said = {"input_tokens": 5, "cache_creation_input_tokens": 1000, "cache_creation": split, "output_tokens": 6}
    usage = counted("anthropic/claude-x", said, stream=stream)
    assert usage == Usage(1005, 6, cache_write_tokens=1000, cache_write_long_tokens=long)


# Reasoning

OF_OPENAI = ("openai/x", "xai/grok-x", "openrouter/a/b")


def of_openai(completion: int, total: int | None, reasoning: int | None, **more: Any) -> dict[str, Any]:
    details = {} if reasoning is None else {"completion_tokens_details": {"reasoning_tokens": reasoning}}
    said = {"prompt_tokens": 32, "completion_tokens": completion, "total_tokens": total, **details, **more}
    return {name: count for name, count in said.items() if count is not None}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("model", OF_OPENAI)
@pytest.mark.parametrize(
    ("said", "usage"),
    [
        (of_openai(9, 135, 94), Usage(32, 103, reasoning_tokens=94)),  # xAI
        (of_openai(9, 135, None), Usage(32, 103, reasoning_tokens=94)),  # Gemini's OpenAI form
        (of_openai(9, 135, None, reasoning_tokens=94), Usage(32, 103, reasoning_tokens=94)),
        (of_openai(0, 126, 94), Usage(32, 94, reasoning_tokens=94)),
        (of_openai(103, 135, 94), Usage(32, 103, reasoning_tokens=94)),  # OpenAI: inside
        (of_openai(9, 41, 0), Usage(32, 9)),
        (of_openai(9, 41, None), Usage(32, 9)),
        (of_openai(9, None, None), Usage(32, 9)),
        (of_openai(9, 41, 94), Usage(32, 9, reasoning_tokens=9)),  # the sum leaves no room for more
        (of_openai(9, 20, 5), Usage(32, 9, reasoning_tokens=5)),
        # Cached tokens beside the prompt are no reasoning.
        (
            of_openai(9, 71, None, prompt_tokens_details={"cached_tokens": 30}),
            Usage(32, 9, cache_read_tokens=30),
        ),
        (
            of_openai(9, 165, 94, prompt_tokens_details={"cached_tokens": 30}),
            Usage(32, 103, cache_read_tokens=30, reasoning_tokens=94),
        ),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_reasoning_is_part_of_the_output_wherever_it_is_counted(
    said: Any, usage: Usage, model: str, stream: bool, counted: Count
) -> None:
    assert counted(model, said, stream=stream) == usage


@pytest.mark.parametrize("model", ["openai/x", "openrouter/a/b"])  # for xAI, LiteLLM makes up a total
def test_without_a_total_reasoning_is_inside_what_can_hold_it(model: str, counted: Count) -> None:
    for completion in (9, 103):
        for stream in (False, True):
            said = counted(model, of_openai(completion, None, 94), stream=stream)
            assert said == Usage(32, 103, reasoning_tokens=94)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_gemini_counts_its_thoughts_beside_its_candidates(stream: bool, counted: Count) -> None:
    said = {"promptTokenCount": 32, "candidatesTokenCount": 9, "thoughtsTokenCount": 94, "totalTokenCount": 135}
    assert counted("gemini/x", said, stream=stream) == Usage(32, 103, reasoning_tokens=94)
