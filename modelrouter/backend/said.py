"""What a provider itself said, in its own form, where LiteLLM makes something else of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from modelrouter.planning import endings

ENDINGS = ("finish_reason", "native_finish_reason", "error")
"""Where a choice in OpenAI's form says how it ended; the last two are OpenRouter's."""


class Said:
    """Hears one answer, whole or chunk by chunk.

    LiteLLM replaces words for how an answer ended by OpenAI's, "stop" for each that it does not know, and takes no text
    that is a list of parts, as some servers of OpenAI's form send it.
    """

    def __init__(self, *, parts: bool = True) -> None:
        self.parts = parts
        """Lists of parts are put into one text; LiteLLM does so itself for some providers."""
        self.heard = False
        """It came in a form that is known here."""
        self.ending: str | None = None
        """How the answer ended, in the provider's word; empty: it has, and there was no word for it."""
        self.text: str | None = None
        """Of a whole answer whose text is a list of parts."""
        self.refused = False
        """One of the parts is a refusal."""
        self._body: dict[str, Any] = {}

    def __call__(self, details: Mapping[str, Any]) -> None:
        """LiteLLM's ``logger_fn``: it is told of the request, and of the whole answer as it came."""
        body = _parsed(details.get("original_response"))
        if body is not None:
            self.take(body)
            self._body = body

    def take(self, body: dict[str, Any]) -> bool:
        """Hear an answer, or a chunk of one; whether a list of parts in it was put into one text."""
        changed = False
        if choice := _first(body.get("choices")):  # OpenAI's form
            native, broken = choice.get("native_finish_reason"), choice.get("error") or body.get("error")
            self.ends("error" if broken else choice.get("finish_reason"))
            if isinstance(native, str) and endings.broke(native):  # which OpenRouter may call a stop
                self.ends(native)
            message = choice.get("message") or choice.get("delta")
            if isinstance(message, dict) and isinstance(parts := message.get("content"), list | dict):
                self.text, thought, refusal = read(parts)
                message["content"] = self.text
                if refusal:
                    self.refused = True
                    message.setdefault("refusal", refusal)
                if thought:  # LiteLLM reads one name in all whole answers, and another in all streams
                    message.setdefault("reasoning_content" if "message" in choice else "reasoning", thought)
                changed = self.parts
        elif candidate := _first(body.get("candidates")):  # Gemini's
            self.ends(candidate.get("finishReason"))
        elif "done" in body and "message" in body:  # Ollama's; old ones have no word
            self.ends(body.get("done_reason"), over=bool(body["done"]))
        elif body.get("type") == "message":  # Anthropic's
            self.ends(body.get("stop_reason"))
        elif body.get("type") in ("message_delta", "message_stop"):
            self.ends(_word(body.get("delta")), over=True)
        elif word := _word(body) or _word(body.get("delta")):  # Cohere's, Bedrock's
            self.ends(word)
        return changed

    def ends(self, word: Any, *, over: bool = False) -> None:
        """Hear how the answer ends, if it does."""
        self.heard = True
        if isinstance(word, str) and word not in ("", "null"):  # DashScope's, until it has ended
            self.ending = self.ending if endings.broke(self.ending) else word
        elif over:
            self.ending = self.ending or ""

    def ended(self, litellms: str | None) -> str | None:
        """How the answer ended, in OpenAI's words as far as it has them, out of LiteLLM's word and the provider's own;
        empty: nobody said; None: it has not."""
        litellms = endings.in_openais(litellms)
        if not self.heard:
            return litellms
        own = endings.in_openais(self.ending)
        if own is None and (litellms is None or litellms in endings.COMPLETE):
            return self.ending  # what LiteLLM says is its own guess
        if own is None or own in endings.COMPLETE:
            return litellms or own  # it knows more: that tools are called, or that what was said is a refusal
        return own

    def whole(self) -> Any:
        """LiteLLM's ``ModelResponse`` of an answer in OpenAI's form that LiteLLM could not read, or None: of a list of
        parts, or of Groq's without a ``service_tier``."""
        if not isinstance(_first(self._body.get("choices")).get("message"), dict):
            return None
        import litellm

        return litellm.ModelResponse(**self._body)


def read(parts: Any) -> tuple[str, str, str]:
    """The text in a list of parts, the reasoning, and the refusal. A kind that is not known is none of them."""
    texts: list[str] = []
    thoughts: list[str] = []
    refusals: list[str] = []
    for part in parts if isinstance(parts, list) else [parts]:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in _REASONING:
            thoughts.append(_plain(part))
        elif kind in (None, "text", "output_text"):
            texts.append(_plain(part))
        elif kind == "refusal":
            refusals.append(_plain(part))
    return "".join(texts), "".join(thoughts), "".join(refusals)


_REASONING = ("thinking", "reasoning", "reasoning_content", "thought")
_WRITTEN = ("text", "value", *_REASONING, "summary", "content", "refusal")
"""Where it is written; ``value`` in the text of OpenAI's Assistants."""


def _plain(part: Any) -> str:
    """What is written in a part, which may itself be a list of parts."""
    if isinstance(part, str):
        return part
    if isinstance(part, list):
        return "".join(map(_plain, part))
    if isinstance(part, dict):
        return next((_plain(part[name]) for name in _WRITTEN if part.get(name)), "")
    return ""


def _first(items: Any) -> dict[str, Any]:
    first = items[0] if isinstance(items, list) and items else None
    return first if isinstance(first, dict) else {}


def _word(body: Any) -> Any:
    names = ("stop_reason", "finish_reason", "stopReason")
    return next((body[name] for name in names if body.get(name)), None) if isinstance(body, dict) else None


def _parsed(raw: Any) -> dict[str, Any] | None:
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except (ValueError, RecursionError):
            return None
    return raw if isinstance(raw, dict) else None
