"""Where the money goes: each attempt's cost and tokens, and what the cache saved, by UTC day, module and model, in the
store's books. They outlive the process and are everybody's who uses the store."""

from __future__ import annotations

import datetime
import functools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from typing import Literal, TypeAlias

from modelrouter.catalog.prices import cost
from modelrouter.catalog.target import Price
from modelrouter.completion import EXACT, Attempt, Sums, Usage
from modelrouter.planning.events import CacheUsed, FellOver
from modelrouter.store.store import Ledger

from .money import amount_in, exactly
from .posting import KEEP, Post

DAYS = int(KEEP // 86_400)
"""For so many the books are kept."""

By: TypeAlias = Literal["day", "module", "model", "provider"]
"""What lines can be added up by."""

_COUNTS = tuple(field.name for field in fields(Usage))
_RESULTS = {"hit": "hits", "coalesced": "coalesced", "miss": "misses", "error": "errors"}


@dataclass(frozen=True, slots=True)
class Spending(Sums):
    """Sums over attempts; ``+`` adds two."""

    requests: int = 0
    """Requests to providers, failed ones included."""
    usage: Usage = field(default_factory=Usage)
    cost_usd: Decimal = Decimal(0)
    """What is known of the cost."""
    unknown: int = 0
    """Answers whose cost is not known, and so not in `cost_usd`."""
    fallbacks: int = 0
    """Times that this model was asked because another had failed."""
    hits: int = 0
    """Calls that a remembered answer has answered."""
    coalesced: int = 0
    """Calls that were answered by an identical one in flight."""
    misses: int = 0
    """Calls that found no remembered answer. They have no model."""
    errors: int = 0
    """Times that the store failed; the calls went on without it. They have no model."""
    saved_usd: Decimal = Decimal(0)
    """What the remembered answers had cost when they were made."""

    @property
    def hit_rate(self) -> float | None:
        """The part of the calls that nothing was sent for, 0 to 1; None when there was no call."""
        free = self.hits + self.coalesced
        return free / (free + self.misses) if free + self.misses else None


@dataclass(frozen=True, slots=True)
class Compared(Sums):
    """What tokens have cost, and what they would have cost with another model; ``+`` adds two."""

    requests: int = 0
    """Those that are compared."""
    cost_usd: Decimal = Decimal(0)
    baseline_usd: Decimal = Decimal(0)

    @property
    def less(self) -> float | None:
        """The part that was not paid, 0 to 1, and negative when the other model costs less; None when it is free."""
        return float(1 - EXACT.divide(self.cost_usd, self.baseline_usd)) if self.baseline_usd else None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the books."""

    day: datetime.date
    """UTC."""
    module: str
    model: str
    """The catalog's name; empty for what no model can be named for."""
    provider: str
    spending: Spending


class Spend:
    """Counts what the calls of this process spend; a listener of the books."""

    def __init__(self, post: Post, *, clock: Callable[[], float] = time.time) -> None:
        self._post_to = post
        self._clock = clock

    def hear(self, module: str, event: Attempt | CacheUsed | FellOver) -> None:
        """Count what a call reports."""
        match event:
            case Attempt(outcome="ok" | "error"):
                self._post(module, event.model, event.provider, _of_attempt(event))
            case CacheUsed():
                model, provider = ("", "") if event.target is None else (event.target.name, event.target.provider)
                changes = {_RESULTS[event.result]: 1}
                if event.saved_usd:
                    changes |= exactly("saved", event.saved_usd)
                self._post(module, model, provider, changes)
            case FellOver():
                self._post(event.module, event.to_model, event.provider, {"fallbacks": 1})

    def _post(self, module: str, model: str, provider: str, changes: Mapping[str, int]) -> None:
        named = {_name(module, model, provider, what): change for what, change in changes.items()}
        self._post_to(_book_of_day(self._clock() // 86_400), named)


def day_of(seconds: float) -> datetime.date:
    """The UTC day of a wall-clock time, seconds since 1970."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).date()


def last(days: int, *, now: float | None = None) -> list[datetime.date]:
    """The last so many UTC days, today among them, in order. `now` is a wall-clock time; None: this moment."""
    today = day_of(time.time() if now is None else now)
    return [today - datetime.timedelta(days=ago) for ago in reversed(range(days))]


def since(seconds: float, *, now: float | None = None) -> list[datetime.date]:
    """The UTC days from that of the moment so many seconds ago to today, in order; none that no book is kept of."""
    now = time.time() if now is None else now
    return last((day_of(now) - day_of(now - min(seconds, KEEP))).days + 1, now=now)


def book_of(day: datetime.date) -> str:
    """The book with what was spent on a day."""
    return f"spend {day}"


@functools.lru_cache(maxsize=4)
def _book_of_day(number: float) -> str:
    """The book of the UTC day that is so many after the first of 1970."""
    return book_of(day_of(number * 86_400))


@functools.lru_cache(maxsize=4096)
def _name(*parts: str) -> str:
    return json.dumps(parts, ensure_ascii=False)


def _of_attempt(attempt: Attempt) -> dict[str, int]:
    changes = {"requests": 1}
    if attempt.usage is not None:
        changes |= {name: count for name in _COUNTS if (count := getattr(attempt.usage, name))}
    if attempt.cost_usd:
        changes |= exactly("usd", attempt.cost_usd)
    elif attempt.cost_usd is None and (attempt.outcome == "ok" or attempt.usage is not None):
        changes["unknown"] = 1
    return changes


def lines(ledger: Ledger, days: Iterable[datetime.date]) -> Iterator[Line]:
    """What was spent on these days, by module and model. Raises `StoreError`."""
    books = {book_of(day): day for day in days}
    for book, counters in ledger.counts(list(books)).items():
        grouped: dict[tuple[str, str, str], dict[str, int]] = {}
        for name, count in counters.items():
            module, model, provider, what = json.loads(name)
            grouped.setdefault((module, model, provider), {})[what] = count
        for names, counts in sorted(grouped.items()):
            yield Line(books[book], *names, _spending(counts))


def _spending(counts: dict[str, int]) -> Spending:
    plain = ("requests", "unknown", "fallbacks", *_RESULTS.values())
    return Spending(
        usage=Usage(**{name: counts.get(name, 0) for name in _COUNTS}),
        cost_usd=amount_in(counts, "usd"),
        saved_usd=amount_in(counts, "saved"),
        **{name: counts.get(name, 0) for name in plain},
    )


def by(lines: Iterable[Line], key: Callable[[Line], str]) -> dict[str, Spending]:
    """The sums by a name of each line, in the order in which they are met."""
    sums: dict[str, Spending] = {}
    for line in lines:
        name = key(line)
        sums[name] = sums.get(name, Spending()) + line.spending
    return sums


def compared(spending: Spending, price: Price | None) -> Compared:
    """The same tokens at a baseline's price. Its lower one: sums do not show which prompts were long.

    Where that price, or the cost of an answer, is not known, nothing is compared. Remembered answers are not in it.
    """
    if price is None or spending.unknown:
        return Compared()
    baseline_usd = cost(spending.usage, replace(price, above=None)) or Decimal(0)
    return Compared(spending.requests, spending.cost_usd, baseline_usd)
