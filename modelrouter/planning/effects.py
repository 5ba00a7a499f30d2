"""What a plan may ask to be done: records that the drivers have performed, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias, TypeVar

from modelrouter.catalog.target import Budget, Target
from modelrouter.completion import Completion, Usage

from .events import Event
from .exchange import Failure, Hold, Remembered, Reply, Request

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Load:
    """Make the backend ready: LiteLLM takes seconds to import, once. Not charged to the call's deadline. Performed into
    whether it was not."""


@dataclass(frozen=True, slots=True)
class Send:
    """Ask one model once. Performed into a `Reply` or a `Failure`, within `within` seconds."""

    target: Target
    request: Request
    within: float


@dataclass(frozen=True, slots=True)
class OpenStream:
    """Ask one model once for a stream. Performed into its first `Piece` within `within` seconds; into a `Reply` when
    the answer has no text to stream (tool calls alone), or a `Failure`."""

    target: Target
    request: Request
    within: float
    thinking: bool = False
    """Whether pieces of its reasoning count."""


@dataclass(frozen=True, slots=True)
class Next:
    """The next piece of a stream. Performed into a `Piece`, the whole `Reply` after the last one, a `Failure`, or None:
    nothing to hand on has come for so long, but the model is at work."""

    stream: Any
    within: float


@dataclass(frozen=True, slots=True)
class Close:
    """Close a stream before its end, and its connection. Performed into what it has used, an estimate, as `Usage`."""

    stream: Any


@dataclass(frozen=True, slots=True)
class Emit:
    """Hand a piece of text, or of reasoning, to the caller, and wait until the next one is wanted."""

    text: str


@dataclass(frozen=True, slots=True)
class ReadCache:
    """Look for a remembered answer. Performed into its key, None when it can have none, and the answer or None."""

    module: str
    target: Target
    request: Request
    ttl: float
    """Seconds: an older one is not taken."""
    extra: str | None
    """The caller's own part of the key."""


@dataclass(frozen=True, slots=True)
class WriteCache:
    """Remember an answer."""

    module: str
    key: str
    reply: Reply
    cost_usd: Decimal | None
    ttl: float


@dataclass(frozen=True, slots=True)
class Join:
    """Join the flight of identical requests, or begin one. Performed into the flight and whether the call leads it."""

    key: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for a flight's leader. Performed into a `Remembered` answer, a `Failure`, or None when the leader went away
    itself; raises TimeoutError after `within` seconds."""

    flight: Any
    within: float


@dataclass(frozen=True, slots=True)
class Publish:
    """Tell a flight's followers what came of it."""

    flight: Any
    outcome: Remembered | Failure | None


@dataclass(frozen=True, slots=True)
class Reserve:
    """Reserve the highest price of a request in all budgets that it has to fit into. Performed into a `Hold`, a
    `Short`, or None: nothing has to be reserved."""

    module: str
    target: Target
    request: Request
    budgets: tuple[Budget, ...]
    highest: dict[bool, Decimal | None]
    """The highest price in US dollars, as far as it was worked out: at a glance (False), and closely (True)."""


@dataclass(frozen=True, slots=True)
class Settle:
    """A request is over: in place of what is reserved, what it cost is spent. Takes microseconds."""

    hold: Hold
    cost_usd: Decimal | None
    """None: nobody knows, so that what was reserved counts."""


@dataclass(frozen=True, slots=True)
class Check:
    """Have the caller's gate look at an answer. Performed into True, or why it is turned down: a text, maybe empty.
    What the gate raises is the call's own error."""

    gate: Callable[[Completion[Any]], Any]
    answer: Completion[Any]


@dataclass(frozen=True, slots=True)
class Sleep:
    seconds: float
    for_others: bool = False
    """To wait for what other calls do, and not only to be polite."""


@dataclass(frozen=True, slots=True)
class Report:
    """Meter and log an event: synchronous, inline, in the thread or task of the call."""

    module: str
    event: Event


Effect: TypeAlias = (
    Load
    | ReadCache
    | WriteCache
    | Join
    | Wait
    | Publish
    | Reserve
    | Settle
    | Send
    | OpenStream
    | Next
    | Close
    | Emit
    | Check
    | Sleep
    | Report
)


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Sent in place of a result: performing the effect was cut short by `error` (a cancelled task, Ctrl-C)."""

    error: BaseException
    usage: Usage | None = None
    estimated: bool = False


class StreamClosed(BaseException):
    """The caller closed a stream, or the coroutine of a call, before its end. Never seen outside the drivers."""


Steps: TypeAlias = Generator[Effect, tuple[Any, float], T]
"""Part of a plan: it is sent what came of each effect, and the monotonic time."""
Plan: TypeAlias = Steps[Completion[Any]]
