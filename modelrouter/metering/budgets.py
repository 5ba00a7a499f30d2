"""Budgets: what may be spent in a window is reserved before each request and settled after it, over all threads,
processes and machines that share the store.

When the store fails, each process holds the budget by its own count, from where it last saw it, until it is back.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache

from modelrouter.catalog.target import Budget, Period
from modelrouter.completion import EXACT
from modelrouter.errors import StoreError
from modelrouter.planning.events import BudgetSeen, CacheUsed, Event
from modelrouter.planning.exchange import Hold, Short
from modelrouter.process.forks import at_fork, process_lock
from modelrouter.store.memory import MemoryLedger
from modelrouter.store.store import SPENT, Balance, Ledger, WouldWait, granted

from .money import dollars, picodollars
from .posting import Post
from .track import Cap, caps

logger = logging.getLogger("modelrouter")

LEASE = 30.0
"""Seconds after which a reservation ends whose process has died."""
RENEW = 10.0
"""Seconds between two times that a process renews its reservations."""
_UNBOUNDED = 2**62

_all: weakref.WeakSet[Budgets] = weakref.WeakSet()


class Budgets:
    """The budgets of this process's calls. Safe over threads and forks."""

    def __init__(
        self,
        ledger: Callable[[], Ledger],
        post: Post,
        *,
        flush: Callable[[], object],
        tell: Callable[[str, Event], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`ledger` gives the store, once it is needed; `flush` writes what was posted to it; `tell` lets the books hear
        of events; `clock` gives wall-clock time, seconds since 1970."""
        self._ledger = ledger
        self._post = post
        self._flush = flush
        self._tell = tell
        self._clock = clock
        self._own = MemoryLedger()
        """What this process knows by itself."""
        self._held: set[str] = set()
        self._lock = process_lock()
        self._renewing = False
        """A thread does it."""
        self._said: set[str] = set()
        """What was logged already."""
        _all.add(self)

    def reserve(
        self,
        module: str,
        budgets: Sequence[Budget],
        most: Callable[[bool], Decimal | None],
        *,
        at_once: bool = False,
    ) -> Hold | Short | None:
        """Reserve the highest price of a request in all budgets, and those of the code around it (`track`).

        `most` gives that price in US dollars, None when it is not known; when told True, as low as it can be found out
        to be, which takes longer. At once, for an event loop: `WouldWait`, and nothing done, where it takes longer.
        """
        capped = caps()
        if not budgets and not capped:
            return None
        found: Hold | Short | None = None
        for closely in (False, True):
            amount = most(closely)
            if amount is None:
                return Short("what it can cost is not known: it has no price, or nothing limits its answer")
            if not amount:
                return None
            found = self._reserve(module, budgets, capped, amount, closely=closely, at_once=at_once)
            if isinstance(found, Hold):
                return found
            if at_once:
                raise WouldWait
            if budgets:
                self._flush()  # what calls of this process have held may be free by now
        return found

    def settle(self, hold: Hold, cost: Decimal | None) -> None:
        """In place of what is held, this is spent; None: nobody knows, and what was held is."""
        spent = picodollars(hold.amount if cost is None else cost)
        for cap in hold.caps:
            cap.settle(hold.name, spent)
        self._held.discard(hold.name)
        self._own.count({book: {SPENT: spent} for book in hold.books}, release=[hold.name])
        for book in hold.books:
            # Let go with the last one: before, another process could spend what is not counted yet.
            self._post(book, {SPENT: spent}, release=hold.name if book == hold.books[-1] else None)

    def standing(self, budgets: Sequence[Budget]) -> Mapping[Budget, tuple[Balance, datetime.datetime]]:
        """How they stand, in picodollars, and when they begin anew. Raises `StoreError`."""
        now = self._clock()
        books = {_book(budget, now): budget for budget in budgets}
        if not books:
            return {}
        balances = self._ledger().reserve("", 0, dict.fromkeys(books, 0), ttl=LEASE)
        return {budget: (balances[book], window(budget.per, now)[1]) for book, budget in books.items()}

    def begin_anew(self) -> None:
        """In a forked child: what its parent holds is not its own."""
        self._held, self._renewing = set(), False

    # -- in steps

    def _reserve(
        self,
        module: str,
        budgets: Sequence[Budget],
        capped: Sequence[Cap],
        amount: Decimal,
        *,
        closely: bool,
        at_once: bool,
    ) -> Hold | Short:
        name, need, now = uuid.uuid4().hex, picodollars(amount), self._clock()
        for number, cap in enumerate(capped):
            if (balance := cap.reserve(name, need)) is not None:
                _let_go(name, capped[:number])
                return _short(str(cap), "", cap.usd, balance, amount, None)
        books = {_book(budget, now): budget for budget in budgets}
        limits = {book: self._limit(budget, book, closely=closely) for book, budget in books.items()}
        try:
            balances = self._balances(module, name, need, limits, at_once=at_once) if limits else {}
        except WouldWait:
            _let_go(name, capped)
            raise
        fits = granted(need, limits, balances)
        for book, budget in books.items() if fits or closely else ():
            over = not granted(need, {book: picodollars(budget.usd)}, balances)
            resets_at = window(budget.per, now)[1]
            spent, reserved = dollars(balances[book].spent), dollars(balances[book].reserved)
            self._tell(module, BudgetSeen(budget, spent, reserved, over, resets_at))
            if over and not budget.hard:
                self._warn(budget, book)
        if not fits:
            _let_go(name, capped)
            shorts = (
                _short(str(budget), budget.source, budget.usd, balances[book], amount, window(budget.per, now)[1])
                for book, budget in books.items()
                if not granted(need, {book: limits[book]}, balances)
            )
            return min(shorts, key=lambda short: short.passing)  # what does not pass by itself comes first
        if limits:
            self._hold(name)
        return Hold(name, amount, tuple(limits), tuple(capped))

    def _limit(self, budget: Budget, book: str, *, closely: bool) -> int:
        """What holds a call back. Nobody is warned because of a price that is only found at a glance, unless without
        it, too, more was spent."""
        limit = picodollars(budget.usd)
        if budget.hard or not (closely or self._own.counts([book])[book].get(SPENT, 0) > limit):
            return limit
        return _UNBOUNDED

    def _balances(
        self, module: str, name: str, need: int, limits: Mapping[str, int], *, at_once: bool
    ) -> Mapping[str, Balance]:
        """How the books stood before; the store's, else as far as this process knows."""
        try:
            balances = self._ledger().reserve(name, need, limits, ttl=LEASE, at_once=at_once)
        except WouldWait:
            raise
        except Exception as error:  # noqa: BLE001 - a store must not fail a call
            self._tell(module, CacheUsed("error"))
            self._fails(error)
            return self._own.reserve(name, need, limits, ttl=LEASE)
        known = self._own.counts(limits)
        self._own.count({book: {SPENT: balances[book].spent - known[book].get(SPENT, 0)} for book in limits})
        if granted(need, limits, balances):
            self._own.reserve(name, need, dict.fromkeys(limits, 2 * _UNBOUNDED), ttl=LEASE)
        return balances

    def _warn(self, budget: Budget, book: str) -> None:
        if book not in self._said:
            self._said.add(book)
            logger.warning("budget_exceeded %s (%s): calls go on, as it is not hard", budget, budget.source)

    def _fails(self, error: Exception) -> None:
        # Only our own messages are known to be without secrets: a server's address may have its password in it.
        reason = error.reason if isinstance(error, StoreError) else type(error).__name__
        if reason not in self._said:
            self._said.add(reason)
            said = f" {error}" if isinstance(error, StoreError) else ""
            logger.warning("budgets_alone reason=%s: each process holds the budgets by its own count.%s", reason, said)

    # -- leases

    def _hold(self, name: str) -> None:
        with self._lock:
            self._held.add(name)
            if not self._renewing:
                thread = threading.Thread(target=self._renew, name="modelrouter-budgets", daemon=True)
                with contextlib.suppress(RuntimeError):  # none can be started; the next reservation tries it again
                    thread.start()
                    self._renewing = True

    def _renew(self) -> None:
        while True:
            time.sleep(RENEW)
            with self._lock:
                held = list(self._held)
                if not held:
                    self._renewing = False
                    return
            self._own.renew(held, ttl=LEASE)
            try:
                self._ledger().renew(held, ttl=LEASE)
            except Exception as error:  # noqa: BLE001 - a store must not fail a call
                self._fails(error)


def window(per: Period, now: float) -> tuple[datetime.datetime, datetime.datetime]:
    """The calendar window (UTC) that a wall-clock time is in: its beginning, and that of the next."""
    return _window(per, int(now // 3600))


@lru_cache(maxsize=16)
def _window(per: Period, hour: int) -> tuple[datetime.datetime, datetime.datetime]:
    start = datetime.datetime.fromtimestamp(hour * 3600, datetime.UTC)
    if per == "hour":
        return start, start + datetime.timedelta(hours=1)
    start = start.replace(hour=0)
    if per == "day":
        return start, start + datetime.timedelta(days=1)
    if per == "week":
        start -= datetime.timedelta(days=start.weekday())
        return start, start + datetime.timedelta(days=7)
    start = start.replace(day=1)
    return start, (start + datetime.timedelta(days=31)).replace(day=1)


def _book(budget: Budget, now: float) -> str:
    """Where it is counted at this wall-clock time."""
    return _name(budget.module, budget.per, window(budget.per, now)[0])


@lru_cache(maxsize=1024)
def _name(module: str | None, per: Period, start: datetime.datetime) -> str:
    return "budget " + json.dumps([module, per, f"{start:%Y-%m-%dT%H}"], ensure_ascii=False)


def _let_go(name: str, capped: Sequence[Cap]) -> None:
    for cap in capped:
        cap.settle(name, 0)


def _short(
    limit: str, source: str, usd: Decimal, balance: Balance, amount: Decimal, resets_at: datetime.datetime | None
) -> Short:
    spent, reserved = dollars(balance.spent), dollars(balance.reserved)
    why = f"up to ${amount:f} does not fit into {limit}: ${spent:f} is spent and ${reserved:f} reserved"
    passing = EXACT.add(spent, amount) <= usd
    return Short(why, limit, source, usd, spent, reserved, resets_at, passing)


def _begin_anew() -> None:
    for budgets in _all:
        budgets.begin_anew()


at_fork(in_child=_begin_anew)
