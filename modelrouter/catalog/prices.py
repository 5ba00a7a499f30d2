"""What a call costs: usage and prices in, US dollars out, in exact decimal arithmetic.

LiteLLM's own ``completion_cost`` is not asked, because it prices the name that the server answered with. Its table of
prices is read, and handed in by whoever has LiteLLM loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Context, Decimal, localcontext
from typing import Any

from modelrouter.types import Attempt, Price, PriceTier, Target, Usage

__all__ = ["FREE", "bundled", "cost", "differences", "is_free", "known", "most", "price_of", "row_of", "total"]

FREE = Price(input=Decimal(0), output=Decimal(0))
"""What a model costs that runs on one's own machine."""

FREE_PROVIDERS = frozenset(("embedded", "ollama"))

_EXACT = Context(prec=60)  # an application may have set its thread's own precision to a few digits


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
    with localcontext(_EXACT):
        millionths = (
            (prompt - read - write) * tier.input
            + read * _or(tier.cache_read, tier.input)
            + write * _or(tier.cache_write, tier.input)
            + max(0, usage.output_tokens) * tier.output
        )
        return millionths.scaleb(-6)


def total(attempts: Iterable[Attempt]) -> Decimal | None:
    """What a call cost; None when there was an answer, taken or turned down, whose price is not known."""
    attempts = tuple(attempts)
    unknown = (a.cost_usd is None and (a.outcome == "ok" or a.usage is not None) for a in attempts)
    return None if any(unknown) else known(attempts)


def known(attempts: Iterable[Attempt]) -> Decimal:
    """What is known of a call's cost."""
    return sum((a.cost_usd for a in attempts if a.cost_usd is not None), Decimal(0))


def most(price: Price, input_tokens: int, output_tokens: int) -> Decimal:
    """The highest price, in US dollars, of one call with a prompt and an answer of up to so many tokens."""
    above = price.above
    with localcontext(_EXACT):
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


def price_of(target: Target, rows: Callable[[], Mapping[str, Mapping[str, Any]]]) -> Price | None:
    """The catalog's price of a model, else zero for what runs on one's own machine, else LiteLLM's; None: not known.

    `rows` gives LiteLLM's table and is called only when it is needed. The table holds for a provider's own address
    alone: it cannot know what an OpenAI-compatible server elsewhere asks for a model of the same name.
    """
    if target.price is not None:
        return target.price
    if target.provider in FREE_PROVIDERS:
        return FREE
    return bundled(rows(), target.litellm_model) if target.own_address else None


def bundled(rows: Mapping[str, Mapping[str, Any]], litellm_model: str) -> Price | None:
    """The price in LiteLLM's table, or None where it has none that holds for every chat with the model.

    The full string is looked up first, then the bare name where the row is the same provider's: ``gpt-4`` for
    ``openai/gpt-4``. It is the price of text at the standard speed: batches, priority, images, sound, an hour's caching
    and a tool's own fee (a web search) are not in it.
    """
    if (found := row_of(rows, litellm_model)) is None:
        return None
    try:
        return _from_row(*found)
    except (ArithmeticError, TypeError, ValueError):  # not numbers: any code may have put its own row there
        return None


def row_of(rows: Mapping[str, Mapping[str, Any]], litellm_model: str) -> tuple[str, Mapping[str, Any]] | None:
    """A model's name in LiteLLM's table and its row there: the full string's, else the bare name's of that provider."""
    if (row := rows.get(litellm_model)) is not None:
        return litellm_model, row
    provider, slash, name = litellm_model.partition("/")
    row = rows.get(name) if slash else None
    if row is None or not _same_provider(provider, str(row.get("litellm_provider"))):
        return None
    return name, row


def _same_provider(provider: str, of_row: str) -> bool:
    # LiteLLM files one provider under several names: bedrock_converse, vertex_ai-language-models. To compare beginnings
    # would not do: azure and azure_ai are two providers with two prices.
    other_names = (provider, f"{provider}_chat", f"{provider}_converse")
    return of_row in other_names or of_row.startswith(f"{provider}-")


_CHAT = frozenset(("chat", "completion", "responses"))
_FIELDS = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
}
_ABOVE = re.compile(rf"(?:{'|'.join(_FIELDS.values())})_above_(\d+)k_tokens")
_BESIDES_TOKENS = re.compile(r".*cost_per_(request|second)|citation_cost_per_token")
_ALWAYS_SEARCHES = re.compile("search|sonar")
"""Models that search the web in each call, for a fee that exceeds that of the tokens."""


def _from_row(name: str, row: Mapping[str, Any]) -> Price | None:
    """The price in a row of LiteLLM's table; None unless tokens, in at most two tiers, are all that is billed."""
    base = _prices(row, "")
    charges = {field for field, dollars in row.items() if "cost" in field and dollars}
    kilotokens = {match[1] for field in row if (match := _ABOVE.fullmatch(field))}
    if (
        row.get("mode") not in _CHAT
        or not {"input", "output"} <= base.keys()
        or any(price < 0 for price in base.values())
        or "tiered_pricing" in row  # more tiers than two
        or len(kilotokens) > 1
        or row.get("output_cost_per_reasoning_token", row[_FIELDS["output"]]) != row[_FIELDS["output"]]
        or any(_BESIDES_TOKENS.fullmatch(field) for field in charges)
        or ("search_context_cost_per_query" in charges and _ALWAYS_SEARCHES.search(name))
        or (charges and not any(base.values()))  # tokens for nothing, and a picture or a song for a price
    ):
        return None
    above = None
    for size in kilotokens:
        tier = {"input": base["input"], "output": base["output"]} | _prices(row, f"_above_{size}k_tokens")
        above = PriceTier(int(size) * 1000, **tier)
    return Price(**base, above=above)


def _prices(row: Mapping[str, Any], suffix: str) -> dict[str, Decimal]:
    return {
        ours: _per_million(row[theirs + suffix])
        for ours, theirs in _FIELDS.items()
        if row.get(theirs + suffix) is not None
    }


def _per_million(dollars: float | str) -> Decimal:
    # str() gives the shortest digits that stand for a float, those printed in the table; "f" makes 30 of 3E+1.
    return Decimal(f"{Decimal(str(dollars)).scaleb(6, _EXACT):f}")
