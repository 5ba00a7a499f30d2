"""A call of DSPy's under way: what its request has no place for, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from dspy.clients import call_context

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
    filenames: dict[str, str] = field(default_factory=dict)
    """By what is in the file, or its id: a request has no place for them."""
    answers: list[Completion[Any]] = field(default_factory=list)
    costs: list[Decimal | None] = field(default_factory=list)
    """US dollars, of each of the answers and of those without words; None: not known."""
    attempts: list[Attempt] = field(default_factory=list)
    silent: bool = False
    """Whether the chunks of the moment are not for the reader of a stream."""

    @contextmanager
    def unseen(self) -> Iterator[None]:
        """What the engine hands on meanwhile is not streamed: of an answer out of DSPy's own cache, too, the reader
        gets the prediction alone, and a program whose answer cannot be read may ask once more."""
        under_way = [(progress, progress.emitted) for progress in call_context._adapter_calls.get()]
        self.silent = True
        try:
            yield
        finally:
            self.silent = False
            for progress, emitted in under_way:
                progress.emitted = emitted


class Gate:
    """The way to the reader of a stream."""

    def __init__(self, stream: Any, call: Call) -> None:
        self._stream = stream
        self._call = call

    async def send(self, chunk: Any) -> None:
        if not self._call.silent:
            await self._stream.send(chunk)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


current: ContextVar[Call | None] = ContextVar("modelrouter_dspy_call", default=None)
