"""The call: what a user asks, made into a plan and performed, synchronously or asynchronously, whole or as a stream."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self

from modelrouter import callback, environment
from modelrouter.catalog.catalog import Catalog
from modelrouter.catalog.gates import imported
from modelrouter.catalog.live import LiveCatalog
from modelrouter.catalog.overrides import Environment
from modelrouter.catalog.target import ModuleSettings
from modelrouter.completion import Completion, Parsed
from modelrouter.hints import hinting
from modelrouter.metering.metrics import Metrics
from modelrouter.planning.arguments import Arguments, request_from
from modelrouter.planning.call import Call
from modelrouter.planning.drivers import adrive, drive
from modelrouter.planning.effects import Plan
from modelrouter.planning.plan import plan
from modelrouter.planning.splitting import ordered
from modelrouter.store.store import Store

from .performer import Performer
from .signature import (
    Accept,
    Caching,
    Choice,
    Count,
    Format,
    Messages,
    Models,
    Number,
    Seconds,
    Stop,
    Text,
    Tools,
    plus,
)
from .streams import AsyncStream, Stream

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


class Router:
    """Calls models through a catalog. Safe to use from many threads and many event loops, and after a fork.

    Args:
        catalog: The YAML file; None: `MODELROUTER_CONFIG`, then config/models.yaml in the working directory, then the
            catalog that comes with the package.
        settings: The environment to use in place of the process's variables and .env.
        store: Where answers and counts are kept; None: in the Redis of MODELROUTER_STORE, else on disk, in
            MODELROUTER_STATE_DIR or the user's cache directory.
        registry: A Prometheus registry of its own, for tests and embedding; None: the process-wide one.
    """

    @hinting
    def __init__(
        self,
        catalog: Path | str | None = None,
        *,
        settings: Environment | None = None,
        store: Store | None = None,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self.metrics = Metrics.of(registry)
        self._shared = registry is None
        self.performer = Performer(self.metrics, store, opened=self._opened)
        self._live = LiveCatalog(catalog, settings, loaded=self._on_loaded, reloaded=self.metrics.reload)

    @property
    def catalog(self) -> Catalog:
        """The catalog of the moment. Raises `InvalidCatalog` or `InvalidEnvironment` when there has been no good one
        yet."""
        return self._live.current()

    # fmt: off
    def complete(self, prompt: Text = None, *, module: Text = None, model: Models = None,
        messages: Messages = None, system: Text = None, cache: Caching = None, cache_key: Text = None,
        timeout: Seconds = None, deadline: Seconds = None, retries: Count = None, temperature: Number = None,
        max_tokens: Count = None, response_format: Format[Parsed] = None, reasoning_effort: Text = None,
        tools: Tools = None, seed: Count = None, stop: Stop = None, tool_choice: Choice = None,
        accept: Accept = None, **params: Any,
    ) -> Completion[Parsed]:
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
            response_format: A pydantic model, of which ``answer.parsed`` is an object then; or a mapping, as OpenAI's.
            accept: A function that is given the answer and says True; or False or a reason, and the next model is
                asked. None: the module's; False: none.
            **params: LiteLLM's own (temperature, max_tokens, tools, top_p, ...).

        Raises:
            InvalidRequest, UnknownModule, UnknownModel: before anything is sent.
            AllModelsFailed: with every attempt; `MissingKey` and `DeadlineExceeded` are its special cases.
            BadRequest: a provider says that the request itself is wrong.
        """
        given = plus(params, response_format, temperature, max_tokens, tools, tool_choice, stop, seed, reasoning_effort)
        asked = Arguments(prompt, module, model, messages, system, cache, cache_key, timeout, deadline, retries, given,
            accept=accept)
        return drive(self.plan(asked), self.performer.performing(module))

    async def acomplete(self, prompt: Text = None, *, module: Text = None, model: Models = None,
        messages: Messages = None, system: Text = None, cache: Caching = None, cache_key: Text = None,
        timeout: Seconds = None, deadline: Seconds = None, retries: Count = None, temperature: Number = None,
        max_tokens: Count = None, response_format: Format[Parsed] = None, reasoning_effort: Text = None,
        tools: Tools = None, seed: Count = None, stop: Stop = None, tool_choice: Choice = None,
        accept: Accept = None, **params: Any,
    ) -> Completion[Parsed]:
        """`complete` for asynchronous callers: the same arguments, answers and errors."""
        given = plus(params, response_format, temperature, max_tokens, tools, tool_choice, stop, seed, reasoning_effort)
        asked = Arguments(prompt, module, model, messages, system, cache, cache_key, timeout, deadline, retries, given,
            accept=accept)
        await self._live.begun()
        return await adrive(self.plan(asked), self.performer.aperforming(module))

    def stream(self, prompt: Text = None, *, module: Text = None, model: Models = None,
        messages: Messages = None, system: Text = None, cache: Caching = None, cache_key: Text = None,
        timeout: Seconds = None, deadline: Seconds = None, retries: Count = None, temperature: Number = None,
        max_tokens: Count = None, response_format: Format[Parsed] = None, reasoning_effort: Text = None,
        tools: Tools = None, seed: Count = None, stop: Stop = None, tool_choice: Choice = None,
        accept: Accept = None, **params: Any,
    ) -> Stream[Parsed]:
        """`complete`, piece by piece: the same arguments. The next model is asked only before the first piece.

        The deadline holds until the first piece; after it, `timeout` is how long nothing may come, be
        it text, reasoning or part of a tool call.
        """
        given = plus(params, response_format, temperature, max_tokens, tools, tool_choice, stop, seed, reasoning_effort)
        asked = Arguments(prompt, module, model, messages, system, cache, cache_key, timeout, deadline, retries, given,
            accept=accept)
        return Stream(self.plan(asked, stream=True), self.performer.performing(module))

    def astream(self, prompt: Text = None, *, module: Text = None, model: Models = None,
        messages: Messages = None, system: Text = None, cache: Caching = None, cache_key: Text = None,
        timeout: Seconds = None, deadline: Seconds = None, retries: Count = None, temperature: Number = None,
        max_tokens: Count = None, response_format: Format[Parsed] = None, reasoning_effort: Text = None,
        tools: Tools = None, seed: Count = None, stop: Stop = None, tool_choice: Choice = None,
        accept: Accept = None, **params: Any,
    ) -> AsyncStream[Parsed]:
        """`stream` for asynchronous callers."""
        given = plus(params, response_format, temperature, max_tokens, tools, tool_choice, stop, seed, reasoning_effort)
        asked = Arguments(prompt, module, model, messages, system, cache, cache_key, timeout, deadline, retries, given,
            accept=accept)
        return AsyncStream(self.plan(asked, stream=True), self.performer.aperforming(module))

    # fmt: on
    def plan(self, arguments: Arguments, *, stream: bool = False, thinking: bool = False) -> Plan:
        """What `complete` has performed, and with `stream` what `stream` has, of arguments that are put together. With
        `thinking` a model's reasoning is handed on, too, as pieces of type `Thinking`; the next model is asked only
        before the first of either. A remembered text is `Recalled` then."""
        request = request_from(arguments)
        resolved = self.catalog.resolve(arguments.module, arguments.model)
        settings = resolved.settings
        chain = resolved.chain
        if resolved.split:
            user = request.params.get("user")
            draw = None if user is None else str(user)
            chain = ordered(chain, resolved.split, random.random, module=resolved.module, user=draw)
        call = Call(
            module=resolved.module,
            chain=chain,
            request=request,
            settings=_limits(settings, arguments),
            budgets=resolved.budgets,
            timeout=arguments.timeout,
            stream=stream,
            thinking=thinking,
            gate=_gate(arguments.accept, settings),
            cache=_cache_mode(arguments.cache, settings),
            cache_extra=arguments.cache_key,
        )
        return plan(call, self.performer, now=time.monotonic(), random=random.random)

    def warm_up(self, *, background: bool = False) -> None:
        """Do now what the first call would have to wait for: read the catalog, import LiteLLM (seconds), make a client.

        Nothing is sent. Call it when a server starts, before it takes requests. With `background` it goes on in a
        thread meanwhile, which takes a half of the process's time while it lasts and is waited for at exit.
        """
        self.catalog  # noqa: B018 - a mistake shows here
        if background:
            threading.Thread(target=self.performer.warm_up, name="modelrouter-warm-up").start()
        else:
            self.performer.warm_up()

    def close(self) -> None:
        """Close the store of remembered answers. The router can be used again; it is opened anew."""
        self.performer.close()

    async def aclose(self) -> None:
        """`close` for asynchronous callers."""
        await asyncio.to_thread(self.close)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Router cannot be copied or pickled; make one in each process, or use modelrouter.complete")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def _opened(self) -> None:
        # Other code's calls to LiteLLM are metered too, but not into a registry that is somebody's own.
        if self._shared:
            callback.install(lambda: self.catalog, self.metrics)

    def _on_loaded(self, catalog: Catalog) -> None:
        if environment.value(environment.STORE) is not None:
            self.performer.store  # noqa: B018 - an address that is none shows before anything is sent
        resolved = {name: catalog.resolve(name) for name in catalog.modules}
        budgets = {budget for each in resolved.values() for budget in each.budgets}
        self.metrics.seed({name: each.chain for name, each in resolved.items()}, budgets)


def _limits(settings: ModuleSettings, arguments: Arguments) -> ModuleSettings:
    if arguments.deadline is None and arguments.retries is None:
        return settings
    deadline = settings.deadline if arguments.deadline is None else arguments.deadline
    retries = settings.retries if arguments.retries is None else arguments.retries
    return replace(settings, deadline=deadline, retries=retries)


def _gate(said: Any, settings: ModuleSettings) -> Callable[[Completion[Any]], Any] | None:
    """What an answer has to pass: the call's own gate, or the module's."""
    if said is None and settings.accept is not None:
        return imported(settings.accept)
    return said or None


def _cache_mode(asked: bool | str | None, settings: ModuleSettings) -> Literal["use", "refresh", "off"]:
    if asked == "refresh":
        return "refresh"
    return "use" if (settings.cache if asked is None else asked) else "off"
