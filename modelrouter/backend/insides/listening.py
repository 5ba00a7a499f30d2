"""What the lines of a stream say, heard before LiteLLM reads them.

Of what does not fit LiteLLM keeps silent: it skips a line that is not JSON, or takes nothing more after one, and it
makes up an end ("stop") of an answer that has none.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any

from modelrouter.backend.refusals import taken_apart
from modelrouter.backend.said import ENDINGS, Said


def listen(wrapper: Any, said: Said) -> None:
    """Have `said` hear a stream that LiteLLM has opened, or will open when the first chunk is asked for. One that is
    read in another way than it was is not heard, and LiteLLM's words for it stand."""
    if wrapper.completion_stream is not None:
        _listen(wrapper.completion_stream, said)
    elif wrapper.make_call is not None:
        wrapper.make_call = _listening(wrapper.make_call, said)


def _listening(make_call: Callable[..., Any], said: Said) -> Callable[..., Any]:
    async def made(*arguments: Any, **more: Any) -> Any:
        _listen(source := await make_call(*arguments, **more), said)
        return source

    return made


def _listen(source: Any, said: Said) -> None:
    lines: Any = getattr(source, "streaming_response", None)
    chunks: Any = getattr(source, "_iterator", None)  # of OpenAI's client
    if hasattr(lines, "aclose"):  # else LiteLLM has something in place of lines
        claudes, ollamas = (isinstance(source, kind) for kind in kinds())
        data = _line if ollamas else _events_data
        check = _check_event if claudes else _check_line if ollamas else _check_nothing
        source.streaming_response = _heard(lines, said, data, check)
        if ollamas:
            source.__class__ = _unread()
    elif hasattr(chunks, "aclose"):
        source._iterator = _heard_chunks(chunks, said)


@functools.cache
def kinds() -> tuple[type[Any], type[Any]]:
    """What reads the lines of Anthropic's form, and of Ollama's."""
    from litellm.llms.anthropic.chat.handler import ModelResponseIterator
    from litellm.llms.ollama.chat.transformation import OllamaChatCompletionResponseIterator

    return ModelResponseIterator, OllamaChatCompletionResponseIterator


@functools.cache
def _unread() -> type[Any]:
    """What reads Ollama's lines, without its search for tags of reasoning, which it takes out wherever they stand."""
    _, ollamas = kinds()

    class Unread(ollamas):  # type: ignore[misc, valid-type] # it is known when LiteLLM is loaded
        def chunk_parser(self, chunk: dict[str, Any]) -> Any:
            if not isinstance(message := chunk.get("message"), Mapping):
                return super().chunk_parser(chunk)
            parsed = super().chunk_parser({**chunk, "message": {**message, "content": ""}})
            parsed.choices[0].delta.content = message.get("content") or None
            return parsed

    return Unread


async def _heard(
    lines: AsyncGenerator[Any, None],
    said: Said,
    data_of: Callable[[str], str],
    check: Callable[[Mapping[str, Any]], None],
) -> AsyncIterator[Any]:
    """The lines, up to one that is not JSON. Where that is the last one, the stream was cut off in it."""
    strange: ValueError | None = None
    async with contextlib.aclosing(lines):  # an exception would keep them open for as long as its traceback lives
        async for line in lines:
            if strange is not None and line.strip():
                raise strange
            data = data_of(line) if isinstance(line, str) else ""
            try:
                body = json.loads(data) if data else None
            except ValueError:
                strange = ValueError(f"a line of the stream is not JSON: {data[:80]}")
                continue
            if data:
                check(body if isinstance(body, dict) else {})
            changed = isinstance(body, dict) and said.take(body)
            yield line.replace(data, json.dumps(body)) if changed else line


async def _heard_chunks(chunks: AsyncGenerator[Any, None], said: Said) -> AsyncIterator[Any]:
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            for choice in (getattr(chunk, "choices", None) or ())[:1]:
                delta = getattr(choice, "delta", None)
                heard = {"content": getattr(delta, "content", None)}
                told = {name: getattr(choice, name, None) for name in ENDINGS}
                if said.take({"choices": [{**told, "delta": heard}]}):
                    for name, value in heard.items():
                        setattr(delta, name, value)
            yield chunk


def _line(line: str) -> str:
    return line.strip()


def _events_data(line: str) -> str:
    data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
    return "" if data == "[DONE]" else data


def _check_nothing(_: Mapping[str, Any]) -> None:
    """What LiteLLM reads, or refuses."""


def _check_event(event: Mapping[str, Any]) -> None:
    error = event.get("error")
    if event.get("type") == "error" and isinstance(error, Mapping):
        from litellm.llms.anthropic.common_utils import AnthropicError

        raise AnthropicError(status_code=taken_apart(event, "").status or 500, message=json.dumps(event))


def _check_line(line: Mapping[str, Any]) -> None:
    if error := line.get("error"):
        raise ValueError(f"the server said: {json.dumps({'error': error})}")
    if not isinstance(line.get("message"), Mapping) and not line.get("done"):
        raise ValueError("a line of the stream has no message in it")


def probe() -> None:
    """Look at what is listened to. Raises what is not as it was."""
    from litellm import CustomStreamWrapper
    from litellm.llms.base_llm.base_model_iterator import BaseModelResponseIterator

    _unread()
    BaseModelResponseIterator(None, sync_stream=False).streaming_response  # noqa: B018
    inspect.signature(CustomStreamWrapper).bind(None, "", None, make_call=None)
