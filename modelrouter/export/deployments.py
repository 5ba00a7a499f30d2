"""A model as LiteLLM Proxy's configuration has it: whom to ask, with which key, at which price."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from modelrouter import environment
from modelrouter.catalog.known_providers import known, of_string
from modelrouter.catalog.prices import own_price, rate
from modelrouter.catalog.target import ModuleSettings, Price, PriceTier, Target
from modelrouter.parameters import having
from modelrouter.redaction import without_password

from .differences import SENTENCES, Remark
from .writing import number

EMBEDDED = "embedded"
"""The provider that is no server."""

_KEYS = {
    "input": ("input_cost_per_token",),
    "output": ("output_cost_per_token",),
    "cache_read": ("cache_read_input_token_cost",),
    "cache_write": ("cache_creation_input_token_cost",),
    # Anthropic's is an hour, OpenAI's twelve.
    "cache_write_long": ("cache_creation_input_token_cost_above_1hr", "cache_creation_input_token_cost_above_12hr"),
}
"""The proxy's words for the prices of the catalog; all are of one token."""


_HARMLESS = frozenset(("api-version", "api_version", "version"))
"""What a query may say in the open; anything else of it may be a secret."""


class Variables:
    """The variables that have to be set where the proxy runs."""

    def __init__(self) -> None:
        self.needed: dict[str, str] = {}
        """Name -> what has to be in it, where the name does not say."""
        self._values: dict[str, str] = {}

    def key(self, name: str) -> str:
        """A reference to a key."""
        self.needed.setdefault(name, "")
        return f"os.environ/{name}"

    def secret(self, beginning: str, host: str, value: str, what: str) -> str:
        """A reference to a variable that is made up for a secret in an address: one for each value."""
        first = re.sub(r"[^A-Z0-9]+", "_", f"{beginning}_{host}".upper())
        names = (first if number == 1 else f"{first}_{number}" for number in range(1, len(self._values) + 2))
        name = next(name for name in names if self._values.setdefault(name, value) == value)
        self.needed[name] = what
        return f"os.environ/{name}"


def parameters(
    target: Target, settings: ModuleSettings | None, variables: Variables, say: Callable[[Remark], None]
) -> dict[str, Any]:
    """The ``litellm_params`` of a model in a chain; `settings` are the module's, None: of the model by itself."""
    found: dict[str, Any] = {"model": target.litellm_model}
    headers = _address(target, variables, say, found)
    key = _key(target, variables)
    if key is not None:
        found["api_key"] = key
    elif not known(target.provider).on_this_machine:
        say(Remark("key", f"models.{target.name}", SENTENCES["key"]))
    timeout = target.timeout or (None if settings is None else settings.timeout)
    if timeout is not None:
        found |= {"timeout": number(timeout), "stream_timeout": number(timeout)}
    found["max_retries"] = 0
    found |= _asked(target, settings, say)
    if headers:
        found["extra_headers"] = {**headers, **(found.get("extra_headers") or {})}
    return found


def costs(target: Target, say: Callable[[Remark], None]) -> dict[str, float]:
    """Its prices, for the ``model_info``: of the ``litellm_params``, what LiteLLM does not know is sent."""
    price = own_price(target)
    if price is None:
        if not target.own_address:
            say(Remark("price", f"models.{target.name}", SENTENCES["price"]))
        return {}
    found = dict(_rates(price, ""))
    if price.above is not None:
        tokens = price.above.tokens
        size = f"{tokens // 1000}k" if tokens % 1000 == 0 else f"{tokens}"
        found |= _rates(price.above, f"_above_{size}_tokens")
    return found


def _address(
    target: Target, variables: Variables, say: Callable[[Remark], None], found: dict[str, Any]
) -> Mapping[str, str]:
    """Writes the address down, without a secret in it; the headers that go with it."""
    if target.api_base is None:
        return {}
    base, password = without_password(target.api_base)
    headers, host = {}, urlsplit(base).netloc
    if password is not None:
        what = f"'Basic ' and, in base64, user:password for {host}"
        headers["Authorization"] = variables.secret("BASIC_AUTH", host, password, what)
    if _has_secret(base) or not _HARMLESS.issuperset(name for name, _ in parse_qsl(urlsplit(base).query)):
        base = variables.secret("ADDRESS", host, base, f"the whole address of {target.name}, with the secret in it")
    if headers or base.startswith("os.environ/"):
        say(Remark("address", f"models.{target.name}", SENTENCES["address"]))
    found["api_base"] = base
    return headers


def _key(target: Target, variables: Variables) -> str | None:
    """A reference to its key; ``none`` for a server that is given none, or LiteLLM would send one of OpenAI's. None:
    LiteLLM finds it by itself."""
    name = target.key_env
    if name is None and not target.own_address:
        name = f"{target.provider.upper()}_API_KEY"
    if name is not None and (target.key_required or environment.secret(name) is not None):
        return variables.key(name)
    if target.own_address or known(target.provider).on_this_machine:
        return None
    return "none"


def _has_secret(value: object) -> bool:
    return any(secret in str(value) for secret in environment.secret_values())


def _asked(target: Target, settings: ModuleSettings | None, say: Callable[[Remark], None]) -> dict[str, Any]:
    """What is sent with a request that says nothing else: the module's, and before it the model's own."""
    asked: dict[str, Any] = {}
    if settings is not None and settings.temperature is not None:
        asked["temperature"] = settings.temperature
    for name, value in target.params.items():
        if _has_secret(value) or "os.environ/" in str(value):  # which the proxy would read as a variable
            say(Remark("params", f"models.{target.name}, {name}", SENTENCES["params"]))
        else:
            asked[name] = value
    of_module = None if settings is None else settings.max_tokens
    limits = [limit for limit in (of_module, target.max_tokens) if limit is not None]
    most = of_string(target.litellm_model).most_tokens
    if limits and not asked.keys() & having("tokens"):
        asked["max_tokens"] = min(limits)
    elif most is not None and not asked.keys() & having("limit"):
        asked["max_tokens"] = most
    return asked


def _rates(tier: Price | PriceTier, ending: str) -> Iterator[tuple[str, float]]:
    """All of them: of a model that LiteLLM knows, what is left out would have the price in its list."""
    for name, keys in _KEYS.items():
        for key in keys:
            yield key + ending, float(Decimal(rate(tier, name)).scaleb(-6))
