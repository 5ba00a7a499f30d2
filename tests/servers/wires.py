"""The wire formats of OpenAI, Anthropic and Ollama, as far as chat needs them: bodies, streams, errors."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

from .answers import Break, Fault, Gate, Known, KnownName, Reply

__all__ = ["WIRES", "Frame", "Ollama", "Wire"]

Frame = bytes | float | Gate | Break
"""One step of a stream: bytes to send, seconds to pause, a gate to wait for, or CUT, END or STALL."""

_GARBAGE = '{"this is not JSON'


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # such as Anthropic's 529
        return f"Error {status}"


class Wire(ABC):
    """A provider's format, at one path."""

    path: ClassVar[str]
    content_type: ClassVar[str]
    """Of a stream."""
    known: ClassVar[Mapping[KnownName, tuple[int, str, str | None]]]
    """Status, message, and the code or type that goes with it."""

    def wants_stream(self, body: Mapping[str, Any]) -> bool:
        return bool(body.get("stream"))

    @abstractmethod
    def body(self, reply: Reply, model: str) -> dict[str, Any]:
        """The answer to a request that does not stream."""

    @abstractmethod
    def envelope(self, status: int, message: str, code: str | None) -> dict[str, Any]:
        """The body of an error."""

    @abstractmethod
    def opening(self, reply: Reply, model: str) -> Sequence[bytes]: ...

    @abstractmethod
    def piece(self, text: str, model: str, reply: Reply) -> bytes: ...

    @abstractmethod
    def closing(self, reply: Reply, model: str, request: Mapping[str, Any]) -> Sequence[bytes]:
        """Tool calls, finish reason, usage, terminator."""

    @abstractmethod
    def frame(self, data: str) -> bytes:
        """One event with this data."""

    def error(self, fault: Fault | Known, model: str) -> tuple[int, Any]:
        """Status and body."""
        if isinstance(fault, Known):
            status, message, code = self.known[fault.name]
            return status, self.envelope(status, message.format(model=model), code)
        return fault.status, self.envelope(fault.status, fault.message or _phrase(fault.status), fault.code)

    def stream(self, reply: Reply, model: str, request: Mapping[str, Any]) -> Iterator[Frame]:
        yield from self.opening(reply, model)
        for step in reply.steps:
            match step:
                case str():
                    yield self.piece(step, model, reply)
                case Break.GARBAGE:
                    yield self.frame(_GARBAGE)
                case Break.ERROR:
                    yield self.frame(_dump(self.error(Known("overloaded"), model)[1]))
                    yield Break.END
                    return
                case Break.CUT | Break.END | Break.STALL:
                    yield step
                    return
                case _:
                    yield step
        yield from self.closing(reply, model, request)


class OpenAI(Wire):
    path = "/v1/chat/completions"
    content_type = "text/event-stream"
    known: ClassVar[Mapping[KnownName, tuple[int, str, str | None]]] = {
        "bad_key": (401, "Incorrect API key provided. You can find your API key in your account.", "invalid_api_key"),
        "content_policy": (
            400,
            "Your request was rejected as a result of our safety system. It may contain text that is not allowed.",
            "content_policy_violation",
        ),
        "context_window": (
            400,
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
            "context_length_exceeded",
        ),
        "insufficient_quota": (
            429,
            "You exceeded your current quota, please check your plan and billing details.",
            "insufficient_quota",
        ),
        "model_not_found": (
            404,
            "The model `{model}` does not exist or you do not have access to it.",
            "model_not_found",
        ),
        "overloaded": (503, "That model is currently overloaded with other requests.", None),
        "unsupported": (
            400,
            "Unsupported value: 'temperature' does not support 0 with this model.",
            "unsupported_value",
        ),
    }
    _types: ClassVar[Mapping[int, str]] = {401: "authentication_error", 403: "permission_error", 429: "requests"}

    def usage(self, reply: Reply) -> dict[str, Any]:
        return {
            "prompt_tokens": reply.input_tokens,
            "completion_tokens": reply.output_tokens,
            "total_tokens": reply.input_tokens + reply.output_tokens,
            "prompt_tokens_details": {
                "cached_tokens": reply.cache_read_tokens,
                "cache_write_tokens": reply.cache_write_tokens,
                **(
                    {"cache_write_tokens_details": {"ttl_12h_tokens": reply.cache_write_long_tokens}}
                    if reply.cache_write_long_tokens
                    else {}
                ),
            },
            "completion_tokens_details": {"reasoning_tokens": reply.reasoning_tokens},
        }

    def body(self, reply: Reply, model: str) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": reply.whole or None, "refusal": None}
        if reply.thoughts:
            message["reasoning_content"] = "".join(reply.thoughts)
        if reply.tools:
            message["tool_calls"] = self._calls(reply)
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reply.finish}
        return self._object("chat.completion", model, [choice] if reply.choices else []) | (
            {"usage": self.usage(reply)} if reply.usage else {}
        )

    def envelope(self, status: int, message: str, code: str | None) -> dict[str, Any]:
        kind = "insufficient_quota" if code == "insufficient_quota" else self._types.get(status)
        kind = kind or ("server_error" if status >= 500 else "invalid_request_error")
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}

    def opening(self, reply: Reply, model: str) -> Sequence[bytes]:
        if not reply.choices:
            return []
        deltas = [{"role": "assistant", "content": "", "refusal": None}]
        deltas += [{"reasoning_content": thought} for thought in reply.thoughts]
        return [self._chunk(model, delta) for delta in deltas]

    def piece(self, text: str, model: str, reply: Reply) -> bytes:
        return self._chunk(model, {"content": text})

    def closing(self, reply: Reply, model: str, request: Mapping[str, Any]) -> Sequence[bytes]:
        frames = []
        if reply.tools:
            calls = [{"index": index, **call} for index, call in enumerate(self._calls(reply))]
            frames.append(self._chunk(model, {"tool_calls": calls}))
        if reply.choices:
            frames.append(self._chunk(model, {}, reply.finish))
        if reply.usage and (request.get("stream_options") or {}).get("include_usage"):
            last = self._object("chat.completion.chunk", model, []) | {"usage": self.usage(reply)}
            frames.append(self.frame(_dump(last)))
        return [*frames, self.frame("[DONE]")]

    def frame(self, data: str) -> bytes:
        return f"data: {data}\n\n".encode()

    def _chunk(self, model: str, delta: Mapping[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self.frame(_dump(self._object("chat.completion.chunk", model, [choice])))

    @staticmethod
    def _object(kind: str, model: str, choices: Sequence[object]) -> dict[str, Any]:
        return {"id": "chatcmpl-1", "object": kind, "created": 1_700_000_000, "model": model, "choices": choices}

    @staticmethod
    def _calls(reply: Reply) -> list[dict[str, Any]]:
        return [
            {"id": tool.id, "type": "function", "function": {"name": tool.name, "arguments": _dump(tool.arguments)}}
            for tool in reply.tools
        ]


class Anthropic(Wire):
    path = "/v1/messages"
    content_type = "text/event-stream"
    known: ClassVar[Mapping[KnownName, tuple[int, str, str | None]]] = {
        "bad_key": (401, "invalid x-api-key", "authentication_error"),
        "content_policy": (400, "Output blocked by content filtering policy", "invalid_request_error"),
        "context_window": (400, "prompt is too long: 200001 tokens > 200000 maximum", "invalid_request_error"),
        "insufficient_quota": (
            400,
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade.",
            "invalid_request_error",
        ),
        "model_not_found": (404, "model: {model}", "not_found_error"),
        "overloaded": (529, "Overloaded", "overloaded_error"),
        "unsupported": (400, "'{model}' does not support image input.", "invalid_request_error"),
    }
    _types: ClassVar[Mapping[int, str]] = {
        401: "authentication_error",
        402: "billing_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        529: "overloaded_error",
    }
    _stops: ClassVar[Mapping[str, str]] = {
        "stop": "end_turn",
        "length": "max_tokens",
        "tool_calls": "tool_use",
        "content_filter": "refusal",
    }

    def usage(self, reply: Reply) -> dict[str, Any]:
        # Here input_tokens are those that were neither read from the cache nor written to it.
        fresh = reply.input_tokens - reply.cache_read_tokens - reply.cache_write_tokens
        return {
            "input_tokens": fresh,
            "cache_creation_input_tokens": reply.cache_write_tokens,
            "cache_read_input_tokens": reply.cache_read_tokens,
            "cache_creation": {
                "ephemeral_5m_input_tokens": reply.cache_write_tokens - reply.cache_write_long_tokens,
                "ephemeral_1h_input_tokens": reply.cache_write_long_tokens,
            },
            "output_tokens": reply.output_tokens,
            "output_tokens_details": {"thinking_tokens": reply.reasoning_tokens},
        }

    def body(self, reply: Reply, model: str) -> dict[str, Any]:
        content: list[dict[str, Any]] = []
        if reply.thoughts:
            content.append({"type": "thinking", "thinking": "".join(reply.thoughts), "signature": "signed"})
        if reply.whole:
            content.append({"type": "text", "text": reply.whole})
        content += [
            {"type": "tool_use", "id": tool.id, "name": tool.name, "input": dict(tool.arguments)}
            for tool in reply.tools
        ]
        stop = self._stops.get(reply.finish, reply.finish)
        message = self._message(model) | {"content": content, "stop_reason": stop}
        return message | ({"usage": self.usage(reply)} if reply.usage else {})

    def envelope(self, status: int, message: str, code: str | None) -> dict[str, Any]:
        kind = code or self._types.get(status) or ("api_error" if status >= 500 else "invalid_request_error")
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}

    def opening(self, reply: Reply, model: str) -> Sequence[bytes]:
        message = self._message(model)
        if reply.usage:
            message["usage"] = self.usage(reply) | {"output_tokens": 1, "output_tokens_details": None}
        frames = [self._event("message_start", message=message)]
        if reply.thoughts:
            block = {"type": "thinking", "thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": thought} for thought in reply.thoughts]
            deltas.append({"type": "signature_delta", "signature": "signed"})
            frames.append(self._event("content_block_start", index=0, content_block=block))
            frames += [self._event("content_block_delta", index=0, delta=delta) for delta in deltas]
            frames.append(self._event("content_block_stop", index=0))
        if reply.steps:
            block = {"type": "text", "text": ""}
            frames.append(self._event("content_block_start", index=int(bool(reply.thoughts)), content_block=block))
        return frames

    def piece(self, text: str, model: str, reply: Reply) -> bytes:
        index = int(bool(reply.thoughts))
        return self._event("content_block_delta", index=index, delta={"type": "text_delta", "text": text})

    def closing(self, reply: Reply, model: str, request: Mapping[str, Any]) -> Sequence[bytes]:
        text = int(bool(reply.thoughts))
        frames = [self._event("content_block_stop", index=text)] if reply.steps else []
        for index, tool in enumerate(reply.tools, start=text + len(frames)):
            block = {"type": "tool_use", "id": tool.id, "name": tool.name, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": _dump(tool.arguments)}
            frames += [
                self._event("content_block_start", index=index, content_block=block),
                self._event("content_block_delta", index=index, delta=delta),
                self._event("content_block_stop", index=index),
            ]
        stop = {"stop_reason": self._stops.get(reply.finish, reply.finish), "stop_sequence": None}
        usage = {"usage": self.usage(reply)} if reply.usage else {}
        return [*frames, self._event("message_delta", delta=stop, **usage), self._event("message_stop")]

    def frame(self, data: str) -> bytes:
        try:
            name = json.loads(data)["type"]
        except ValueError:
            name = "content_block_delta"
        return f"event: {name}\ndata: {data}\n\n".encode()

    def _event(self, kind: str, **fields: object) -> bytes:
        return self.frame(_dump({"type": kind, **fields}))

    @staticmethod
    def _message(model: str) -> dict[str, Any]:
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
        }


class Ollama(Wire):
    path = "/api/chat"
    content_type = "application/x-ndjson"
    known: ClassVar[Mapping[KnownName, tuple[int, str, str | None]]] = {
        "bad_key": (401, "unauthorized", None),
        "content_policy": (400, "rejected by content policy", None),
        "context_window": (400, "prompt is too long: it exceeds the context length", None),
        "insufficient_quota": (402, "you have reached your usage limit", None),
        "model_not_found": (404, "model '{model}' not found", None),
        "overloaded": (503, "server busy, please try again. maximum pending requests exceeded", None),
        "unsupported": (400, "registry.ollama.ai/library/{model} does not support tools", None),
    }

    def wants_stream(self, body: Mapping[str, Any]) -> bool:
        return bool(body.get("stream", True))

    def body(self, reply: Reply, model: str) -> dict[str, Any]:
        return self._line(model, reply.whole, reply, thinking="".join(reply.thoughts)) | self._done(reply)

    def envelope(self, status: int, message: str, code: str | None) -> dict[str, Any]:
        return {"error": message}

    def opening(self, reply: Reply, model: str) -> Sequence[bytes]:
        return [self.frame(_dump(self._line(model, "", thinking=thought))) for thought in reply.thoughts]

    def piece(self, text: str, model: str, reply: Reply) -> bytes:
        return self.frame(_dump(self._line(model, text)))

    def closing(self, reply: Reply, model: str, request: Mapping[str, Any]) -> Sequence[bytes]:
        frames = [self.frame(_dump(self._line(model, "", reply)))] if reply.tools else []
        return [*frames, self.frame(_dump(self._line(model, "") | self._done(reply)))]

    def frame(self, data: str) -> bytes:
        return f"{data}\n".encode()

    @staticmethod
    def _line(model: str, text: str, reply: Reply | None = None, thinking: str = "") -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if thinking:
            message["thinking"] = thinking
        if reply and reply.tools:
            message["tool_calls"] = [
                {"function": {"name": tool.name, "arguments": dict(tool.arguments)}} for tool in reply.tools
            ]
        return {"model": model, "created_at": "2026-11-22T12:00:00Z", "message": message, "done": False}

    @staticmethod
    def _done(reply: Reply) -> dict[str, Any]:
        # Ollama itself calls it "stop" when tools are to be called.
        done = {"done": True, "done_reason": "stop" if reply.finish == "tool_calls" else reply.finish}
        usage = {"prompt_eval_count": reply.input_tokens, "eval_count": reply.output_tokens} if reply.usage else {}
        return done | {"total_duration": 1_000_000, "load_duration": 0} | usage


WIRES: Mapping[str, Wire] = {wire.path: wire for wire in (OpenAI(), Anthropic(), Ollama())}
"""By path."""
