"""The call: what a user asks, made into a plan and performed, synchronously or asynchronously."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from . import _litellm as door
from . import _loop, embedded, pricing, settings
from .catalog import Catalog
from .effects import (
    Call,
    Close,
    Effect,
    Load,
    Next,
    Open,
    Plan,
    Sleep,
    Tell,
    adrive,
    drive,
)
from .errors import EmbeddedUnavailable, InvalidRequest
from .health import Health
from .live import LiveCatalog
from .metrics import Metrics
from .plan import Job, Obstacle, plan
from .request import build
from .streams import AsyncStream, Stream
from .types import (
    Attempt,
    CallEnded,
    Completion,
    Environment,
    Failure,
    FellOver,
    FirstToken,
    Kind,
    ModelLeft,
    Piece,
    Reply,
    Request,
    Target,
    Usage,
)

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["Router", "acomplete", "astream", "complete", "configure", "get_router", "stream"]

logger = logging.getLogger("modelrouter")

_announced: set[tuple[str, str]] = set()


def announce(target: Target) -> None:
    """Log once per model and process that it is used: the line that operators look for after a change of
    configuration."""
    if (target.provider, target.label) not in _announced:
        _announced.add((target.provider, target.label))
        logger.info("llm_provider_created provider=%s model=%s", target.provider, target.label)


class _World:
    """What a plan may ask: keys, LiteLLM's tables, prices, which models keep failing."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def obstacle(self, target: Target, request: Request) -> Obstacle | None:
        if (variable := settings.missing_key(target)) is not None:
            return Obstacle(Kind.MISSING_KEY, f"{variable} is not set", variable)
        if target.provider == "embedded" and (missing := embedded.present(gguf=settings.gguf())) is not None:
            return Obstacle(Kind.NOT_FOUND, missing)
        if (why := door.lacks(target, request)) is not None:
            return Obstacle(Kind.UNSUPPORTED, why)
        return None

    def set_aside(self, target: Target, now: float) -> bool:
        return self._health.is_aside(target, now)

    def context_window(self, target: Target) -> int | None:
        return door.context_window(target)

    def cost(self, target: Target, usage: Usage | None) -> Decimal | None:
        return pricing.cost(usage, pricing.price_of(target, door.rows))


class Router:
    """Calls models through a catalog. Safe to use from many threads and many event loops, and after a fork.

    Args:
        catalog: The YAML file; None: `MODELROUTER_CONFIG`, then config/models.yaml in the working directory, then the
        catalog
            that comes with the package.
        settings: The environment to use in place of the process's variables and .env.
        registry: A Prometheus registry of its own, for tests and embedding; None: the process-wide one.
    """

    def __init__(
        self,
        catalog: Path | str | None = None,
        *,
        settings: Environment | None = None,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._metrics = Metrics.of(registry)
        self._health = Health(self._metrics.set_aside)
        self._world = _World(self._health)
        self._live = LiveCatalog(catalog, settings, loaded=self._on_loaded, reloaded=self._metrics.reload)

    @property
    def catalog(self) -> Catalog:
        """The catalog of the moment. Raises `InvalidCatalog` or `InvalidEnvironment` when there has been no good one
        yet."""
        return self._live.current()

    def complete(
        self,
        prompt: str | None = None,
        *,
        module: str | None = None,
        model: str | Sequence[str] | None = None,
        messages: Iterable[Any] | None = None,
        system: str | None = None,
        timeout: float | None = None,
        deadline: float | None = None,
        retries: int | None = None,
        **params: Any,
    ) -> Completion:
        """Ask the module's models in order until one answers.

        Args:
            prompt: The user's message; or else give `messages`, in OpenAI's form.
            module: A module of the catalog; None: ``default``.
            model: A catalog name, an alias, a LiteLLM string, or a list of those in place of the module's chain.
            system: Put before the messages.
            timeout: Seconds for one attempt.
            deadline: Seconds for the whole call, retries and fallbacks included.
            retries: More tries of the same model, for errors that may pass.
            **params: LiteLLM's own (temperature, max_tokens, tools, response_format, ...).

        Raises:
            InvalidRequest, UnknownModule, UnknownModel: before anything is sent.
            AllModelsFailed: with every attempt; `MissingKey` and `DeadlineExceeded` are its special cases.
            BadRequest: a provider says that the request itself is wrong.
        """
        return drive(
            self._plan(prompt, module, model, messages, system, timeout, deadline, retries, params), self._perform
        )

    async def acomplete(
        self,
        prompt: str | None = None,
        *,
        module: str | None = None,
        model: str | Sequence[str] | None = None,
        messages: Iterable[Any] | None = None,
        system: str | None = None,
        timeout: float | None = None,
        deadline: float | None = None,
        retries: int | None = None,
        **params: Any,
    ) -> Completion:
        """`complete` for asynchronous callers: the same arguments, answers and errors."""
        return await adrive(
            self._plan(prompt, module, model, messages, system, timeout, deadline, retries, params), self._aperform
        )

    def stream(
        self,
        prompt: str | None = None,
        *,
        module: str | None = None,
        model: str | Sequence[str] | None = None,
        messages: Iterable[Any] | None = None,
        system: str | None = None,
        timeout: float | None = None,
        deadline: float | None = None,
        retries: int | None = None,
        **params: Any,
    ) -> Stream:
        """`complete`, piece by piece: the same arguments. The next model is asked only before the first piece.

        The deadline holds until the first piece; after it, `timeout` is the longest gap between two of them.
        """
        plan = self._plan(prompt, module, model, messages, system, timeout, deadline, retries, params, stream=True)
        return Stream(plan, self._perform)

    def astream(
        self,
        prompt: str | None = None,
        *,
        module: str | None = None,
        model: str | Sequence[str] | None = None,
        messages: Iterable[Any] | None = None,
        system: str | None = None,
        timeout: float | None = None,
        deadline: float | None = None,
        retries: int | None = None,
        **params: Any,
    ) -> AsyncStream:
        """`stream` for asynchronous callers."""
        plan = self._plan(prompt, module, model, messages, system, timeout, deadline, retries, params, stream=True)
        return AsyncStream(plan, self._aperform)

    def close(self) -> None:
        """Give back what the router holds. It can be used again; nothing is lost."""

    async def aclose(self) -> None:
        """`close` for asynchronous callers."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def _plan(
        self,
        prompt: str | None,
        module: str | None,
        model: str | Sequence[str] | None,
        messages: Iterable[Any] | None,
        system: str | None,
        timeout: float | None,
        deadline: float | None,
        retries: int | None,
        params: dict[str, Any],
        *,
        stream: bool = False,
    ) -> Plan:
        request = build(prompt, messages, system, params)
        resolved = self.catalog.resolve(module, model)
        job = Job(
            module=resolved.module,
            chain=resolved.chain,
            request=request,
            settings=replace(
                resolved.settings,
                deadline=_seconds("deadline", deadline) or resolved.settings.deadline,
                retries=resolved.settings.retries if retries is None else _count("retries", retries),
            ),
            timeout=_seconds("timeout", timeout),
            stream=stream,
        )
        return plan(job, self._world, now=time.monotonic(), random=random.random)

    def _perform(self, effect: Effect) -> Any:
        match effect:
            case Call() | Open():
                return _loop.run(self._send(effect))
            case Next():
                return _loop.run(effect.stream.next(effect.within))
            case Close():
                _loop.finish(effect.stream.close())
                return effect.stream.used()
            case Tell():
                self._tell(effect)
            case Load():
                door.load()
            case Sleep():
                time.sleep(effect.seconds)
        return None

    async def _aperform(self, effect: Effect) -> Any:
        match effect:
            case Call() | Open():
                return await self._send(effect)
            case Next():
                return await effect.stream.next(effect.within)
            case Close():
                await effect.stream.close()
                return effect.stream.used()
            case Tell():
                self._tell(effect)
            case Load():
                if not door.loaded():
                    await asyncio.to_thread(door.load)
            case Sleep():
                await asyncio.sleep(effect.seconds)
        return None

    async def _send(self, effect: Call | Open) -> Piece | Reply | Failure:
        send = door.aopen if isinstance(effect, Open) else door.asend
        target, within = effect.target, effect.within
        announce(target)
        if target.provider != "embedded":
            key = settings.secret(target.key_env) if target.key_env is not None else None
            return await send(target, effect.request, key=key, within=within)
        began = time.monotonic()
        try:
            server = await asyncio.to_thread(embedded.endpoint, gguf=settings.gguf(), timeout=within)
        except EmbeddedUnavailable as error:
            return Failure(Kind.NOT_FOUND, str(error))
        served = replace(target, litellm_model=f"openai/{server.model}", api_base=server.api_base, own_address=False)
        left = max(0.0, within - (time.monotonic() - began))
        return await send(served, effect.request, key=server.api_key, within=left)

    def _tell(self, effect: Tell) -> None:
        record = effect.record
        match record:
            case Attempt():
                self._metrics.attempt(effect.module, record)
            case ModelLeft():
                self._health.note(record, time.monotonic())
            case FirstToken():
                self._metrics.first_token(record.target, record.seconds)
            case CallEnded():
                self._metrics.call(record.module, record.outcome, record.cost_usd)
            case FellOver():
                self._metrics.fell_over(record)
                logger.warning(
                    "llm_fallback module=%s from=%s to=%s reason=%s",
                    record.module,
                    record.from_model,
                    record.to_model,
                    record.reason,
                )

    def _on_loaded(self, catalog: Catalog) -> None:
        self._metrics.seed({name: catalog.resolve(name).chain for name in catalog.modules})


def _seconds(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InvalidRequest(f"{name}= takes a number of seconds above 0, not {value!r}.")
    return float(value)


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidRequest(f"{name}= takes a whole number from 0, not {value!r}.")
    return value


_lock = threading.Lock()
_default: Router | None = None


def get_router() -> Router:
    """The router behind `modelrouter.complete` and its siblings: one per process, made at first use."""
    global _default
    if _default is None:
        with _lock:
            if _default is None:
                _default = Router()
    return _default


def configure(
    catalog: Path | str | None = None,
    *,
    settings: Environment | None = None,
    registry: CollectorRegistry | None = None,
) -> Router:
    """Replace the process's router; the arguments are `Router`'s. The catalog is read now, so that a mistake shows
    here."""
    global _default
    router = Router(catalog, settings=settings, registry=registry)
    router.catalog  # noqa: B018
    _default = router
    return router


def complete(prompt: str | None = None, **arguments: Any) -> Completion:
    """`Router.complete` on the process's router."""
    return get_router().complete(prompt, **arguments)


async def acomplete(prompt: str | None = None, **arguments: Any) -> Completion:
    """`Router.acomplete` on the process's router."""
    return await get_router().acomplete(prompt, **arguments)


def stream(prompt: str | None = None, **arguments: Any) -> Stream:
    """`Router.stream` on the process's router."""
    return get_router().stream(prompt, **arguments)


def astream(prompt: str | None = None, **arguments: Any) -> AsyncStream:
    """`Router.astream` on the process's router."""
    return get_router().astream(prompt, **arguments)
