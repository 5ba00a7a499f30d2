"""One request that a server was sent, and what became of it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Outcome", "Request"]

Outcome = Literal["open", "answered", "cut", "abandoned"]
"""``open``: still being answered; ``answered``: all of it was sent; ``cut``: the server closed the connection, as
scripted; ``abandoned``: the client closed it first."""


@dataclass(eq=False)
class Request:
    """Entered when it has arrived whole, before it is answered: counting right after a call is exact."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: Any
    """Parsed JSON; ``None`` when there is none."""
    at: float
    """``time.monotonic()`` of its arrival."""
    status: int | None = None
    """``None``: none was sent."""
    outcome: Outcome = "open"
    _ended: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def model(self) -> str | None:
        """The model that the body names."""
        if not isinstance(self.body, dict):
            return None
        name = self.body.get("model", self.body.get("name"))  # LiteLLM asks Ollama's /api/show by "name"
        return name if isinstance(name, str) else None

    def end(self, outcome: Outcome) -> None:
        """The first outcome stands."""
        if self.outcome == "open":
            self.outcome = outcome
            self._ended.set()

    def ended(self, timeout: float = 5.0) -> Outcome:
        """What became of it, waited for at most `timeout` seconds: a closed connection is noticed a moment later."""
        self._ended.wait(timeout)
        return self.outcome
