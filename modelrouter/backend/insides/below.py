"""Streams, read below LiteLLM's wrapper, which makes each chunk anew, counts tokens and logs: two thirds of the time
that a stream takes. The chunks of some are whole without it."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from typing import Any

from modelrouter.backend.chunks import Chunks, Wrapped
from modelrouter.backend.said import Said
from modelrouter.backend.tool_calls import text_of
from modelrouter.catalog.known_providers import of_string

from .quiet import translated


def read(wrapper: Any, litellm_model: str, said: Said, *, quick: bool) -> Chunks:
    """The chunks of a stream that LiteLLM has opened. Quick: nobody of LiteLLM's callbacks listens."""
    source = wrapper.completion_stream
    if isinstance(source, kinds()[1:]):
        _check_lines(source, of_events=isinstance(source, kinds()[1]))
    if quick and of_string(litellm_model).proven and isinstance(source, kinds()):
        return _Direct(source, litellm_model, said)
    return Wrapped(wrapper, said)


@functools.cache
def kinds() -> tuple[type[Any], ...]:
    """The streams inside LiteLLM's wrapper whose chunks are in OpenAI's form already; the second and the third read
    lines."""
    from litellm.llms.anthropic.chat.handler import ModelResponseIterator
    from litellm.llms.ollama.chat.transformation import OllamaChatCompletionResponseIterator
    from openai import AsyncStream

    return AsyncStream, ModelResponseIterator, OllamaChatCompletionResponseIterator


class _Direct:
    """The chunks that LiteLLM would wrap."""

    def __init__(self, source: Any, litellm_model: str, said: Said) -> None:
        self._source = aiter(source)
        self._said_itself = said
        self._litellm_model = litellm_model
        self._kept: list[Any] = []
        self._finish: str | None = None

    async def next(self) -> Any:
        try:
            while (chunk := await anext(self._source)) is None or isinstance(chunk, dict):
                pass  # a line that says nothing
        except StopAsyncIteration:
            raise
        except Exception as error:
            import httpx

            cut = isinstance(error, httpx.ReadError | httpx.RemoteProtocolError)
            if cut and self._finish is not None:  # after all that matters
                raise StopAsyncIteration from None
            raise translated(error, self._litellm_model, {}) from error
        self._kept.append(chunk)
        for choice in (chunk.choices or ())[:1]:
            if isinstance(choice.finish_reason, str):
                self._finish = choice.finish_reason or self._finish
        return chunk

    def finish(self) -> str | None:
        return self._said_itself.ended(self._finish)

    def said(self) -> Iterable[Any]:
        return self._kept

    def whole(self) -> Any:
        import litellm

        return litellm.stream_chunk_builder(list(map(_typed, self._kept)))


def _typed(chunk: Any) -> Any:
    """A chunk of OpenAI's client in LiteLLM's type, without what that type does not take."""
    from litellm import ModelResponseStream

    if isinstance(chunk, ModelResponseStream):
        return chunk
    said = chunk.model_dump(warnings=False)
    for name, kind in (("created", int), ("usage", dict)):
        if not isinstance(said.get(name), kind):
            said.pop(name, None)
    for choice in said["choices"] or ():
        delta = choice["delta"] = choice.get("delta") or {}
        delta["role"] = "assistant"
        if not isinstance(delta.get("content"), str):
            delta["content"] = None
        delta["tool_calls"] = [call for call in delta.get("tool_calls") or () if call.get("function")] or None
        for call in delta["tool_calls"] or ():
            call["function"]["arguments"] = text_of(call["function"].get("arguments"))
    return ModelResponseStream(**said)


def _check_lines(source: Any, *, of_events: bool) -> None:
    """Have a stream fail at a line that is not JSON: LiteLLM skips one of Ollama's, and after one of Anthropic's takes
    nothing more until the stream ends. Ollama's own errors, which it cannot read, are raised too."""

    async def checked(lines: AsyncGenerator[str, None]) -> AsyncIterator[str]:
        async with contextlib.aclosing(lines):  # an exception would keep them open for as long as its traceback lives
            async for line in lines:
                if of_events:
                    if line.startswith("data:") and (data := line.removeprefix("data:").strip()) not in ("", "[DONE]"):
                        _check_event(_parsed(data))
                elif line.strip():
                    _check_line(_parsed(line))
                yield line

    source.streaming_response = checked(source.streaming_response)


_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""Of Anthropic's errors: https://docs.anthropic.com/en/api/errors. In a stream they come without one."""


def _check_event(event: Mapping[str, Any]) -> None:
    error = event.get("error")
    if event.get("type") == "error" and isinstance(error, Mapping):
        from litellm.llms.anthropic.common_utils import AnthropicError

        raise AnthropicError(status_code=_STATUSES.get(str(error.get("type")), 500), message=json.dumps(event))


def _check_line(line: Mapping[str, Any]) -> None:
    if error := line.get("error"):
        raise ValueError(f"the server said: {error}")
    if not isinstance(line.get("message"), Mapping) and not line.get("done"):
        raise ValueError("a line of the stream has no message in it")


def _parsed(line: str) -> dict[str, Any]:
    try:
        parsed = json.loads(line)
    except ValueError:
        raise ValueError(f"a line of the stream is not JSON: {line[:80]}") from None
    return parsed if isinstance(parsed, dict) else {}
