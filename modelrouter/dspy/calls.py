"""A call of DSPy's under way: what its request has no place for, and what comes of it."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from modelrouter.completion import Attempt, Completion


@dataclass
class Call:
    """What an engine has to know of a call beyond the request, and what comes of it."""

    lm: Any = None
    """Whose it is."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """The router's, beside the messages."""
    rollout: Any = None
    candidate: int = 0
    """Of ``n``: DSPy asks once for each, with the same request."""
    answers: list[Completion[Any]] = field(default_factory=list)
    costs: list[Decimal | None] = field(default_factory=list)
    """US dollars, of each of the answers and of those without words; None: not known."""
    attempts: list[Attempt] = field(default_factory=list)


current: ContextVar[Call | None] = ContextVar("modelrouter_dspy_call", default=None)
