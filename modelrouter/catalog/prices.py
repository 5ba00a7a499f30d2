"""What a call costs: usage and prices in, US dollars out, in exact decimal arithmetic.

LiteLLM's own ``completion_cost`` is not asked, because it prices the name that the server answered with.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, localcontext

from modelrouter.completion import EXACT, Usage

from .known_providers import known
from .target import Price, PriceTier, Target

FREE = Price(input=Decimal(0), output=Decimal(0))
"""What a model costs that runs on one's own machine."""


def is_free(price: Price) -> bool:
    """Whether every price in it is zero, so that the cost is known even when the usage is not."""
    tiers = (price,) if price.above is None else (price, price.above)
    return not any(tier.input or tier.output or tier.cache_read or tier.cache_write for tier in tiers)


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
    prompt = max(usage.input_tokens, read + write)
    tier = price.above if price.above is not None and prompt > price.above.tokens else price
    with localcontext(EXACT):
        millionths = (
            (prompt - read - write) * tier.input
            + read * _or(tier.cache_read, tier.input)
            + write * _or(tier.cache_write, tier.input)
            + max(0, usage.output_tokens) * tier.output
        )
        return millionths.scaleb(-6)


def most(price: Price, input_tokens: int, output_tokens: int) -> Decimal:
    """The highest price, in US dollars, of one call with a prompt and an answer of up to so many tokens."""
    above = price.above
    with localcontext(EXACT):
        dearest = _most_of(price, input_tokens if above is None else min(input_tokens, above.tokens), output_tokens)
        if above is not None and input_tokens > above.tokens:
            dearest = max(dearest, _most_of(above, input_tokens, output_tokens))
        return dearest.scaleb(-6)


def _most_of(tier: Price | PriceTier, input_tokens: int, output_tokens: int) -> Decimal:
    # To write to the provider's cache may cost more than plain input does.
    dearest = max(tier.input, _or(tier.cache_read, tier.input), _or(tier.cache_write, tier.input))
    return input_tokens * dearest + output_tokens * tier.output


def differences(ours: Price, theirs: Price) -> dict[str, tuple[Decimal | None, Decimal | None]]:
    """Where two prices would bill differently: ``{"output": (Decimal("10"), Decimal("15"))}``, ours before theirs.

    The names are the catalog's, with ``above.`` before those of the second tier. A cache price left out counts as the
    price of input; None stands for a second tier that is not there. Empty: the same bill for every usage.
    """
    mine, others = dict(_flat(ours)), dict(_flat(theirs))
    names = dict.fromkeys([*mine, *others])
    return {name: (mine.get(name), others.get(name)) for name in names if mine.get(name) != others.get(name)}


def _flat(price: Price) -> Iterator[tuple[str, Decimal]]:
    tiers: tuple[tuple[str, Price | PriceTier | None], ...] = (("", price), ("above.", price.above))
    for prefix, tier in tiers:
        if tier is None:
            continue
        if isinstance(tier, PriceTier):
            yield f"{prefix}tokens", Decimal(tier.tokens)
        yield f"{prefix}input", tier.input
        yield f"{prefix}output", tier.output
        yield f"{prefix}cache_read", _or(tier.cache_read, tier.input)
        yield f"{prefix}cache_write", _or(tier.cache_write, tier.input)


def _or(price: Decimal | None, otherwise: Decimal) -> Decimal:
    return otherwise if price is None else price


def own_price(target: Target) -> Price | None:
    """The catalog's price of a model, else zero for what runs on one's own machine; None: it has none of its own."""
    if target.price is not None:
        return target.price
    return FREE if known(target.provider).on_this_machine else None
