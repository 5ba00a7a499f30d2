"""What DSPy asks for each request: its contract for engines, on the router.

One canonical request in, one answer out; planning, retries, the cache and the books are the router's.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from typing import Any

import json_repair
from dspy import lm15

from modelrouter.backend import litellm as door
from modelrouter.catalog import prices as pricing
from modelrouter.errors import CallFailed, ConfigurationError, ModelRouterError
from modelrouter.planning.arguments import Ask
from modelrouter.router.router import get_router
from modelrouter.types import Attempt, Completion, Kind, Request, Target, Thinking, Usage

__all__ = ["AsyncEngine", "Call", "Engine", "current", "takes"]


@dataclass
class Call:
    """What an engine has to know of a call beyond the request, and what comes of it."""

    lm: Any = None
    """Whose it is."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """The router's, beside the messages."""
    rollout: Any = None
    beside: Mapping[str, Any] = field(default_factory=dict)
    """Those of the arguments of which DSPy does not know."""
    candidate: int = 0
    """Of ``n``: DSPy asks once for each, with the same request."""
    answers: list[Completion] = field(default_factory=list)
    costs: list[Decimal | None] = field(default_factory=list)
    """US dollars, of each of the answers and of those without words; None: not known."""
    attempts: list[Attempt] = field(default_factory=list)


current: ContextVar[Call | None] = ContextVar("modelrouter_dspy_call", default=None)


def takes(target: Target, response_format: Mapping[str, Any]) -> bool:
    """Whether a model can be asked for this form of answer."""
    door.load()
    return door.lacks(target, Request((), {"response_format": response_format})) is None


_HINTS: Mapping[str, Any] = {"response_format": {"type": "json_object"}, "reasoning_effort": "low"}
"""What DSPy itself asks for, of a model like the first of the chain. The prompt asks for JSON in words too, and whoever
cannot tell its reasoning can still answer."""


@dataclass(frozen=True)
class _Base:
    """One request in, one answer out: DSPy's contract for engines."""

    module: str
    pinned: str | tuple[str, ...] | None

    @property
    def primary(self) -> Target:
        return get_router().catalog.resolve(self.module, self.pinned).chain[0]

    def ask(self, request: lm15.Request, call: Call) -> Ask:
        """What the router is asked."""
        extra = None
        if call.rollout is not None or call.candidate:
            extra = f"dspy rollout {call.rollout} candidate {call.candidate}"
        call.candidate += 1
        if (own := call.arguments.get("cache_key")) is not None and extra is not None:
            extra = f"{own} {extra}"
        asked = _asked(request)
        own_settings = getattr(call.lm, "kwargs", {})
        hints = {name for name, value in _HINTS.items() if asked.get(name) == value != own_settings.get(name)}
        arguments = {"module": self.module, "model": self.pinned, **asked, **call.arguments, "cache_key": extra or own}
        return Ask(
            **{name: value for name, value in arguments.items() if name in _ASKED},
            params={name: value for name, value in arguments.items() if name not in _ASKED},
            optional=frozenset(hints),
        )


class Engine(_Base):
    def complete(self, request: lm15.Request) -> lm15.Response:
        call = current.get() or Call()
        try:
            with _as_dspy_knows_it(call):
                return _response(get_router().complete_of(self.ask(request, call)), call)
        except lm15.ProviderError as error:
            return _silent(error, request, call)

    def stream(self, request: lm15.Request) -> Iterator[Any]:
        call = current.get() or Call()
        yield lm15.StreamStartEvent(model=request.model)
        ask, thought = self.ask(request, call), False
        with _as_dspy_knows_it(call), get_router().stream_of(ask, thinking=True) as pieces:
            for piece in pieces:
                thought = thought or isinstance(piece, Thinking)
                yield _event(piece)
            response = _response(pieces.answer, call)
        yield from _rest(response, thought=thought)

    def close(self) -> None:
        """The router stays open: it is the whole process's."""


class AsyncEngine(_Base):
    async def complete(self, request: lm15.Request) -> lm15.Response:
        call = current.get() or Call()
        try:
            with _as_dspy_knows_it(call):
                return _response(await get_router().acomplete_of(self.ask(request, call)), call)
        except lm15.ProviderError as error:
            return _silent(error, request, call)

    async def stream(self, request: lm15.Request) -> AsyncIterator[Any]:
        call = current.get() or Call()
        yield lm15.StreamStartEvent(model=request.model)
        ask, thought = self.ask(request, call), False
        with _as_dspy_knows_it(call):
            async with get_router().astream_of(ask, thinking=True) as pieces:
                async for piece in pieces:
                    thought = thought or isinstance(piece, Thinking)
                    yield _event(piece)
                response = _response(pieces.answer, call)
        for event in _rest(response, thought=thought):
            yield event

    async def aclose(self) -> None:
        """The router stays open: it is the whole process's."""


# -- requests and answers, in DSPy's form

_ASKED = frozenset(each.name for each in fields(Ask)) - {"params", "optional"}
_codec = lm15.OpenAIChatLM(api_key="-", transport=None)  # sends nothing: it only knows OpenAI's form


def _asked(request: lm15.Request) -> dict[str, Any]:
    """The messages and parameters of a request."""
    aside: list[dict[str, Any]] = []
    request = replace(request, messages=tuple(_in_openais_form(message, aside) for message in request.messages))
    body: dict[str, Any] = json.loads(_codec.build_request(request, stream=False).body)
    del body["model"]
    for part in _parts(body["messages"]) if aside else ():
        url = part["image_url"]["url"] if part.get("type") == "image_url" else ""
        if url.startswith(_ASIDE):
            del part["image_url"]
            part.update(aside[int(url.removeprefix(_ASIDE))])
    if "max_completion_tokens" in body:
        body["max_tokens"] = body.pop("max_completion_tokens")
    if request.config.top_k is not None:  # OpenAI has none
        body["top_k"] = request.config.top_k
    return body


_ASIDE = "aside:"


def _in_openais_form(message: Any, aside: list[dict[str, Any]]) -> Any:
    """The message with a picture in place of each sound and file, for which lm15's form of OpenAI has no place, and
    without a model's reasoning of before, which it would hand on as the model's words."""

    def keep(part: Any) -> Any:
        match part:
            case lm15.AudioPart(data=str(data), media_type=media_type):
                form = {"audio/mpeg": "mp3"}.get(media_type) or media_type.partition("/")[2]
                aside.append({"type": "input_audio", "input_audio": {"data": data, "format": form}})
            case lm15.DocumentPart(data=str(data), media_type=media_type):
                aside.append({"type": "file", "file": {"file_data": f"data:{media_type};base64,{data}"}})
            case lm15.DocumentPart(file_id=str(file_id)) | lm15.DocumentPart(url=str(file_id)):
                aside.append({"type": "file", "file": {"file_id": file_id}})
            case _:
                return part
        return lm15.ImagePart(url=f"{_ASIDE}{len(aside) - 1}")

    said = [part for part in message.parts if not isinstance(part, lm15.ThinkingPart)]
    return replace(message, parts=tuple(map(keep, said or message.parts)))


def _parts(messages: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for message in messages:
        if isinstance(message.get("content"), list):
            yield from message["content"]


def _response(answer: Completion, call: Call) -> lm15.Response:
    call.answers.append(answer)
    call.costs.append(answer.cost_usd)
    call.attempts += answer.attempts
    response = lm15.response_from_openai_chat(_mended(answer.body) or _body(answer), model=answer.litellm_model)
    usage = lm15.Usage() if answer.cached else response.usage  # as with DSPy's own cache: nothing was used
    message = replace(response.message, parts=(*response.message.parts, *_citations(answer.body)))
    return replace(response, model=answer.litellm_model, usage=usage, message=message)


def _mended(body: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """With arguments of tools that are mappings, as DSPy makes them of what models write."""
    for choice in (body or {}).get("choices", ()):
        for call in choice["message"].get("tool_calls") or ():
            if (function := call.get("function")) is not None:
                function["arguments"] = _mapping(function.get("arguments"))
    return body


def _mapping(arguments: Any) -> str:
    try:
        found = json.loads(arguments, parse_constant=lambda _: None)  # JSON has no NaN
    except (TypeError, ValueError):
        found = json_repair.loads(arguments) if isinstance(arguments, str) else arguments
    return json.dumps(found if isinstance(found, dict) else {})


def _citations(body: Mapping[str, Any] | None) -> Iterator[Any]:
    """What LiteLLM tells of Claude's sources, for which OpenAI's form has no place."""
    for choice in (body or {}).get("choices", ())[:1]:
        groups = (choice["message"].get("provider_specific_fields") or {}).get("citations")
        # Other servers may say anything by this name.
        for each in _flat(groups) if isinstance(groups, list) else ():
            text = each.get("cited_text") or each.get("text") or each.get("supported_text")
            said = {"text": text, "title": each.get("document_title") or each.get("title"), "url": each.get("url")}
            if words := {name: value for name, value in said.items() if isinstance(value, str) and value}:
                yield lm15.CitationPart(**words)


def _flat(groups: list[Any]) -> Iterator[Mapping[str, Any]]:
    for group in groups:
        yield from (each for each in (group if isinstance(group, list) else [group]) if isinstance(each, Mapping))


def _body(answer: Completion) -> dict[str, Any]:
    """An answer that no provider has given, in OpenAI's form."""
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in answer.tool_calls
    ]
    message = {"role": "assistant", "content": answer.text or None, "tool_calls": calls or None}
    used = answer.usage
    return {
        "choices": [{"index": 0, "message": message, "finish_reason": answer.finish_reason}],
        "usage": {
            "prompt_tokens": used.input_tokens,
            "completion_tokens": used.output_tokens,
            "total_tokens": used.input_tokens + used.output_tokens,
        },
    }


_THINKING, _TEXT, _TOOLS = range(3)
"""Where the parts of a streamed answer stand in it; each tool call, and each citation, has its own place, from the last
on."""


def _event(piece: str) -> Any:
    if isinstance(piece, Thinking):
        return lm15.StreamDeltaEvent(lm15.ThinkingDelta(str(piece), part_index=_THINKING))
    return lm15.StreamDeltaEvent(lm15.TextDelta(piece, part_index=_TEXT))


def _rest(response: lm15.Response, *, thought: bool) -> Iterator[Any]:
    """What a stream has beside its pieces. The reasoning of a remembered answer has not been among them."""
    tools = _TOOLS
    for part in response.message.parts:
        match part:
            case lm15.ThinkingPart() if not thought:
                yield lm15.StreamDeltaEvent(lm15.ThinkingDelta(part.text, part_index=_THINKING))
            case lm15.ToolCallPart():
                text = json.dumps(part.input)
                yield lm15.StreamDeltaEvent(lm15.ToolCallDelta(text, part_index=tools, id=part.id, name=part.name))
                tools += 1
            case lm15.CitationPart():
                delta = lm15.CitationDelta(text=part.text, title=part.title, url=part.url, part_index=tools)
                yield lm15.StreamDeltaEvent(delta)
                tools += 1
    yield lm15.StreamEndEvent(response.finish_reason, response.usage, response.provider_data)


# -- errors, in DSPy's form

_ERRORS: Mapping[Kind, Any] = {
    Kind.RATE_LIMIT: lm15.RateLimitError,
    Kind.CONNECTION: lm15.TransportError,
    Kind.SERVER: lm15.ServerError,
    Kind.TIMEOUT: lm15.TimeoutError,
    Kind.MISSING_KEY: lm15.NotConfiguredError,
    Kind.AUTH: lm15.AuthError,
    Kind.PERMISSION: lm15.AuthError,
    Kind.QUOTA: lm15.BillingError,
    Kind.NOT_FOUND: lm15.UnsupportedModelError,
    Kind.UNSUPPORTED: lm15.UnsupportedFeatureError,
    Kind.CONTEXT_WINDOW: lm15.ContextLengthError,
    Kind.CONTENT_POLICY: lm15.InvalidRequestError,
    Kind.EMPTY_RESPONSE: lm15.ProviderError,
    Kind.MAX_TOKENS: lm15.ProviderError,
    Kind.BAD_REQUEST: lm15.InvalidRequestError,
    Kind.TRUNCATED: lm15.StreamAssemblyError,
}


@contextmanager
def _as_dspy_knows_it(call: Call) -> Iterator[None]:
    try:
        yield
    except ModelRouterError as failure:
        call.attempts += getattr(failure, "attempts", ())
        raise _translated(failure) from failure


def _silent(error: lm15.ProviderError, request: lm15.Request, call: Call) -> lm15.Response:
    """An answer without words, where all that is wrong with a call is that no model has said anything: DSPy asks once
    more then, for JSON. Raises any other error again."""
    failure = error.__cause__
    failed = [each for each in failure.attempts if each.outcome == "error"] if isinstance(failure, CallFailed) else []
    if not failed or any(each.error_kind is not Kind.EMPTY_RESPONSE for each in failed):
        raise error
    call.costs.append(pricing.total(failed))
    used = sum((each.usage or Usage() for each in failed), Usage())
    return lm15.Response(
        id=None,
        model=request.model,
        message=lm15.Message.assistant(""),
        finish_reason="stop",
        usage=lm15.Usage(input_tokens=used.input_tokens, output_tokens=used.output_tokens),
    )


def _translated(failure: ModelRouterError) -> Exception:
    if isinstance(failure, CallFailed):
        decisive = _decisive(failure)
        known = _ERRORS.get(decisive.error_kind) if decisive.error_kind is not None else None
        if decisive.error_kind is Kind.UNSUPPORTED and decisive.status is not None:
            known = lm15.InvalidRequestError  # a provider's word about a parameter, and not the catalog's about a model
        error = (known or lm15.ProviderError)(
            provider=decisive.provider, status=decisive.status, retry_after=decisive.retry_after
        )
        error.attempts = failure.attempts
    else:
        error = (lm15.ConfigurationError if isinstance(failure, ConfigurationError) else lm15.InvalidRequestError)()
    # lm15 puts advice of its own into a message, about arguments that are not here; ours says what to do.
    error.message = str(failure)
    error.args = (error.message,)
    return error  # type: ignore[no-any-return]


def _decisive(failure: CallFailed) -> Attempt:
    """Whose error a call's is: the last one's, but for a prompt that is too long, which DSPy's agents know how to
    shorten."""
    failed = [each for each in failure.attempts if each.outcome == "error"] or list(failure.attempts)
    too_long = [each for each in failed if each.error_kind is Kind.CONTEXT_WINDOW]
    return (too_long or failed)[-1]
