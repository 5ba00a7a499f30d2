"""What the provider itself said, in each wire format, where LiteLLM makes something else of it: how an answer ended,
texts in parts, tool calls. One rule for whole answers and streams, the quick way and the plain one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from conftest import CANARY, WriteCatalog
from servers import ScriptedServer
from servers.raw import RawServer

from modelrouter import AllModelsFailed, Completion, Router, StreamInterrupted
from modelrouter.backend.insides import way
from modelrouter.completion import Kind

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.usefixtures("quick_backoff", "litellms_litter"),
    # Of the plain way: OpenAI's client has a list where its type has a text.
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),
]

OPENAIS = {
    "openai": "openai/m",
    "groq": "groq/m",
    "openrouter": "openrouter/a/b",
    "deepseek": "deepseek/m",
    "mistral": "mistral/m",
    "together_ai": "together_ai/m",
    "cerebras": "cerebras/m",  # through OpenAI's client, and yet not the one of ours
}
STRINGS = {**OPENAIS, "anthropic": "anthropic/m", "ollama": "ollama/m", "gemini": "gemini/gemini-2.5-flash"}
TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]},
    },
}
HOW = ("complete", "acomplete", "stream", "astream")


@pytest.fixture(scope="module")
def raw() -> Iterator[RawServer]:
    with RawServer() as server:
        yield server


@pytest.fixture(params=["quick", "plain"])
def hows(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, server: ScriptedServer
) -> Iterator[tuple[str, ...]]:
    """Each way to ask. LiteLLM's own clients, which are the plain way's, would be left open by each event loop."""
    if request.param == "quick":
        yield HOW
        return
    monkeypatch.setenv("MODELROUTER_LITELLM", "plain")
    way.choose()
    yield "complete", "stream"
    monkeypatch.undo()
    way.choose()


@pytest.fixture
def chain(
    catalog: WriteCatalog,
    server: ScriptedServer,
    raw: RawServer,
    router: Router,
    keys: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str], Router]:
    """Model a answers what `raw` says, and model b is well."""

    def made(provider: str) -> Router:
        variable = "TOGETHERAI" if provider == "together_ai" else provider.upper()
        monkeypatch.setenv(f"{variable}_API_KEY", CANARY)
        base = f"{raw.base}/v1" if provider in OPENAIS else raw.base
        price = {"input": 1, "output": 2}
        models = {"a": {"model": STRINGS[provider], "api_base": base, "price": price}, "b": server.openai("b")}
        catalog(models, retries=0)
        return router

    return made


def ask(router: Router, how: str, prompt: Any = "hi", **call: Any) -> Completion:
    asked: dict[str, Any] = {"prompt": prompt} if isinstance(prompt, str) else {"messages": prompt}

    async def streamed() -> Completion:
        async with router.astream(**asked, **call) as pieces:
            async for _ in pieces:
                pass
        return pieces.answer

    if how == "complete":
        return router.complete(**asked, **call)
    if how == "acomplete":
        return asyncio.run(router.acomplete(**asked, **call))
    if how == "astream":
        return asyncio.run(streamed())
    with router.stream(**asked, **call) as pieces:
        list(pieces)
    return pieces.answer


def says(raw: RawServer, provider: str, how: str, word: Any, text: Any = "ab", arguments: Any = None) -> None:
    """Have the server answer in the provider's form: this word for how it ended, this text, or a call of the tool."""
    body = FORMS.get(provider, _openais)(word, text, arguments, "stream" in how)
    if "stream" not in how:
        raw.says(body)
    elif provider == "ollama":
        raw.says("".join(f"{json.dumps(line)}\n" for line in body), content_type="application/x-ndjson")
    else:
        end = "" if provider in ("anthropic", "gemini") else "data: [DONE]\n\n"
        raw.says("".join(f"data: {json.dumps(event)}\n\n" for event in body) + end, content_type="text/event-stream")


def _openais(word: Any, text: Any, arguments: Any, stream: bool) -> Any:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": arguments}}
    call |= {"index": 0} if stream else {}
    said = {"content": text} if arguments is None else {"content": "" if stream else None, "tool_calls": [call]}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    head = {"id": "x", "created": 1, "model": "m"}
    if not stream:
        choice = {"index": 0, "message": {"role": "assistant", **said}, "finish_reason": word}
        return {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
    deltas = [(None, {"role": "assistant", **said}), (word, {})]
    choices = [{"index": 0, "delta": delta, "finish_reason": finish} for finish, delta in deltas]
    return [{**head, "object": "chat.completion.chunk", "choices": [choice], "usage": usage} for choice in choices]


def _claudes(word: Any, text: Any, arguments: Any, stream: bool) -> Any:
    message = {"id": "x", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None}
    message["usage"] = {"input_tokens": 10, "output_tokens": 5}
    block: dict[str, Any] = {"type": "text", "text": text}
    delta: dict[str, Any] = {"type": "text_delta", "text": text}
    if arguments is not None:
        block = {
            "type": "tool_use",
            "id": "c1",
            "name": "look",
            "input": arguments if stream else json.loads(arguments),
        }
        delta = {"type": "input_json_delta", "partial_json": arguments}
    if not stream:
        return {**message, "content": [block], "stop_reason": word}
    block |= {"text": ""} if arguments is None else {"input": {}}
    return [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": word}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]


def _ollamas(word: Any, text: Any, arguments: Any, stream: bool) -> Any:
    said: dict[str, Any] = {"role": "assistant", "content": text}
    if arguments is not None:
        call = {"function": {"name": "look", "arguments": json.loads(arguments)}}
        said = {"role": "assistant", "content": "", "tool_calls": [call]}
    end = {"done": True, "prompt_eval_count": 10, "eval_count": 5} | ({} if word is None else {"done_reason": word})
    if not stream:
        return {"model": "m", "message": said, **end}
    empty = {"role": "assistant", "content": ""}
    return [{"model": "m", "message": said, "done": False}, {"model": "m", "message": empty, **end}]


def _geminis(word: Any, text: Any, arguments: Any, stream: bool) -> Any:
    part = {"text": text}
    if arguments is not None:
        part = {"functionCall": {"name": "look", "args": json.loads(arguments)}}
    candidate = {"index": 0, "content": {"role": "model", "parts": [part]}}
    candidate |= {} if word is None else {"finishReason": word}
    usage = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}
    body = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m"}
    return [body] if stream else body


FORMS: Mapping[str, Callable[..., Any]] = {"anthropic": _claudes, "ollama": _ollamas, "gemini": _geminis}

WORDS = {
    "anthropic": ("end_turn", "max_tokens", ("pause_turn", "a_new_word"), ("error",)),
    "ollama": ("stop", "length", ("load", "a_new_word"), ("error",)),
    "gemini": ("STOP", "MAX_TOKENS", ("A_NEW_WORD",), ("MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE")),
}
OPENAIS_WORDS = ("stop", "length", ("eos_of_tomorrow", "repetition"), ("error", "insufficient_system_resource"))
"""Of each: for whole answers, for those that were cut off, unknown ones, and those that say that it broke."""


@pytest.mark.parametrize("provider", STRINGS)
def test_only_a_word_that_means_a_whole_answer_counts_as_one(
    provider: str, chain: Callable[[str], Router], raw: RawServer, hows: tuple[str, ...]
) -> None:
    router = chain(provider)
    whole, cut, unknown, broken = WORDS.get(provider, OPENAIS_WORDS)
    for how in hows:
        for word, told in [(whole, "stop"), (cut, "length"), *((word, word) for word in unknown)]:
            says(raw, provider, how, word)
            answers = [ask(router, how, f"{how} {word}", model="a") for _ in range(2)]
            assert [(answer.text, answer.finish_reason) for answer in answers] == [("ab", told)] * 2
            assert len(raw.bodies) == (1 if told == "stop" else 2), f"{word} was remembered, or was not"
        for word in broken:
            says(raw, provider, how, word)
            with pytest.raises((AllModelsFailed, StreamInterrupted)) as caught:
                ask(router, how, f"{how} {word}", model="a")
            [attempt] = caught.value.attempts
            assert (attempt.error_kind, attempt.outcome) == (Kind.SERVER, "error")
            if how == "complete":
                assert ask(router, how, word).model == "b"
                assert attempt.cost_usd, "an answer that was turned down is billed"


@pytest.mark.parametrize("provider", OPENAIS)
def test_words_of_other_providers_mean_the_same_in_openais_form(
    provider: str, chain: Callable[[str], Router], raw: RawServer, hows: tuple[str, ...]
) -> None:
    """Gateways hand them on as they are."""
    router = chain(provider)
    for how in hows:
        for word in ("end_turn", "STOP", "eos"):
            says(raw, provider, how, word)
            answers = [ask(router, how, f"{how} {word}", model="a") for _ in range(2)]
            assert [(answer.finish_reason, answer.cached) for answer in answers] == [("stop", False), ("stop", True)]


@pytest.mark.parametrize("provider", OPENAIS)
def test_an_error_beside_a_text_is_the_answers(
    provider: str, chain: Callable[[str], Router], raw: RawServer, hows: tuple[str, ...]
) -> None:
    """OpenRouter has one in each choice, and the word of the provider behind it."""
    router = chain(provider)
    for how in hows:
        for beside in (
            {"error": {"code": 502, "message": "gone"}},
            {"native_finish_reason": "MALFORMED_FUNCTION_CALL"},
        ):
            body = _openais("stop", "ab", None, "stream" in how)
            (body[-1] if "stream" in how else body)["choices"][0].update(beside)
            if "stream" in how:
                raw.says("".join(f"data: {json.dumps(event)}\n\n" for event in body), content_type="text/event-stream")
            else:
                raw.says(body)
            with pytest.raises((AllModelsFailed, StreamInterrupted)) as caught:
                ask(router, how, f"{how} {beside}", model="a")
            assert [attempt.error_kind for attempt in caught.value.attempts] == [Kind.SERVER]


@pytest.mark.parametrize("provider", ["openai", "deepseek", "anthropic", "ollama", "gemini"])
def test_an_answer_that_does_not_say_how_it_ended_is_one_and_is_not_remembered(
    provider: str, chain: Callable[[str], Router], raw: RawServer, hows: tuple[str, ...]
) -> None:
    """HTTP says that a whole answer is all there, and nothing that it was not cut off. Of streams, Claude's and
    Ollama's have an end of their own beside the word for it."""
    router = chain(provider)
    for how in hows:
        if "stream" in how and provider not in ("anthropic", "ollama"):
            continue
        says(raw, provider, how, None)
        answers = [ask(router, how, how) for _ in range(2)]
        assert [(answer.text, answer.finish_reason) for answer in answers] == [("ab", None)] * 2
        assert len(raw.bodies) == 2


def test_the_words_of_other_forms_are_heard_too(
    catalog: WriteCatalog, raw: RawServer, router: Router, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, CANARY)
    monkeypatch.setenv("AWS_REGION_NAME", "us-east-1")
    model = "bedrock/anthropic.claude-3-5-sonnet-20240620-v1:0"
    catalog({"a": {"model": model, "api_base": raw.base, "price": "free"}}, retries=0)
    said = {"output": {"message": {"role": "assistant", "content": [{"text": "ab"}]}}, "metrics": {"latencyMs": 1}}
    said["usage"] = {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}
    for word, told in (("end_turn", "stop"), ("max_tokens", "length"), ("a_new_word", "a_new_word")):
        raw.says(said | {"stopReason": word})
        assert router.complete(word).finish_reason == told
    raw.says(said | {"stopReason": "malformed_tool_use"})
    with pytest.raises(AllModelsFailed, match="the answer broke off: its finish_reason is 'malformed_tool_use'"):
        router.complete("hi")


PARTS: Mapping[str, tuple[Any, str | None]] = {
    "two texts": ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], None),
    "thinking": (
        [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "ab"}],
        "hm",
    ),
    "thinking in a text": ([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "ab"}], "hm"),
    "no type": ([{"text": "ab"}, {"type": "image_url", "image_url": {"url": "data:x"}}], None),
    "texts alone": (["a", "b"], None),
    "a text with its value": ([{"type": "text", "text": {"value": "ab", "annotations": []}}], None),
    "one part alone": ({"type": "text", "text": "ab"}, None),
}


@pytest.mark.parametrize("provider", OPENAIS)
def test_a_text_in_parts_is_one_text_and_its_reasoning_is_none_of_it(
    provider: str, chain: Callable[[str], Router], raw: RawServer, hows: tuple[str, ...]
) -> None:
    router = chain(provider)
    for how in hows:
        for name, (parts, thought) in PARTS.items():
            says(raw, provider, how, "stop", parts)
            answer = ask(router, how, f"{how} {name}", model="a")
            message = answer.response.choices[0].message
            assert (answer.text, message.content, answer.finish_reason) == ("ab", "ab", "stop"), name
            assert getattr(message, "reasoning_content", None) == thought, name
            assert answer.usage.output_tokens == 5


def test_parts_without_a_text_are_an_empty_answer(chain: Callable[[str], Router], raw: RawServer) -> None:
    for how in HOW:
        says(raw, "openai", how, "stop", [{"type": "thinking", "thinking": "hm"}])
        answer = ask(chain("openai"), how, how)
        assert [attempt.error_kind for attempt in answer.attempts] == [Kind.EMPTY_RESPONSE, None]


@pytest.mark.parametrize("provider", sorted(OPENAIS.keys() - {"mistral"}))
def test_parts_that_refuse_are_a_refusal(
    provider: str, chain: Callable[[str], Router], raw: RawServer, hows: tuple[str, ...]
) -> None:
    for how in hows:
        says(raw, provider, how, "stop", [{"type": "refusal", "refusal": "I won't"}])
        answer = ask(chain(provider), how, how)
        assert [attempt.error_kind for attempt in answer.attempts] == [Kind.CONTENT_POLICY, None]


CALLERS = ("openai", "groq", "mistral", "anthropic", "ollama", "gemini")
CUT_WORDS = {"anthropic": ("max_tokens", "tool_use"), "gemini": ("MAX_TOKENS", "STOP"), "ollama": ("length", "stop")}


@pytest.mark.parametrize("provider", CALLERS)
def test_a_tool_call_that_was_cut_off_goes_to_the_next_model(
    provider: str, chain: Callable[[str], Router], raw: RawServer, hows: tuple[str, ...]
) -> None:
    router = chain(provider)
    cut, _ = CUT_WORDS.get(provider, ("length", "tool_calls"))
    for how in hows:
        # Half a JSON text cannot be in a JSON document: there, servers send as much of the object as they have.
        halves = provider in OPENAIS or (provider == "anthropic" and "stream" in how)
        says(raw, provider, how, cut, arguments='{"at": "Par' if halves else "{}")
        answers = [ask(router, how, how, tools=[TOOL]) for _ in range(2)]
        assert [[attempt.error_kind for attempt in answer.attempts] for answer in answers] == [
            [Kind.MAX_TOKENS, None],
            [Kind.MAX_TOKENS, None],  # b's answer comes out of the cache; a is asked again
        ]
        assert "a tool call was cut off at " in str(answers[0].attempts[0].error)
        assert len(raw.bodies) == 2


@pytest.mark.parametrize("provider", ["openai", "groq", "anthropic"])
def test_a_tool_call_whose_arguments_are_no_object_is_no_answer(
    provider: str, chain: Callable[[str], Router], raw: RawServer
) -> None:
    router = chain(provider)
    _, word = CUT_WORDS.get(provider, ("length", "tool_calls"))
    for how in HOW:
        for wrong in ("[]", '"Paris"', "7", *(['{"at": "Par', "at Paris"] if provider in OPENAIS else [])):
            says(raw, provider, how, word, arguments=wrong)
            answer = ask(router, how, f"{how} {wrong}", tools=[TOOL])
            assert [attempt.error_kind for attempt in answer.attempts] == [Kind.EMPTY_RESPONSE, None], wrong


def test_no_arguments_are_an_empty_object_however_they_are_said(
    chain: Callable[[str], Router], raw: RawServer, hows: tuple[str, ...]
) -> None:
    for provider, said in (("openai", ""), ("openai", " "), ("groq", "null"), ("anthropic", "null")):
        router = chain(provider)
        for how in hows:
            says(raw, provider, how, "tool_use" if provider == "anthropic" else "tool_calls", arguments=said)
            answer = ask(router, how, f"{how} {said}", tools=[TOOL], model="a")
            [call] = answer.response.choices[0].message.tool_calls
            assert [answer.tool_calls[0].arguments, call.function.arguments] == ["{}", "{}"]


@pytest.mark.parametrize("provider", CALLERS)
def test_the_message_of_a_tool_call_can_be_sent_back(
    provider: str, chain: Callable[[str], Router], raw: RawServer, hows: tuple[str, ...]
) -> None:
    router = chain(provider)
    _, word = CUT_WORDS.get(provider, ("length", "tool_calls"))
    messages, sent = [], []
    for how in hows:
        for cached in (False, True):
            says(raw, provider, how, word, arguments='{"at":"Paris"}')
            answer = ask(router, how, how, tools=[TOOL])
            assert (answer.cached, answer.text) == (cached, "")
            message = answer.response.choices[0].message
            [call] = message.tool_calls
            messages.append((message.role, message.content, call.function.name, json.loads(call.function.arguments)))
            result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
            assert answer.body is not None
            for back in (message, message.model_dump(), answer.body["choices"][0]["message"]):
                says(raw, provider, "complete", WORDS.get(provider, OPENAIS_WORDS)[0])
                ask(router, "complete", [{"role": "user", "content": "hi"}, back, result], model="a", cache=False)
                body = raw.bodies[-1]
                sent.append(json.dumps(body.get("messages") or body["contents"]).replace(call.id, "the id"))
    assert set(map(str, messages)) == {str(("assistant", None, "look", {"at": "Paris"}))}
    assert len({text.replace(" ", "").replace('"content":"",', "") for text in sent}) == 1
    assert "sanitised" not in sent[0]


def test_an_empty_text_beside_a_tool_call_is_not_put_into_words(chain: Callable[[str], Router], raw: RawServer) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "Paris"}'}}
    result = {"role": "tool", "tool_call_id": "c1", "content": "sunny"}
    for empty in ("", " \n"):
        says(raw, "anthropic", "complete", "end_turn")
        back = {"role": "assistant", "content": empty, "tool_calls": [call]}
        ask(chain("anthropic"), "complete", [{"role": "user", "content": "hi"}, back, result], cache=False)
        [block] = raw.bodies[-1]["messages"][1]["content"]
        assert block["type"] == "tool_use"
