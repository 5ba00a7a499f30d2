"""What LiteLLM answers, in modelrouter's terms."""

from __future__ import annotations

import uuid
from typing import Any

from modelrouter.completion import ToolCall
from modelrouter.planning.exchange import Reply

from .counting import usage_of
from .said import Said
from .thoughts import told_apart


def new_id() -> str:
    """The id of a tool call, where the server has given it none: its result is sent back under it."""
    return f"call_{uuid.uuid4().hex[:24]}"


def function_arguments(text: str | None) -> str:
    """Of a function that is called; servers in Go say "null" for none."""
    return "{}" if text is None or text.strip() in ("", "null") else text


def without_empty_text(message: Any) -> Any:
    """The message of an answer that calls tools, to be sent back: LiteLLM puts words of its own into a text that is
    empty, where it is sent to Claude."""
    if not (message.content or "").strip():
        message.content = None
    return message


def reply(response: Any, said: Said) -> Reply:
    """The answer in LiteLLM's ``ModelResponse``, and in what the provider `said` itself."""
    choice = response.choices[0] if response.choices else None
    message = choice.message if choice is not None else None
    if said.text and message is not None:
        message.content = said.text  # of several texts LiteLLM takes the last, for some providers
    calls = tuple(
        call for each in (getattr(message, "tool_calls", None) or ()) if (call := _tool_call(each)) is not None
    )
    if (older := getattr(message, "function_call", None)) is not None:
        calls += (ToolCall("", older.name or "", function_arguments(older.arguments)),)
    if calls:
        without_empty_text(message)
    kept = getattr(choice, "provider_specific_fields", None) or {}
    if not said.heard and "native_finish_reason" in kept:
        said.ends(kept["native_finish_reason"])
    finish = said.ended(getattr(choice, "finish_reason", None)) or None
    extra = getattr(message, "provider_specific_fields", None) or {}
    refused = said.refused or bool(getattr(message, "refusal", None) or extra.get("refusal"))
    text = _text(message) if message is not None else ""
    return Reply(
        text=text,
        usage=usage_of(getattr(response, "usage", None)),
        finish_reason="content_filter" if refused and not text else finish,
        tool_calls=calls,
        other=any(getattr(message, kind, None) for kind in ("audio", "images")),
        response=response,
        model=getattr(response, "model", None),
    )


def _text(message: Any) -> str:
    """The message's text, with the reasoning put aside that was in it."""
    said, reasoning = message.content or "", getattr(message, "reasoning_content", None)
    thought, text = told_apart(said, found=reasoning is not None)  # empty: LiteLLM has taken out tags with nothing in
    if text != said:
        message.content = text or None
        message.reasoning_content = f"{reasoning or ''}{thought}".strip() or None
    return text


def _tool_call(call: Any) -> ToolCall | None:
    if (function := getattr(call, "function", None)) is not None:
        function.arguments = function_arguments(function.arguments)  # so that it can be sent back
        return ToolCall(call.id or "", function.name or "", function.arguments)
    if (custom := getattr(call, "custom", None)) is not None:
        return ToolCall(call.id or "", custom.name or "", custom.input or "")
    return None
