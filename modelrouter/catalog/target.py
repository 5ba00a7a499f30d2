"""A model to call, what it costs, and how a module calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from modelrouter import environment
from modelrouter.completion import Attempt, Outcome, label_of


def nothing() -> Mapping[str, Any]:
    """An empty mapping that nobody can fill."""
    return MappingProxyType({})


LONGEST = 1_000_000_000
"""Seconds, three decades: what the clocks of a system take, with room for what is added."""


@dataclass(frozen=True, slots=True)
class PriceTier:
    """Prices of a request whose prompt is larger than ``tokens``; they hold for the whole request."""

    tokens: int
    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_long: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens. For prices that are left out: `prices.rate`."""

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_long: Decimal | None = None
    above: PriceTier | None = None


@dataclass(frozen=True, slots=True)
class Gateway:
    """LiteLLM's proxy, through which models are asked."""

    url: str
    key_env: str | None = None
    """The variable of the key that it wants; None: it wants none."""
    key_required: bool = False
    """Without the key no request is sent."""
    direct: bool = False
    """Where it does not answer itself, its models are asked at their own addresses, if their keys are here."""


@dataclass(frozen=True, slots=True)
class Target:
    """One model of a chain: whom to call, and what the catalog knows of it."""

    name: str
    """The catalog's name; the LiteLLM string of a model that the catalog does not list."""
    litellm_model: str
    """What LiteLLM is given, such as ``ollama_chat/llama2``."""
    provider: str
    """The provider's own name: ``ollama`` for ``ollama_chat/...``."""
    listed: bool = True
    """Whether the catalog has it; a model that it has not gets a label of its own only among the first 100."""
    api_base: str | None = None
    own_address: bool = True
    """Whether it is called at the provider's own address, where LiteLLM's bundled prices hold."""
    key_env: str | None = None
    """The environment variable with its API key; ``None``: LiteLLM finds out by itself."""
    key_required: bool = False
    """Without the key no request is sent. Only for a provider with one single key, or an explicit ``api_key_env``."""
    timeout: float | None = None
    """Seconds for one attempt, before the module's."""
    max_tokens: int | None = None
    """The most tokens of an answer, unless the call itself says; the module may allow less."""
    params: Mapping[str, Any] = field(default_factory=nothing)
    """Sent with each of its calls, below the call's own parameters."""
    price: Price | None = None
    """From the catalog; ``None``: look at the bundled prices."""
    context_window: int | None = None
    retired: str | None = None
    """ISO date of its retirement, past or to come."""
    successor: str | None = None
    """A catalog name to move to."""
    supports: Mapping[str, bool] = field(default_factory=nothing)
    """What it can do where LiteLLM's tables are wrong: ``tools``, ``response_format``, ``images``, ``reasoning``."""
    gateway: Gateway | None = None
    """What it is asked through. Its own address and key are then the gateway's affair."""
    served_as: str = ""
    """What LiteLLM's proxy has it as: its name, but where a module has that."""

    @property
    def address(self) -> str | None:
        """Where a request is sent; None: to the provider's own."""
        return self.api_base if self.gateway is None else self.gateway.url

    @property
    def key(self) -> tuple[str | None, bool]:
        """The variable of the key that a request is sent with, and whether none is sent without it."""
        if self.gateway is not None:
            return self.gateway.key_env, self.gateway.key_required
        return self.key_env, self.key_required

    @property
    def label(self) -> str:
        """The model's name for metrics and logs: LiteLLM's, without its provider."""
        return label_of(self.litellm_model)

    def attempt(self, outcome: Outcome, **facts: Any) -> Attempt:
        """The record of a try of this model, or of why it was passed over."""
        return Attempt(self.name, self.litellm_model, self.provider, outcome, listed=self.listed, **facts)


Period: TypeAlias = Literal["hour", "day", "week", "month"]


@dataclass(frozen=True, slots=True)
class Budget:
    """What a module, or all of them together, may spend in a calendar window."""

    usd: Decimal
    per: Period
    """UTC; weeks begin on Monday (ISO 8601)."""
    hard: bool = True
    """Whether a call that does not fit is refused. False: it is warned of, and counted."""
    module: str | None = None
    """Whose it is; None: that of all modules together."""
    source: str = ""
    """Where it is written."""

    @property
    def scope(self) -> str:
        """For metrics: the module's name, or ``(all)``."""
        return "(all)" if self.module is None else self.module

    def __str__(self) -> str:
        whose = "of all modules" if self.module is None else f"of module {self.module!r}"
        return f"the budget of ${self.usd:f} a {self.per} {whose}"


@dataclass(frozen=True, slots=True)
class ModuleSettings:
    """How a module calls, each value from the environment, the YAML or the built-in default."""

    max_tokens: int | None = None
    temperature: float | None = None
    timeout: float = 30.0
    """Seconds, one attempt."""
    deadline: float = 90.0
    """Seconds, the whole call with all retries and fallbacks."""
    retries: int = 2
    """More tries of the same model, for errors that may pass."""
    cache: bool = True
    cache_ttl: float = 3600.0
    """Seconds that an answer is kept."""
    budget: Budget | None = None
    """What it may spend. A module that inherits one has an allowance of its own."""
    accept: str | None = None
    """The gate that an answer has to pass, as ``package.module:function``."""
    accept_last: bool = False
    """Whether the answer of the last model that can be asked is given without it."""
    baseline: str | None = None
    """The model whose price spend is compared with; it is never asked for that reason."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A module, ready to be called: whom, in which order, how, and where each decision comes from."""

    module: str
    chain: tuple[Target, ...]
    settings: ModuleSettings
    split: tuple[float, ...] = ()
    """How often each of the first models of the chain is the first to be asked: weights, none negative. Without any,
    it is always the first one."""
    budgets: tuple[Budget, ...] = ()
    """Those that a call of it has to fit into: its own, and that of all modules."""
    sources: Mapping[str, str] = field(default_factory=nothing)
    """Setting name (``chain``, ``timeout`` ...) -> ``LLM_TIMEOUT``, ``config/models.yaml:17``, ``call`` or ``built
    in``."""


def missing_key(target: Target) -> str | None:
    """The variable of the key without which the model is not called, when it is not set."""
    variable, required = target.key
    if required and variable is not None and environment.secret(variable) is None:
        return variable
    return None


def broken_key(target: Target) -> tuple[str, str] | None:
    """The variable of a key that cannot be right, and what is wrong with it: no request is worth sending with it.

    Where LiteLLM finds the key by itself it takes that of the provider's name, ``GROQ_API_KEY``."""
    variables = [target.key[0]]
    if variables == [None] and target.gateway is None:
        begins = target.provider.partition("_")[0].upper()
        variables = [
            name for name in sorted(environment.names()) if name.startswith(begins) and name.endswith("API_KEY")
        ]
    found = ((name, environment.flaw(name)) for name in variables if name is not None)
    return next(((name, flaw) for name, flaw in found if flaw is not None), None)
