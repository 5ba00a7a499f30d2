"""What a server can be told to answer, in no provider's words: ``wires.py`` puts it into each wire format."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import KW_ONLY, dataclass, field
from enum import Enum
from typing import Any, Literal

__all__ = [
    "Answer",
    "Break",
    "Drip",
    "Drop",
    "Fault",
    "Garbage",
    "Gate",
    "Hang",
    "Known",
    "KnownName",
    "Reply",
    "ToolUse",
]


class Gate:
    """Holds an answer, or a stream in its middle, until the test opens it: order without sleeping."""

    def __init__(self) -> None:
        self._opened: Future[None] = Future()

    def open(self) -> None:
        if not self._opened.done():
            self._opened.set_result(None)

    async def passed(self) -> None:
        # Shielded: one client that goes away must not cancel the gate for the others.
        await asyncio.shield(asyncio.wrap_future(self._opened))


class Break(Enum):
    """What can happen to a stream between two pieces."""

    CUT = "cut"
    """The connection is closed in the middle."""
    END = "end"
    """It ends cleanly, but early: no finish reason, no terminator."""
    GARBAGE = "garbage"
    """A chunk that is not JSON; the rest follows."""
    ERROR = "error"
    """The provider's own error event; then it ends."""
    STALL = "stall"
    """Nothing more is sent, and the connection stays open."""


@dataclass(frozen=True)
class ToolUse:
    """A tool that the model asks to be called."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    id: str = "call_1"


@dataclass(frozen=True)
class Reply:
    """An answer of the model, streamed or not as the request asks."""

    text: str = "ok"
    _: KW_ONLY
    input_tokens: int = 10
    """The whole prompt, cached parts included, as in ``modelrouter.Usage``."""
    output_tokens: int = 5
    """The whole answer, reasoning included."""
    cache_read_tokens: int = 0
    """OpenAI and Anthropic."""
    cache_write_tokens: int = 0
    cache_write_long_tokens: int = 0
    """Of those: for an hour, Anthropic says."""
    """OpenAI and Anthropic."""
    reasoning_tokens: int = 0
    """OpenAI and Anthropic."""
    usage: bool = True
    """False: the provider does not say what was used."""
    finish_reason: str | None = None
    """In OpenAI's words; ``None``: ``tool_calls`` with tools, else ``stop``."""
    tools: Sequence[ToolUse] = ()
    thoughts: Sequence[str] = ()
    """The reasoning before the text, in pieces; OpenAI's as other servers of its format send it."""
    choices: bool = True
    """False: OpenAI's ``choices: []``; the other two answer with no content."""
    served_by: str | None = None
    """The model's name in the answer, where it is not the name that was asked for."""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    """Seconds before anything is sent."""
    gate: Gate | None = None
    """Before anything is sent."""
    pieces: Sequence[str | float | Gate | Break] | None = None
    """The stream, step by step: a text piece, a pause in seconds, a gate, a break. ``None``: `text` word by word."""

    @property
    def steps(self) -> Sequence[str | float | Gate | Break]:
        """The stream's script."""
        if self.pieces is not None:
            return self.pieces
        head, *tail = self.text.split(" ")
        return [piece for piece in (head, *(f" {word}" for word in tail)) if piece]

    @property
    def whole(self) -> str:
        """The text of an answer that is not streamed."""
        return self.text if self.pieces is None else "".join(piece for piece in self.pieces if isinstance(piece, str))

    @property
    def finish(self) -> str:
        return self.finish_reason or ("tool_calls" if self.tools else "stop")


@dataclass(frozen=True)
class Fault:
    """An HTTP error in the provider's own envelope, or with a body of the test's own."""

    status: int
    message: str | None = None
    """``None``: what HTTP calls the status."""
    _: KW_ONLY
    code: str | None = None
    """OpenAI's ``error.code``; Anthropic's ``error.type``."""
    retry_after: float | None = None
    """Seconds, sent as ``Retry-After``."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    """Sent instead of the envelope: a string as it is, anything else as JSON; a callable is given the `Request`, for a
    server that repeats what it was sent."""
    delay: float = 0.0
    """Seconds before anything is sent."""
    gate: Gate | None = None
    """Before anything is sent."""


KnownName = Literal[
    "bad_key", "content_policy", "context_window", "insufficient_quota", "model_not_found", "overloaded", "unsupported"
]


@dataclass(frozen=True)
class Known:
    """An error that providers are known for, with the status and the body that each really sends."""

    name: KnownName


@dataclass(frozen=True)
class Drop:
    """The connection is closed without an answer."""


@dataclass(frozen=True)
class Garbage:
    """Status 200 and a page that is not JSON, as a proxy in between sends it."""


@dataclass(frozen=True)
class Hang:
    """The request is read and never answered."""


@dataclass(frozen=True)
class Drip:
    """A byte at a time, for ever: no single read ever times out."""

    part: Literal["head", "body"] = "body"
    interval: float = 1.0
    """Seconds between two bytes."""


Answer = Reply | Fault | Known | Drop | Garbage | Hang | Drip
