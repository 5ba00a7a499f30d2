"""What a plan may ask to be done, and the drivers that have it done: one synchronous, one asynchronous, each also for
streams. They perform effects one after the other and decide nothing.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

from modelrouter.types import (
    Attempt,
    CacheUsed,
    CallEnded,
    Completion,
    Failure,
    FellOver,
    FirstToken,
    ModelLeft,
    Reply,
    Request,
    Target,
    Usage,
)

__all__ = [
    "Await",
    "Board",
    "Call",
    "Close",
    "Effect",
    "Emit",
    "Interrupted",
    "Keep",
    "Land",
    "Load",
    "Look",
    "Next",
    "Open",
    "Plan",
    "Record",
    "Shared",
    "Sleep",
    "StreamClosed",
    "Tell",
    "adrive",
    "adrive_stream",
    "drive",
    "drive_stream",
]

Record: TypeAlias = Attempt | FellOver | FirstToken | ModelLeft | CacheUsed | CallEnded


@dataclass(frozen=True, slots=True)
class Load:
    """Make the door ready: LiteLLM takes seconds to import, once. Not charged to the call's deadline."""


@dataclass(frozen=True, slots=True)
class Call:
    """Ask one model once. Performed into a `Reply` or a `Failure`, within `within` seconds."""

    target: Target
    request: Request
    within: float


@dataclass(frozen=True, slots=True)
class Open:
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
class Look:
    """Look for a remembered answer. Performed into its key, None when it can have none, and the answer or None."""

    module: str
    target: Target
    request: Request
    ttl: float
    """Seconds: an older one is not taken."""
    extra: str | None
    """The caller's own part of the key."""


@dataclass(frozen=True, slots=True)
class Keep:
    """Remember an answer."""

    module: str
    key: str
    reply: Reply
    cost_usd: Decimal | None
    ttl: float


@dataclass(frozen=True, slots=True)
class Shared:
    """An answer that a flight's leader shares with its followers."""

    reply: Reply
    cost_usd: Decimal | None


@dataclass(frozen=True, slots=True)
class Board:
    """Join the flight of identical requests, or begin one. Performed into the flight and whether the call leads it."""

    key: str


@dataclass(frozen=True, slots=True)
class Await:
    """Wait for a flight's leader. Performed into `Shared`, a `Failure`, or None when the leader went away itself;
    raises TimeoutError after `within` seconds."""

    flight: Any
    within: float


@dataclass(frozen=True, slots=True)
class Land:
    """Tell a flight's followers what came of it."""

    flight: Any
    outcome: Shared | Failure | None


@dataclass(frozen=True, slots=True)
class Sleep:
    seconds: float


@dataclass(frozen=True, slots=True)
class Tell:
    """Meter and log a record: synchronous, inline, in the thread or task of the call."""

    module: str
    record: Record


Effect: TypeAlias = Load | Look | Keep | Board | Await | Land | Call | Open | Next | Close | Emit | Sleep | Tell


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Sent in place of a result: performing the effect was cut short by `error` (a cancelled task, Ctrl-C)."""

    error: BaseException
    usage: Usage | None = None
    estimated: bool = False


class StreamClosed(BaseException):
    """The caller closed a stream, or the coroutine of a call, before its end. Never seen outside the drivers."""


Plan: TypeAlias = Generator[Effect, tuple[Any, float], Completion]


def drive(plan: Plan, perform: Callable[[Effect], Any]) -> Completion:
    """Perform a plan's effects, synchronously."""
    effect = next(plan)
    while True:
        try:
            result = perform(effect)
        except BaseException as error:  # noqa: BLE001 - the plan meters it and raises it again
            result = Interrupted(error)
        try:
            effect = plan.send((result, time.monotonic()))
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


async def adrive(plan: Plan, perform: Callable[[Effect], Awaitable[Any]]) -> Completion:
    """Perform a plan's effects, asynchronously."""
    effect = next(plan)
    while True:
        try:
            result = await perform(effect)
        except GeneratorExit:  # the coroutine was closed
            result = Interrupted(StreamClosed())
        except BaseException as error:  # noqa: BLE001 - the plan meters it and raises it again
            result = Interrupted(error)
        try:
            effect = plan.send((result, time.monotonic()))
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        except StreamClosed:
            raise GeneratorExit from None


def drive_stream(
    plan: Plan, perform: Callable[[Effect], Any], ended: Callable[[Completion], None]
) -> Generator[str, None, None]:
    """Perform a plan's effects and yield the pieces that it emits; `ended` is given the answer after the last one.

    Closing the generator, or dropping it, has the plan close the stream and meter what it used.
    """
    effect = next(plan)
    while True:
        result: Any = None
        try:
            if isinstance(effect, Emit):
                yield effect.text
            else:
                result = perform(effect)
        except GeneratorExit:
            result = Interrupted(StreamClosed())
        except BaseException as error:  # noqa: BLE001 - the plan meters it and raises it again
            result = Interrupted(error)
        try:
            effect = plan.send((result, time.monotonic()))
        except StopIteration as done:
            ended(done.value)
            return
        except StreamClosed:
            return


async def adrive_stream(
    plan: Plan, perform: Callable[[Effect], Awaitable[Any]], ended: Callable[[Completion], None]
) -> AsyncGenerator[str, None]:
    """`drive_stream`, asynchronously."""
    effect = next(plan)
    while True:
        result: Any = None
        try:
            if isinstance(effect, Emit):
                yield effect.text
            else:
                result = await perform(effect)
        except GeneratorExit:
            result = Interrupted(StreamClosed())
        except BaseException as error:  # noqa: BLE001 - the plan meters it and raises it again
            result = Interrupted(error)
        try:
            effect = plan.send((result, time.monotonic()))
        except StopIteration as done:
            ended(done.value)
            return
        except StreamClosed:
            return
