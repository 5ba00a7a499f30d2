"""Streams as text, in the form of each provider that LiteLLM reads line by line."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["STREAMS", "Frames"]

Frames = Callable[[Sequence[str], bool], list[str]]
"""The events that say these pieces, and, if it is to end, those that say so."""


def _said(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _event(value: dict[str, Any]) -> str:
    return f"data: {_said(value)}\n\n"


def openai(pieces: Sequence[str], ends: bool) -> list[str]:
    def chunk(finish: str | None = None, **delta: str) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _event(
            {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
            | ({"usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}} if finish else {})
        )

    end = [chunk("stop"), "data: [DONE]\n\n"] if ends else []
    return [chunk(role="assistant", content=piece) for piece in pieces] + end


def gemini(pieces: Sequence[str], ends: bool) -> list[str]:
    def chunk(piece: str, **finish: str) -> str:
        candidate = {"content": {"role": "model", "parts": [{"text": piece}]}, "index": 0, **finish}
        usage = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}
        return _event({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m"})

    return [chunk(piece) for piece in pieces] + ([chunk("", finishReason="STOP")] if ends else [])


def anthropic(pieces: Sequence[str], ends: bool) -> list[str]:
    def event(kind: str, **fields: Any) -> str:
        return f"event: {kind}\n{_event({'type': kind, **fields})}"

    message = {"id": "x", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None}
    begin = event("message_start", message=message | {"usage": {"input_tokens": 10, "output_tokens": 1}})
    begin += event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    said = [event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece}) for piece in pieces]
    end = event("content_block_stop", index=0)
    end += event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 5}) + event("message_stop")
    return [begin, *said, *([end] if ends else [])]


def ollama(pieces: Sequence[str], ends: bool) -> list[str]:
    def line(piece: str, **done: Any) -> str:
        return _said({"model": "m", "message": {"role": "assistant", "content": piece}, "done": False} | done) + "\n"

    end = line("", done=True, done_reason="stop", prompt_eval_count=10, eval_count=5)
    return [line(piece) for piece in pieces] + ([end] if ends else [])


STREAMS: dict[str, tuple[str, Frames]] = {
    "anthropic": ("anthropic/m", anthropic),
    "azure_ai": ("azure_ai/claude-sonnet-4-5", anthropic),
    "deepseek": ("deepseek/deepseek-chat", openai),
    "databricks": ("databricks/m", openai),
    "fireworks_ai": ("fireworks_ai/m", openai),
    "gemini": ("gemini/gemini-2.5-flash", gemini),
    "groq": ("groq/llama-3.3-70b-versatile", openai),
    "hosted_vllm": ("hosted_vllm/m", openai),
    "mistral": ("mistral/m", openai),
    "ollama": ("ollama_chat/m", ollama),
    "openai": ("openai/m", openai),
    "openrouter": ("openrouter/a/b", openai),
    "together_ai": ("together_ai/m", openai),
    "xai": ("xai/grok-4", openai),
}
"""By provider: a model of its, and how it streams. OpenAI's is read by its own client."""
