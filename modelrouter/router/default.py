"""The process's own router, behind `modelrouter.complete` and its siblings, and the guide's own names as handles on it:
what ``from app.llm import get_llm_provider`` was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelrouter import callback
from modelrouter.catalog.overrides import Environment
from modelrouter.completion import Completion
from modelrouter.hints import hinting
from modelrouter.process.forks import process_lock
from modelrouter.store.store import Store

from .performer import announce
from .router import Router
from .streams import AsyncStream, Stream

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_lock = process_lock()
_default: Router | None = None


def get_router() -> Router:
    """The router behind `modelrouter.complete` and its siblings: one per process, made at first use."""
    global _default
    if _default is None:
        with _lock:
            if _default is None:
                _default = Router()
    return _default


@hinting
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


if TYPE_CHECKING:  # what editors and type checkers show of them: the parameters, and `Completion[Score].parsed`
    _hidden = Router()
    complete, acomplete, stream, astream = _hidden.complete, _hidden.acomplete, _hidden.stream, _hidden.astream
else:

    def complete(prompt: str | None = None, **arguments: Any) -> Completion[Any]:
        """`Router.complete` on the process's router."""
        return get_router().complete(prompt, **arguments)

    async def acomplete(prompt: str | None = None, **arguments: Any) -> Completion[Any]:
        """`Router.acomplete` on the process's router."""
        return await get_router().acomplete(prompt, **arguments)

    def stream(prompt: str | None = None, **arguments: Any) -> Stream[Any]:
        """`Router.stream` on the process's router."""
        return get_router().stream(prompt, **arguments)

    def astream(prompt: str | None = None, **arguments: Any) -> AsyncStream[Any]:
        """`Router.astream` on the process's router."""
        return get_router().astream(prompt, **arguments)


def install_callback() -> None:
    """Meter what other code in this process asks LiteLLM directly, with the catalog and the metrics of the process's
    router. Loads LiteLLM. A router on the process's metrics does it with its first request; by hand it is for processes
    that call no model through modelrouter, and for after other code has emptied ``litellm.callbacks``. What LiteLLM
    does not deliver is listed in `modelrouter.callback`."""
    router = get_router()
    callback.install(lambda: get_router().catalog, router.metrics)


def warm_up(*, background: bool = False) -> None:
    """`Router.warm_up` on the process's router."""
    get_router().warm_up(background=background)


# -- the guide's handles


@dataclass(frozen=True)
class Provider:
    """A module, or a pinned model, to ask again and again. Asynchronous, as in the guide."""

    module: str | None = None
    model: str | None = None

    if TYPE_CHECKING:
        complete, stream = _hidden.acomplete, _hidden.astream
    else:

        async def complete(self, prompt: str | None = None, **arguments: Any) -> Completion[Any]:
            """`Router.acomplete` with this module and model; the arguments of the call go before them."""
            return await get_router().acomplete(prompt, **self._with(arguments))

        def stream(self, prompt: str | None = None, **arguments: Any) -> AsyncStream[Any]:
            """`Router.astream` with this module and model."""
            return get_router().astream(prompt, **self._with(arguments))

        def _with(self, arguments: dict[str, Any]) -> dict[str, Any]:
            return {"module": self.module, "model": self.model} | arguments


@hinting
def get_llm_provider(provider_type: str | None = None, model: str | None = None) -> Provider:
    """The default chain; or one provider and model: ``("openai", "gpt-4")``, ``("ollama", "mymodel")``,
    ``("openai",)``.

    Raises:
        UnknownModel: no such provider, or no model can be made out.
    """
    catalog = get_router().catalog
    pinned = catalog.provider_model(provider_type, model) if provider_type or model else None
    announce(catalog.resolve(None, pinned).chain[0])
    return Provider(model=pinned)


@hinting
def get_module_provider(module: str) -> Provider:
    """What ``complete(module=...)`` calls, as a handle. Raises `UnknownModule` here, not at the first call."""
    announce(get_router().catalog.resolve(module).chain[0])
    return Provider(module=module)
