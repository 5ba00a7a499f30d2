"""A stream under way: its pieces, what it has used, and the whole answer at its end.

LiteLLM wraps every stream in one more, which makes each chunk anew, counts tokens and logs: two thirds of the time that
a stream takes. The chunks of some are whole without it (`_whole_below`), so they are read from below it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, Literal, Protocol, overload

from modelrouter.types import Failure, Kind, Piece, Reply, Request, Target, Thinking, ToolCall, Usage

from .answers import new_id, usage_of
from .insides.quiet import translated

__all__ = ["Stream"]

_PROVEN = frozenset(("anthropic", "ollama_chat", "openai"))
"""Providers for which the tests hold what is read below the wrapper to what is read above it."""


@functools.cache
def _whole_below() -> tuple[type[Any], ...]:
    """The streams inside LiteLLM's wrapper whose chunks are in OpenAI's form already; the second and the third read
    lines."""
    from litellm.llms.anthropic.chat.handler import ModelResponseIterator
    from litellm.llms.ollama.chat.transformation import OllamaChatCompletionResponseIterator
    from openai import AsyncStream

    return AsyncStream, ModelResponseIterator, OllamaChatCompletionResponseIterator


class _Chunks(Protocol):
    """Where the chunks come from, in OpenAI's form."""

    async def next(self) -> Any:
        """The next one. Raises StopAsyncIteration after the last, and else LiteLLM's exceptions."""

    def finish(self) -> str | None:
        """Why the answer ended, in the provider's word; None: it has not."""

    def said(self) -> Iterable[Any]:
        """The chunks in which the provider may have counted tokens."""

    def whole(self) -> Any:
        """LiteLLM's ``ModelResponse``."""


class _Wrapped:
    """The chunks of LiteLLM's wrapper, which puts its own estimate of the tokens at the end of a stream without."""

    def __init__(self, wrapper: Any) -> None:
        self._wrapper = wrapper
        self._kept: list[Any] = []

    async def next(self) -> Any:
        self._kept.append(chunk := await anext(self._wrapper))
        return chunk

    def finish(self) -> str | None:
        finish: str | None = self._wrapper.received_finish_reason or self._wrapper.intermittent_finish_reason
        return finish

    def said(self) -> Iterable[Any]:
        chunks: list[Any] = self._wrapper.chunks
        return chunks

    def whole(self) -> Any:
        import litellm

        return litellm.stream_chunk_builder(self._kept)


class _Direct:
    """The chunks that LiteLLM would wrap."""

    def __init__(self, source: Any, litellm_model: str) -> None:
        self._source = aiter(source)
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
            if self._finish is not None and _is_cut(error):  # after all that matters
                raise StopAsyncIteration from None
            raise translated(error, self._litellm_model, {}) from error
        self._kept.append(chunk)
        for choice in (chunk.choices or ())[:1]:
            if isinstance(choice.finish_reason, str):
                self._finish = choice.finish_reason or self._finish
        if self._finish == "error":  # of proxies, whose own provider went away
            ended = ValueError("the server said that its answer ended in an error")
            raise translated(ended, self._litellm_model, {})
        return chunk

    def finish(self) -> str | None:
        return self._finish

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
            call["function"]["arguments"] = _text(call["function"].get("arguments"))
    return ModelResponseStream(**said)


class Stream:
    """A stream under way: `next` until it gives no more pieces, or `close`."""

    def __init__(
        self,
        target: Target,
        request: Request,
        wrapper: Any,
        *,
        quiet: bool,
        thinking: bool,
        failed: Callable[[Exception], Failure],
    ) -> None:
        """Read the `wrapper` that LiteLLM's completion has returned. Quiet: nobody of LiteLLM's callbacks listens."""
        self._target = target
        self._request = request
        self._wrapper = wrapper
        self._failed = failed
        source = wrapper.completion_stream
        if isinstance(source, _whole_below()[1:]):
            _check_lines(source, of_events=isinstance(source, _whole_below()[1]))
        proven = target.litellm_model.partition("/")[0] in _PROVEN
        direct = quiet and proven and isinstance(source, _whole_below())
        self._chunks: _Chunks = _Direct(source, target.litellm_model) if direct else _Wrapped(wrapper)
        self._thinking = thinking
        self._ready: deque[str] = deque()
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._refused = False
        self._calls = _Calls()
        self._began = False

    @overload
    async def next(self, within: float, *, first: Literal[True]) -> Piece | Reply | Failure: ...

    @overload
    async def next(self, within: float) -> Piece | Reply | Failure | None: ...

    async def next(self, within: float, *, first: bool = False) -> Piece | Reply | Failure | None:
        """The next piece, the whole answer after the last one, or why it broke, which it does when nothing comes for
        `within` seconds. The `first` one itself has to be there by then. Closed, but after a piece, and after None: all
        that came in that time was no text."""
        end = time.monotonic() + within
        try:
            try:
                while not self._ready:
                    left = end - time.monotonic()
                    if left < 0 and not first:
                        return None
                    async with asyncio.timeout(left if first else within):
                        self._take(await self._chunks.next())
                return Piece(self._ready.popleft(), self)
            except StopAsyncIteration:
                await self.close()
                return self._whole()
        except TimeoutError:
            failure = Failure(Kind.TIMEOUT, f"timeout after {within:.3g} s", raised="TimeoutError")
        except Exception as error:  # noqa: BLE001 - providers' clients raise whatever they like; all of it is a failure
            failure = self._failed(error)
        await self.close()
        return self._broken(failure)

    async def close(self) -> None:
        """Close the connection. Whatever goes wrong in that is of no interest any more."""
        with contextlib.suppress(Exception):
            await self._wrapper.aclose()

    def used(self) -> Usage:
        """Tokens so far: the provider's own count of the prompt where it has come, LiteLLM's tokenizer's for the
        rest."""
        model = self._target.litellm_model
        known = self._said() or Usage()
        thoughts, texts = "".join(self._thoughts), "".join(self._texts)
        written = _estimate(model, text=f"{thoughts}{texts}{self._calls.text}")
        prompt = known.input_tokens or _estimate(model, messages=list(map(_countable, self._request.messages)))
        return replace(known, input_tokens=prompt, output_tokens=max(known.output_tokens, written))

    def _broken(self, failure: Failure) -> Failure:
        """With what was used until then."""
        usage = self.used() if self._began else None
        return replace(failure, usage=usage, estimated=usage is not None)

    def _take(self, chunk: Any) -> None:
        """Keep what a chunk says. Servers of OpenAI's form leave things out, and put others in."""
        self._began = True
        if not chunk.choices or (delta := chunk.choices[0].delta) is None:
            return
        self._calls.take(delta)
        self._refused = self._refused or bool(getattr(delta, "refusal", None))
        thought = getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None)
        if isinstance(thought, str) and thought:
            self._thoughts.append(thought)
            if self._thinking:
                self._ready.append(Thinking(thought))
        if isinstance(delta.content, str) and delta.content:
            self._texts.append(delta.content)
            self._ready.append(delta.content)

    def _said(self) -> Usage | None:
        """What the provider itself has counted so far."""
        counts = [count for chunk in self._chunks.said() if (count := _counted(chunk)) is not None]
        if not counts:
            return None
        return Usage(*(max(getattr(count, field.name) for count in counts) for field in fields(Usage)))

    def _whole(self) -> Reply | Failure:
        finish = self._chunks.finish()
        if finish is None:
            return self._broken(Failure(Kind.TRUNCATED, "the stream ended in the middle of its answer"))
        calls = self._calls.whole()
        response: Callable[[], Any] = self._chunks.whole
        if calls and self._calls.only_functions:
            response = functools.partial(_response, self._chunks, calls)
        return Reply(
            text="".join(self._texts),
            usage=self._said(),
            finish_reason="content_filter" if self._refused and not self._texts else finish,
            tool_calls=calls,
            response=response,
        )


def _response(chunks: _Chunks, calls: tuple[ToolCall, ...]) -> Any:
    """LiteLLM's ``ModelResponse``, with the tool calls as they were gathered: LiteLLM tells them apart by their index
    alone."""
    from litellm.types.utils import ChatCompletionMessageToolCall, Function

    response = chunks.whole()
    response.choices[0].message.tool_calls = [
        ChatCompletionMessageToolCall(
            id=call.id, type="function", function=Function(name=call.name, arguments=call.arguments)
        )
        for call in calls
    ]
    return response


def _estimate(model: str, **counted: Any) -> int:
    """Tokens, by LiteLLM's tokenizer. It looks at no picture, which it would fetch. 0 for what it cannot count."""
    from litellm import token_counter

    try:
        return int(token_counter(model=model, use_default_image_token_count=True, **counted))
    except Exception:  # noqa: BLE001 - whatever it does not like, the stream has ended for another reason
        return 0


def _countable(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message without parts that the tokenizer does not know, such as sound."""
    content = message.get("content")
    if isinstance(content, list):
        content = [each for each in content if isinstance(each, Mapping) and each.get("type") in ("text", "image_url")]
    return {**message, "content": content}


def _text(arguments: Any) -> str:
    """Of a tool call; some servers send an object."""
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return json.dumps(arguments)


class _Calls:
    """The tool calls of a stream, gathered whole."""

    def __init__(self) -> None:
        self._calls: list[list[str]] = []
        """Of each its id, name and arguments."""
        self._places: dict[object, list[str]] = {}
        self.only_functions = True
        """None of OpenAI's other tools, and not its older form."""

    @property
    def text(self) -> str:
        return "".join(arguments for _, _, arguments in self._calls)

    def take(self, delta: Any) -> None:
        for position, call in enumerate(delta.tool_calls or ()):
            # Some servers count no index, and some begin another call at the same one.
            index = getattr(call, "index", None)
            place = position if index is None else index
            function, custom = getattr(call, "function", None), getattr(call, "custom", None)
            if function is not None:
                self._add(place, call.id or "", function.name or "", function.arguments)
            elif custom is not None:
                said = custom if isinstance(custom, dict) else vars(custom)
                self.only_functions = False
                self._add(place, call.id or "", said.get("name") or "", said.get("input"))
        if (older := getattr(delta, "function_call", None)) is not None:
            self.only_functions = False
            self._add("function_call", "", older.name or "", older.arguments)

    def _add(self, place: object, id_: str, name: str, arguments: Any) -> None:
        parts, text = self._places.get(place), _text(arguments)
        if (
            parts is None
            or (id_ and parts[0] and parts[0] != id_)
            or (name and parts[1] and text and _is_json(parts[2]))  # Ollama's calls are whole, and may have no id
        ):
            parts = self._places[place] = ["", "", ""]
            self._calls.append(parts)
        parts[0] = parts[0] or id_
        if name != parts[1]:  # some say it in every chunk
            parts[1] += name
        parts[2] += text

    def whole(self) -> tuple[ToolCall, ...]:
        made = new_id if self.only_functions else str  # the older form has none
        return tuple(ToolCall(id_ or made(), name, text or "{}") for id_, name, text in self._calls)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _counted(chunk: Any) -> Usage | None:
    """A chunk's count of tokens. LiteLLM's type knows by which names the servers of OpenAI's form count."""
    import litellm

    usage = getattr(chunk, "usage", None)
    if usage is not None and not isinstance(usage, litellm.Usage):
        try:
            usage = litellm.Usage(**usage.model_dump())
        except (AttributeError, TypeError, ValueError):
            return None
    return usage_of(usage)


def _is_cut(error: Exception) -> bool:
    """Whether the connection broke."""
    import httpx

    return isinstance(error, httpx.ReadError | httpx.RemoteProtocolError)


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
