"""The highest price of a request, before it is sent."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from modelrouter.backend.current import current
from modelrouter.backend.loading import loaded
from modelrouter.backend.stream import estimate
from modelrouter.backend.thinking import make_room
from modelrouter.catalog import prices
from modelrouter.catalog.known_providers import of_string
from modelrouter.catalog.target import Target
from modelrouter.parameters import having
from modelrouter.planning.exchange import Request

_TOOLS = 1000
"""Tokens of the words that providers put around tools."""
_ELSEWHERE = 1_000_000
"""Tokens of a prompt with parts that are not in the request, for a model whose context window is not known."""
_MARGIN = 1.5
"""LiteLLM's tokenizer is not every model's own."""


def most(target: Target, request: Request, *, closely: bool = False) -> Decimal | None:
    """US dollars that a request can cost at most; None: not known. Closely: the prompt is counted by LiteLLM's
    tokenizer, which takes milliseconds; else by its bytes, of which every token has at least one."""
    price = current().price(target)
    if price is None:
        return None
    if prices.is_free(price):
        return Decimal(0)
    arguments = {"model": target.litellm_model, **request.params}
    if loaded():
        make_room(arguments, request.settled)  # for reasoning that comes on top of the limit
    limits = [arguments[name] for name in having("tokens") if isinstance(arguments.get(name), int)]
    answer = max(limits, default=of_string(target.litellm_model).most_tokens)
    if answer is None:
        return None
    return prices.most(price, _prompt(target, request, closely=closely), answer)


def _prompt(target: Target, request: Request, *, closely: bool) -> int:
    if any(map(_elsewhere, request.messages)):
        return current().context_window(target) or _ELSEWHERE
    asked = {name: request.params[name] for name in ("tools", "functions", "response_format") if name in request.params}
    text = json.dumps([request.messages, asked], ensure_ascii=False, default=_plain)
    size = len(text.encode(errors="replace"))
    if closely and loaded() and (counted := estimate(target.litellm_model, text=text)):
        size = min(size, math.ceil(_MARGIN * counted))
    return size + (_TOOLS if asked else 0)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, type):
        return value.model_json_schema()  # type: ignore[attr-defined] # a pydantic model's, as has been checked
    return value.model_dump(mode="json")


def _elsewhere(message: Mapping[str, Any]) -> bool:
    """Whether it has a part that the provider fetches: a picture by its address, a file by its id."""
    content = message.get("content")
    return isinstance(content, list) and any(_fetched(part) for part in content)


def _fetched(value: Any, *, key: str = "") -> bool:
    if isinstance(value, Mapping):
        return any(_fetched(each, key=str(name)) for name, each in value.items())
    return key == "file_id" or (
        key in ("url", "image_url") and isinstance(value, str) and not value.startswith("data:")
    )
