"""What LiteLLM's table of models says: prices, abilities, and the size of a prompt.

The table holds for a provider's own address alone: it cannot know what an OpenAI-compatible server elsewhere asks for a
model of the same name, nor what that can do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from typing import Any

from modelrouter.catalog.prices import own_price
from modelrouter.catalog.target import Price, PriceTier, Target
from modelrouter.completion import EXACT

from .loading import loaded, rows


def price(target: Target) -> Price | None:
    """The catalog's price of a model, else zero for what runs on one's own machine, else LiteLLM's; None: not known."""
    own = own_price(target)
    if own is not None or not target.own_address or not loaded():
        return own
    return _listed(target.litellm_model)


@cache
def _listed(litellm_model: str) -> Price | None:
    return bundled(rows(), litellm_model)


def context_window(target: Target) -> int | None:
    """The largest prompt in tokens: the catalog's, else the table's."""
    if target.context_window is not None:
        return target.context_window
    size = row(target).get("max_input_tokens")
    return size if isinstance(size, int) else None


def row(target: Target) -> Mapping[str, Any]:
    """What the table has about a model at its provider's own address; empty, too, until LiteLLM is loaded."""
    if not target.own_address:
        return {}
    found = row_of(rows(), target.litellm_model)
    return found[1] if found is not None else {}


def bundled(rows: Mapping[str, Mapping[str, Any]], litellm_model: str) -> Price | None:
    """The price in LiteLLM's table, or None where it has none that holds for every chat with the model.

    The full string is looked up first, then the bare name where the row is the same provider's: ``gpt-4`` for
    ``openai/gpt-4``. It is the price of text at the standard speed: batches, priority, images, sound and a tool's own
    fee (a web search) are not in it.
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
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_long",
    "cache_creation_input_token_cost_above_12hr": "cache_write_long",
}
_ABOVE = re.compile(rf"(?:{'|'.join(_FIELDS)})_above_(\d+)k_tokens")
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
        or row.get("output_cost_per_reasoning_token", row["output_cost_per_token"]) != row["output_cost_per_token"]
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
    found = {ours: row[theirs + suffix] for theirs, ours in _FIELDS.items() if row.get(theirs + suffix) is not None}
    return {ours: _per_million(dollars) for ours, dollars in found.items()}


def _per_million(dollars: float | str) -> Decimal:
    # str() gives the shortest digits that stand for a float, those printed in the table; "f" makes 30 of 3E+1.
    return Decimal(f"{Decimal(str(dollars)).scaleb(6, EXACT):f}")
