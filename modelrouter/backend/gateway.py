"""Models that are asked through LiteLLM's proxy: what it is sent, and what its word counts for.

The chain, its deadline and the prices are ours, so the proxy is told to do nothing of the kind by itself.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from modelrouter.catalog.prices import own_price
from modelrouter.catalog.target import Gateway, Target
from modelrouter.completion import Kind
from modelrouter.parameters import HEADERS
from modelrouter.planning.exchange import Failure, Reply
from modelrouter.redaction import shown_address

from .failures import links

_PASSED_ON = "llm_provider-"
"""What LiteLLM's proxy puts before the names of a provider's headers, and LiteLLM before those of any."""


def served(target: Target, gateway: Gateway) -> Target:
    """The model as the gateway has it: whose answers are read."""
    string = f"litellm_proxy/{target.served_as}"
    return replace(
        target, litellm_model=string, provider="litellm_proxy", api_base=gateway.url, own_address=False, gateway=None
    )


def route(arguments: dict[str, Any], name: str, within: float) -> None:
    """Send LiteLLM's arguments to the gateway: `name` is the model's there, and an attempt ends after `within` seconds,
    for the gateway goes on asking when its client has gone."""
    arguments["model"] = f"litellm_proxy/{name}"
    seconds = math.ceil(within) + 1  # whole ones, and not a shape of its own for each request
    own: dict[str, Any] = {"disable_fallbacks": True, "num_retries": 0, "timeout": seconds, "stream_timeout": seconds}
    own["drop_params"] = True
    if "allowed_openai_params" in arguments:
        own["allowed_openai_params"] = arguments.pop("allowed_openai_params")
    if headers := {name: value for each in HEADERS for name, value in (arguments.pop(each, None) or {}).items()}:
        own["extra_headers"] = headers  # the provider's
    arguments["extra_body"] = {**(arguments.get("extra_body") or {}), **own}


def billed(reply: Reply, target: Target, headers: Mapping[str, str], usage: Any) -> Reply:
    """The reply with what the gateway says that it cost, where its word counts: of an answer that it has remembered,
    and of a model without a price in the catalog. `usage` is LiteLLM's."""
    if _header(headers, "x-litellm-cache-key") is not None:
        return replace(reply, billed_usd=Decimal(0))
    if own_price(target) is not None:
        return reply
    said = _header(headers, "x-litellm-response-cost")
    return replace(reply, billed_usd=_dollars(said if said is not None else getattr(usage, "cost", None)))


def _header(headers: Mapping[str, str], name: str) -> str | None:
    return headers.get(name, headers.get(_PASSED_ON + name))


def _dollars(said: object) -> Decimal | None:
    with contextlib.suppress(TypeError, ValueError):
        dollars = float(said)  # type: ignore[arg-type]
        if 0 <= dollars < math.inf:
            return Decimal(f"{dollars:.15g}")  # the digits of a float that mean something
    return None


def is_silent(failure: Failure, headers: Mapping[str, str]) -> bool:
    """Whether the gateway itself, and nobody behind it, gave no answer."""
    if not headers:
        return failure.kind is Kind.CONNECTION and failure.status is None
    return _header(headers, "x-litellm-call-id") is None and failure.status in (502, 503, 504)


def headers_of(came: Any) -> Mapping[str, str]:
    """The headers of an answer that LiteLLM has read by a client of its own, or of the exception in place of one."""
    hidden = getattr(came, "_hidden_params", None)
    if isinstance(hidden, Mapping) and (found := hidden.get("additional_headers")):
        return dict(found)
    for link in links(came) if isinstance(came, BaseException) else ():
        if found := getattr(getattr(link, "response", None), "headers", None):
            return dict(found)
    return {}


def read(failure: Failure, gateway: Gateway, name: str) -> Failure:
    """The failure, for what the gateway means by it."""
    where = f"the gateway at {shown_address(gateway.url)}"
    kind, message = next(
        (
            (kind, message.format(where=where, key=gateway.key_env, name=name))
            for status, words, kind, message in _MEANT
            if status in (failure.status, None) and words in failure.message
        ),
        (failure.kind, failure.message),
    )
    status = None if kind in (Kind.CONNECTION, Kind.TRUNCATED) else failure.status
    return replace(failure, kind=kind, message=message, status=status)


_LOST = "behind {where}, the connection to the provider was lost"
_MEANT = (
    (400, "No connected db", Kind.AUTH, "{where} does not take the key in {key}"),  # it has no database to look into
    (
        400,
        "Invalid model name",
        Kind.NOT_FOUND,
        "{where} has no model {name!r}; have it serve what 'modelrouter export litellm-proxy' makes of the catalog",
    ),
    (400, "unexpected response from Ollama", Kind.SERVER, "behind {where}, Ollama said what is no answer"),
    (500, "Connection error", Kind.CONNECTION, _LOST),
    (500, "Server disconnected", Kind.CONNECTION, _LOST),
    (500, "payload is not completed", Kind.CONNECTION, _LOST),
    (None, "Stream ended before a finish_reason", Kind.TRUNCATED, "the stream ended in the middle of its answer"),
)
"""Status, words, and what they mean. In the proxy's answers, and in those that LiteLLM reads a stream's error as."""
