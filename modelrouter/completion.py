"""What a call gives: an answer, and the attempts that it took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import InitVar, dataclass, fields, is_dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from enum import Enum, StrEnum
from functools import reduce
from typing import Annotated, Any, Generic, Literal, Self, TypeAlias

from typing_extensions import TypeVar

__all__ = [
    "EXACT",
    "Attempt",
    "Completion",
    "Kind",
    "Money",
    "Outcome",
    "Parsed",
    "Sums",
    "ToolCall",
    "Usage",
    "add",
    "known",
    "label_of",
    "plain",
    "total",
]

Outcome = Literal["ok", "error", "skipped", "cached"]

EXACT = Context(
    prec=60,
    rounding=ROUND_HALF_EVEN,
    Emin=-999999,
    Emax=999999,
    capitals=1,
    clamp=0,
    traps=[InvalidOperation, DivisionByZero, Overflow],
)
"""What money is worked out in, all of it said: an application may have set its thread's own precision to a few digits,
and what new contexts begin with."""


def add(amounts: Iterable[Decimal]) -> Decimal:
    """The sum, to the last digit."""
    return reduce(EXACT.add, amounts, Decimal(0))


class _Plainly:
    """Has pydantic write money as `plain` does. It is told so by the type alone, so that nothing here imports it."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        schema = handler(source)
        return {**schema, "serialization": core_schema.plain_serializer_function_ser_schema(plain, when_used="json")}


Money: TypeAlias = Annotated[Decimal, _Plainly]
"""US dollars, exact; in JSON a string."""


class Kind(StrEnum):
    """Why an attempt gave no answer. What follows for the call is decided in ``planning``, for later ones in its
    ``health``."""

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
    BUDGET = "budget"
    """Its highest price does not fit into what may still be spent."""
    REJECTED = "rejected"
    """An answer that the caller's own gate has turned down."""
    BAD_REQUEST = "bad_request"
    TRUNCATED = "truncated"
    """A stream that ended before its answer did: no finish reason."""
    CANCELLED = "cancelled"
    """The caller went away. Metered, but never counted as an error of the provider."""


def label_of(litellm_model: str) -> str:
    """A model's name for metrics and logs: LiteLLM's, without its provider."""
    return litellm_model.partition("/")[2] or litellm_model


class Record:
    """A dataclass that is given to users."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain data for JSON, money as strings. Pydantic and FastAPI make the same of it."""
        said: dict[str, Any] = plain(self)
        return said


class Sums(Record):
    """A dataclass whose fields are added one by one."""

    __slots__ = ()

    def __add__(self, other: Self) -> Self:
        names = (field.name for field in fields(self))  # type: ignore[arg-type] # of a dataclass alone
        pairs = ((getattr(self, name), getattr(other, name)) for name in names)
        return type(self)(*(EXACT.add(a, b) if isinstance(a, Decimal) else a + b for a, b in pairs))


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
    cache_write_long_tokens: int = 0
    """Of those written to the cache: to stay there for an hour (Anthropic) or twelve (OpenAI), at a price of their
    own."""

    @property
    def counts(self) -> tuple[int, int, int, int, int]:
        """Those above but the last, in this order."""
        return (
            self.input_tokens,
            self.output_tokens,
            self.cache_read_tokens,
            self.cache_write_tokens,
            self.reasoning_tokens,
        )


@dataclass(frozen=True, slots=True)
class Attempt(Record):
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
    cost_usd: Money | None = Decimal(0)
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
        return label_of(self.litellm_model)

    def __str__(self) -> str:
        if self.outcome == "ok":
            return f"ok ({self.latency_s:.1f} s)"
        if self.outcome == "cached":
            return "cached"
        if self.outcome == "skipped":
            return f"skipped: {self.error}"
        if self.error_kind is Kind.TIMEOUT:
            return self.error or f"timeout after {self.latency_s:.1f} s"
        return f"{self.error_kind}: {self.error or ''} ({self.latency_s:.1f} s)"


@dataclass(frozen=True, slots=True)
class ToolCall(Record):
    """A tool that the model asks to be called."""

    id: str
    name: str
    arguments: str
    """JSON text, as the model wrote it."""


Parsed = TypeVar("Parsed", default=None)
"""The pydantic model that a call was given as ``response_format``; None without one."""


@dataclass(frozen=True)
class Completion(Record, Generic[Parsed]):
    """An answer. ``str(answer)`` is its text."""

    text: str
    model: str
    """The catalog's name of the model that answered."""
    litellm_model: str
    provider: str
    module: str
    usage: Usage
    cost_usd: Money | None
    """What the whole call cost, answers that were turned down on the way included; 0 for a cached answer; ``None`` when
    the price of the model that answered is not known."""
    cached: bool
    fallback: bool
    """Not answered by the first of the chain."""
    latency_s: float
    """The whole call, without the seconds that the reader of a stream has taken."""
    finish_reason: str | None = None
    """How it ended, in OpenAI's words; in the provider's own where OpenAI has none for it, and then it is not
    remembered; None: the provider did not say."""
    tool_calls: tuple[ToolCall, ...] = ()
    first_token_s: float | None = None
    """Of a stream: from the request to the first piece of the answer."""
    parsed: Parsed = None  # type: ignore[assignment] # which it is without a model
    """The pydantic object, when ``response_format`` was a pydantic model."""
    attempts: tuple[Attempt, ...] = ()
    # No field: whoever makes JSON or a dict of the fields would have LiteLLM's answer in it beside this one.
    _response: InitVar[Any] = None

    def __post_init__(self, _response: Any) -> None:
        self.__dict__["_response"] = _response

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, handler: Any) -> Any:
        return handler.generate_schema(Completion[Any])  # without a word on it, anything may have been parsed

    @property
    def response(self) -> Any:
        """LiteLLM's ``ModelResponse``. After a cache hit it is built when first asked for."""
        if callable(kept := self.__dict__["_response"]):
            self.__dict__["_response"] = kept = kept()
        return kept

    @property
    def body(self) -> dict[str, Any] | None:
        """`response` as plain data in OpenAI's form. After a cache hit it is there without LiteLLM; it is None when a
        stand-in has answered."""
        body: dict[str, Any] | None = getattr(self.__dict__["_response"], "body", None)
        if body is None and self.response is not None:
            body = self.response.model_dump(warnings=False)
        return body

    def __str__(self) -> str:
        return self.text


def plain(value: Any) -> Any:
    """In types that JSON has: a record by its fields, money with every digit."""
    match value:
        case Enum():
            return value.value
        case None | str() | int() | float():
            return value
        case Decimal():
            return format(value, "f")
        case Mapping():
            return {name: plain(each) for name, each in value.items()}
        case list() | tuple():
            return [plain(each) for each in value]
    if is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else str(value)


def total(attempts: Iterable[Attempt]) -> Decimal | None:
    """What a call cost; None when there was an answer, taken or turned down, whose price is not known."""
    attempts = tuple(attempts)
    unknown = (a.cost_usd is None and (a.outcome == "ok" or a.usage is not None) for a in attempts)
    return None if any(unknown) else known(attempts)


def known(attempts: Iterable[Attempt]) -> Decimal:
    """What is known of a call's cost."""
    return add(a.cost_usd for a in attempts if a.cost_usd is not None)
