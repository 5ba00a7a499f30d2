"""The door to LiteLLM: what goes through it arrives whole, what comes back is judged, nothing is left behind; and what
it relies on in the installed version, by name."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from types import ModuleType
from typing import Any, NoReturn

import pytest
from conftest import CANARY, WriteCatalog
from prometheus_client import CollectorRegistry
from servers import Break, Fault, Gate, Reply, ScriptedServer, ToolUse
from servers.raw import RawServer

from modelrouter import AllModelsFailed, BadRequest, CallFailed, InvalidRequest, Router, StreamInterrupted
from modelrouter.backend import abilities
from modelrouter.backend.current import LITELLM
from modelrouter.backend.insides import below, quiet
from modelrouter.backend.loading import rows
from modelrouter.catalog.target import Target
from modelrouter.completion import Kind, ToolCall, Usage
from modelrouter.metering.metrics import Metrics
from modelrouter.parameters import having
from modelrouter.planning.arguments import Arguments, request_from
from modelrouter.planning.events import FirstToken
from modelrouter.planning.exchange import Request
from modelrouter.router.streams import Stream

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("quick_backoff", "litellms_litter")]

PRICE = {"input": 1, "output": 2}


@pytest.fixture(scope="module")
def raw() -> Iterator[RawServer]:
    with RawServer() as server:
        yield server


# What is sent

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["where"],
    "properties": {"where": {"$ref": "#/$defs/Place"}},
    "$defs": {"Place": {"type": "object", "properties": {"name": {"type": "string"}}, "additionalProperties": False}},
}
TOOL = {"type": "function", "function": {"name": "look", "strict": True, "parameters": SCHEMA}}


@pytest.mark.parametrize(
    ("first", "path"),
    [
        ("gemini/gemini-2.5-flash", ""),
        ("anthropic/claude-sonnet-4-5", ""),
        ("groq/llama-3.3-70b-versatile", "/v1"),
        ("mistral/mistral-small-latest", "/v1"),
    ],
)
def test_each_model_is_sent_what_the_caller_wrote_and_the_caller_keeps_it(
    first: str,
    path: str,
    router: Router,
    catalog: WriteCatalog,
    server: ScriptedServer,
    raw: RawServer,
    keys: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # LiteLLM rewrites tools, schemas and metadata in place for some providers.
    monkeypatch.setenv(f"{first.partition('/')[0].upper()}_API_KEY", CANARY)
    extra = {"vendor": {"deep": [1]}}
    catalog(
        {"first": {"model": first, "api_base": raw.base + path}, "b": server.openai("b", params={"extra_body": extra})},
        retries=0,
    )
    raw.says({"error": {"code": 503, "status": "UNAVAILABLE", "message": "overloaded"}}, 503)
    given: dict[str, Any] = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        "tools": [TOOL],
        "metadata": {"trace": "1"},
        "stop": ["END"],
    }
    before = copy.deepcopy(given)
    assert router.complete(**given).model == "b"
    assert given == before
    body = server.requests("b")[0].body
    assert body["tools"] == before["tools"]
    assert body["messages"] == before["messages"]
    assert router.catalog.models["b"].params["extra_body"] == extra


ASKED: list[tuple[dict[str, Any], Callable[[dict[str, Any]], bool]]] = [
    ({"stop": ["END"]}, lambda body: "END" in str(body)),
    ({"tools": [TOOL]}, lambda body: body["tools"] != []),
    ({"tools": [TOOL], "tool_choice": "required"}, lambda body: "tool_choice" in body),
    ({"tools": [TOOL], "tool_choice": "none"}, lambda body: "tool_choice" in body or "tools" not in body),
    ({"response_format": {"type": "json_object"}}, lambda body: "json" in str(body)),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "X", "schema": SCHEMA}}},
        lambda body: "Place" in str(body),
    ),
    ({"functions": [{"name": "look", "parameters": {}}]}, lambda body: "look" in str(body)),
    ({"logprobs": True, "top_logprobs": 2}, lambda body: "top_logprobs" in body),
    ({"logit_bias": {"1": 5}}, lambda body: "logit_bias" in body),
    (
        {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
        lambda body: "audio" in body and "modalities" in body,
    ),
    ({"prediction": {"type": "content", "content": "so"}}, lambda body: "prediction" in body),
    ({"web_search_options": {}}, lambda body: "web_search" in str(body)),
    ({"reasoning_effort": "high"}, lambda body: {"reasoning_effort", "thinking", "think"} & body.keys() != set()),
    ({"verbosity": "low"}, lambda body: "verbosity" in str(body)),
]


@pytest.mark.parametrize("wire", ["openai", "anthropic", "ollama"])
@pytest.mark.parametrize(("asked", "arrived"), ASKED, ids=["+".join(row[0]) for row in ASKED])
def test_a_requirement_arrives_or_the_model_is_passed_over(
    wire: str,
    asked: dict[str, Any],
    arrived: Callable[[dict[str, Any]], bool],
    router: Router,
    catalog: WriteCatalog,
    server: ScriptedServer,
    keys: str,
) -> None:
    catalog({"a": getattr(server, wire)("some-model")}, retries=0)
    with contextlib.suppress(AllModelsFailed):
        router.complete("hi", **asked)
        assert arrived(server.requests()[0].body)
        return
    with pytest.raises(AllModelsFailed, match="skipped: it takes no "):
        router.complete("hi", **asked)
    assert server.requests() == []


@pytest.mark.parametrize(
    ("wire", "model", "asked"),
    [
        # Hints and sampling are left out for a model that does not take them; that is no reason not to ask it.
        ("anthropic", "claude-sonnet-4-5", {"seed": 1, "user": "u", "metadata": {"a": "b"}, "safety_identifier": "x"}),
        ("anthropic", "claude-sonnet-4-5", {"store": True, "service_tier": "auto", "presence_penalty": 0.1}),
        ("ollama", "llama2", {"parallel_tool_calls": True, "prompt_cache_key": "k", "service_tier": "auto"}),
        ("openai", "o3-mini", {"temperature": 0.2, "parallel_tool_calls": False, "tools": [TOOL]}),
        # What asks for nothing is no requirement.
        ("anthropic", "claude-sonnet-4-5", {"logprobs": False, "logit_bias": {}, "tools": []}),
        ("ollama", "llama2", {"logprobs": False, "tool_choice": "auto"}),
        # LiteLLM's tables know nothing of these, and unknown counts as able.
        ("openai", "own-model", {"tools": [TOOL], "response_format": {"type": "json_object"}}),
        ("openai", "own-model", {"reasoning_effort": "high"}),
        # Nor of a model at another address, whatever its name is.
        ("openai", "gpt-4", {"response_format": {"type": "json_object"}}),
        ("openai", "gpt-4o", {"reasoning_effort": "high"}),
        ("openai", "gpt-5", {"stop": ["END"], "logprobs": True}),
        ("ollama", "own-model", {"tools": [TOOL]}),
        # The caller, or the catalog, knows better than the tables.
        ("anthropic", "own-model", {"reasoning_effort": "low", "allowed_openai_params": ["reasoning_effort"]}),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else value,
)
def test_a_model_is_not_passed_over_without_need(
    wire: str,
    model: str,
    asked: dict[str, Any],
    router: Router,
    catalog: WriteCatalog,
    server: ScriptedServer,
    keys: str,
) -> None:
    catalog({"a": getattr(server, wire)(model)}, retries=0, max_tokens=5000)
    assert router.complete("hi", **asked).model == "a"
    if wire == "openai":
        assert server.requests()[0].body.keys() >= asked.keys() - having("droppable") - {"allowed_openai_params"}


def test_what_litellms_tables_do_not_say_is_not_missing() -> None:
    LITELLM.load()
    request = Request(
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]},), {"tools": [TOOL]}
    )
    silent = {
        name: row
        for name, row in rows().items()
        if row.get("mode") == "chat" and not row.keys() & {"supports_function_calling", "supports_vision"}
    }
    assert silent
    for name, row in silent.items():
        provider = row["litellm_provider"]
        if provider not in ("openai", "anthropic", "groq", "openrouter", "together_ai"):
            continue  # LiteLLM itself would leave tools out for many of the others, and that is a reason
        string = name if name.startswith(f"{provider}/") else f"{provider}/{name}"
        assert abilities.lacks(Target(name, string, provider), request) is None, name


@pytest.mark.parametrize(
    ("provider", "variable"),
    [
        ("openai", "OPENAI_API_BASE"),
        ("openai", "OPENAI_BASE_URL"),
        ("anthropic", "ANTHROPIC_API_BASE"),
        ("anthropic", "ANTHROPIC_BASE_URL"),
    ],
)
def test_a_provider_is_called_where_its_own_variable_says(
    provider: str,
    variable: str,
    router: Router,
    catalog: WriteCatalog,
    server: ScriptedServer,
    keys: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(variable, server.openai_base if provider == "openai" else server.anthropic_base)
    name = {"openai": "gpt-4o", "anthropic": "claude-sonnet-4-5"}[provider]
    catalog({"a": {"model": f"{provider}/{name}"}}, retries=0)
    answer = router.complete("hi")
    assert answer.text == "ok"
    assert answer.cost_usd is None  # a gateway's prices are its own
    assert len(server.requests(name)) == 1


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_of_two_such_variables_the_one_that_litellm_takes_is_taken(
    provider: str,
    catalog: WriteCatalog,
    router: Router,
    server: ScriptedServer,
    refused: str,
    keys: str,
    bare_litellm: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import openai

    here = server.openai_base if provider == "openai" else server.anthropic_base
    catalog({"a": {"model": f"{provider}/x"}}, retries=0)
    pair = [f"{provider.upper()}_{name}" for name in ("BASE_URL", "API_BASE")]
    ends = []
    for first, second in (pair, reversed(pair)):
        monkeypatch.setenv(first, here)
        monkeypatch.setenv(second, refused)
        call = {"model": f"{provider}/x", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}
        try:
            asyncio.run(bare_litellm.acompletion(**call, max_retries=0))
            ends.append(True)
        except openai.APIError:  # all of LiteLLM's are that too
            ends.append(False)
        fresh = Router(registry=CollectorRegistry())
        if ends[-1]:
            assert fresh.complete("hi").text == "ok"
        else:
            with pytest.raises(AllModelsFailed, match="nothing answers"):
                fresh.complete("hi")
    assert sorted(ends) == [False, True]


def test_what_names_an_organization_reaches_it(
    router: Router, catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    catalog({"a": server.openai("a")})
    router.complete("hi", organization="org-of-the-call")
    assert server.requests()[-1].headers["openai-organization"] == "org-of-the-call"
    router.complete("hello")
    assert "openai-organization" not in server.requests()[-1].headers, "that of another call"


SPELT_RIGHT = """
    anthropic_version cache_control chat_template_kwargs clear_thinking enable_thinking guided_json
    include_reasoning keep_alive max_new_tokens max_output_tokens max_tool_calls maxTokens min_p min_tokens mirostat
    n_predict num_ctx num_predict prompt_logprobs reasoning reasoning_format repetition_penalty response_modalities
    response_schema safe_prompt safety_settings search_options serviceTier speed stop_sequences system_prompt
    template thinking_level thinkingConfig think tool_config top_a top_k transforms truncation typical_p verbose
    web_search

    num_batch repeat_last_n context draft_num_predict format images options raw suffix shift truncate
    add_generation_prompt allowed_token_ids bad_words chat_template documents ignore_eos length_penalty
    mm_processor_kwargs priority request_id skip_special_tokens stop_token_ids structured_outputs use_beam_search
    cache_prompt grammar id_slot json_schema n_probs parse_tool_calls reasoning_budget samplers timings_per_token
    custom_params lora_path regex rid separate_reasoning session_params stop_regex stream_reasoning
    models plugins preset route session_id trace usage
    citation_options include_domains search_mode search_settings stream_mode random_seed prompt_mode safety_mode
    chat_history conversation_id k p max_turns search_parameters context_length_exceeded_behavior prompt_truncate_len
    partial reasoning_split thinking_budget tool_stream user_id additionalModelRequestFields cachedContent topK topP
    mode labels maxOutputTokens safetySettings betas container mcp_servers output_config project_id time_limit details
    watermark data_sources base_model model_id prompt_cache_options prompt_id prompt_variables tags temperature_last
    instructions max_length vertex_project aws_region_name
""".split()
MISSPELT = {
    "temprature": "temperature",
    "temperatur": "temperature",
    "temperature_": "temperature",
    "max_token": "max_tokens",
    "maxtokens": "max_tokens",
    "top_P": "top_p",
    "seeed": "seed",
    "respone_format": "response_format",
    "reponse_format": "response_format",
    "tool": "tools",
    "tool_choise": "tool_choice",
    "parallel_tool_call": "parallel_tool_calls",
    "frequency_penality": "frequency_penalty",
    "reasoning_efort": "reasoning_effort",
    "verbosty": "verbosity",
    # The call's own
    "modul": "module",
    "message": "messages",
    "systm": "system",
    "cach": "cache",
    "cachekey": "cache_key",
    "timeuot": "timeout",
    "deadlin": "deadline",
    "sotp": "stop",
    "mesages": "messages",
    "retires": "retries",
    "retrys": "retries",
    "cacheKey": "cache_key",
    "time_out": "timeout",
    "Temperature": "temperature",
    "responseFormat": "response_format",
    # What a call does not take, either
    "apikey": "api_key",
    "fallback": "fallbacks",
    "max_retry": "max_retries",
}
INSTEAD = {
    "retry": "retries=",
    "use_cache": "cache=",
    "useCache": "cache=",
    "timeout_ms": "timeout=",
    "deadline_seconds": "deadline=",
    "json_mode": "response_format=",
    "api_key_env": "environment",
    "ttl": "ttl: ...",
    "model_name": "model=",
    "provider": "model=",
    "fallback_models": "chain",
    "module_name": "module=",
    "question": "first argument",
    "history": "messages=",
    "system_message": "system=",
    "response_model": "response_format=",
    "temp": "temperature=",
    "params": "by its own name",
    "openai_api_key": "environment",
}


@pytest.mark.parametrize("name", SPELT_RIGHT)
def test_a_parameter_of_one_provider_is_no_slip_of_another(name: str) -> None:
    assert request_from(Arguments(prompt="hi", params={name: 1})).params == {name: 1}


@pytest.mark.parametrize(("name", "meant"), MISSPELT.items())
def test_a_misspelt_parameter_is_refused_with_the_real_name(name: str, meant: str) -> None:
    with pytest.raises(InvalidRequest, match=f"Did you mean {meant}="):
        request_from(Arguments(prompt="hi", params={name: 1}))


@pytest.mark.parametrize(("name", "instead"), INSTEAD.items())
def test_another_word_for_an_argument_is_refused_with_the_argument(name: str, instead: str) -> None:
    with pytest.raises(InvalidRequest, match=f"is not a parameter of a call: .*{instead}"):
        request_from(Arguments(prompt="hi", params={name: "x"}))


def test_openrouters_choice_of_providers_is_a_mapping() -> None:
    order = {"order": ["anthropic"]}
    assert request_from(Arguments(prompt="hi", params={"provider": order})).params == {"provider": order}


@pytest.mark.parametrize("model", [123, 0, False, [1], b"x", object()])
def test_a_model_that_is_no_name_is_refused(model: Any) -> None:
    with pytest.raises(InvalidRequest, match="model= takes a name or a list of names"):
        request_from(Arguments(prompt="hi", model=model))


class Opaque:
    def __deepcopy__(self, memo: dict[int, Any]) -> Opaque:
        raise TypeError("no copies")


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": float("nan")},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"enum": {1, 2}}}}]},
        {"user": Opaque()},
        {"prompt": "a\ud800b"},
        {"prompt": None, "messages": [{"role": "user", "content": "x", "more": Opaque()}]},
        {"prompt": None, "messages": [{"role": "user", "content": [{"type": "text", "text": iter("a")}]}]},
        {"prompt": None, "messages": [{"role": ["user"], "content": "x"}]},
    ],
    ids=["nan", "set", "object", "surrogate", "object in a message", "iterator", "list of roles"],
)
def test_what_json_cannot_say_is_the_callers_to_mend_and_no_models_failure(
    wrong: dict[str, Any], router: Router, catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    catalog({"a": server.openai("a"), "b": server.openai("b")})
    for _ in range(4):  # a model that was blamed for it would be set aside by now
        with pytest.raises(InvalidRequest):
            router.complete(**{"prompt": "hi", **wrong})
    assert server.ledger == []
    assert router.complete("hi").model == "a"


# What comes back


def chat(finish: str = "stop", **message: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": None, **message}, "finish_reason": finish}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "a", "choices": [choice], "usage": usage}


@pytest.fixture
def chain(catalog: WriteCatalog, server: ScriptedServer, raw: RawServer, keys: str, router: Router) -> Router:
    """Model a answers what `raw` says, and model b is well."""
    catalog(
        {"a": {"model": "openai/a", "api_base": f"{raw.base}/v1", "price": PRICE}, "b": server.openai("b")},
        retries=0,
        cache=False,
    )
    return router


def test_a_function_call_of_the_older_form_is_an_answer(chain: Router, raw: RawServer) -> None:
    raw.says(chat("function_call", function_call={"name": "look", "arguments": '{"at": 1}'}))
    answer = chain.complete("hi", functions=[{"name": "look", "parameters": {}}])
    assert (answer.model, answer.tool_calls) == ("a", (ToolCall("", "look", '{"at": 1}'),))


def test_a_call_of_a_custom_tool_is_an_answer(chain: Router, raw: RawServer) -> None:
    call = {"id": "c1", "type": "custom", "custom": {"name": "look", "input": "at Paris"}}
    raw.says(chat("tool_calls", tool_calls=[call]))
    answer = chain.complete("hi", tools=[{"type": "custom", "custom": {"name": "look"}}])
    assert (answer.model, answer.tool_calls) == ("a", (ToolCall("c1", "look", "at Paris"),))


def test_an_answer_in_sound_is_an_answer(chain: Router, raw: RawServer) -> None:
    raw.says(chat(audio={"id": "x", "data": "AAAA", "expires_at": 1, "transcript": "hello"}))
    answer = chain.complete("hi", modalities=["text", "audio"], audio={"voice": "alloy", "format": "wav"})
    assert answer.model == "a"
    assert answer.response.choices[0].message.audio.data == "AAAA"


STRANGE: list[tuple[str, Any, int, Kind]] = [
    ("null", "null", 200, Kind.SERVER),
    ("a list", "[]", 200, Kind.SERVER),
    ("a string", '"ok"', 200, Kind.SERVER),
    ("nothing", "", 200, Kind.SERVER),
    ("no choices at all", "{}", 200, Kind.SERVER),
    ("choices null", {"choices": None}, 200, Kind.SERVER),
    ("choices a string", {"choices": "ok"}, 200, Kind.SERVER),
    ("message null", {"choices": [{"message": None}]}, 200, Kind.SERVER),
    ("content a list without text", chat(content=[{"type": "image_url"}]), 200, Kind.EMPTY_RESPONSE),
    ("an error with 200", {"error": {"message": "upstream overloaded", "code": 502}}, 200, Kind.SERVER),
    ("a refusal", chat(refusal="I can't"), 200, Kind.CONTENT_POLICY),
    ("a tool call without a function", chat("tool_calls", tool_calls=[]), 200, Kind.EMPTY_RESPONSE),
    ("500 and deep JSON", '{"error":' * 20_000, 500, Kind.SERVER),
    ("501 and nothing", "", 501, Kind.SERVER),
]


@pytest.mark.parametrize(("body", "status", "kind"), [row[1:] for row in STRANGE], ids=[row[0] for row in STRANGE])
@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_strange_answer_is_its_models_failure_and_the_next_one_answers(
    way: str, body: Any, status: int, kind: Kind, chain: Router, raw: RawServer
) -> None:
    raw.says(body, status)
    answer = chain.complete("hi") if way == "sync" else asyncio.run(chain.acomplete("hi"))
    assert [a.error_kind for a in answer.attempts] == [kind, None]
    assert answer.model == "b"


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
@pytest.mark.parametrize("counted", ["10", None, -3, 1.5, {}])
def test_a_strange_count_of_tokens_costs_no_answer(counted: Any, chain: Router, raw: RawServer) -> None:
    raw.says({**chat(content="hello"), "usage": {"prompt_tokens": counted, "completion_tokens": 5}})
    answer = chain.complete("hi")
    assert type(answer.usage.input_tokens) is int
    assert answer.usage.input_tokens >= 0
    assert answer.cost_usd is None or answer.cost_usd >= 0


# What is left alone, and left behind


def not_read(*_: Any) -> NoReturn:
    raise AssertionError("a stream was read below LiteLLM's wrapper")


def test_a_cache_that_others_gave_litellm_does_not_answer_for_us(
    router: Router,
    catalog: WriteCatalog,
    server: ScriptedServer,
    keys: str,
    bare_litellm: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from litellm.caching.caching import Cache

    lists = ("input_callback", "success_callback", "_async_success_callback")
    for name in lists:  # where it registers itself
        monkeypatch.setattr(bare_litellm, name, list(getattr(bare_litellm, name)))
    monkeypatch.setattr(bare_litellm, "cache", Cache(type="local"))  # type: ignore[arg-type]
    catalog({"a": server.openai("a", price=PRICE)}, cache=False)
    costs = [router.complete("the same").cost_usd for _ in range(3)]
    assert costs == [Decimal(20) / 1_000_000] * 3  # each was paid for, and each was asked
    assert len(server.requests("a")) == 3
    assert not bare_litellm.cache.cache.cache_dict
    monkeypatch.setattr(below, "_Direct", not_read)  # but LiteLLM's wrapper, which tells its callbacks
    with router.stream("the same") as pieces:
        assert list(pieces) == ["ok"]


LEFT_BEHIND = {
    "anthropic": "anthropic/claude-x",
    "azure": "azure/gpt-4o",
    "deepseek": "deepseek/deepseek-chat",
    "gemini": "gemini/gemini-2.5-flash",
    "groq": "groq/llama-3.3-70b-versatile",
    "mistral": "mistral/m",
    "ollama": "ollama_chat/m",
    "openai": "openai/m",
    "openrouter": "openrouter/a/b",
    "xai": "xai/grok-4",
}


@pytest.mark.parametrize("provider", LEFT_BEHIND)
def test_no_connection_outlives_its_event_loop(
    provider: str,
    router: Router,
    catalog: WriteCatalog,
    keys: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(f"{provider.upper()}_API_KEY", CANARY)
    monkeypatch.setenv("AZURE_API_VERSION", "2024-06-01")
    with RawServer() as raw:
        catalog({"a": {"model": LEFT_BEHIND[provider], "api_base": raw.base, "price": PRICE}}, retries=0)
        raw.says({"error": {"message": "no such key"}}, 401)  # in no provider's words; each keeps the connection
        for _ in range(2):
            with pytest.raises(AllModelsFailed, match="auth: 401"):
                asyncio.run(router.acomplete("hi"))
        assert len(raw.bodies) == 2
        assert raw.wait_until_left(1.0) == 0


# What the door relies on in the installed LiteLLM. Each is undocumented, or has changed before: when an upgrade fails
# here, mend modelrouter/backend/insides, not the test.


@pytest.fixture
def litellm(bare_litellm: ModuleType) -> ModuleType:
    LITELLM.load()
    return bare_litellm


def test_litellms_completion_can_be_taken_without_its_decorator(litellm: ModuleType) -> None:
    bare = inspect.unwrap(litellm.acompletion)
    assert bare is not litellm.acompletion, "acompletion has no __wrapped__: the door would pay for logging twice"
    assert inspect.iscoroutinefunction(bare), "what is under the decorator is no coroutine function any more"
    taken = inspect.signature(bare).parameters
    assert any(p.kind is p.VAR_KEYWORD for p in taken.values()), "it takes no litellm_logging_obj= any more"
    missing = {"model", "messages", "timeout", "stream", "stream_options", "api_version"} - taken.keys()
    assert not missing, f"arguments that the door passes are gone: {missing}"


def test_litellms_logging_can_be_hushed(litellm: ModuleType) -> None:
    from litellm.litellm_core_utils.litellm_logging import Logging

    hushed = quiet._logging()
    unknown = [name for name in vars(hushed) if not name.startswith("__") and not hasattr(Logging, name)]
    assert not unknown, f"Logging has no {unknown} any more: what took their place is not hushed"
    takes = inspect.signature(Logging).parameters
    given = {"model", "messages", "stream", "call_type", "start_time", "litellm_call_id", "function_id", "kwargs"}
    assert given <= takes.keys(), f"Logging is made without {given - takes.keys()}"
    needed = {name for name, p in takes.items() if p.default is p.empty and p.kind is not p.VAR_KEYWORD}
    assert needed <= given, f"Logging cannot be made without {needed - given}"


@pytest.mark.parametrize("wire", ["openai", "anthropic", "ollama"])
def test_our_calls_are_told_to_no_callback_of_litellms(
    wire: str,
    litellm: ModuleType,
    router: Router,
    catalog: WriteCatalog,
    server: ScriptedServer,
    keys: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from litellm.litellm_core_utils.litellm_logging import Logging

    told: list[str] = []
    hushed = quiet._logging()
    monkeypatch.setattr(hushed, "post_call", lambda *_, **__: told.append("ours"))
    for name in ("success_handler", "response_cost_calculator", "pre_call", "post_call"):
        monkeypatch.setattr(Logging, name, lambda *_, name=name, **__: told.append(name))
    catalog({"a": getattr(server, wire)("a")}, cache=False)
    router.complete("hi")
    assert set(told) == {"ours"}, f"litellm_logging_obj= is not taken as it was: {told}"


@pytest.mark.parametrize("wire", ["openai", "anthropic", "ollama"])
def test_a_stream_tells_how_it_ended_and_can_be_closed(
    wire: str, litellm: ModuleType, server: ScriptedServer, keys: str
) -> None:
    server.script("a", Reply("one two", finish_reason="length"))
    entry = getattr(server, wire)("a")

    async def stream() -> Any:
        chunks = await litellm.acompletion(
            model=entry["model"],
            api_base=entry["api_base"],
            messages=[{"role": "user", "content": "hi"}],
            max_tokens=9,
            stream=True,
            stream_options={"include_usage": True},
        )
        if wire == "ollama":
            lines = getattr(chunks.completion_stream, "streaming_response", None)
            assert hasattr(lines, "__aiter__"), "the lines of an Ollama stream are not where they were: _check_lines"
        async for _ in chunks:
            pass
        await chunks.aclose()
        return chunks

    chunks = asyncio.run(stream())
    for name in ("received_finish_reason", "intermittent_finish_reason", "chunks"):
        assert hasattr(chunks, name), f"a stream has no {name} any more: Wrapped reads it"
    finish = chunks.received_finish_reason or chunks.intermittent_finish_reason
    assert finish == "length", "a stream does not tell how it ended: every whole answer would count as truncated"


@pytest.mark.parametrize("wire", ["openai", "anthropic", "ollama"])
@pytest.mark.parametrize(
    "reply",
    [
        Reply("one two three", output_tokens=7, cache_read_tokens=4, cache_write_tokens=3, reasoning_tokens=2),
        Reply("so", finish_reason="length"),
        Reply("", tools=[ToolUse("look", {"where": "here"}), ToolUse("see", {"what": "it"})]),
    ],
    ids=["text", "cut off", "tools"],
)
def test_a_stream_says_below_litellms_wrapper_what_it_says_above_it(
    wire: str,
    reply: Reply,
    litellm: ModuleType,
    catalog: WriteCatalog,
    router: Router,
    server: ScriptedServer,
    keys: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    catalog({"a": getattr(server, wire)("a")}, cache=False)
    server.script("a", reply, reply)

    def read() -> tuple[Any, ...]:
        with router.stream("hi", tools=[TOOL]) as pieces:
            texts = list(pieces)
        answer = pieces.answer
        choice = answer.response.choices[0]
        calls = [(call.name, call.arguments) for call in answer.tool_calls]
        raw_calls = [(call.function.name, call.function.arguments) for call in choice.message.tool_calls or ()]
        raw = (choice.message.content, choice.finish_reason, raw_calls, answer.response.usage.completion_tokens)
        return texts, answer.text, answer.finish_reason, answer.usage, calls, raw

    beneath = read()
    monkeypatch.setattr(litellm, "success_callback", [lambda *_: None])  # somebody listens: nothing is passed by
    monkeypatch.setattr(below, "_Direct", not_read)
    assert read() == beneath


@pytest.mark.parametrize("wire", ["openai", "anthropic", "ollama"])
def test_reasoning_counts_in_what_a_broken_stream_has_used(
    wire: str, catalog: WriteCatalog, router: Router, server: ScriptedServer, keys: str
) -> None:
    catalog({"a": getattr(server, wire)("a")}, retries=0, cache=False)
    came = Gate()  # or what was sent just before the cut might be lost
    server.script("a", Reply(thoughts=["and so on "] * 50, pieces=["then", came, Break.CUT]))
    pieces = router.stream("hi")
    next(pieces)
    came.open()
    with pytest.raises(StreamInterrupted) as caught:
        list(pieces)
    usage = caught.value.attempts[0].usage
    assert usage is not None
    assert usage.output_tokens >= 150


def test_the_first_token_is_the_first_of_the_text(
    catalog: WriteCatalog, router: Router, server: ScriptedServer, keys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog({"a": server.anthropic("a")}, retries=0, cache=False)
    server.script("a", Reply("then", thoughts=["so ", "on"]))
    told: list[str] = []

    def hear(_: Metrics, module: str, event: Any) -> None:
        if isinstance(event, FirstToken):
            told.append("first token")

    monkeypatch.setattr(Metrics, "hear", hear)
    router = Router(registry=CollectorRegistry())
    plan = router.plan(Arguments("hi"), stream=True, thinking=True)
    with Stream(plan, router.performer.perform) as pieces:
        for piece in pieces:
            told.append(f"{type(piece).__name__} {piece}")  # noqa: PERF401 - others tell in between
    assert told == ["Thinking so ", "Thinking on", "first token", "str then"]


def events(*chunks: Any) -> str:
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


def said(finish: Any = None, usage: Any = None, **delta: Any) -> dict[str, Any]:
    """A chunk of OpenAI's form, as far as its servers agree on one."""
    return {
        "id": "x",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    } | ({} if usage is None else {"usage": usage})


SHARP = {"type": "image_url", "image_url": {"url": "https://example.com/picture.png", "detail": "high"}}
"""To fetch it would leave this machine, which fails a test."""
GATHERED = (ToolCall("a", "look", '{"x":1}'), ToolCall("b", "see", '{"y":2}'))
CALLS = [
    {"id": "a", "type": "function", "function": {"name": "look", "arguments": '{"x":1}'}},
    {"id": "b", "type": "function", "function": {"name": "see", "arguments": '{"y":2}'}},
]
ANSWERS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "null for a chunk": ((said(content="a"), None, said(content="b"), said("stop")), {"text": "ab"}),
    "a chunk without choices": ((said(content="ab"), {"id": "x", "choices": None}, said("stop")), {"text": "ab"}),
    "a list for text": ((said(content="ab"), said(content=[{"text": "c"}]), said("stop")), {"text": "abc"}),
    "a count that is none": ((said(content="ab"), said("stop", usage="much")), {"text": "ab", "usage": Usage()}),
    "a time that is none": ((said(content="ab") | {"created": 1.5}, said("stop")), {"text": "ab"}),
    "DeepSeek's counts": (
        (said("stop", {"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_hit_tokens": 8}, content="ab"),),
        {"usage": Usage(10, 5, cache_read_tokens=8)},
    ),
    "calls without an index": ((said("tool_calls", tool_calls=CALLS),), {"tool_calls": GATHERED}),
    "each call at the first index": (
        (*(said(tool_calls=[{**call, "index": 0}]) for call in CALLS), said("tool_calls")),
        {"tool_calls": GATHERED},
    ),
    "the name in every chunk": (
        (
            said(tool_calls=[{**CALLS[0], "function": {"name": "look", "arguments": '{"x"'}}]),
            said(tool_calls=[{"index": 0, "function": {"name": "look", "arguments": ":1}"}}]),
            said("tool_calls"),
        ),
        {"tool_calls": GATHERED[:1]},
    ),
    "no arguments": (
        (said("tool_calls", tool_calls=[{**CALLS[0], "function": {"name": "look", "arguments": None}}]),),
        {"tool_calls": (ToolCall("a", "look", "{}"),)},
    ),
    "arguments as an object": (
        (said("tool_calls", tool_calls=[{**CALLS[0], "function": {"name": "look", "arguments": {"x": 1}}}]),),
        {"tool_calls": (ToolCall("a", "look", '{"x": 1}'),)},
    ),
    "a function call of old": (
        (said(function_call={"name": "look", "arguments": '{"x"'}), said("stop", function_call={"arguments": ":1}"})),
        {"tool_calls": (ToolCall("", "look", '{"x":1}'),)},
    ),
    "vLLM's repetition": ((said(content="ab"), said("repetition")), {"finish_reason": "repetition"}),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_servers_of_openais_form_may_say_it_in_their_way(
    name: str, catalog: WriteCatalog, router: Router, raw: RawServer, keys: str
) -> None:
    chunks, expected = ANSWERS[name]
    catalog({"a": {"model": "openai/m", "api_base": raw.base, "price": PRICE}}, retries=0, cache=False)
    raw.says(events(*chunks), content_type="text/event-stream")
    with router.stream("hi") as pieces:
        list(pieces)
    assert {name: getattr(pieces.answer, name) for name in expected} == expected
    told = pieces.answer.response.choices[0].message.tool_calls or ()
    assert [ToolCall(call.id, call.function.name, call.function.arguments) for call in told] == [
        call for call in pieces.answer.tool_calls if call.id
    ]


def ollama(*calls: tuple[str, Any], done: bool = False) -> str:
    """A line of Ollama's with whole tool calls."""
    said = [{"function": {"name": name, "arguments": arguments}} for name, arguments in calls]
    line = {"model": "m", "message": {"role": "assistant", "content": "", "tool_calls": said}, "done": done}
    counts = {"done_reason": "stop", "prompt_eval_count": 10, "eval_count": 5} if done else {}
    return json.dumps(line | counts) + "\n"


@pytest.mark.parametrize(
    "lines",
    [
        [ollama(("now", {})), ollama(("now", {})), ollama(("look", {"at": 1})), ollama(done=True)],
        [ollama(("now", {}), ("now", {}), ("look", {"at": 1})), ollama(done=True)],
    ],
)
def test_ollamas_tool_calls_are_whole_each_and_have_an_id(
    lines: list[str], catalog: WriteCatalog, router: Router, raw: RawServer
) -> None:
    catalog({"a": {"model": "ollama/m", "api_base": raw.base}}, retries=0, cache=False)
    raw.says("".join(lines), content_type="application/x-ndjson")
    with router.stream("hi") as pieces:
        list(pieces)
    calls = pieces.answer.tool_calls
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        ("now", {}),
        ("now", {}),
        ("look", {"at": 1}),
    ]
    assert len({call.id for call in calls} - {""}) == 3
    told = pieces.answer.response.choices[0].message.tool_calls
    assert [(call.id, call.function.arguments) for call in told] == [(call.id, call.arguments) for call in calls]


@pytest.mark.parametrize("line", ['{"model": "m", "done": false}', "[]", '{"message": null}'])
def test_a_line_of_ollamas_without_a_message_is_the_servers_mistake(
    line: str, catalog: WriteCatalog, router: Router, raw: RawServer
) -> None:
    catalog({"a": {"model": "ollama/m", "api_base": raw.base}}, retries=0, cache=False)
    raw.says(f"{line}\n", content_type="application/x-ndjson")
    with pytest.raises(AllModelsFailed) as caught:
        list(router.stream("hi"))
    assert [attempt.error_kind for attempt in caught.value.attempts] == [Kind.SERVER]


def claude(*events: Mapping[str, Any]) -> str:
    """Events of an Anthropic stream, after its beginning."""
    usage = {"input_tokens": 10, "output_tokens": 1}
    message = {"id": "x", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    start = {"type": "message_start", "message": message}
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in (start, *events))


@pytest.mark.parametrize(
    ("type_", "kind"),
    [
        ("rate_limit_error", Kind.RATE_LIMIT),
        ("authentication_error", Kind.AUTH),
        ("overloaded_error", Kind.SERVER),
        ("api_error", Kind.SERVER),
        ("invalid_request_error", Kind.BAD_REQUEST),
    ],
)
def test_an_error_in_claudes_stream_is_of_its_own_kind(
    type_: str, kind: Kind, catalog: WriteCatalog, router: Router, raw: RawServer, keys: str
) -> None:
    catalog({"a": {"model": "anthropic/m", "api_base": raw.base, "price": PRICE}}, retries=0, cache=False)
    error = {"type": "error", "error": {"type": type_, "message": "said so"}}
    raw.says(claude(error), content_type="text/event-stream")
    with pytest.raises(CallFailed) as caught:
        list(router.stream("hi"))
    assert [attempt.error_kind for attempt in caught.value.attempts] == [kind]


def test_lines_that_proxies_add_to_claudes_stream_say_nothing(
    catalog: WriteCatalog, router: Router, raw: RawServer, keys: str
) -> None:
    catalog({"a": {"model": "anthropic/m", "api_base": raw.base, "price": PRICE}}, retries=0, cache=False)
    text = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "ab"}}
    stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}}
    begun = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    end = claude(stop, {"type": "message_stop"}).partition("\n\n")[2]
    raw.says(f"{claude(begun, text)}data:\n\n{end}data: [DONE]\n\n", content_type="text/event-stream")
    assert "".join(router.stream("hi")) == "ab"


@pytest.mark.parametrize("part", [{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}, SHARP])
def test_a_stream_that_breaks_is_an_error_whatever_the_prompt_has_in_it(
    part: Any, catalog: WriteCatalog, router: Router, raw: RawServer, keys: str
) -> None:
    catalog({"a": {"model": "openai/m", "api_base": raw.base, "price": PRICE}}, retries=0, cache=False)
    raw.says(f"data: {json.dumps(said(content='one'))}\n\n", content_type="text/event-stream")
    content = [{"type": "text", "text": "word " * 100}, part]
    with pytest.raises(StreamInterrupted) as caught:
        list(router.stream(messages=[{"role": "user", "content": content}]))
    [attempt] = caught.value.attempts
    assert attempt.usage is not None
    assert attempt.usage.input_tokens >= 100
    assert len(raw.bodies) == 1


@pytest.mark.parametrize(
    ("chunk", "kind"),
    [
        (said("error"), Kind.SERVER),
        (said("abort"), Kind.SERVER),  # vLLM's and SGLang's
        ({"error": {"message": "boom"}}, Kind.SERVER),
        (said("stop", refusal="I will not"), Kind.CONTENT_POLICY),
        (said("stop", content=7), Kind.EMPTY_RESPONSE),
    ],
)
def test_a_stream_that_ends_badly_is_no_answer(
    chunk: Any, kind: Kind, catalog: WriteCatalog, router: Router, raw: RawServer, keys: str
) -> None:
    catalog({"a": {"model": "openai/m", "api_base": raw.base, "price": PRICE}}, retries=0)
    raw.says(events(said(role="assistant"), chunk), content_type="text/event-stream")
    with pytest.raises(AllModelsFailed) as caught:
        list(router.stream("hi"))
    assert [attempt.error_kind for attempt in caught.value.attempts] == [kind]


def test_claude_on_azure_streams_as_elsewhere(
    catalog: WriteCatalog, router: Router, raw: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_AI_API_KEY", CANARY)
    catalog({"a": {"model": "azure_ai/claude-sonnet-4-5", "api_base": raw.base}}, retries=0, cache=False)
    message = {"id": "m", "type": "message", "role": "assistant", "model": "claude", "content": [], "stop_reason": None}
    told: dict[str, dict[str, Any]] = {
        "message_start": {"message": {**message, "usage": {"input_tokens": 10, "output_tokens": 1}}},
        "content_block_start": {"index": 0, "content_block": {"type": "text", "text": ""}},
        "content_block_delta": {"index": 0, "delta": {"type": "text_delta", "text": "hi"}},
        "content_block_stop": {"index": 0},
        "message_delta": {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 5}},
        "message_stop": {},
    }
    lines = (f"event: {name}\ndata: {json.dumps({'type': name, **fields})}\n\n" for name, fields in told.items())
    raw.says("".join(lines), content_type="text/event-stream")
    with router.stream("hi") as pieces:
        assert list(pieces) == ["hi"]


def test_litellms_handler_is_made_with_nothing_and_its_client_is_httpxs(litellm: ModuleType) -> None:
    import httpx
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

    async def make() -> None:
        handler = AsyncHTTPHandler()
        assert isinstance(handler.client, httpx.AsyncClient), "OpenAI's clients take the handler's pool as httpx's"
        await handler.client.aclose()

    asyncio.run(make())


def test_tools_need_no_package_beyond_litellm(
    litellm: ModuleType,
    router: Router,
    catalog: WriteCatalog,
    server: ScriptedServer,
    keys: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As on a machine without it, whatever is installed here and was imported before.
    for name in [
        name for name in sys.modules if name.startswith("mcp") or (name.startswith("litellm.") and "mcp" in name)
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mcp", None)
    catalog({"a": server.openai("a")})
    router.complete("hi", tools=[TOOL])
    body = server.requests("a")[0].body
    assert body["tools"] == [TOOL], "_skip_mcp_handler is not taken as it was"
    assert not [name for name in body if name.startswith("_")], "_skip_mcp_handler reaches the wire"


def test_a_cache_of_litellms_own_is_no_callback_of_others(
    litellm: ModuleType, catalog: WriteCatalog, router: Router, raw: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first call of a Gemini makes one, which registers itself; all later calls would take the long way.
    monkeypatch.setenv("GEMINI_API_KEY", CANARY)
    catalog({"a": {"model": "gemini/gemini-2.5-flash", "api_base": raw.base}}, retries=0)
    raw.says({"error": {"code": 400, "message": "no"}}, 400)
    with pytest.raises(BadRequest):
        router.complete("hi")
    assert not quiet.overheard()


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_one_attempt_is_one_request(
    wire: str, litellm: ModuleType, router: Router, catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    catalog({"a": getattr(server, wire)("a")}, retries=0)
    server.script("a", Fault(503))
    with pytest.raises(AllModelsFailed):
        router.complete("hi")
    assert len(server.requests("a")) == 1, "max_retries=0 is not taken as it was: retries multiply"
