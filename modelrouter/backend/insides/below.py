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


class Kept:
    """Chunks that LiteLLM would wrap, as they are taken."""

    def __init__(self, litellm_model: str, said: Said) -> None:
        self._said_itself = said
        self._litellm_model = litellm_model
        self._kept: list[Any] = []
        self._finish: str | None = None

    def keep(self, chunk: Any) -> Any:
        """The chunk."""
        self._kept.append(chunk)
        for choice in (chunk.choices or ())[:1]:
            if isinstance(choice.finish_reason, str) and choice.finish_reason not in ("", "null"):
                self._finish = choice.finish_reason
        return chunk

    def over(self, error: Exception) -> bool:
        """Whether the answer had ended when the connection was lost."""
        return self._finish is not None and is_cut(error)

    def failed(self, error: Exception) -> Exception:
        """LiteLLM's exception for it."""
        return translated(error, self._litellm_model, {})

    def finish(self) -> str | None:
        return self._said_itself.ended(self._finish)

    def said(self) -> Iterable[Any]:
        return self._kept

    def whole(self) -> Any:
        import litellm

        return litellm.stream_chunk_builder(list(map(_typed, self._kept)))


class _Direct(Kept):
    """The chunks that LiteLLM's front has opened, one by one."""

    def __init__(self, source: Any, litellm_model: str, said: Said) -> None:
        super().__init__(litellm_model, said)
        self._opened = source
        self._source = aiter(source)

    async def next(self) -> Any:
        try:
            while (chunk := await anext(self._source)) is None or isinstance(chunk, dict):
                pass  # a line that says nothing
        except StopAsyncIteration:
            raise
        except Exception as error:
            if self.over(error):
                raise StopAsyncIteration from None
            raise self.failed(error) from error
        return self.keep(chunk)

    def at_once(self) -> None:
        return None

    async def aclose(self) -> None:
        await listening.close(self._opened)


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
