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
        source.streaming_response = _heard(lines, hearing(source, said))
    elif hasattr(chunks, "aclose"):
        source._iterator = _heard_chunks(chunks, said)


async def close(source: Any) -> None:
    """End what reads the lines of a stream. Whoever closes a stream closes its connection alone: its generators would
    wait for the garbage collector, which ends several at a time, those inside of others too, on any thread."""
    for name in ("streaming_response", "_iterator"):
        if (close_it := getattr(getattr(source, name, None), "aclose", None)) is not None:
            await close_it()


def hearing(source: Any, said: Said) -> Hearing:
    """What hears the lines before LiteLLM's `source` reads them."""
    claudes, ollamas = (isinstance(source, kind) for kind in kinds())
    if ollamas:
        source.__class__ = _unread()
    check = _check_event if claudes else _check_line if ollamas else _check_chunk
    return Hearing(said, _line if ollamas else _events_data, check)


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


class Hearing:
    """Hears the lines, up to one that is not JSON. Where that is the last one, the stream was cut off in it."""

    def __init__(self, said: Said, data_of: Callable[[str], str], check: Callable[[Mapping[str, Any]], None]) -> None:
        self._said = said
        self._data_of = data_of
        self._check = check
        self._strange: ValueError | None = None

    def hear(self, line: str) -> str | None:
        """The line as LiteLLM is to read it; None: not at all."""
        if self._strange is not None and line.strip():
            raise self._strange
        if not (data := self._data_of(line)):
            return line
        try:
            body = json.loads(data)
        except ValueError:
            self._strange = ValueError(f"a line of the stream is not JSON: {data[:80]}")
            return None
        self._check(body if isinstance(body, dict) else {})
        changed = isinstance(body, dict) and self._said.take(body) | _without_odd(body)
        return line.replace(data, json.dumps(body)) if changed else line


async def _heard(lines: AsyncGenerator[Any, None], hearing: Hearing) -> AsyncIterator[Any]:
    async with contextlib.aclosing(lines):  # an exception would keep them open for as long as its traceback lives
        async for line in lines:
            if (heard := hearing.hear(line) if isinstance(line, str) else line) is not None:
                yield heard


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


def _without_odd(chunk: dict[str, Any]) -> bool:
    """Leave out of a chunk what LiteLLM's type of one does not take, and nobody misses; whether there was any."""
    odd = [name for name, kind in _KINDS.items() if chunk.get(name) is not None and not isinstance(chunk[name], kind)]
    for name in odd:
        del chunk[name]
    return bool(odd)


_KINDS = {"created": int, "usage": dict}


def _line(line: str) -> str:
    return line.strip()


def _events_data(line: str) -> str:
    data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
    return "" if data == "[DONE]" else data


def _check_chunk(chunk: Mapping[str, Any]) -> None:
    if (error := chunk.get("error")) and not chunk.get("choices"):
        from litellm.llms.openai.common_utils import OpenAIError

        raise OpenAIError(status_code=taken_apart(chunk, "").status or 500, message=json.dumps({"error": error}))


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
