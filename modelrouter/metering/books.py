"""The books: every event of a call comes here once, inline, and goes to all who listen."""

from __future__ import annotations

import logging
from typing import Protocol

from modelrouter.planning.events import Event, FellOver

logger = logging.getLogger("modelrouter")


class Listener(Protocol):
    """Who hears what calls report: metrics, `track`, savings, health, log lines."""

    def __call__(self, module: str, event: Event, /) -> None:
        """Take an event of a call of this module, in microseconds and in the call's own thread or task. Raises
        nothing."""


class Books:
    """Where the events of a router's calls come to."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners

    def tell(self, module: str, event: Event) -> None:
        """Let everybody hear of it."""
        for hear in self._listeners:
            hear(module, event)


def log(_: str, event: Event) -> None:
    """The lines that operators look for."""
    if isinstance(event, FellOver):
        logger.warning(
            "llm_fallback module=%s from=%s to=%s reason=%s",
            event.module,
            event.from_model,
            event.to_model,
            event.reason,
        )
