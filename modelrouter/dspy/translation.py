"""Requests and answers, in DSPy's form."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

import json_repair
from dspy import lm15

from modelrouter.completion import Completion
from modelrouter.planning.exchange import Thinking

from .calls import Call

_codec = lm15.OpenAIChatLM(api_key="-", transport=None)  # sends nothing: it only knows OpenAI's form


def asked(request: lm15.Request, filenames: Mapping[str, str]) -> dict[str, Any]:
    """The messages and parameters of a request; `filenames` go by `content_of`."""
    aside: list[dict[str, Any]] = []
    request = replace(request, messages=tuple(_in_openais_form(message, aside) for message in request.messages))
    body: dict[str, Any] = json.loads(_codec.build_request(request, stream=False).body)
    del body["model"]
    contents = [message.get("content") for message in body["messages"]] if aside else []
    for part in chain.from_iterable(content for content in contents if isinstance(content, list)):
        url = part["image_url"]["url"] if part.get("type") == "image_url" else ""
        if url.startswith(_ASIDE):
            del part["image_url"]
            part.update(aside[int(url.removeprefix(_ASIDE))])
            if (file := part.get("file")) is not None and (name := filenames.get(content_of(file))) is not None:
                file["filename"] = name
    if "max_completion_tokens" in body:
        body["max_tokens"] = body.pop("max_completion_tokens")
    if request.config.top_k is not None:  # OpenAI has none
        body["top_k"] = request.config.top_k
    return body


def content_of(file: Mapping[str, Any]) -> str:
    """What is in a file of OpenAI's form, or else its id: by it a file is known on both sides of DSPy's request."""
    return str(file.get("file_data") or file.get("file_id")).rpartition(",")[2]


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


def response_of(answer: Completion[Any], call: Call) -> lm15.Response:
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


def _body(answer: Completion[Any]) -> dict[str, Any]:
    """An answer that no provider has given, in OpenAI's form."""
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in answer.tool_calls
    ]
    message = {"role": "assistant", "content": answer.text or None, "tool_calls": calls or None}
    choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
    tokens = {"prompt_tokens": answer.usage.input_tokens, "completion_tokens": answer.usage.output_tokens}
    return {"choices": [choice], "usage": {**tokens, "total_tokens": sum(tokens.values())}}


_THINKING, _TEXT, _TOOLS = range(3)
"""Where the parts of a streamed answer stand in it; each tool call, and each citation, has its own place, from the last
on."""


def event_of(piece: str) -> Any:
    if isinstance(piece, Thinking):
        return lm15.StreamDeltaEvent(lm15.ThinkingDelta(str(piece), part_index=_THINKING))
    return lm15.StreamDeltaEvent(lm15.TextDelta(piece, part_index=_TEXT))


def rest_of(response: lm15.Response, *, thought: bool) -> Iterator[Any]:
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
