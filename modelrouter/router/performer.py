"""What performs a plan's effects, and answers what it asks about the world: door, store, clock and metrics."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

from modelrouter import environment
from modelrouter.backend import litellm as door
from modelrouter.cache.cache import Cache, Remembered, default_store
from modelrouter.cache.cache import key as cache_key
from modelrouter.cache.single_flight import Flights
from modelrouter.catalog import prices as pricing
from modelrouter.embedded import server as embedded
from modelrouter.errors import EmbeddedUnavailable
from modelrouter.metering import track as tracking
from modelrouter.metering.metrics import Metrics
from modelrouter.metering.savings import Counters
from modelrouter.planning.effects import (
    Await,
    Board,
    Call,
    Close,
    Effect,
    Keep,
    Land,
    Load,
    Look,
    Next,
    Open,
    Sleep,
    Tell,
)
from modelrouter.planning.health import Health
from modelrouter.process import event_loops as _loop
from modelrouter.store.disk import Store
from modelrouter.types import (
    Attempt,
    CacheUsed,
    CallEnded,
    Failure,
    FellOver,
    FirstToken,
    Kind,
    ModelLeft,
    Obstacle,
    Piece,
    Reply,
    Request,
    Target,
    Usage,
)

__all__ = ["Performer", "announce"]

GRACE = 0.5
"""Seconds that an attempt may be late before it is given up from outside."""

logger = logging.getLogger("modelrouter")

_announced: set[tuple[str, str]] = set()


def announce(target: Target) -> None:
    """Log once per model and process that it is used: what operators look for after a change of configuration."""
    if (target.provider, target.label) not in _announced:
        _announced.add((target.provider, target.label))
        logger.info("llm_provider_created provider=%s model=%s", target.provider, target.label)


def _embedded(target: Target) -> bool:
    """Whether its server is to be started first."""
    return target.provider == "embedded" and door.stand_in is None


class Performer:
    """Performs effects (`perform`, `aperform`) and is the plan's `Facts`. One per router; safe to use from anywhere."""

    def __init__(self, metrics: Metrics, store: Store | None, *, opened: Callable[[], None]) -> None:
        self._metrics = metrics
        self._opened = opened
        self._health = Health(metrics.set_aside)
        self._flights = Flights()
        # Nothing is touched on disk before an answer is looked for.
        self._cache = Cache(default_store() if store is None else store, rebuild=door.rebuild)
        self._counters = Counters(self._cache.count)

    def close(self) -> None:
        """Close the store."""
        self._counters.flush(at_once=True)
        self._cache.store.close()

    def warm_up(self) -> None:
        """Load LiteLLM and make what the first call needs."""
        self._load()
        if door.stand_in is None:
            _loop.run(door.warm())

    # What a plan asks

    def obstacle(self, target: Target, request: Request) -> Obstacle | None:
        """Why the model cannot answer the request: its key, its installation, its abilities."""
        stand_in = door.stand_in
        missing_key = environment.missing_key if stand_in is None else stand_in.missing_key
        if (variable := missing_key(target)) is not None:
            return Obstacle(Kind.MISSING_KEY, f"{variable} is not set", variable)
        if _embedded(target) and (missing := embedded.present(gguf=environment.gguf())) is not None:
            return Obstacle(Kind.NOT_FOUND, missing)
        if (why := door.lacks(target, request)) is not None:
            return Obstacle(Kind.UNSUPPORTED, why)
        return None

    def set_aside(self, target: Target, now: float) -> Kind | None:
        """Why the model keeps failing, or None."""
        return self._health.aside(target, now)

    def context_window(self, target: Target) -> int | None:
        """Tokens."""
        return door.context_window(target)

    def cost(self, target: Target, usage: Usage | None) -> Decimal | None:
        """US dollars."""
        return pricing.cost(usage, pricing.price_of(target, door.rows))

    # What it has done

    def perform(self, effect: Effect) -> Any:
        """Perform an effect, synchronously: what goes over the network runs on the background loop."""
        match effect:
            case Call() | Open():
                return self._bounded(self._send(effect), effect.within)
            case Next():
                # What is no text may come for so long, and then nothing.
                return self._bounded(effect.stream.next(effect.within), 2 * effect.within)
            case Close():
                _loop.finish(effect.stream.close())
                return effect.stream.used()
            case Load():
                return self._load()
            case Board():
                return self._flights.board(effect.key, blocking=True)
            case Await():
                return effect.flight.wait(effect.within)
            case Keep():
                return self._keep(effect)
            case Sleep():
                return None if door.stand_in is not None else time.sleep(effect.seconds)
            case _:
                return self._inline(effect)

    async def aperform(self, effect: Effect) -> Any:
        """Perform an effect, asynchronously."""
        match effect:
            case Call() | Open():
                return await self._send(effect)
            case Next():
                return await effect.stream.next(effect.within)
            case Close():
                await effect.stream.close()
                return effect.stream.used()
            case Load():
                return self._opened() if door.loaded() else await asyncio.to_thread(self._load)
            case Board():
                return self._flights.board(effect.key, blocking=False)
            case Await():
                return await effect.flight.await_(effect.within)
            case Keep():
                return await asyncio.to_thread(self._keep, effect)
            case Sleep():
                return None if door.stand_in is not None else await asyncio.sleep(effect.seconds)
            case _:
                return self._inline(effect)

    def _load(self) -> None:
        door.load()
        self._opened()

    def _inline(self, effect: Effect) -> Any:
        """The effects that take microseconds, for both."""
        match effect:
            case Tell():
                return self._tell(effect)
            case Look():
                return self._look(effect)
            case Land():
                return self._flights.land(effect.flight, effect.outcome)
        raise NotImplementedError(effect)

    def _bounded(self, coroutine: Coroutine[Any, Any, Any], within: float) -> Any:
        """What the coroutine brings, which ends by itself when its time is up unless something blocks its loop."""
        try:
            return _loop.run(coroutine, within=within + GRACE)
        except TimeoutError:
            return Failure(Kind.TIMEOUT, f"timeout after {within:.3g} s", raised="TimeoutError")

    async def _send(self, effect: Call | Open) -> Piece | Reply | Failure:
        send = partial(door.aopen, thinking=effect.thinking) if isinstance(effect, Open) else door.asend
        target, within = effect.target, effect.within
        announce(target)
        if not _embedded(target):
            key = environment.secret(target.key_env) if target.key_env is not None else None
            return await send(target, effect.request, key=key, within=within)
        began = time.monotonic()
        try:
            server = await asyncio.to_thread(embedded.endpoint, gguf=environment.gguf(), timeout=within)
        except EmbeddedUnavailable as error:
            return Failure(Kind.NOT_FOUND, str(error))
        served = replace(target, litellm_model=f"openai/{server.model}", api_base=server.api_base, own_address=False)
        left = max(0.0, within - (time.monotonic() - began))
        return await send(served, effect.request, key=server.api_key, within=left)

    def _look(self, effect: Look) -> tuple[str | None, Remembered | None]:
        if (stand_in := door.stand_in) is not None and not stand_in.cache:
            return None, None
        extra = effect.extra
        if effect.target.provider == "embedded":
            extra = f"{environment.gguf()} {extra}"  # other weights, other answers
        key = cache_key(effect.target, effect.request, extra=extra)
        if key is None:
            return None, None
        found = self._cache.read(key, ttl=effect.ttl, now=time.time())
        if found.result == "error":
            self._cache_failed(effect.module)
        return key, found.answer

    def _keep(self, effect: Keep) -> None:
        kept = self._cache.write(
            effect.key, effect.reply, effect.cost_usd, ttl=effect.ttl, module=effect.module, now=time.time()
        )
        if not kept:
            self._cache_failed(effect.module)
        self._counters.flush()

    def _cache_failed(self, module: str) -> None:
        self._metrics.cache(module, "error")
        self._counters.add(module, "error")

    def _tell(self, effect: Tell) -> None:
        record = effect.record
        tracking.feed(effect.module, record)
        match record:
            case Attempt():
                self._metrics.attempt(effect.module, record)
            case CallEnded():
                self._metrics.call(record.module, record.outcome, record.cost_usd)
            case CacheUsed():
                self._metrics.cache(effect.module, record.result)
                self._counters.add(effect.module, record.result, record.saved_usd)
                if record.saved_usd:
                    self._metrics.cache_saved(effect.module, record.saved_usd)
            case ModelLeft():
                self._health.note(record, time.monotonic())
            case FirstToken():
                self._metrics.first_token(record.target, record.seconds)
            case FellOver():
                self._metrics.fell_over(record)
                logger.warning(
                    "llm_fallback module=%s from=%s to=%s reason=%s",
                    record.module,
                    record.from_model,
                    record.to_model,
                    record.reason,
                )
