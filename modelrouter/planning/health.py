"""Which models keep failing: they are asked after the others, until one call finds that they answer again."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from modelrouter.catalog.target import Target
from modelrouter.completion import Kind
from modelrouter.process.forks import process_lock

from .events import ModelLeft

IN_A_ROW = 3
"""Calls that have to fail one after the other before a model is set aside."""
PROBE_AFTER = 30.0
"""Seconds until one call tries it in its place again."""

LONGEST = 3600.0
"""Seconds that a rate-limited model is set aside at most, whatever its Retry-After says."""

_FAILING = frozenset((Kind.CONNECTION, Kind.SERVER, Kind.AUTH, Kind.PERMISSION, Kind.QUOTA))


@dataclass(slots=True)
class _State:
    target: Target
    failures: int = 0
    kind: Kind | None = None
    """Of the last failure for which it was set aside."""
    until: float | None = None
    """Monotonic; None: not set aside."""


class Health:
    """What the calls of this process have found, by model and address. `changed` is told whenever a model is set aside
    or comes back, and whether it, or the same model at another address, now is (metrics have no addresses)."""

    def __init__(self, changed: Callable[[Target, bool], None]) -> None:
        self._changed = changed
        self._lock = process_lock()
        self._states: dict[tuple[str, str | None], _State] = {}
        _all.add(self)

    def forget(self) -> None:
        """As if no call had been made."""
        with self._lock:
            states, self._states = self._states, {}
        for state in states.values():
            if state.until is not None:
                self._changed(state.target, False)

    def aside(self, target: Target, now: float) -> Kind | None:
        """Why the model is to be asked last, or None. Once its time is over, one caller is told None, who has to ask it
        now: the probe."""
        if not self._states:  # nearly always
            return None
        with self._lock:
            state = self._states.get((target.litellm_model, target.address))
            if state is None or state.until is None:
                return None
            if now < state.until:
                return state.kind
            # The probe. A model that was only rate-limited needs none: its time is simply over.
            state.until = now + PROBE_AFTER if state.failures >= IN_A_ROW else None
            returned, any_aside = state.until is None, self._any_aside(target)
        if returned:
            self._changed(target, any_aside)
        return None

    def hear(self, _: str, event: ModelLeft) -> None:
        """Note how a call has fared with a model."""
        self.note(event, time.monotonic())

    def note(self, event: ModelLeft, now: float) -> None:
        """How a call has fared with a model, at this monotonic time."""
        target, failure = event.target, event.failure
        key = (target.litellm_model, target.address)
        if failure is None and key not in self._states:
            return
        with self._lock:
            state = self._states.setdefault(key, _State(target))
            was = state.until is not None
            if failure is None:
                state.failures, state.until = 0, None
            elif failure.kind is Kind.RATE_LIMIT:
                if failure.retry_after is not None:
                    state.kind = failure.kind
                    state.until = max(state.until or now, now + min(failure.retry_after, LONGEST))
            elif failure.kind in _FAILING or (failure.kind is Kind.TIMEOUT and not event.cut_short):
                state.failures += 1
                if state.failures >= IN_A_ROW:
                    state.kind = failure.kind
                    state.until = now + PROBE_AFTER
            changed, any_aside = was != (state.until is not None), self._any_aside(target)
        if changed:
            self._changed(target, any_aside)

    def _any_aside(self, target: Target) -> bool:
        names = (target.provider, target.label)
        return any(
            state.until is not None and (state.target.provider, state.target.label) == names
            for state in self._states.values()
        )


_all: weakref.WeakSet[Health] = weakref.WeakSet()


def forget() -> None:
    """Have all of the process forget what they have found: tests begin and end with it."""
    for health in list(_all):
        health.forget()
