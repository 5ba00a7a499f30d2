"""What Claude's thinking excludes (https://platform.claude.com/docs/en/build-with-claude/extended-thinking), and who
gives way: what module or catalog say for every call. What the call itself says is sent, and the provider's refusal
tells of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from modelrouter.parameters import having

_FITS: Mapping[str, Callable[[Any], bool]] = {
    "temperature": lambda value: value == 1,
    "tool_choice": lambda value: value in ("auto", "none"),
    "top_k": lambda _: False,
    "top_p": lambda value: value >= 0.95,
}
"""Which values of which parameters go with it."""


def make_room(arguments: dict[str, Any], settled: frozenset[str]) -> None:
    """Take out of LiteLLM's arguments what is `settled`, and not the call's, where Claude's thinking excludes it. A
    limit that is no larger than the budget of the thinking, which is refused, holds for what comes behind it."""
    if not arguments.keys() & {"reasoning_effort", "thinking"} or "claude" not in arguments["model"]:
        return
    thinking = _thinking(arguments)
    if thinking.get("type") not in ("enabled", "adaptive"):
        return
    for name, fits in _FITS.items():
        if name in settled & arguments.keys() and not fits(arguments[name]):
            del arguments[name]
    budget = thinking.get("budget_tokens") or 0
    for name in having("tokens") & settled & arguments.keys():
        if arguments[name] <= budget:
            arguments[name] += budget


def _thinking(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """The thinking that LiteLLM will ask of the model: it knows which form and which budget each one takes."""
    import litellm

    provider, _, bare = arguments["model"].partition("/")
    asked = {name: arguments[name] for name in ("reasoning_effort", "thinking") if name in arguments}
    with contextlib.suppress(Exception):  # of whatever it does not like, the call itself will tell
        form = litellm.get_optional_params(model=bare, custom_llm_provider=provider, drop_params=True, **asked)
        if isinstance(thinking := form.get("thinking"), Mapping):
            return thinking
    return {}
