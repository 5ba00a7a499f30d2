"""Requests that are made without LiteLLM's front: that they are those that it would make."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import CANARY, WriteCatalog
from hypothesis import given
from hypothesis import strategies as st
from servers import Reply, ScriptedServer

from modelrouter import Router
from modelrouter.backend.arguments import arguments_of
from modelrouter.backend.current import LITELLM
from modelrouter.backend.insides import connections, quiet, shapes, wire
from modelrouter.catalog.target import Target
from modelrouter.planning.exchange import Request

pytestmark = pytest.mark.heavy

STRAIGHT = (
    *("openai/gpt-4o", "openai/gpt-6-luna", "openai/ours", "anthropic/claude-sonnet-4-5", "anthropic/ours"),
    *("anthropic/claude-sonnet-5-5", "ollama_chat/llama2", "groq/llama-3.3-70b-versatile", "openrouter/x/y"),
    *("mistral/mistral-large-latest", "deepseek/deepseek-chat", "xai/grok-4", "together_ai/x/y", "fireworks_ai/x"),
    *("databricks/x", "hosted_vllm/x"),
)
THROUGH_THE_FRONT = ("azure_ai/x", "gemini/gemini-3.8-flash", "vertex_ai/gemini-3.8-flash")

TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]

messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": st.text(min_size=1)}),
    min_size=1,
    max_size=5,
)
parameters = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.sampled_from([0, 0.5, 1]),
        "top_p": st.sampled_from([0.5, 1.0]),
        "max_tokens": st.integers(1, 5000),
        "stop": st.sampled_from(["END", ["a", "b"]]),
        "seed": st.integers(0, 5),
        "response_format": st.just({"type": "json_object"}),
        "reasoning_effort": st.sampled_from(["low", "high"]),
        "user": st.just("me"),
        "tools": st.just(TOOLS),
        "extra_body": st.just({"top_k": 3}),
        "extra_headers": st.just({"X-Team": "blue"}),
    },
)


@pytest.fixture(autouse=True)
def from_the_first(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    LITELLM.load()
    shapes.forget()
    monkeypatch.setattr(shapes, "AFTER", 0)
    yield
    shapes.forget()


def asked(string: str, *said: str, stream: bool = False, **params: Any) -> dict[str, Any]:
    """LiteLLM's arguments."""
    target = Target("m", string, string.partition("/")[0], api_base="http://127.0.0.1:9/v1")
    asked = tuple({"role": "user", "content": text} for text in said or ("hi",))
    return {**arguments_of(target, Request(asked, params), None, 10.0, stream=stream), "api_key": CANARY}


async def shape_of(arguments: dict[str, Any]) -> shapes.Shape | None:
    with connections.watch():
        return await shapes.shape(arguments, quiet.bare(direct=True))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("string", STRAIGHT)
@given(params=parameters, first=messages, then=messages)
def test_it_is_sent_what_the_front_would_send(
    string: str, stream: bool, params: dict[str, Any], first: list[Any], then: list[Any]
) -> None:
    async def compare() -> None:
        arguments = asked(string, stream=stream, **params)
        shape = await shape_of({**arguments, "messages": first})
        if shape is None or not shapes._plain(then):
            return
        front = await shapes.recorded({**arguments, "messages": then}, quiet.bare(direct=True))
        if front.request is not None:  # else the front refuses these
            assert shape.body(then) == json.loads(front.request.content)
            assert (shape.url, front.request.method) == (front.request.url, "POST")
            own = ("content-length", "x-stainless-read-timeout")
            kept = {name: value for name, value in front.request.headers.items() if name not in own}
            assert dict(shape.headers) == kept

    asyncio.run(compare())


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("string", [*STRAIGHT, *THROUGH_THE_FRONT])
def test_whose_requests_go_straight(string: str, stream: bool) -> None:
    shape = asyncio.run(shape_of(asked(string, stream=stream, temperature=0, max_tokens=50)))
    assert (shape is not None) == (string in STRAIGHT)
    assert CANARY not in repr(shape)
    assert CANARY not in repr(shapes._shapes)


@pytest.mark.parametrize("string", STRAIGHT)
def test_the_installed_litellm_keeps_its_contract(string: str) -> None:
    provider, _, model = string.partition("/")
    shapes.bind(shapes.config_of(provider, model))


def test_a_method_that_has_changed_is_named_and_its_provider_goes_through_the_front(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from litellm import MistralConfig

    def transform_request(self: Any, model: str, tenant: str) -> None: ...

    monkeypatch.setattr(MistralConfig, "transform_request", transform_request)
    with pytest.raises(TypeError, match=r"MistralConfig.transform_request: .*'tenant'"):
        shapes.bind(shapes.config_of("mistral", "x"))
    assert asyncio.run(shape_of(asked("mistral/x"))) is None


def test_a_config_that_makes_something_else_goes_through_the_front(monkeypatch: pytest.MonkeyPatch) -> None:
    from litellm import MistralConfig

    made = MistralConfig.transform_request
    calls: list[None] = []

    def transform_request(*args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        return {**made(*args, **kwargs), "temperature": len(calls)}

    monkeypatch.setattr(MistralConfig, "transform_request", transform_request)
    assert asyncio.run(shape_of(asked("mistral/x", temperature=0))) is None


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "user", "content": ""},
        {"role": "user", "content": "hi", "name": "me"},
        {"role": "developer", "content": "hi"},
        {"role": "tool", "content": "hi", "tool_call_id": "1"},
        {"role": "assistant", "content": "hi", "tool_calls": []},
    ],
    ids=str,
)
def test_messages_that_the_front_may_change_go_through_it(message: dict[str, Any]) -> None:
    arguments = {**asked("openai/gpt-4o"), "messages": [{"role": "user", "content": "hi"}, message]}
    assert asyncio.run(shape_of(arguments)) is None


@pytest.mark.parametrize(
    "extra",
    [
        {"ensure_alternating_roles": True},
        {"supports_system_message": False},
        {"cache_control_injection_points": [{"location": "message", "role": "system"}]},
        {"json_mode": True},
    ],
    ids=str,
)
def test_arguments_by_which_the_front_may_change_messages_go_through_it(extra: dict[str, Any]) -> None:
    assert asyncio.run(shape_of({**asked("openai/gpt-4o"), **extra})) is None


@pytest.mark.parametrize("string", ["anthropic/claude-sonnet-4-20250514", "anthropic/ours"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_schema_that_is_asked_for_as_a_tools_goes_through_the_front(string: str, stream: bool) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "it", "schema": schema, "strict": True}}
    arguments = asked(string, stream=stream, response_format=wanted, tools=TOOLS)
    assert asyncio.run(shape_of(arguments)) is None


def test_a_stream_with_a_tool_that_is_renamed_goes_through_the_front() -> None:
    named = [{"type": "function", "function": {"name": "my.tool", "parameters": {"type": "object", "properties": {}}}}]
    assert asyncio.run(shape_of(asked("anthropic/claude-sonnet-4-5", tools=named))) is not None
    assert asyncio.run(shape_of(asked("anthropic/claude-sonnet-4-5", tools=named, stream=True))) is None


def test_a_credential_that_litellm_gets_by_itself_is_got_anew_for_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "sk-theirs")
    arguments = asked("groq/x")
    assert asyncio.run(shape_of(arguments)) is not None
    del arguments["api_key"]
    assert asyncio.run(shape_of(arguments)) is None


def test_a_text_that_has_no_bytes_goes_through_the_front() -> None:
    assert asyncio.run(shape_of(asked("groq/x", "\ud83d\ude00"))) is None
    assert asyncio.run(shape_of(asked("groq/x", "\U0001f600"))) is not None
    assert json.loads(wire._encoded({"a": "\ud83d", "b": "é"})) == {"a": "\ud83d", "b": "é"}


def test_another_key_address_or_variable_is_another_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    async def made() -> list[shapes.Shape | None]:
        arguments = asked("openai/gpt-4o")
        found = [
            await shape_of(arguments),
            await shape_of({**arguments, "messages": [{"role": "user", "content": "?"}]}),
        ]
        found += [await shape_of({**arguments, "api_key": "sk-other"})]
        found += [await shape_of({**arguments, "api_base": "http://127.0.0.1:8/v1"})]
        monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
        return [*found, await shape_of(arguments)]

    one, same, *others = asyncio.run(made())
    assert one is same
    assert all(other is not None and other is not one for other in others)
    monkeypatch.setattr(shapes, "SHAPES", 2)
    asyncio.run(made())
    assert len(shapes._shapes) == 2


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", ["openai", "anthropic", "ollama"])
def test_a_shape_goes_through_the_front_once(
    name: str,
    stream: bool,
    router: Router,
    server: ScriptedServer,
    catalog: WriteCatalog,
    keys: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shapes, "AFTER", 1)
    catalog({"a": getattr(server, name)("a")}, cache=False, retries=0)
    server.script("a", *[Reply("one")] * 4)
    router.complete("hi", max_tokens=7)  # LiteLLM sets a variable when it first counts
    sent: list[Any] = []
    send = wire.send
    monkeypatch.setattr(wire, "send", lambda *args, **kwargs: (sent.append(args), send(*args, **kwargs))[1])
    found = []
    for number in range(3):
        if stream:
            with router.stream(f"question {number}") as pieces:
                list(pieces)
            found.append(pieces.answer)
        else:
            found.append(router.complete(f"question {number}"))
    assert len(sent) == 2
    assert [answer.text for answer in found] == ["one"] * 3
    own = ("content-length", "x-stainless-read-timeout")
    heads = [{name: said for name, said in each.headers.items() if name not in own} for each in server.ledger[1:]]
    assert heads[1:] == heads[:1] * 2, "as it arrives it is the same, header for header"
    by_front, *straight = (seen(answer.response) for answer in found)
    assert straight == [by_front] * 2
    if not stream and name != "anthropic":  # for which LiteLLM forgets it
        assert {answer.response._hidden_params["custom_llm_provider"] for answer in found} == {
            found[0].litellm_model.partition("/")[0]
        }


def seen(response: Any) -> dict[str, Any]:
    """LiteLLM's response, but for what is another one each time."""
    said: dict[str, Any] = without_nothing(response.model_dump())
    return {name: value for name, value in said.items() if name not in ("id", "created")}


def without_nothing(value: Any) -> Any:
    """OpenAI's client 2 has every field that it knows, whether a server sends it or not."""
    if isinstance(value, list):
        return [without_nothing(one) for one in value]
    if not isinstance(value, dict):
        return value
    said = {name: without_nothing(one) for name, one in value.items()}
    return {name: one for name, one in said.items() if one not in (None, {})}
