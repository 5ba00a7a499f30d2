"""What a request and its answer are called in spans: OpenTelemetry's semantic conventions for generative AI, as their
own instrumentations of late 2026 write them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

from modelrouter.catalog.known_providers import known
from modelrouter.catalog.target import Target
from modelrouter.completion import Usage
from modelrouter.planning.exchange import Reply, Request

Value: TypeAlias = str | bool | int | float | list[str]

CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""The variable that asks for prompts and answers."""
_IN_SPANS = ("SPAN_ONLY", "SPAN_AND_EVENT", "TRUE")
"""``true`` is its older value. There are no events, for which ``EVENT_ONLY`` asks alone."""

_PROVIDERS = {
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "cohere_chat": "cohere",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
"""Those that have another name there than LiteLLM's."""

_NUMBERS = {
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_tokens": "gen_ai.request.max_tokens",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "temperature": "gen_ai.request.temperature",
    "top_k": "gen_ai.request.top_k",
    "top_p": "gen_ai.request.top_p",
}
_LARGEST = 2**63
"""OTLP has no whole numbers from here on."""
_TOKENS = tuple(
    f"gen_ai.usage.{kind}_tokens"
    for kind in ("input", "output", "cache_read.input", "cache_write.input", "reasoning.output")
)
"""As `Usage.counts`."""


def of_request(target: Target, request: Request, *, stream: bool) -> dict[str, Value]:
    """What is known before it is sent."""
    said: dict[str, Value] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": _PROVIDERS.get(target.provider, target.provider),
        "gen_ai.request.model": target.label,
        **dict(_server(target.address, target.provider)),
    }
    params = request.params
    for name, attribute in _NUMBERS.items():
        value = params.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST:
            said[attribute] = value
    if isinstance(stop := params.get("stop"), str | list | tuple):
        said["gen_ai.request.stop_sequences"] = [stop] if isinstance(stop, str) else list(map(str, stop))
    if isinstance(effort := params.get("reasoning_effort"), str):
        said["gen_ai.request.reasoning.level"] = effort
    if (wanted := params.get("response_format")) is not None:
        plain = isinstance(wanted, Mapping) and wanted.get("type") == "text"
        said["gen_ai.output.type"] = "text" if plain else "json"
    if stream:
        said["gen_ai.request.stream"] = True
    return said


@lru_cache(maxsize=256)
def _server(api_base: str | None, provider: str) -> tuple[tuple[str, Value], ...]:
    """Where it is sent, without what else an address may have in it; nothing where LiteLLM alone knows."""
    if api_base is None:
        host = known(provider).host
        return () if host is None else (("server.address", host), ("server.port", 443))
    parts = urlsplit(api_base)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    address = (("server.address", parts.hostname or ""),)
    return address if port is None else (*address, ("server.port", port))


def of_usage(usage: Usage) -> dict[str, Value]:
    """Its tokens: the input with those of the provider's cache, the output with the reasoning. No zeros but of these
    two."""
    return {name: count for name, count in zip(_TOKENS, usage.counts, strict=True) if count or name in _TOKENS[:2]}


def of_reply(reply: Reply) -> dict[str, Value]:
    """What the provider said of its answer."""
    said: dict[str, Value] = {}
    if reply.finish_reason:
        said["gen_ai.response.finish_reasons"] = [reply.finish_reason]
    if reply.model:
        said["gen_ai.response.model"] = reply.model
    if isinstance(number := getattr(reply.response, "id", None), str):
        said["gen_ai.response.id"] = number
    return said


# -- prompts and answers, for whoever asks for them


def wanted() -> bool:
    """Whether prompts and answers are wanted in spans."""
    return os.environ.get(CAPTURE, "").strip().upper() in _IN_SPANS


def of_prompt(request: Request) -> dict[str, Value]:
    """The messages; those of the system before all others are apart, as they are for most providers."""
    messages = list(request.messages)
    first = next((n for n, each in enumerate(messages) if each.get("role") not in ("system", "developer")), None)
    system, rest = messages[:first], [] if first is None else messages[first:]
    said: dict[str, Value] = {}
    if system:
        said["gen_ai.system_instructions"] = _json([part for each in system for part in _parts(each)])
    if rest:
        inputs = [{"role": str(each.get("role", "")), "parts": list(_parts(each))} for each in rest]
        said["gen_ai.input.messages"] = _json(inputs)
    return said


def of_answer(reply: Reply) -> dict[str, Value]:
    """The text, and the tools that it calls."""
    parts: list[dict[str, Any]] = [{"type": "text", "content": reply.text}] if reply.text else []
    parts += (_call(each.id, each.name, each.arguments) for each in reply.tool_calls)
    finish = "tool_call" if reply.finish_reason == "tool_calls" else reply.finish_reason or ""
    return {"gen_ai.output.messages": _json([{"role": "assistant", "parts": parts, "finish_reason": finish}])}


def _parts(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    content = message.get("content")
    if message.get("role") == "tool":
        yield {"type": "tool_call_response", "id": message.get("tool_call_id"), "response": content}
        return
    if isinstance(content, str):
        yield {"type": "text", "content": content}
    elif isinstance(content, Iterable):
        yield from (_part(each) for each in content if isinstance(each, Mapping))
    for each in message.get("tool_calls") or ():
        function = each.get("function") or {}
        yield _call(each.get("id"), function.get("name"), function.get("arguments"))


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    match part:
        case {"type": "text", "text": text}:
            return {"type": "text", "content": text}
        case {"type": "image_url", "image_url": {"url": str(url)} | str(url)}:
            kind: Literal["blob", "uri"] = "blob" if url.startswith("data:") else "uri"
            if kind == "uri":
                return {"type": kind, "modality": "image", "mime_type": None, "uri": url}
            about, _, data = url.removeprefix("data:").partition(",")
            return {"type": kind, "modality": "image", "mime_type": about.partition(";")[0] or None, "content": data}
    return {"type": str(part.get("type", ""))}  # sound, files: that there was one


def _call(number: Any, name: Any, arguments: Any) -> dict[str, Any]:
    return {"type": "tool_call", "id": number, "name": name, "arguments": arguments}


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    return text.encode("utf-8", "replace").decode()  # half of a surrogate pair is no UTF-8
