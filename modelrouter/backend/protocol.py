"""What a router asks models through: LiteLLM, or a script that stands in for it in tests."""

from __future__ import annotations

from typing import Any, Protocol

from modelrouter.catalog.target import Price, Target
from modelrouter.planning.exchange import Failure, Obstacle, Piece, Reply, Request


class Backend(Protocol):
    """One way to ask models. Safe to use from many threads and event loops."""

    remembers: bool
    """Whether its answers are remembered and looked for."""
    waits: bool
    """Whether the time between two tries is waited out."""

    def ready(self) -> bool:
        """Whether a request can be sent at once."""

    def load(self) -> None:
        """Make it ready. May take seconds the first time."""

    async def warm(self) -> None:
        """Do once what makes a process's first call slower than its second. Sends nothing; needs `load` first."""

    def obstacle(self, target: Target, request: Request) -> Obstacle | None:
        """What is known to keep the model from answering: its key, its installation, its abilities."""

    def takes(self, target: Target, name: str, value: Any) -> bool:
        """Whether the model is known to take a parameter that the caller has not asked for."""

    def able(self, target: Target, ability: str) -> bool:
        """Whether the model is known to be able to do it: ``tools``, ``response_format``, ``reasoning``."""

    def context_window(self, target: Target) -> int | None:
        """The largest prompt in tokens; None: not known."""

    def price(self, target: Target) -> Price | None:
        """None: not known."""

    def alone(self, target: Target, /) -> bool:
        """Whether `send` to this model leaves nothing behind on its event loop, and never blocks it."""

    async def send(self, target: Target, request: Request, *, within: float) -> Reply | Failure:
        """Send one request and wait for the whole answer, `within` seconds at most; then the connection is closed.
        Never raises but for cancellation. Needs `load` first."""

    async def open(self, target: Target, request: Request, *, within: float, thinking: bool) -> Piece | Reply | Failure:
        """`send`, for a stream: its first piece within so many seconds, or a `Reply` when the answer has no text to
        stream. Thinking: pieces of the model's reasoning are pieces too."""
