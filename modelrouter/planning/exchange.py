"""What is sent to a model, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

from modelrouter.catalog.target import nothing
from modelrouter.completion import Kind, ToolCall, Usage


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
    mends: bool = False
    """The caller mends arguments of a tool call that are no JSON."""
    settled: frozenset[str] = frozenset()
    """Parameters that the module or the catalog says, and not the call."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Known before a request is sent: this model cannot answer."""

    kind: Kind
    why: str
    variable: str | None = None
    """The variable that is not set, where a key is what is missing."""


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
    billed_usd: Decimal | None = None
    """What a gateway says that it cost, where its word counts."""
    model: str | None = field(default=None, compare=False)
    """Which answered, in the provider's words; None: it is not known, or was remembered."""


class Thinking(str):
    """A piece of a model's reasoning."""

    __slots__ = ()


class Recalled(str):
    """A text that was remembered, as one piece."""

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

    @classmethod
    def timeout(cls, within: float) -> Self:
        """No answer within so many seconds."""
        return cls(Kind.TIMEOUT, f"timeout after {within:.3g} s", raised="TimeoutError")


@dataclass(frozen=True, slots=True)
class Hold:
    """What is reserved for one request, in all budgets that it has to fit into."""

    name: str
    """Of the reservation."""
    amount: Decimal
    """US dollars: the highest price of the request."""
    books: tuple[str, ...] = ()
    """Where it is reserved: those that the store keeps."""
    caps: tuple[Any, ...] = ()
    """And those of the code around the call, for whoever has reserved it."""


@dataclass(frozen=True, slots=True)
class Short:
    """A request does not fit into a budget; nothing is reserved."""

    why: str
    limit: str = ""
    """Which it is, in words: ``$5 a day of module 'scorer'``."""
    source: str = ""
    """Where it is written."""
    limit_usd: Decimal = Decimal(0)
    spent_usd: Decimal = Decimal(0)
    reserved_usd: Decimal = Decimal(0)
    """By requests under way."""
    resets_at: datetime | None = None
    """When it begins anew; None: never."""
    passing: bool = False
    """It would fit but for what is reserved."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """An answer that was paid for already: out of the store, or another call's of this moment."""

    reply: Reply
    cost_usd: Decimal | None
    """What it cost when it was made."""
    stored_at: float = 0.0
    """Wall-clock time, seconds since 1970: other processes read it."""
    module: str = ""
    """Whose answer it was."""
