"""Metering for what other code in this process asks LiteLLM: `litellm.completion`, `litellm.Router`, `dspy.LM` with its
LiteLLM engine.

The calls are put into the same series as modelrouter's own, with the same labels and the catalog's prices. Those of
modelrouter itself, which are metered where they are made, are known by their ids and passed over.

These figures are as good as what LiteLLM delivers, and that is less than what modelrouter keeps of its own calls (seen
with 1.106.2):

- Events come after the call has returned, from a thread (synchronous) or a queue on the event loop (asynchronous). What
  is still in the queue when the loop or the process ends is lost: 451 to 498 of 500 arrived.
- A stream that is closed early, and a task that is cancelled, bring none, whatever they cost.
- With ``num_retries=`` there is one event for all the tries of `litellm.completion`; `litellm.Router` brings one each.
- A stream without ``stream_options={"include_usage": True}`` has LiteLLM's estimate of the tokens, or none: its cost is
  then unknown.
- Embeddings, pictures, sound and OpenAI's Responses API are not metered: their prices are not those of a chat.
- There is no module, so the series by module stay as they are.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from .backend import tables
from .backend.arguments import OWN_CALLS
from .backend.counting import usage_of
from .backend.current import LITELLM, current
from .backend.failures import classify
from .catalog.catalog import Catalog
from .catalog.known_providers import known
from .catalog.prices import cost
from .catalog.target import Target
from .errors import ConfigurationError
from .metering.metrics import Metrics
from .planning.events import Event, FirstToken
from .process.forks import process_lock

__all__ = ["Hooks", "install"]

_METERED = frozenset(("completion", "acompletion", "text_completion", "atext_completion", "anthropic_messages"))
"""What LiteLLM calls the functions whose answers are billed as a chat's are."""


class Hooks:
    """What LiteLLM's `CustomLogger` calls, by these names and with these arguments."""

    meters_for_modelrouter = True
    """The backend knows it by this: it needs to hear nothing of our own calls."""

    catalog: Callable[[], Catalog]
    metrics: Metrics

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        for event in self._events(kwargs, response_obj, start_time, end_time):
            self.metrics.hear("(LiteLLM)", event)

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self.log_success_event(kwargs, None, start_time, end_time)

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self.log_success_event(kwargs, response_obj, start_time, end_time)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self.log_success_event(kwargs, None, start_time, end_time)

    def _events(self, call: Mapping[str, Any], response: Any, began: Any, ended: Any) -> Iterator[Event]:
        """What is to be metered of one call; `response` is None for one that failed."""
        provider = call.get("custom_llm_provider")
        if (
            not provider  # it failed before LiteLLM knew whom to ask
            or call.get("call_type") not in _METERED
            or call.get("cache_hit")
            or str(call.get("litellm_call_id")).startswith(OWN_CALLS)
        ):
            return
        catalog: Catalog | None = None
        with suppress(ConfigurationError):  # whoever calls modelrouter is told; here there are LiteLLM's prices left
            catalog = self.catalog()
        address = (call.get("litellm_params") or {}).get("api_base") or ""
        target = _target(catalog, provider, str(call.get("model")), address)
        latency = _seconds(began, ended)
        if response is None:
            error = call.get("exception")
            failure = classify(error if isinstance(error, BaseException) else Exception(), target, ())
            yield target.attempt("error", latency_s=latency, error_kind=failure.kind)
            return
        usage = usage_of(getattr(response, "usage", None))
        yield target.attempt("ok", latency_s=latency, usage=usage, cost_usd=cost(usage, tables.price(target)))
        first = call.get("completion_start_time")
        if call.get("stream") and first is not None:
            yield FirstToken(target, _seconds(began, first))


@lru_cache(maxsize=1024)
def _target(catalog: Catalog | None, provider: str, model: str, address: str) -> Target:
    """The catalog's model that was called, by its LiteLLM string and its address; else one that it does not list."""
    model = model.removeprefix(f"{provider}/")
    row = known(provider)
    string = f"{row.string}/{model}"
    host = urlsplit(address).hostname
    at_home = host is None or host == (row.host or host)
    for target in catalog.models.values() if catalog is not None else ():
        # LiteLLM's address has the interface's path behind that of the catalog.
        there = at_home if target.own_address else address.startswith(target.api_base or address)
        if target.litellm_model == string and there:
            return target
    return Target(string, string, row.name, listed=False, own_address=at_home)


def _seconds(began: Any, ended: Any) -> float:
    if isinstance(began, datetime.datetime) and isinstance(ended, datetime.datetime):
        return max(0.0, (ended - began).total_seconds())
    return 0.0


_lock = process_lock()
_installed: Any = None


def install(catalog: Callable[[], Catalog], metrics: Metrics) -> None:
    """Register the callback with LiteLLM, which is loaded for it. There is one per process: again, it gets the catalog
    and the metrics of this time, and a place in ``litellm.callbacks`` again if other code has emptied that."""
    global _installed
    if current() is not LITELLM:
        return
    LITELLM.load()
    import litellm
    from litellm.integrations.custom_logger import CustomLogger

    with _lock:
        if _installed is None:
            _installed = type("ModelRouterCallback", (Hooks, CustomLogger), {})()
        _installed.catalog, _installed.metrics = catalog, metrics
        if _installed not in litellm.callbacks:
            litellm.callbacks.append(_installed)
