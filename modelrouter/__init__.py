"""One YAML file decides which model each part of an application calls, what happens when it fails, and what it costs.

::

    import modelrouter

    answer = modelrouter.complete("Analyze this job posting: ...", module="analyzer")
    print(answer, answer.model, answer.cost_usd)

Importing the package does no more than this file shows: each name is loaded when it is first used, and LiteLLM when the
first request is sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for type checkers and editors; at run time __getattr__ does the same, one name at a time
    from .errors import (
        AllModelsFailed,
        BadRequest,
        CallFailed,
        CannotListen,
        ConfigurationError,
        DeadlineExceeded,
        EmbeddedUnavailable,
        InvalidCatalog,
        InvalidEnvironment,
        InvalidRequest,
        MetricsUnavailable,
        MissingKey,
        ModelRouterError,
        ProviderError,
        StreamInterrupted,
        UnknownModel,
        UnknownModule,
    )
    from .metering.server import mark_worker_dead, metrics_app, start_metrics_server
    from .metering.track import Spent, Tracker, track
    from .router.default import get_llm_provider, get_module_provider
    from .router.router import (
        Router,
        acomplete,
        astream,
        complete,
        configure,
        get_router,
        install_callback,
        stream,
        warm_up,
    )
    from .router.streams import AsyncStream, Stream
    from .types import Attempt, Completion, Usage

    __version__: str

__all__ = [
    "AllModelsFailed",
    "AsyncStream",
    "Attempt",
    "BadRequest",
    "CallFailed",
    "CannotListen",
    "Completion",
    "ConfigurationError",
    "DeadlineExceeded",
    "EmbeddedUnavailable",
    "InvalidCatalog",
    "InvalidEnvironment",
    "InvalidRequest",
    "MetricsUnavailable",
    "MissingKey",
    "ModelRouterError",
    "ProviderError",
    "Router",
    "Spent",
    "Stream",
    "StreamInterrupted",
    "Tracker",
    "UnknownModel",
    "UnknownModule",
    "Usage",
    "__version__",
    "acomplete",
    "astream",
    "complete",
    "configure",
    "get_llm_provider",
    "get_module_provider",
    "get_router",
    "install_callback",
    "mark_worker_dead",
    "metrics_app",
    "start_metrics_server",
    "stream",
    "track",
    "warm_up",
]

_HOMES = {
    "AsyncStream": "router.streams",
    "Attempt": "types",
    "Completion": "types",
    "Router": "router.router",
    "Spent": "metering.track",
    "Stream": "router.streams",
    "Tracker": "metering.track",
    "Usage": "types",
    "acomplete": "router.router",
    "astream": "router.router",
    "complete": "router.router",
    "configure": "router.router",
    "get_llm_provider": "router.default",
    "get_module_provider": "router.default",
    "get_router": "router.router",
    "install_callback": "router.router",
    "mark_worker_dead": "metering.server",
    "metrics_app": "metering.server",
    "start_metrics_server": "metering.server",
    "stream": "router.router",
    "track": "metering.track",
    "warm_up": "router.router",
}
"""Where a name of ``__all__`` lives; what is not here is an error."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object
    if name == "__version__":
        from importlib.metadata import version

        value = version(__name__)
    else:
        from importlib import import_module

        value = getattr(import_module(f".{_HOMES.get(name, 'errors')}", __name__), name)
    globals()[name] = value  # so that it is looked up once
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
