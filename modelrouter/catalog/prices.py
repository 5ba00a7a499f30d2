"""What a call costs: usage and prices in, US dollars out, in exact decimal arithmetic.

LiteLLM's own ``completion_cost`` is not asked, because it prices the name that the server answered with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from decimal import Decimal, localcontext

from modelrouter.completion import EXACT, Usage

from .known_providers import known
from .target import Price, PriceTier, Target

_RATES = ("input", "output", "cache_read", "cache_write", "cache_write_long")

FREE = Price(input=Decimal(0), output=Decimal(0))
"""What a model costs that runs on one's own machine."""


def is_free(price: Price) -> bool:
    """Whether every price in it is zero, so that the cost is known even when the usage is not."""
    tiers = (price,) if price.above is None else (price, price.above)
    return not any(rate(tier, name) for tier in tiers for name in _RATES)


def rate(tier: Price | PriceTier, name: str) -> Decimal:
    """One of the prices, by its name in the catalog. What is left out costs what input does, but twice that where it
    is written to the cache for long and `cache_write` is more than that: Anthropic's ratio for an hour
    (https://platform.claude.com/docs/en/build-with-claude/prompt-caching#pricing)."""
    said: Decimal | None = getattr(tier, name)
    if said is None:
        said = tier.input
        if name == "cache_write_long" and (tier.cache_write or 0) > tier.input:
            said = EXACT.multiply(said, Decimal(2))
    return said


def cost(usage: Usage | None, price: Price | None) -> Decimal | None:
    """US dollars for one answer; None when usage or price is not known, never 0 for that reason.

    `usage.input_tokens` include the cached ones, so these are taken out before the rest is charged. Reasoning tokens
    are part of the output. The result is never negative, however a provider counts.
    """
    if price is None:
        return None
    if is_free(price):
        return Decimal(0)
    if usage is None:
        return None
    read, write = max(0, usage.cache_read_tokens), max(0, usage.cache_write_tokens)
    long = min(max(0, usage.cache_write_long_tokens), write)
    prompt = max(usage.input_tokens, read + write)
    tier = price.above if price.above is not None and prompt > price.above.tokens else price
    with localcontext(EXACT):
        millionths = (
            (prompt - read - write) * tier.input
            + read * rate(tier, "cache_read")
            + (write - long) * rate(tier, "cache_write")
            + long * rate(tier, "cache_write_long")
            + max(0, usage.output_tokens) * tier.output
        )
        return millionths.scaleb(-6)


def most(price: Price, input_tokens: int, output_tokens: int) -> Decimal:
    """The highest price, in US dollars, of one call with a prompt and an answer of up to so many tokens."""
    sizes: list[tuple[Price | PriceTier, int]] = [(price, input_tokens)]
    if price.above is not None and input_tokens > price.above.tokens:
        sizes = [(price, price.above.tokens), (price.above, input_tokens)]
    with localcontext(EXACT):
        millionths = (
            # To write to the provider's cache may cost more than plain input does.
            size * max(rate(tier, name) for name in _RATES if name != "output") + output_tokens * tier.output
            for tier, size in sizes
        )
        return max(millionths).scaleb(-6)


def differences(ours: Price, theirs: Price) -> dict[str, tuple[Decimal | None, Decimal | None]]:
    """Where two prices would bill differently: ``{"output": (Decimal("10"), Decimal("15"))}``, ours before theirs.

    The names are the catalog's, with ``above.`` before those of the second tier. A price left out counts as `rate`
    says; None stands for a second tier that is not there. Empty: the same bill for every usage.
    """
    mine, others = dict(_flat(ours)), dict(_flat(theirs))
    names = dict.fromkeys([*mine, *others])
    return {name: (mine.get(name), others.get(name)) for name in names if mine.get(name) != others.get(name)}


def _flat(tier: Price | PriceTier, prefix: str = "") -> Iterator[tuple[str, Decimal]]:
    for each in fields(tier):
        value = getattr(tier, each.name)
        if each.name != "above":
            yield prefix + each.name, Decimal(rate(tier, each.name) if each.name in _RATES else value)
        elif value is not None:
            yield from _flat(value, "above.")


def own_price(target: Target) -> Price | None:
    """The catalog's price of a model, else zero for what runs on one's own machine; None: it has none of its own."""
    if target.price is not None:
        return target.price
    return FREE if known(target.provider).on_this_machine else None
