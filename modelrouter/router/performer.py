"""What performs a plan's effects, and answers what it asks about the world: backend, store, clock and books."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from decimal import Decimal
from typing import Any

from modelrouter.backend import loading
from modelrouter.backend.current import current
from modelrouter.cache.cache import Cache
from modelrouter.cache.cache import key as cache_key
from modelrouter.cache.single_flight import Flights
from modelrouter.catalog import prices
from modelrouter.catalog.target import Target
from modelrouter.completion import Attempt, Usage
from modelrouter.metering import books, traces, track
from modelrouter.metering.budgets import Budgets
from modelrouter.metering.metrics import Metrics
from modelrouter.metering.posting import Posting
from modelrouter.metering.spend import Spend
from modelrouter.planning import effects
from modelrouter.planning.events import BudgetSeen, CacheUsed, CallEnded, FellOver, FirstToken, ModelLeft
from modelrouter.planning.exchange import Failure, Hold, Obstacle, Piece, Remembered, Reply, Request, Short
from modelrouter.planning.health import Health
from modelrouter.process import event_loops
from modelrouter.store.memory import MemoryLedger
from modelrouter.store.store import Ledger, Store, WouldWait

from . import bounds

GRACE = 0.5
"""Seconds that an attempt may be late before it is given up from outside."""

logger = logging.getLogger("modelrouter")

_announced: set[tuple[str, str]] = set()


def announce(target: Target) -> None:
    """Log once per model and process that it is used: what operators look for after a change of configuration."""
    if (target.provider, target.label) not in _announced:
        _announced.add((target.provider, target.label))
        logger.info("llm_provider_created provider=%s model=%s", target.provider, target.label)


class Performer:
    """Performs effects (`perform`, `aperform`) and is the plan's `Facts`. One per router; safe to use from anywhere."""

    def __init__(self, metrics: Metrics, store: Store | None, *, opened: Callable[[], None]) -> None:
        self._opened = opened
        health = Health(metrics.set_aside)
        self.set_aside = health.aside
        self._flights = Flights()
        # Nothing is touched on disk before an answer is looked for.
        self._cache = Cache(store, rebuild=loading.rebuild)
        self._scripted = MemoryLedger()
        self._posting = Posting(self._cache.count, begin_again=self._cache.close)
        self._books = books.Books(
            {
                track.hear: (Attempt, CacheUsed, CallEnded, FellOver),
                metrics.hear: (Attempt, BudgetSeen, CacheUsed, CallEnded, FellOver, FirstToken),
                Spend(self._post).hear: (Attempt, CacheUsed, FellOver),
                health.hear: (ModelLeft,),
                books.log: (FellOver,),
                # The last: the others hear of a request while its span has not ended.
                traces.hear: (Attempt, CacheUsed, CallEnded, FellOver, FirstToken),
            }
        )
        self.budgets = Budgets(self._ledger, self._post, flush=self._posting.flush, tell=self._books.tell)
        self._inline: Mapping[type[effects.Effect], Callable[[Any], Any]] = {
            effects.Report: lambda effect: self._books.tell(effect.module, effect.event),
            effects.Publish: lambda effect: self._flights.publish(effect.flight, effect.outcome),
            effects.Settle: lambda effect: self.budgets.settle(effect.hold, effect.cost_usd),
        }
        """Of the effects that take microseconds, for both."""

    def _ledger(self) -> Ledger:
        """Whose books are kept: the store's, or for a script that stands in for providers those of the moment."""
        return self._cache.store if current().remembers else self._scripted

    def _post(self, book: str, changes: Mapping[str, int], *, release: str | None = None) -> None:
        if current().remembers:
            self._posting.post(book, changes, release=release)
        else:
            self._scripted.count({book: changes}, release=[release] if release is not None else ())

    @property
    def store(self) -> Store:
        """Where answers and books are kept. Raises InvalidEnvironment when MODELROUTER_STORE is wrong."""
        return self._cache.store

    def close(self) -> None:
        """Close the store."""
        self._posting.flush()
        self._cache.close()

    def warm_up(self) -> None:
        """Load LiteLLM and make what the first call needs."""
        self._load()
        event_loops.run(current().warm(), alone=True)

    # What a plan asks

    def obstacle(self, target: Target, request: Request) -> Obstacle | None:
        return current().obstacle(target, request)

    def context_window(self, target: Target) -> int | None:
        return current().context_window(target)

    def capped(self) -> bool:
        return bool(track.caps())

    def cost(self, target: Target, usage: Usage | None) -> Decimal | None:
        # What a gateway asks is its affair, where the catalog does not say.
        price = current().price(target) if target.gateway is None else prices.own_price(target)
        return prices.cost(usage, price)

    # What it has done

    def performing(self, module: str | None) -> Callable[[effects.Effect], Any]:
        """What performs the effects of one call of a module, synchronously."""
        return traces.performing(self.perform, module or "default")

    def aperforming(self, module: str | None) -> Callable[[effects.Effect], Awaitable[Any]]:
        """The same, asynchronously."""
        return traces.aperforming(self.aperform, module or "default")

    def perform(self, effect: effects.Effect) -> Any:
        """Perform an effect, synchronously: what goes over the network runs on an event loop of our own."""
        if (inline := self._inline.get(type(effect))) is not None:
            return inline(effect)
        match effect:
            case effects.Send():
                return self._bounded(self._send(effect), effect.within, alone=current().alone(effect.target))
            case effects.OpenStream():
                return self._bounded(self._send(effect), effect.within)
            case effects.Next():
                # What is no text may come for so long, and then nothing.
                stream, within = effect.stream, effect.within
                return stream.at_once() or self._bounded(stream.next(within), 2 * within)
            case effects.Close():
                event_loops.finish(effect.stream.close())
                return effect.stream.used()
            case effects.Load():
                return self._load()
            case effects.ReadCache():
                return self._read(effect)
            case effects.Join():
                return self._flights.join(effect.key, blocking=True)
            case effects.Wait():
                return effect.flight.wait(effect.within)
            case effects.WriteCache():
                return self._write(effect)
            case effects.Reserve():
                return self._reserve(effect)
            case effects.Check():
                said = effect.gate(effect.answer)
                return _verdict(effect.gate, event_loops.run(_awaited(said)) if inspect.isawaitable(said) else said)
            case effects.Sleep():
                return time.sleep(effect.seconds) if current().waits or effect.for_others else None
        raise NotImplementedError(effect)

    async def aperform(self, effect: effects.Effect) -> Any:
        """Perform an effect, asynchronously."""
        if (inline := self._inline.get(type(effect))) is not None:
            return inline(effect)
        event_loops.outlast_threads()
        match effect:
            case effects.Send() | effects.OpenStream():
                return await self._send(effect)
            case effects.Next():
                return effect.stream.at_once() or await effect.stream.next(effect.within)
            case effects.Close():
                await effect.stream.close()
                return effect.stream.used()
            case effects.Load():
                return self._load() if current().ready() else await asyncio.to_thread(self._load)
            case effects.ReadCache():
                remote = self._cache.store.remote  # what is on disk is there in microseconds
                return await asyncio.to_thread(self._read, effect) if remote else self._read(effect)
            case effects.Join():
                return self._flights.join(effect.key, blocking=False)
            case effects.Wait():
                return await effect.flight.await_(effect.within)
            case effects.WriteCache():
                return await asyncio.to_thread(self._write, effect)
            case effects.Reserve():
                return await self._areserve(effect)
            case effects.Check():
                said = effect.gate(effect.answer)
                return _verdict(effect.gate, await said if inspect.isawaitable(said) else said)
            case effects.Sleep():
                return await asyncio.sleep(effect.seconds) if current().waits or effect.for_others else None
        raise NotImplementedError(effect)

    def _load(self) -> bool:
        ready = current().ready()
        current().load()
        self._opened()
        return not ready

    def _bounded(self, coroutine: Coroutine[Any, Any, Any], within: float, *, alone: bool = False) -> Any:
        """What the coroutine brings, which ends by itself when its time is up unless something blocks its loop."""
        try:
            return event_loops.run(coroutine, within=within + GRACE, alone=alone)
        except TimeoutError:
            return Failure.timeout(within)

    async def _send(self, effect: effects.Send | effects.OpenStream) -> Piece | Reply | Failure:
        target, request, within = effect.target, effect.request, effect.within
        event_loops.outlast_threads()
        announce(target)
        if isinstance(effect, effects.OpenStream):
            return await current().open(target, request, within=within, thinking=effect.thinking)
        return await current().send(target, request, within=within)

    def _reserve(self, effect: effects.Reserve, *, at_once: bool = False) -> Hold | Short | None:
        def most(closely: bool) -> Decimal | None:
            if closely not in effect.highest:
                effect.highest[closely] = bounds.most(effect.target, effect.request, closely=closely)
            return effect.highest[closely]

        return self.budgets.reserve(effect.module, effect.budgets, most, at_once=at_once)

    async def _areserve(self, effect: effects.Reserve) -> Hold | Short | None:
        with contextlib.suppress(WouldWait):
            return self._reserve(effect, at_once=True)
        reserving = asyncio.ensure_future(asyncio.to_thread(self._reserve, effect))
        try:
            return await asyncio.shield(reserving)
        except asyncio.CancelledError:
            # The thread goes on; what it reserves is nobody's any more.
            reserving.add_done_callback(self._give_back)
            raise

    def _give_back(self, reserving: asyncio.Future[Hold | Short | None]) -> None:
        if not reserving.cancelled() and reserving.exception() is None and isinstance(held := reserving.result(), Hold):
            self.budgets.settle(held, Decimal(0))

    def _read(self, effect: effects.ReadCache) -> tuple[str | None, Remembered | None]:
        key = cache_key(effect.target, effect.request, extra=effect.extra) if current().remembers else None
        if key is None:
            return None, None
        found = self._cache.read(key, ttl=effect.ttl, now=time.time())
        if found.result == "error":
            self._books.tell(effect.module, CacheUsed("error"))
        return key, found.answer

    def _write(self, effect: effects.WriteCache) -> None:
        kept = self._cache.write(
            effect.key, effect.reply, effect.cost_usd, ttl=effect.ttl, module=effect.module, now=time.time()
        )
        if not kept:
            self._books.tell(effect.module, CacheUsed("error"))


async def _awaited(said: Any) -> Any:
    return await said


def _verdict(gate: Any, said: object) -> str | bool:
    """True, or why an answer is turned down."""
    if isinstance(said, str) or said is True:
        return said
    name = f"{getattr(gate, '__module__', '')}:{getattr(gate, '__qualname__', type(gate).__name__)}"
    if said is False:
        return f"{name} has turned it down"
    raise TypeError(f"accept: expected True, False or a reason of {name}, got {said!r}")
