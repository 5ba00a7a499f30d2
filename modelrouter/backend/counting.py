"""Tokens, as modelrouter counts them, out of what LiteLLM gives of a provider's count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelrouter.completion import Usage


def usage_of(usage: Any) -> Usage | None:
    """None: the provider said nothing, for which LiteLLM gives (0, 0); no real prompt has 0 tokens."""
    if usage is None or not (usage.prompt_tokens or usage.completion_tokens):
        return None
    prompt = getattr(usage, "prompt_tokens_details", None)
    read, long = _count(_of(prompt, "cached_tokens")), _written_for_long(usage, prompt)
    # OpenAI's name for them, and Anthropic's.
    written = _count(_of(prompt, "cache_write_tokens") or _of(usage, "cache_creation_input_tokens"))
    output = _count(usage.completion_tokens)
    reasoning = _count(_of(getattr(usage, "completion_tokens_details", None), "reasoning_tokens"))
    if beside := _beside(usage, reasoning, read, written):
        output, reasoning = output + beside, reasoning or beside
    return Usage(_count(usage.prompt_tokens), output, read, max(written, long), min(reasoning, output), long)


def _beside(usage: Any, reasoning: int, read: int, written: int) -> int:
    """Reasoning that `completion_tokens` leaves out and `total_tokens` has: xAI's, and Gemini's in OpenAI's form, which
    names it nowhere (https://docs.x.ai/docs/guides/reasoning, https://ai.google.dev/gemini-api/docs/openai). What is
    as much as the cached tokens are those, beside the prompt, as gateways to Claude count. Without a total,
    reasoning that is more than the completion is no part of it."""
    completion, total = _count(usage.completion_tokens), _count(_of(usage, "total_tokens"))
    if not total:
        return reasoning if reasoning > completion else 0
    left = total - _count(usage.prompt_tokens) - completion
    if left <= 0:
        return 0
    cached = {count for count in (read, written, read + written) if count}
    if left - reasoning in cached:
        return reasoning
    return 0 if left in cached else left


def _written_for_long(usage: Any, prompt: Any) -> int:
    """The tokens written to the cache for an hour or more, of those for minutes: LiteLLM's names, Anthropic's, as
    servers of OpenAI's form repeat it, and OpenAI's."""
    splits = (
        (prompt, "cache_creation_token_details"),
        (usage, "cache_creation"),
        (prompt, "cache_write_tokens_details"),
    )
    names = ("ephemeral_1h_input_tokens", "ephemeral_12h_input_tokens", "ttl_12h_tokens")
    found = [kept for where, split in splits if (kept := _of(where, split))]
    return max((_count(_of(kept, name)) for kept in found for name in names), default=0)


def _of(where: Any, name: str) -> Any:
    return where.get(name) if isinstance(where, Mapping) else getattr(where, name, None)


def _count(said: Any) -> int:
    """LiteLLM takes on trust what a server counts."""
    return said if isinstance(said, int) and said > 0 else 0
