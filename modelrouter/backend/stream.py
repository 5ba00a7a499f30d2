"""A stream under way: its pieces, what it has used, and the whole answer at its end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, Literal, overload

from modelrouter.catalog.target import Target
from modelrouter.completion import Kind, ToolCall, Usage
from modelrouter.planning.exchange import Failure, Piece, Reply, Request, Thinking

from .answers import without_empty_text
from .chunks import Chunks
from .counting import usage_of
from .insides import way
from .said import Said
from .thoughts import Thoughts
from .tool_calls import ToolCalls


class Stream:
    """A stream under way: `next` until it gives no more pieces, or `close`."""

    def __init__(
        self,
        target: Target,
        request: Request,
        wrapper: Any,
        said: Said,
        *,
        quick: bool,
        thinking: bool,
        failed: Callable[[Exception], Failure],
        billed: Callable[[Reply, Any], Reply],
    ) -> None:
        """Read the `wrapper` that LiteLLM's completion has returned. Quick: nobody of LiteLLM's callbacks listens."""
        self._target = target
        self._request = request
        self._wrapper = wrapper
        self._failed = failed
        self._billed = billed
        self._chunks = way.chunks(wrapper, target.litellm_model, said, quick=quick)
        self._thinking = thinking
        self._ready: deque[str] = deque()
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._apart = Thoughts()
        self._ended = False
        self._refused = False
        self._calls = ToolCalls()
        self._began = False
        self._model: str | None = None
        self._odd: Exception | None = None
        """A chunk that could not be taken, which `next` says."""

    def at_once(self) -> Piece | None:
        """The next piece, if it has come already."""
        try:
            while not self._ready and self._odd is None and (chunk := self._chunks.at_once()) is not None:
                self._take(chunk)
        except Exception as error:  # noqa: BLE001 - servers send whatever they like
            self._odd = error
        return Piece(self._ready.popleft(), self) if self._ready else None

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
            while not self._ready:
                if self._ended:
                    await self.close()
                    return self._whole()
                left = end - time.monotonic()
                if left < 0 and not first:
                    return None
                try:
                    if self._odd is not None:
                        raise self._odd
                    async with asyncio.timeout(left if first else within):
                        self._take(await self._chunks.next())
                except StopAsyncIteration:
                    self._ended = True
                    self._keep(*self._apart.rest())
            return Piece(self._ready.popleft(), self)
        except TimeoutError:
            failure = Failure.timeout(within)
        except Exception as error:  # noqa: BLE001 - providers' clients raise whatever they like; all of it is a failure
            failure = self._failed(error)
        await self.close()
        return self._broken(failure)

    async def close(self) -> None:
        """Close the connection. Whatever goes wrong in that is of no interest any more."""
        for each in self._chunks, self._wrapper:
            with contextlib.suppress(Exception):
                await each.aclose()

    def used(self) -> Usage:
        """Tokens so far: the provider's own count of the prompt where it has come, LiteLLM's tokenizer's for the
        rest."""
        model = self._target.litellm_model
        known = self._said() or Usage()
        thoughts, texts = "".join(self._thoughts), "".join(self._texts)
        written = estimate(model, text=f"{thoughts}{texts}{self._calls.text}")
        prompt = known.input_tokens or estimate(model, messages=list(map(_countable, self._request.messages)))
        return replace(known, input_tokens=prompt, output_tokens=max(known.output_tokens, written))

    def _broken(self, failure: Failure) -> Failure:
        """With what was used until then."""
        usage = self.used() if self._began else None
        return replace(failure, usage=usage, estimated=usage is not None)

    def _take(self, chunk: Any) -> None:
        """Keep what a chunk says. Servers of OpenAI's form leave things out, and put others in."""
        if not self._began:
            self._began, self._model = True, getattr(chunk, "model", None)
        if not chunk.choices or (delta := chunk.choices[0].delta) is None:
            return
        self._calls.take(delta)
        self._refused = self._refused or bool(getattr(delta, "refusal", None))
        thought = getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None)
        if isinstance(thought, str):
            self._apart.found = True
            self._keep(thought, "")
        if isinstance(delta.content, str) and delta.content:
            self._keep(*self._apart.take(delta.content))

    def _keep(self, thought: str, text: str) -> None:
        if thought := thought if self._thoughts else thought.lstrip():
            self._thoughts.append(thought)
            if self._thinking:
                self._ready.append(Thinking(thought))
        if text:
            self._texts.append(text)
            self._ready.append(text)

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
        text, thoughts = "".join(self._texts), "".join(self._thoughts).strip()
        build: Callable[[], Any] = self._chunks.whole
        if calls:
            build = functools.partial(_response, self._chunks, calls if self._calls.only_functions else ())
        if self._apart.found:
            build = functools.partial(_told_apart, build, text, thoughts)
        counted = [chunk.usage for chunk in self._chunks.said() if getattr(chunk, "usage", None) is not None]
        reply = Reply(
            text=text,
            usage=self._said(),
            finish_reason="content_filter" if self._refused and not self._texts else finish or None,
            tool_calls=calls,
            response=_Built(build),
            model=self._model,
        )
        return self._billed(reply, counted[-1] if counted else None)


class _Built:
    """LiteLLM's ``ModelResponse``, built when it is asked for. Copied or pickled it is that one, since what it is built
    of is a connection's."""

    def __init__(self, build: Callable[[], Any]) -> None:
        self._build = build

    def __call__(self) -> Any:
        return self._build()

    def __reduce__(self) -> tuple[Any, ...]:
        return _as_it_is, (self._build(),)


def _as_it_is(response: Any) -> Any:
    return response


def _response(chunks: Chunks, calls: tuple[ToolCall, ...]) -> Any:
    """LiteLLM's ``ModelResponse``, with the tool calls as they were gathered: LiteLLM tells them apart by their index
    alone."""
    from litellm.types.utils import ChatCompletionMessageToolCall, Function

    response = chunks.whole()
    message = without_empty_text(response.choices[0].message)
    message.tool_calls = [
        ChatCompletionMessageToolCall(
            id=call.id, type="function", function=Function(name=call.name, arguments=call.arguments)
        )
        for call in calls
    ] or message.tool_calls
    return response


def _told_apart(whole: Callable[[], Any], text: str, thoughts: str) -> Any:
    """LiteLLM's ``ModelResponse``, with text and reasoning as they were told apart."""
    response = whole()
    message = response.choices[0].message
    message.content, message.reasoning_content = text or None, thoughts or None
    return response


def estimate(model: str, **counted: Any) -> int:
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
