"""One YAML file decides which model each part of an application calls, what happens when it fails, and what it costs.

::

    import modelrouter

    answer = modelrouter.complete("Analyze this job posting: ...", module="analyzer")
    print(answer, answer.model, answer.cost_usd)

Importing the package does no more than this file shows: each name is loaded when it is first used, and LiteLLM when the
first request is sent.

The house, from the ground up; each room takes only from those above it in this list:

- `completion` is what a call gives, `errors` what it raises, `parameters` what it takes; `redaction` knows what looks
  like a secret, `hints` what was meant by a wrong name, `environment` the variables and .env; `process` has forks and
  event loops.
- `store`: JSON values, and books of counters, that outlive a process. `embedded`: the small model on this machine.
- `catalog`: models.yaml and the environment, made into whom a module calls. Providers are rows in `known_providers`.
- `export`: the catalog as other programs read it. `planning`: one call decided, and nothing performed. Start
  at `plan`.
- `backend`: asking a model, through LiteLLM; `backend.insides` is what leans on what LiteLLM does not promise.
  `cache`: answers that were paid for. `metering`: every event of a call, told to metrics, `track`, spend and traces.
- `callback`: calls that other code makes to LiteLLM, metered.
- `router`: decisions performed; the process's own router.
- `dspy`: DSPy programs on the catalog, and the guide's pipeline. `testing`: a script in a provider's place.
  `comparing`: the same asked of several models, and how they differ. (Not `compare`: that is a function here.)
- `cli`: the command line.
"""

from __future__ import annotations

# Cannot be imported any more while the interpreter ends, and a first call may come then: from an exit handler.
import concurrent.futures.thread as _  # noqa: F401
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for type checkers and editors; at run time __getattr__ does the same, one name at a time
    from .comparing.compare import acompare as acompare
    from .comparing.compare import compare as compare
    from .completion import Attempt as Attempt
    from .completion import Completion as Completion
    from .completion import Usage as Usage
    from .errors import *  # noqa: F403 - its __all__ is the names below
    from .metering.server import mark_worker_dead as mark_worker_dead
    from .metering.server import metrics_app as metrics_app
    from .metering.server import start_metrics_server as start_metrics_server
    from .metering.track import Spent as Spent
    from .metering.track import Tracker as Tracker
    from .metering.track import track as track
    from .router.default import acomplete as acomplete
    from .router.default import astream as astream
    from .router.default import complete as complete
    from .router.default import configure as configure
    from .router.default import get_llm_provider as get_llm_provider
    from .router.default import get_module_provider as get_module_provider
    from .router.default import get_router as get_router
    from .router.default import install_callback as install_callback
    from .router.default import stream as stream
    from .router.default import warm_up as warm_up
    from .router.router import Router as Router
    from .router.streams import AsyncStream as AsyncStream
    from .router.streams import Stream as Stream

    __version__: str

_NAMES = {
    "comparing.compare": "acompare compare",
    "completion": "Attempt Completion Usage",
    "errors": (
        "AllModelsFailed BadRequest BudgetExceeded CallFailed CannotListen CannotSend ConfigurationError "
        "DeadlineExceeded EmbeddedUnavailable InvalidCatalog InvalidEnvironment InvalidRequest MetricsUnavailable "
        "MissingKey ModelRouterError ProviderError StreamInterrupted UnknownModel UnknownModule"
    ),
    "metering.server": "mark_worker_dead metrics_app start_metrics_server",
    "metering.track": "Spent Tracker track",
    "router.default": (
        "acomplete astream complete configure get_llm_provider get_module_provider get_router install_callback stream "
        "warm_up"
    ),
    "router.router": "Router",
    "router.streams": "AsyncStream Stream",
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}

__all__ = sorted([*_HOMES, "__version__"])  # noqa: PLE0605 - said once


def __getattr__(name: str) -> object:
    value: object
    if name == "__version__":
        from importlib.metadata import version

        value = version(__name__)
    elif (home := _HOMES.get(name)) is not None:
        from importlib import import_module

        value = getattr(import_module(f".{home}", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value  # so that it is looked up once
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
