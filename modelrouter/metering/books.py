"""The books: every event of a call comes here once, inline, and goes to all who listen for its kind."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, get_args

from modelrouter.planning.events import Event, FellOver

logger = logging.getLogger("modelrouter")

Listener: TypeAlias = Callable[[str, Any], None]
"""Takes a module, and an event of a call of it, in microseconds and in the call's own thread or task. Raises nothing.
Metrics, `track`, spend, health and log lines are such."""


class Books:
    """Where the events of a router's calls come to; `listeners` says who hears of which."""

    def __init__(self, listeners: Mapping[Listener, tuple[type[Event], ...]]) -> None:
        self._hearing = {kind: [one for one, kinds in listeners.items() if kind in kinds] for kind in get_args(Event)}

    def tell(self, module: str, event: Event) -> None:
        """Let everybody hear of it."""
        for hear in self._hearing[type(event)]:
            hear(module, event)


def log(_: str, event: FellOver) -> None:
    """The line that operators look for."""
    names = event.module, event.from_model, event.to_model, event.reason
    logger.warning("llm_fallback module=%s from=%s to=%s reason=%s", *names)
