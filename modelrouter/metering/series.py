"""The series of one model, one module and one budget, looked up once and fed with each call."""

from __future__ import annotations

import time
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Literal, TypeAlias

from prometheus_client import Counter, Gauge, Histogram

from modelrouter.planning.events import BudgetSeen, CacheResult, CallOutcome

Status: TypeAlias = Literal["success", "error", "cancelled"]


@dataclass(slots=True)
class ModelSeries:
    requests: dict[Status, Counter]
    latency: Histogram
    first_token: Histogram
    tokens: tuple[Counter, ...]
    """As `Usage.counts`."""
    cost: Counter
    cost_unknown: Counter
    set_aside: Gauge
    warned: bool = False


@dataclass(slots=True)
class ModuleSeries:
    requests: dict[CallOutcome, Counter]
    cost: Counter
    cache: dict[CacheResult, Counter]
    cache_saved: Counter
    refused: Counter


class BudgetSeries:
    """Its limit; and what is spent of it and reserved, which is known with the first call.

    A process that makes no call in the next window still shows that it is another one. `kept`, in multiprocess mode,
    where a value stays until there is a new one, it does not.
    """

    def __init__(self, names: tuple[str, str], limit: Gauge, spent: Gauge, reserved: Gauge, *, kept: bool) -> None:
        self._limit = limit.labels(*names)
        self._others = {"spent_usd": partial(spent.labels, *names), "reserved_usd": partial(reserved.labels, *names)}
        self._kept = kept
        self._usd: Decimal | None = None
        self._seen: BudgetSeen | None = None

    def limit(self, usd: Decimal) -> None:
        if self._kept or usd != self._usd:
            self._usd = usd
            self._limit.set(float(usd))

    def show(self, event: BudgetSeen) -> None:
        first, self._seen = self._seen is None, event
        for name, gauge in self._others.items() if first or self._kept else ():
            if self._kept:
                gauge().set(self._now(name))
            else:
                gauge().set_function(partial(self._now, name))

    def _now(self, name: str) -> float:
        seen = self._seen
        return float(getattr(seen, name)) if seen is not None and time.time() < seen.resets_at.timestamp() else 0.0
