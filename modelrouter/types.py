"""What passes between the parts: frozen records, no behaviour beyond reading themselves.

Units everywhere: money is ``Decimal`` US dollars (``None``: not known, which is never 0), time is seconds as ``float``,
prices are US dollars per million tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal, Self

__all__ = [
    "LONGEST",
    "Attempt",
    "CacheUsed",
    "CallEnded",
    "Completion",
    "Environment",
    "Failure",
    "FellOver",
    "FirstToken",
    "Kind",
    "ModelLeft",
    "ModuleSettings",
    "Obstacle",
    "Outcome",
    "Overrides",
    "Piece",
    "Price",
    "PriceTier",
    "Problem",
    "Reply",
    "Request",
    "Resolved",
    "Sums",
    "Target",
    "Thinking",
    "ToolCall",
    "Usage",
    "nothing",
]

Outcome = Literal["ok", "error", "skipped", "cached"]


def _label(litellm_model: str) -> str:
    _, slash, rest = litellm_model.partition("/")
    return rest if slash else litellm_model


def nothing() -> Mapping[str, Any]:
    """An empty mapping that nobody can fill."""
    return MappingProxyType({})


class Kind(StrEnum):
    """Why an attempt gave no answer. What follows for the call is decided in ``plan.py``, for later ones in
    ``health.py``."""

    RATE_LIMIT = "rate_limit"
    CONNECTION = "connection"
    SERVER = "server"
    TIMEOUT = "timeout"
    MISSING_KEY = "missing_key"
    AUTH = "auth"
    PERMISSION = "permission"
    QUOTA = "quota"
    NOT_FOUND = "not_found"
    UNSUPPORTED = "unsupported"
    CONTEXT_WINDOW = "context_window"
    CONTENT_POLICY = "content_policy"
    EMPTY_RESPONSE = "empty_response"
    MAX_TOKENS = "max_tokens"
    BAD_REQUEST = "bad_request"
    TRUNCATED = "truncated"
    """A stream that ended before its answer did: no finish reason."""
    CANCELLED = "cancelled"
    """The caller went away. Metered, but never counted as an error of the provider."""


LONGEST = 1_000_000_000
"""Seconds, three decades: what the clocks of a system take, with room for what is added."""


class Sums:
    """A dataclass whose fields are added one by one."""

    __slots__ = ()

    def __add__(self, other: Self) -> Self:
        names = (field.name for field in fields(self))  # type: ignore[arg-type] # of a dataclass alone
        return type(self)(*(getattr(self, name) + getattr(other, name) for name in names))


@dataclass(frozen=True, slots=True)
class Usage(Sums):
    """Tokens of one answer, as the provider counted them."""

    input_tokens: int = 0
    """The whole prompt, cached parts included."""
    output_tokens: int = 0
    """The whole answer, reasoning included."""
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class PriceTier:
    """Prices of a request whose prompt is larger than ``tokens``; they hold for the whole request."""

    tokens: int
    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens. A cache price left out means: cached tokens cost what input costs."""

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    above: PriceTier | None = None


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
    """The most this model is asked for; the module may ask for less."""
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
    """What it can do where LiteLLM's tables are wrong: ``tools``, ``response_format``, ``images``."""

    @property
    def label(self) -> str:
        """The model's name for metrics and logs: LiteLLM's, without its provider."""
        return _label(self.litellm_model)


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


@dataclass(frozen=True, slots=True)
class Resolved:
    """A module, ready to be called: whom, in which order, how, and where each decision comes from."""

    module: str
    chain: tuple[Target, ...]
    settings: ModuleSettings
    sources: Mapping[str, str] = field(default_factory=nothing)
    """Setting name (``chain``, ``timeout`` ...) -> ``LLM_TIMEOUT``, ``config/models.yaml:17``, ``call`` or ``built
    in``."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """What one level of the environment says: ``LLM_*``, or a module's ``ANALYZER_LLM_*``. ``None``: not set."""

    prefix: str
    """``LLM_``, ``ANALYZER_LLM_`` ..."""
    provider: str | None = None
    model: str | None = None
    fallbacks: tuple[str, ...] | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Environment:
    """The environment as it was when the catalog was loaded; secrets are not in it and are read when needed."""

    default: Overrides
    modules: Mapping[str, Overrides] = field(default_factory=nothing)
    """By prefix: ``ANALYZER`` -> what ``ANALYZER_LLM_*`` say."""
    ollama_model: str | None = None
    cache_enabled: bool | None = None
    cache_ttl: float | None = None
    values: Callable[[str], str | None] = field(default=lambda _: None, repr=False)
    """Any variable by its name, the process's before .env's; empty is ``None``. For ``${VAR:-default}`` in the
    catalog."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a file or in the environment."""

    where: str
    """``line 4`` of the file, or a variable's name."""
    what: str
    """``models.fast.temperture: unknown key. Did you mean 'temperature'?``"""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one model, or the reason why it was passed over. What metrics, logs and errors are made from."""

    model: str
    """The catalog's name."""
    litellm_model: str
    provider: str
    outcome: Outcome
    error_kind: Kind | None = None
    error: str | None = None
    """What went wrong in one line, without secrets."""
    latency_s: float = 0.0
    """Seconds from the request to its end, without those that the reader of a stream has taken."""
    cost_usd: Decimal | None = Decimal(0)
    """What it cost, an answer that was turned down included. ``None``: not known (no price, or it was cut off and the
    provider may bill it all the same)."""
    usage: Usage | None = None
    """``None``: the provider did not say."""
    estimated: bool = False
    """The usage is counted by LiteLLM's tokenizer: a stream ended before the provider said."""
    retry_after: float | None = None
    """Seconds that the provider asked to wait."""
    status: int | None = None
    """The provider's HTTP status, where there was an answer."""
    listed: bool = True
    """Whether the catalog lists the model."""

    @property
    def label(self) -> str:
        """The model's name for metrics and logs: LiteLLM's, without its provider."""
        return _label(self.litellm_model)

    def __str__(self) -> str:
        if self.outcome == "ok":
            return f"ok ({self.latency_s:.1f} s)"
        if self.outcome == "cached":
            return "cached"
        if self.outcome == "skipped":
            return f"skipped: {self.error}"
        said = self.error or ""
        if self.error_kind is Kind.TIMEOUT:
            return said or f"timeout after {self.latency_s:.1f} s"
        return f"{self.error_kind}: {said} ({self.latency_s:.1f} s)"


@dataclass(frozen=True, slots=True)
class FellOver:
    """A model gave no answer and the next one is asked."""

    module: str
    from_model: str
    to_model: str
    """Catalog names, both."""
    reason: Kind


@dataclass(frozen=True, slots=True)
class FirstToken:
    """A stream's first piece of text has come."""

    target: Target
    seconds: float


@dataclass(frozen=True, slots=True)
class ModelLeft:
    """A call is done with a model, its retries included: what its health is judged by."""

    target: Target
    failure: Failure | None
    """None: it answered."""
    cut_short: bool = False
    """It had less time than its own limit, so that running out of it says nothing about the model."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Known before a request is sent: this model cannot answer."""

    kind: Kind
    why: str
    variable: str | None = None
    """The variable that is not set, where a key is what is missing."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model asks to be called."""

    id: str
    name: str
    arguments: str
    """JSON text, as the model wrote it."""


@dataclass(frozen=True, slots=True)
class CacheUsed:
    """What the cache was good for in a call; told once per call."""

    result: Literal["hit", "miss", "coalesced"]
    saved_usd: Decimal | None = None
    """What the answer had cost when it was made."""


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A call is over: what its module is billed."""

    module: str
    outcome: Literal["success", "error", "bad_request", "cancelled"]
    cost_usd: Decimal | None


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked, whichever model answers."""

    messages: tuple[Mapping[str, Any], ...]
    params: Mapping[str, Any] = field(default_factory=nothing)
    """LiteLLM's parameters, the module's limits among them."""
    parse: Callable[[str], Any] | None = None
    """Makes the object of a pydantic ``response_format`` out of the text; raises ``ValueError`` when it does not
    validate."""
    optional: frozenset[str] = frozenset()
    """Parameters without which a model is asked that does not take them, or has another value of its own."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a provider answered, before anybody has judged it."""

    text: str
    usage: Usage | None
    """``None``: the provider did not say."""
    finish_reason: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    other: bool = False
    """It has content of another kind: sound, images."""
    response: Any = field(default=None, repr=False)
    """LiteLLM's ``ModelResponse``, or a function that builds it."""
    estimated: bool = False
    """The usage is counted by LiteLLM's tokenizer."""


class Thinking(str):
    """A piece of a model's reasoning."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a stream's text, or of its reasoning."""

    text: str
    stream: Any = field(repr=False)
    """The stream that it came from, for the next one."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a provider gave no answer, classified."""

    kind: Kind
    message: str
    """One line, without secrets."""
    status: int | None = None
    retry_after: float | None = None
    """Seconds."""
    raised: str | None = None
    """The name of the exception type that LiteLLM raised."""
    lasting: bool = False
    """Of a kind that may pass, but asking the same model again is of no use: nothing listens at a local address."""
    usage: Usage | None = None
    """What a stream had used when it broke."""
    estimated: bool = False
    """The usage is counted by LiteLLM's tokenizer."""
    unsent: bool = False
    """No provider was asked: LiteLLM could not make a request of it."""


@dataclass(frozen=True)
class Completion:
    """An answer. ``str(answer)`` is its text."""

    text: str
    model: str
    """The catalog's name of the model that answered."""
    litellm_model: str
    provider: str
    module: str
    usage: Usage
    cost_usd: Decimal | None
    """What the whole call cost, answers that were turned down on the way included; 0 for a cached answer; ``None`` when
    the price of the model that answered is not known."""
    cached: bool
    fallback: bool
    """Not answered by the first of the chain."""
    latency_s: float
    """The whole call, without the seconds that the reader of a stream has taken."""
    finish_reason: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    first_token_s: float | None = None
    """Of a stream: from the request to the first piece of the answer."""
    parsed: Any = None
    """The pydantic object, when ``response_format`` was a pydantic model."""
    attempts: tuple[Attempt, ...] = ()
    _response: Any = field(default=None, repr=False, compare=False)

    @property
    def response(self) -> Any:
        """LiteLLM's ``ModelResponse``. After a cache hit it is built when first asked for."""
        if callable(self._response):
            object.__setattr__(self, "_response", self._response())
        return self._response

    @property
    def body(self) -> dict[str, Any] | None:
        """`response` as plain data in OpenAI's form. After a cache hit it is there without LiteLLM; it is None when a
        stand-in has answered."""
        kept: dict[str, Any] | None = getattr(self._response, "body", None)
        if kept is not None or self.response is None:
            return kept
        plain: dict[str, Any] = self.response.model_dump(warnings=False)
        return plain

    def __str__(self) -> str:
        return self.text
