"""What a piece of code spends on models: calls, tokens, cost, cache hits and fallbacks, by module and by model.

::

    with modelrouter.track() as spent:
        ...  # any code: synchronous, asynchronous, a DSPy program

    print(spent.total.cost_usd, spent.by_module["scorer"].usage.output_tokens, spent.by_model)
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from decimal import Decimal
from operator import itemgetter
from typing import Any, Self

from modelrouter.catalog.target import LONGEST
from modelrouter.completion import Attempt, Money, Sums, Usage
from modelrouter.errors import InvalidRequest
from modelrouter.planning.events import CacheUsed, CallEnded, Event, FellOver
from modelrouter.process.forks import process_lock
from modelrouter.store.memory import MemoryLedger
from modelrouter.store.store import SPENT, Balance, granted

from .money import picodollars

_trackers: ContextVar[tuple[Tracker, ...] | None] = ContextVar("modelrouter_trackers", default=None)
"""None: nobody has said so far, and DSPy's settings may know."""
_KEY = "modelrouter_trackers"
"""Under which they are among DSPy's settings."""


@dataclass(frozen=True, slots=True)
class Spent(Sums):
    """Sums; ``+`` adds two."""

    calls: int = 0
    """Calls that have ended; of a model: those that it answered."""
    unanswered: int = 0
    """Calls that no model answered, or that were cancelled. They are among `calls`, and nobody's by model."""
    cache_hits: int = 0
    """Calls that were answered without a request: by a remembered answer, or by that of an identical call under way."""
    requests: int = 0
    """Requests to providers, retries and failed ones included."""
    fallbacks: int = 0
    """Times that a model failed and another was asked; of a model: times that it was the other."""
    usage: Usage = field(default_factory=Usage)
    """Tokens of all requests. Remembered answers use none."""
    cost_usd: Money = Decimal(0)
    """What is known of the cost, answers that were turned down included."""
    unknown: int = 0
    """Answers whose cost is not known, and so not in `cost_usd`."""
    saved_usd: Money = Decimal(0)
    """What remembered answers had cost when they were made. It has no model."""
    latency_s: float = 0.0
    """Seconds of all requests, side by side or not."""


_NOTHING = Spent()


class Cap:
    """What may be spent in a block."""

    def __init__(self, usd: Decimal) -> None:
        self.usd = usd
        self._ledger = MemoryLedger()
        self._limits = {"": picodollars(usd)}

    def __str__(self) -> str:
        return f"track(max_usd={self.usd:f})"

    def reserve(self, name: str, amount: int) -> Balance | None:
        """Reserve so many picodollars; how it stood before, when they do not fit."""
        balances = self._ledger.reserve(name, amount, self._limits, ttl=LONGEST)
        return None if granted(amount, self._limits, balances) else balances[""]

    def settle(self, name: str, spent: int) -> None:
        """In place of what was reserved under this name, so many picodollars are spent."""
        self._ledger.count({"": {SPENT: spent}}, release=[name])


class Tracker:
    """Counts the calls of its ``with`` block, and goes on counting those that end after it. It can be read at any time.

    A call belongs to the block in which it is made: in the same task or thread, in tasks that are started in the block,
    in threads that take the context along (`asyncio.to_thread`), and in those that DSPy starts (`dspy.Parallel`,
    `dspy.Evaluate`, optimizers), if DSPy was imported before the block began. A stream belongs to the block in which it
    is read. An inner block's calls count in the outer one too.
    """

    def __init__(self, max_usd: Decimal | float | str | None = None) -> None:
        self.cap = None if max_usd is None else Cap(_money(max_usd))
        """What may be spent in it; None: any sum."""
        self._lock = process_lock()
        self._lines: dict[tuple[str, str | None], Spent] = {}
        """By module and model; None: what no model can be named for."""
        self._fallbacks: Counter[FellOver] = Counter()

    @property
    def total(self) -> Spent:
        """All of it."""
        with self._lock:
            return sum(self._lines.values(), _NOTHING)

    @property
    def by_module(self) -> Mapping[str, Spent]:
        """By the module that called, in the order of first use."""
        return self._sums(itemgetter(0))

    @property
    def by_model(self) -> Mapping[str, Spent]:
        """By the catalog's name of the model."""
        return self._sums(itemgetter(1))

    @property
    def by_module_and_model(self) -> Mapping[tuple[str, str], Spent]:
        """By both."""
        return self._sums(lambda names: None if names[1] is None else names)

    @property
    def fallbacks(self) -> Mapping[FellOver, int]:
        """Each fallback (module, from_model, to_model, reason), and how often it happened."""
        with self._lock:
            return dict(self._fallbacks)

    def __enter__(self) -> Self:
        _trackers.set((*_active(), self))
        carry()
        return self

    def __exit__(self, *exc: object) -> None:
        # Said outright and not taken back: a `dspy.context` that began in the block and ends after it puts this tracker
        # back among DSPy's settings. And in whatever context the block ends: it need not be the one that it began in.
        _trackers.set(tuple(each for each in _active() if each is not self))
        carry()

    def _sums(self, of: Callable[[tuple[str, str | None]], Any]) -> dict[Any, Spent]:
        with self._lock:
            lines = list(self._lines.items())
        sums: dict[Any, Spent] = {}
        for names, spent in lines:
            if (key := of(names)) is not None:
                sums[key] = sums.get(key, Spent()) + spent
        return sums

    def _count(self, module: str, event: Event) -> None:
        spent, model = _spent(event)
        if spent is None:
            return
        with self._lock:
            key, so_far = (module, model), None
            while (line := self._lines.get(key, _NOTHING)) is not so_far:
                so_far, after = line, line + spent  # meanwhile the garbage collector may end a stream that counts here
            self._lines[key] = after
            if isinstance(event, FellOver):
                self._fallbacks[event] += 1


def track(*, max_usd: Decimal | float | str | None = None) -> Tracker:
    """Count what the code of a ``with`` block spends. Blocks may be nested, and share nothing with those of other
    threads and tasks.

    With `max_usd`, US dollars, a request is sent only if its highest price fits into what is left: the prompt, and an
    answer of ``max_tokens``. A model that is too dear is passed over, as one without its key is; a request that would
    fit but for others under way waits for these. Free models answer on.

    Raises:
        InvalidRequest: `max_usd` is no amount of money.
        BudgetExceeded: in a call of the block, when no model is left that the money is enough for.
    """
    return Tracker(max_usd)


def _spent(event: Event) -> tuple[Spent | None, str | None]:
    """What an event adds, and to which model."""
    match event:
        case Attempt(outcome="cached"):
            return Spent(calls=1, cache_hits=1), event.model
        case Attempt(outcome="ok" | "error"):
            answered = event.outcome == "ok"
            spent = Spent(
                calls=int(answered),
                requests=1,
                usage=event.usage or Usage(),
                cost_usd=event.cost_usd if event.cost_usd is not None else Decimal(0),
                unknown=int(event.cost_usd is None and (answered or event.usage is not None)),
                latency_s=event.latency_s,
            )
            return spent, event.model
        case FellOver():
            return Spent(fallbacks=1), event.to_model
        case CacheUsed() if event.saved_usd:
            return Spent(saved_usd=event.saved_usd), None
        case CallEnded() if event.outcome != "success":
            return Spent(calls=1, unanswered=1), None
    return None, None


def _money(value: Decimal | float | str) -> Decimal:
    try:
        amount = Decimal(str(value))
    except ArithmeticError:
        amount = Decimal("NaN")
    if isinstance(value, bool) or not amount.is_finite() or amount < 0:
        raise InvalidRequest(f"max_usd= takes US dollars from 0, not {value!r}.")
    return amount


def caps() -> tuple[Cap, ...]:
    """What may be spent in the blocks around this call that have a limit."""
    return tuple(tracker.cap for tracker in _active() if tracker.cap is not None)


def hear(module: str, event: Event) -> None:
    """Count what a call reports that is under way in this context."""
    for tracker in _active():
        tracker._count(module, event)


# DSPy gives the threads that it starts its own settings, and no other context variable.


def carry() -> None:
    """Put the trackers of this context among DSPy's settings, where it is loaded."""
    overrides = _dspy_settings()
    wanted = _trackers.get() or ()
    if overrides is not None and (now := overrides.get()).get(_KEY, ()) != wanted:
        overrides.set(type(now)({**now, _KEY: wanted}))


def _active() -> tuple[Tracker, ...]:
    if (here := _trackers.get()) is not None or (overrides := _dspy_settings()) is None:
        return here or ()
    carried: tuple[Tracker, ...] = overrides.get().get(_KEY, ())
    return carried


def _dspy_settings() -> ContextVar[dict[str, Any]] | None:
    module = sys.modules.get("dspy.dsp.utils.settings")
    return getattr(module, "thread_local_overrides", None)
