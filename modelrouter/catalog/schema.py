"""What config/models.yaml may say, key by key; the JSON schema that editors use is made from it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, WithJsonSchema
from pydantic_core import PydanticCustomError

from modelrouter.parameters import HEADERS, having, header_flaw
from modelrouter.redaction import is_secret, shown

from .known_providers import litellm_string
from .target import LONGEST, Period
from .wording import AS_IT_IS


def _refuse(message: str) -> PydanticCustomError:
    return PydanticCustomError(AS_IT_IS, "{message}", {"message": message})


# -- values


def _exact(value: object) -> object:
    """A number as the Decimal that was written: the repr of a float gives back up to 15 digits."""
    return Decimal(repr(value)) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _litellm_string(value: str) -> str:
    string = litellm_string(value)
    if string is None or "${" in value:
        raise _refuse(f"expected a LiteLLM string, provider/model, such as 'openai/gpt-4', got {shown(value)}")
    return string


def _variable(value: str) -> str:
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value):  # not shown: people put the key itself here
        raise _refuse("expected the name of a variable such as OPENAI_API_KEY; the key itself belongs into .env")
    return value


VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
"""``${NAME}`` or ``${NAME:-default}`` in an api_base."""


def _address(value: str) -> str:
    if "${" in VARIABLE.sub("", value):
        raise _refuse(f"expected ${{NAME}} or ${{NAME:-default}}, got {shown(value)}")
    if not VARIABLE.match(value) and (flaw := address_flaw(value)) is not None:
        raise _refuse(f"expected an address {flaw}, got {shown(value)}")
    return value


def address_flaw(url: str) -> str | None:
    """What an address would have to be."""
    if not url.startswith(("http://", "https://")):
        return "that starts with http:// or https://"
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        return "without a space or a line break"
    try:
        urlsplit(VARIABLE.sub("::1", url))
    except ValueError:  # of square brackets: those of an IPv6 address
        return "whose host can be read"
    return None


def _params(value: dict[str, Any], at: str = "") -> dict[str, Any]:
    for key, inner in value.items():
        if is_secret(key):
            raise _refuse(
                f"{at}{key}: a secret does not belong into this file; put it into the environment and name its "
                "variable in api_key_env"
            )
        if not at and key in having("model"):
            raise _refuse(f"{key}: set the model's own key {key.replace('base_url', 'api_base')!r}, beside params")
        if not at and key in having("each"):
            raise _refuse(f"{key}: is decided for each call; it cannot be a parameter of a model")
        if not at and key in HEADERS and (flaw := header_flaw(inner)) is not None:
            raise _refuse(f"{key}: cannot be sent as headers: {flaw}")
        if isinstance(inner, dict):
            _params(inner, f"{at}{key}.")
    return value


def _function(value: str) -> str:
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*", value):
        raise _refuse(f"expected a function such as app.gates:looks_right, got {shown(value)}")
    return value


def _some_weight(value: dict[str, float]) -> dict[str, float]:
    if not any(value.values()):
        raise _refuse("expected a weight above 0 for at least one of them")
    return value


Money = Annotated[
    Decimal,
    BeforeValidator(_exact),
    Field(ge=0, allow_inf_nan=False),
    WithJsonSchema({"type": "number", "minimum": 0}),
]
Seconds = Annotated[float, Field(gt=0, le=LONGEST, allow_inf_nan=False)]
Tokens = Annotated[int, Field(gt=0)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Temperature = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[^\s,]+$")]
Variable = Annotated[str, AfterValidator(_variable)]
Address = Annotated[str, AfterValidator(_address)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


TAGS = {
    "<prices>": "",
    "<free>": "free, or a mapping with input and output",
    "<settings>": "",
    "<switch>": "true, false or {ttl: seconds}",
    "<names>": "",
    "<all>": "all, or a list of models",
}
"""What pydantic puts into an error's path for the branch of a union that it took, and what was possible there."""


def _empty(value: object) -> object:
    """A key with nothing behind it, all of whose lines are commented out perhaps, is an empty mapping."""
    return {} if value is None else value


# -- entries; their docstrings are what editors show


class ProviderEntry(_Entry):
    """A provider; openai, anthropic and ollama are built in, any other that LiteLLM knows needs no entry either."""

    api_base: Address | None = None
    """Where it is called, instead of its own address. ${VAR:-default} is replaced from the environment."""
    api_key_env: Variable | None = None
    """The variable that holds its API key."""
    default_model: Name | None = None
    """What is called when the environment names this provider and no model."""


class _PriceEntry(_Entry):
    input: Money
    """US dollars per million tokens of the prompt."""
    output: Money
    """US dollars per million tokens of the answer."""
    cache_read: Money | None = None
    """US dollars per million tokens of the prompt that come from the provider's cache. Left out: as input."""
    cache_write: Money | None = None
    """US dollars per million tokens of the prompt that go into the provider's cache. Left out: as input."""
    cache_write_long: Money | None = None
    """The same of those that stay there for an hour (Anthropic) or twelve (OpenAI). Left out: twice input, where
    cache_write is more than that, else as input."""


class TierEntry(_PriceEntry):
    """The prices of a request with a long prompt."""

    tokens: Tokens
    """They hold, for the whole request, when its prompt has more tokens than this."""


class Prices(_PriceEntry):
    """US dollars per million tokens."""

    above: TierEntry | None = None
    """Other prices above a size of the prompt."""


Price = Annotated[
    Annotated[Prices, Tag("<prices>")] | Annotated[Literal["free"], Tag("<free>")],
    Discriminator(lambda value: "<prices>" if isinstance(value, dict) else "<free>"),
]


class SupportsEntry(_Entry):
    """What a model can do, where LiteLLM's tables are wrong about it, or do not hold."""

    tools: bool | None = None
    response_format: bool | None = None
    images: bool | None = None
    reasoning: bool | None = None
    """For DSPy programs, which ask before they ask for it."""


class ModelEntry(_Entry):
    """One model."""

    model: Annotated[str, AfterValidator(_litellm_string)]
    """The LiteLLM string, provider/model."""
    price: Price | None = None
    """US dollars per million tokens, or free. Left out: LiteLLM's own price list, at the provider's own address."""
    api_base: Address | None = None
    """Where it is called, instead of its provider's address. ${VAR:-default} is replaced from the environment."""
    api_key_env: Variable | None = None
    """The variable that holds its API key, instead of its provider's."""
    timeout: Seconds | None = None
    """Seconds for one attempt, before the module's."""
    max_tokens: Tokens | None = None
    """The most tokens of an answer, however many the module allows. A call's own max_tokens counts before it."""
    params: Annotated[dict[str, Any], AfterValidator(_params)] | None = None
    """LiteLLM parameters that are sent with each of its calls, such as reasoning_effort."""
    context_window: Tokens | None = None
    """The largest prompt, in tokens."""
    retired: date | None = None
    """The day from which its provider no longer serves it."""
    successor: Name | None = None
    """The model to move to, once this one is retired."""
    checked: date | None = None
    """The day on which price and limits were last compared with the provider's own page."""
    note: str | None = None
    """For people."""
    supports: SupportsEntry | None = None
    """What it can do, where LiteLLM's tables are wrong about it."""


class CacheEntry(_Entry):
    """How long answers are kept."""

    ttl: Seconds
    """Seconds that an answer is kept."""


Cache = Annotated[
    Annotated[CacheEntry, Tag("<settings>")] | Annotated[bool, Tag("<switch>")],
    Discriminator(lambda value: "<settings>" if isinstance(value, dict) else "<switch>"),
]


class BudgetEntry(_Entry):
    """What may be spent in a calendar window (UTC)."""

    usd: Money
    """US dollars."""
    per: Period
    """hour, day, week (from Monday) or month."""
    hard: bool = True
    """Whether a call that does not fit is refused. false: it is warned of, and counted."""


class ModuleEntry(_Entry):
    """One part of the application. What it leaves out, it takes from the module default."""

    chain: Annotated[list[Name], Field(min_length=1)] | None = None
    """Whom to call, and whom when that fails: models, aliases or LiteLLM strings."""
    split: Annotated[dict[Name, Weight], AfterValidator(_some_weight), Field(min_length=1)] | None = None
    """Models, aliases or LiteLLM strings -> how often each is asked first, by weight. The others of them, and then the
    chain, are its fallbacks."""
    env_prefix: Annotated[str, Field(min_length=1)] | None = None
    """What its variables begin with, before _LLM_; left out: its name in capitals."""
    max_tokens: Tokens | None = None
    """The most tokens of an answer. null: the model's own limit, whatever default says."""
    temperature: Temperature | None = None
    """0: always the likeliest word. null: the model's own, whatever default says."""
    timeout: Seconds | None = None
    """Seconds for one attempt."""
    deadline: Seconds | None = None
    """Seconds for the whole call, with all retries and fallbacks."""
    retries: Annotated[int, Field(ge=0)] | None = None
    """More tries of the same model, for errors that may pass."""
    cache: Cache | None = None
    """false, true, or how long answers are kept."""
    budget: BudgetEntry | None = None
    """What it may spend; who inherits it has an allowance of its own. null: no budget, whatever default says."""
    accept: Annotated[str, AfterValidator(_function)] | None = None
    """A function of the application's, package.module:function. It is given an answer and says True; or False or a
    reason, and the next model is asked. null: none, whatever default says."""
    accept_last: bool | None = None
    """Whether the last model's answer is given without it."""
    baseline: Name | None = None
    """The model, alias or LiteLLM string whose price spend is compared with. null: none, whatever default says."""
    note: str | None = None
    """For people."""


Names = Annotated[
    Annotated[Annotated[list[Name], Field(min_length=1)], Tag("<names>")] | Annotated[Literal["all"], Tag("<all>")],
    Discriminator(lambda value: "<names>" if isinstance(value, list) else "<all>"),
]


class GatewayEntry(_Entry):
    """LiteLLM's proxy: it has the keys, and models are asked through it, under their names in this file."""

    url: Address
    """Where it is. ${VAR:-default} is replaced from the environment, where GATEWAY_URL counts before it; empty, there
    is none."""
    api_key_env: Variable | None = None
    """The variable that holds the key which it wants. Left out: GATEWAY_API_KEY, if it is set."""
    models: Names = "all"
    """all, or the models and aliases that are asked through it."""
    otherwise: Literal["direct", "error"] = "error"
    """When it does not answer itself: error, or direct, to ask models whose keys are here at their own addresses."""


class CatalogFile(_Entry):
    """Which model each part of an application calls, what happens when it fails, and what it costs."""

    providers: Annotated[dict[Name, ProviderEntry], BeforeValidator(_empty)] = {}
    """Addresses, keys and default models of providers."""
    models: Annotated[dict[Name, ModelEntry], BeforeValidator(_empty)] = {}
    """By name, all models that have a price or settings of their own."""
    aliases: Annotated[dict[Name, Name], BeforeValidator(_empty)] = {}
    """Another name -> a name above."""
    modules: dict[Annotated[str, Field(min_length=1)], Annotated[ModuleEntry, BeforeValidator(_empty)]]
    """The parts of the application; default is for calls that name none, and what the others inherit from."""
    budget: BudgetEntry | None = None
    """What all modules together may spend."""
    gateway: GatewayEntry | None = None
    """LiteLLM's proxy, through which models are asked."""


_ENTRIES: Mapping[tuple[str | int, ...], type[BaseModel]] = {
    (): CatalogFile,
    ("providers", "*"): ProviderEntry,
    ("models", "*"): ModelEntry,
    ("models", "*", "price"): Prices,
    ("models", "*", "price", "above"): TierEntry,
    ("models", "*", "supports"): SupportsEntry,
    ("modules", "*"): ModuleEntry,
    ("modules", "*", "cache"): CacheEntry,
    ("modules", "*", "budget"): BudgetEntry,
    ("budget",): BudgetEntry,
    ("gateway",): GatewayEntry,
}


def keys_at(path: tuple[str | int, ...]) -> tuple[str, ...]:
    """The keys that the file may have at `path`; none where any will do."""
    entry = _ENTRIES.get((*path[:1], *("*" for _ in path[1:2]), *path[2:]))
    return tuple(entry.model_fields) if entry else ()


def json_schema() -> str:
    """config/models.schema.json, which editors complete and check the catalog with."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **CatalogFile.model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"
