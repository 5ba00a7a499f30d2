"""Streams, read below LiteLLM's wrapper, which makes each chunk anew, counts tokens and logs: two thirds of the time
that a stream takes. The chunks of some are whole without it."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from modelrouter.backend.chunks import Chunks, is_cut
from modelrouter.backend.said import Said
from modelrouter.backend.tool_calls import text_of
from modelrouter.catalog.known_providers import of_string

from . import listening
from .quiet import translated


def read(wrapper: Any, litellm_model: str, said: Said) -> Chunks | None:
    """The chunks of a stream that LiteLLM has opened; None: they need its wrapper."""
    source = wrapper.completion_stream
    if of_string(litellm_model).proven and isinstance(source, kinds()):
        return _Direct(source, litellm_model, said)
    return None


@functools.cache
def kinds() -> tuple[type[Any], ...]:
    """The streams inside LiteLLM's wrapper whose chunks are in OpenAI's form already."""
    from openai import AsyncStream

    return AsyncStream, *listening.kinds()


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
            if self._finish is not None and is_cut(error):
                raise StopAsyncIteration from None
            raise translated(error, self._litellm_model, {}) from error
        self._kept.append(chunk)
        self._finish = finish_in(chunk) or self._finish
        return chunk

    def finish(self) -> str | None:
        return self._said_itself.ended(self._finish)

    def said(self) -> Iterable[Any]:
        return self._kept

    def whole(self) -> Any:
        return whole(self._kept)

    def at_once(self) -> None:
        return None


def finish_in(chunk: Any) -> str | None:
    """Why the answer has ended, if a chunk says so."""
    for choice in (chunk.choices or ())[:1]:
        if isinstance(choice.finish_reason, str) and choice.finish_reason not in ("", "null"):
            return str(choice.finish_reason)
    return None


def whole(chunks: Iterable[Any]) -> Any:
    """LiteLLM's ``ModelResponse``."""
    import litellm

    return litellm.stream_chunk_builder(list(map(_typed, chunks)))


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
