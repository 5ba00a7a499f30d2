"""What the cache was good for, in numbers that outlive the process: counters in its store, by module.

A hit writes nothing. Changes are kept in memory and written after an answer was stored, at most every few seconds, when
the router is closed, and at the interpreter's exit; a process that is killed loses those of its last seconds.
"""

from __future__ import annotations

import atexit
import time
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from modelrouter.completion import EXACT, Sums
from modelrouter.planning.events import CacheUsed
from modelrouter.process.forks import at_fork, process_lock

EVERY = 5.0
"""Seconds between two writes at least, unless the router is closed."""
_DIGITS = 12
"""Of money after the point: a counter of every store's is a whole number of picodollars. No price has more."""

_lock = process_lock()
_all: weakref.WeakSet[Savings] = weakref.WeakSet()


class Savings:
    """The changes of this process. `write` adds them to the store's counters and says whether it could."""

    def __init__(self, write: Callable[[Mapping[str, int]], bool]) -> None:
        self._write = write
        self.changes = Counter[str]()
        """Not written yet."""
        self._rest_until = 0.0
        with _lock:
            _all.add(self)

    def hear(self, module: str, event: CacheUsed) -> None:
        """Count what a look into the cache gave."""
        saved = event.saved_usd
        picodollars = int(EXACT.to_integral_value(EXACT.scaleb(saved, _DIGITS))) if saved else 0
        with _lock:
            self.changes[f"{event.result}:{module}"] += 1
            if picodollars:
                self.changes[f"saved:{module}"] += picodollars

    def flush(self, *, at_once: bool = False) -> None:
        """Write the changes, unless that was done a moment ago. Those that cannot be written are kept for later."""
        now = time.monotonic()
        with _lock:
            if not self.changes or (now < self._rest_until and not at_once):
                return
            self._rest_until = now + EVERY
            changes, self.changes = self.changes, Counter()
        if not self._write(changes):
            with _lock:
                self.changes.update(changes)


@atexit.register
def _flush_all() -> None:
    for counters in list(_all):
        counters.flush(at_once=True)


def _begin_anew() -> None:
    """In a forked child: the parent writes its changes itself."""
    for counters in _all:
        counters.changes = Counter()


at_fork(in_child=_begin_anew)


@dataclass(frozen=True, slots=True)
class Totals(Sums):
    """What the cache was good for, in all."""

    hits: int = 0
    coalesced: int = 0
    """Calls that were answered by an identical one in flight."""
    misses: int = 0
    errors: int = 0
    """Times that the store failed; the calls went on without it."""
    saved_usd: Decimal = Decimal(0)

    @property
    def hit_rate(self) -> float | None:
        """The part of the calls that nothing was sent for, 0 to 1; None when there was no call."""
        free = self.hits + self.coalesced
        return free / (free + self.misses) if free + self.misses else None


def totals(counts: Mapping[str, int]) -> dict[str, Totals]:
    """By module, out of a store's counters (`Stats.counts`)."""
    modules = sorted({name.partition(":")[2] for name in counts})
    return {
        module: Totals(
            hits=counts.get(f"hit:{module}", 0),
            coalesced=counts.get(f"coalesced:{module}", 0),
            misses=counts.get(f"miss:{module}", 0),
            errors=counts.get(f"error:{module}", 0),
            saved_usd=EXACT.scaleb(Decimal(counts.get(f"saved:{module}", 0)), -_DIGITS),
        )
        for module in modules
    }
