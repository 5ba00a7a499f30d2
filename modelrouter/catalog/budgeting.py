"""Whether a budget can be held: only if the highest price of each request is known before it is sent."""

from __future__ import annotations

from collections.abc import Iterator

from modelrouter.parameters import having

from .known_providers import of_string
from .prices import is_free, own_price
from .target import Budget, ModuleSettings, Resolved, Target


def unbounded(resolved: Resolved) -> Iterator[tuple[Budget, str]]:
    """Each model of a chain for which a budget of the module's cannot be held, and why."""
    for budget in resolved.budgets:
        for target in resolved.chain if budget.hard else ():
            if (why := _why(target, resolved.settings)) is not None:
                yield budget, f"a call of {target.name!r}, in the chain of {resolved.module!r}, {why}"


def _why(target: Target, settings: ModuleSettings) -> str | None:
    price = own_price(target)
    if price is None and not target.own_address:  # at its provider's own, LiteLLM's list may have it
        return "can cost any sum: the model has no price; give it one, or set hard: false"
    if price is not None and is_free(price):
        return None
    limits = (settings.max_tokens, target.max_tokens, of_string(target.litellm_model).most_tokens)
    if all(limit is None for limit in limits) and not target.params.keys() & having("tokens"):
        return "can cost any sum: nothing limits its answer; set max_tokens, or set hard: false"
    return None
