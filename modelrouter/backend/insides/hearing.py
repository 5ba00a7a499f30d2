"""Streams, heard before LiteLLM makes its own of what the provider said."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from modelrouter.backend.said import Said


def hear(wrapper: Any, said: Said) -> None:
    """Have `said` hear a stream that LiteLLM has opened, or will open when it is first read. One that is read in
    another way than it was is not heard, and LiteLLM's words for it stand."""
    source = getattr(wrapper, "completion_stream", None)
    if source is not None:
        _attach(source, said)
    elif (make := getattr(wrapper, "make_call", None)) is not None:

        async def made(*args: Any, **kwargs: Any) -> Any:
            source = await make(*args, **kwargs)
            _attach(source, said)
            return source

        wrapper.make_call = made


def _attach(source: Any, said: Said) -> None:
    lines: Any = getattr(source, "streaming_response", None)
    chunks: Any = getattr(source, "_iterator", None)  # of OpenAI's client
    if hasattr(lines, "__aiter__"):
        source.streaming_response = _lines(lines, said)
    elif hasattr(chunks, "__anext__"):
        source._iterator = _chunks(chunks, said)


async def _lines(lines: AsyncGenerator[Any, None], said: Said) -> AsyncGenerator[Any, None]:
    async with contextlib.aclosing(lines):
        async for line in lines:
            yield said.line(line)


async def _chunks(chunks: AsyncGenerator[Any, None], said: Said) -> AsyncGenerator[Any, None]:
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            for choice in (getattr(chunk, "choices", None) or ())[:1]:
                delta = getattr(choice, "delta", None)
                heard = {"content": getattr(delta, "content", None)}
                finish = getattr(choice, "finish_reason", None)
                if said.take({"choices": [{"finish_reason": finish, "delta": heard}]}):
                    for name, value in heard.items():
                        setattr(delta, name, value)
            yield chunk
