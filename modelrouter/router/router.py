"""The call: what a user asks, made into a plan and performed, synchronously or asynchronously, whole or as a stream."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from modelrouter import callback
from modelrouter.catalog.catalog import Catalog
from modelrouter.catalog.live import LiveCatalog
from modelrouter.metering.metrics import Metrics
from modelrouter.planning.arguments import Ask, build
from modelrouter.planning.effects import Plan, adrive, drive
from modelrouter.planning.plan import Job, plan
from modelrouter.process.forks import ProcessLock
from modelrouter.store.disk import Store
from modelrouter.types import Completion, Environment, ModuleSettings

from .performer import Performer
from .streams import AsyncStream, Stream

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = [
    "Router",
    "acomplete",
    "astream",
    "complete",
    "configure",
    "get_router",
    "install_callback",
    "stream",
    "warm_up",
]


class Router:
    """Calls models through a catalog. Safe to use from many threads and many event loops, and after a fork.

    Args:
        catalog: The YAML file; None: `MODELROUTER_CONFIG`, then config/models.yaml in the working directory, then the
        catalog
            that comes with the package.
        settings: The environment to use in place of the process's variables and .env.
        store: Where answers are remembered; None: on disk, in MODELROUTER_STATE_DIR or the user's cache directory.
        registry: A Prometheus registry of its own, for tests and embedding; None: the process-wide one.
    """

    def __init__(
        self,
        catalog: Path | str | None = None,
        *,
        settings: Environment | None = None,
        store: Store | None = None,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._metrics = Metrics.of(registry)
        self._shared = registry is None
        self._performer = Performer(self._metrics, store, opened=self._opened)
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
        cache: bool | Literal["refresh"] | None = None,
        cache_key: str | None = None,
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
            cache: False: neither look for a remembered answer nor keep one; "refresh": ask, and keep the answer in
                place of a remembered one; None: as the module says.
            cache_key: Added to what answers are remembered by, for callers that want several answers to a request.
            timeout: Seconds for one attempt.
            deadline: Seconds for the whole call, retries and fallbacks included.
            retries: More tries of the same model, for errors that may pass.
            **params: LiteLLM's own (temperature, max_tokens, tools, response_format, ...).

        Raises:
            InvalidRequest, UnknownModule, UnknownModel: before anything is sent.
            AllModelsFailed: with every attempt; `MissingKey` and `DeadlineExceeded` are its special cases.
            BadRequest: a provider says that the request itself is wrong.
        """
        ask = Ask(prompt, module, model, messages, system, cache, cache_key, timeout, deadline, retries, params)
        return self.complete_of(ask)

    async def acomplete(
        self,
        prompt: str | None = None,
        *,
        module: str | None = None,
        model: str | Sequence[str] | None = None,
        messages: Iterable[Any] | None = None,
        system: str | None = None,
        cache: bool | Literal["refresh"] | None = None,
        cache_key: str | None = None,
        timeout: float | None = None,
        deadline: float | None = None,
        retries: int | None = None,
        **params: Any,
    ) -> Completion:
        """`complete` for asynchronous callers: the same arguments, answers and errors."""
        ask = Ask(prompt, module, model, messages, system, cache, cache_key, timeout, deadline, retries, params)
        return await self.acomplete_of(ask)

    def stream(
        self,
        prompt: str | None = None,
        *,
        module: str | None = None,
        model: str | Sequence[str] | None = None,
        messages: Iterable[Any] | None = None,
        system: str | None = None,
        cache: bool | Literal["refresh"] | None = None,
        cache_key: str | None = None,
        timeout: float | None = None,
        deadline: float | None = None,
        retries: int | None = None,
        **params: Any,
    ) -> Stream:
        """`complete`, piece by piece: the same arguments. The next model is asked only before the first piece.

        The deadline holds until the first piece; after it, `timeout` is how long nothing may come, be
        it text, reasoning or part of a tool call.
        """
        ask = Ask(prompt, module, model, messages, system, cache, cache_key, timeout, deadline, retries, params)
        return self.stream_of(ask)

    def astream(
        self,
        prompt: str | None = None,
        *,
        module: str | None = None,
        model: str | Sequence[str] | None = None,
        messages: Iterable[Any] | None = None,
        system: str | None = None,
        cache: bool | Literal["refresh"] | None = None,
        cache_key: str | None = None,
        timeout: float | None = None,
        deadline: float | None = None,
        retries: int | None = None,
        **params: Any,
    ) -> AsyncStream:
        """`stream` for asynchronous callers."""
        ask = Ask(prompt, module, model, messages, system, cache, cache_key, timeout, deadline, retries, params)
        return self.astream_of(ask)

    def complete_of(self, ask: Ask) -> Completion:
        """`complete`, of arguments that are put together."""
        return drive(self._plan(ask), self._performer.perform)

    async def acomplete_of(self, ask: Ask) -> Completion:
        """`complete_of` for asynchronous callers."""
        return await adrive(self._plan(ask), self._performer.aperform)

    def stream_of(self, ask: Ask, *, thinking: bool = False) -> Stream:
        """`stream`, of arguments that are put together. With `thinking` the model's reasoning is handed on, too, as
        pieces of type `Thinking`; the next model is asked only before the first of either."""
        return Stream(self._plan(ask, stream=True, thinking=thinking), self._performer.perform)

    def astream_of(self, ask: Ask, *, thinking: bool = False) -> AsyncStream:
        """`stream_of` for asynchronous callers."""
        return AsyncStream(self._plan(ask, stream=True, thinking=thinking), self._performer.aperform)

    def warm_up(self, *, background: bool = False) -> None:
        """Do now what the first call would have to wait for: read the catalog, import LiteLLM (seconds), make a client.

        Nothing is sent. Call it when a server starts, before it takes requests. With `background` it goes on in a
        thread meanwhile, which takes a half of the process's time while it lasts and is waited for at exit.
        """
        self.catalog  # noqa: B018 - a mistake shows here
        if background:
            threading.Thread(target=self._performer.warm_up, name="modelrouter-warm-up").start()
        else:
            self._performer.warm_up()

    def close(self) -> None:
        """Close the store of remembered answers. The router can be used again; it is opened anew."""
        self._performer.close()

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

    def _plan(self, ask: Ask, *, stream: bool = False, thinking: bool = False) -> Plan:
        request = build(ask)
        resolved = self.catalog.resolve(ask.module, ask.model)
        settings = resolved.settings
        job = Job(
            module=resolved.module,
            chain=resolved.chain,
            request=request,
            settings=_limits(settings, ask),
            timeout=ask.timeout,
            stream=stream,
            thinking=thinking,
            cache=_cache_mode(ask.cache, settings),
            cache_extra=ask.cache_key,
        )
        return plan(job, self._performer, now=time.monotonic(), random=random.random)

    def _opened(self) -> None:
        # Other code's calls to LiteLLM are metered too, but not into a registry that is somebody's own.
        if self._shared:
            callback.install(lambda: self.catalog, self._metrics)

    def _on_loaded(self, catalog: Catalog) -> None:
        self._metrics.seed({name: catalog.resolve(name).chain for name in catalog.modules})


def _limits(settings: ModuleSettings, ask: Ask) -> ModuleSettings:
    if ask.deadline is None and ask.retries is None:
        return settings
    return replace(
        settings,
        deadline=settings.deadline if ask.deadline is None else ask.deadline,
        retries=settings.retries if ask.retries is None else ask.retries,
    )


def _cache_mode(asked: bool | str | None, settings: ModuleSettings) -> Literal["use", "refresh", "off"]:
    if asked == "refresh":
        return "refresh"
    return "use" if (settings.cache if asked is None else asked) else "off"


_lock = ProcessLock()
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
    store: Store | None = None,
    registry: CollectorRegistry | None = None,
) -> Router:
    """Replace the process's router; the arguments are `Router`'s. The catalog is read now, so that a mistake shows
    here."""
    global _default
    router = Router(catalog, settings=settings, store=store, registry=registry)
    router.catalog  # noqa: B018
    replaced, _default = _default, router
    if replaced is not None:
        replaced.close()  # what its counters have is written; calls that still use it open the store again
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


def install_callback() -> None:
    """Meter what other code in this process asks LiteLLM directly, with the catalog and the metrics of the process's
    router. Loads LiteLLM. A router on the process's metrics does it with its first request; by hand it is for processes
    that call no model through modelrouter, and for after other code has emptied ``litellm.callbacks``. What LiteLLM
    does not deliver is listed in `modelrouter.callback`."""
    router = get_router()
    callback.install(lambda: get_router().catalog, router._metrics)


def warm_up(*, background: bool = False) -> None:
    """`Router.warm_up` on the process's router."""
    get_router().warm_up(background=background)
