"""What Prometheus sees: all series that modelrouter has.

Metering is inline, in the thread or task of the call, and takes microseconds: LiteLLM's own callbacks come late or not
at all. No method that meters raises into a call.
"""

from __future__ import annotations

import functools
import logging
import os
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Concatenate, ParamSpec, get_args

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from modelrouter.catalog.target import Budget, Target
from modelrouter.completion import Attempt, Kind, Usage
from modelrouter.errors import MetricsUnavailable
from modelrouter.planning.events import (
    BudgetSeen,
    CacheResult,
    CacheUsed,
    CallEnded,
    CallOutcome,
    Event,
    FellOver,
    FirstToken,
)
from modelrouter.process.forks import held_lock

from . import traces
from .series import BudgetSeries, ModelSeries, ModuleSeries, Status

BUCKETS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 90.0, 120.0)
"""Seconds. 30 and 90 are among them as the usual timeout of an attempt and deadline of a call."""

OWN_LABELS = 100
"""So many models that the catalog does not list get labels of their own in a process; the rest share `OTHER`."""
OTHER = "other"

_TOKEN_TYPES = ("input", "output", "cache_read", "cache_write", "reasoning")
_ERROR_TYPES = tuple(kind for kind in Kind if kind not in (Kind.CANCELLED, Kind.BUDGET))
_FALLBACK_REASONS = tuple(kind for kind in _ERROR_TYPES if kind is not Kind.BAD_REQUEST)  # which is raised instead

_logger = logging.getLogger("modelrouter")

# Held while anything is metered: a child that inherits a series' lock in the locked state could never meter again.
_lock = held_lock()

_P = ParamSpec("_P")


def multiprocess() -> str | None:
    """The variable that has put prometheus_client into multiprocess mode, or None. Any value does, even none."""
    names = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")
    return next((name for name in names if name in os.environ), None)


def _harmless(method: Callable[Concatenate[Metrics, _P], None]) -> Callable[Concatenate[Metrics, _P], None]:
    """A failure to meter, such as a full disk in multiprocess mode, is logged once and the call goes on."""
    name = method.__name__
    logged = False

    @functools.wraps(method)
    def metered(self: Metrics, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        nonlocal logged
        try:
            with _lock:
                method(self, *args, **kwargs)
        except Exception:
            if not logged:
                logged = True
                _logger.exception("metering_failed what=%s: calls go on, the metrics are incomplete", name)

    return metered


class Metrics:
    """The series on one registry, made through `Metrics.of`, which gives all routers on a registry the same ones.

    Labels: `provider` is the provider's name, `model` is LiteLLM's name without its provider, and those of fallbacks
    are the catalog's names.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, about: str, *labels: str) -> Counter:  # prometheus_client appends _total
            return Counter(name, about, labels, registry=None)

        def histogram(name: str, about: str, *labels: str) -> Histogram:
            return Histogram(name, about, labels, registry=None, buckets=BUCKETS)

        def gauge(name: str, about: str, *labels: str) -> Gauge:  # of what all processes share
            return Gauge(name, about, labels, registry=None, multiprocess_mode="livemostrecent")

        model = ("provider", "model")
        self._requests = counter("llm_provider_requests", "Requests that were sent to a provider.", *model, "status")
        self._latency = histogram("llm_provider_latency_seconds", "Time from a request to its answer or error.", *model)
        self._first_token = histogram(
            "llm_time_to_first_token_seconds", "Time from a request to the first piece of its stream.", *model
        )
        self._tokens = counter("llm_tokens_used", "Tokens, as the provider counted them.", *model, "type")
        self._cost = counter("llm_cost_usd", "US dollars for all answers, those turned down included.", *model)
        self._cost_unknown = counter("llm_cost_unknown", "Answers whose cost is not known and left out.", *model)
        self._errors = counter("llm_errors", "Requests that brought no usable answer.", "provider", "error_type")
        self._set_aside = Gauge(
            "llm_model_set_aside",
            "1 while a model that keeps failing is asked last.",
            model,
            registry=None,
            # Each process finds out for itself: 1 when any that still lives has set the model aside.
            multiprocess_mode="livemax",
        )
        self._module_requests = counter("llm_module_requests", "Calls of a module.", "module", "outcome")
        self._module_cost = counter("llm_module_cost_usd", "US dollars for the calls of a module.", "module")
        self._fallbacks = counter(
            "llm_fallbacks",
            "Times that a model gave no answer and another was asked.",
            *("module", "from_model", "to_model", "reason"),
        )
        self._cache_requests = counter("llm_cache_requests", "What looking into the cache gave.", "module", "result")
        self._cache_saved = counter("llm_cache_saved_usd", "US dollars that cached answers did not cost.", "module")
        budget = ("scope", "per")
        self._budget_limit = gauge("llm_budget_limit_usd", "US dollars that may be spent in a window.", *budget)
        self._budget_spent = gauge("llm_budget_spent_usd", "US dollars spent in the window.", *budget)
        self._budget_reserved = gauge("llm_budget_reserved_usd", "US dollars reserved by requests under way.", *budget)
        self._budget_refused = counter("llm_budget_refused", "Requests that no budget was left for.", "module")
        self._reloads = counter("llm_catalog_reloads", "Times that the catalog was read again.", "result")
        _register(registry, *vars(self).values())

        self._models: dict[tuple[str, str], ModelSeries] = {}
        self._modules: dict[str, ModuleSeries] = {}
        self._budgets: dict[tuple[str, str], BudgetSeries] = {}
        self._providers: set[str] = set()
        self._own_labels: set[str] = set()

    @classmethod
    def of(cls, registry: CollectorRegistry | None = None) -> Metrics:
        """The process's series on this registry, made at first use; None is prometheus_client's default registry.

        Raises `MetricsUnavailable` for a registry of one's own in multiprocess mode, where series live in files that
        belong to no registry, and when other code has already registered a series of the same name.
        """
        registry = REGISTRY if registry is None else registry
        if registry is not REGISTRY and (variable := multiprocess()):
            raise MetricsUnavailable(
                f"registry= cannot be used while {variable} is set: in multiprocess mode the processes keep all series "
                "in that directory, and no registry of one process has them.",
                f"Leave registry= out, or unset {variable}.",
            )
        with _lock:
            if registry not in _made:
                _made[registry] = cls(registry)
            return _made[registry]

    @_harmless
    def seed(self, chains: Mapping[str, Sequence[Target]], budgets: Iterable[Budget] = ()) -> None:
        """Start at 0 every series that these modules' chains can feed, or `increase()` would miss the first calls."""
        for result in ("ok", "error"):
            self._reloads.labels(result)
        for budget in budgets:
            self._budget_series(budget)
        for module, chain in chains.items():
            self._module_series(module)
            for target in chain:
                self._target_series(target)
                for kind in _ERROR_TYPES:
                    self._errors.labels(self._provider(target.provider), kind)
            for one, next_one in pairwise(chain):
                for reason in _FALLBACK_REASONS:
                    self._fallbacks.labels(module, self._name(one.name), self._name(next_one.name), reason)

    @_harmless
    def hear(self, module: str, event: Event) -> None:
        """Meter what a call of a module reports."""
        match event:
            case Attempt():
                self._attempt(module, event)
            case CallEnded():
                series = self._module_series(module)
                series.requests[event.outcome].inc()
                if event.cost_usd:
                    series.cost.inc(float(event.cost_usd), traces.exemplar())
            case CacheUsed():
                series = self._module_series(module)
                series.cache[event.result].inc()
                if event.saved_usd:
                    series.cache_saved.inc(float(event.saved_usd))
            case FellOver():
                names = self._name(event.from_model), self._name(event.to_model)
                self._fallbacks.labels(event.module, *names, event.reason).inc()
            case FirstToken():
                self._target_series(event.target).first_token.observe(event.seconds)
            case BudgetSeen():
                self._budget_series(event.budget).show(event)
                if event.over and not event.budget.hard:
                    self._module_series(module).refused.inc()

    def _attempt(self, module: str, attempt: Attempt) -> None:
        """Meter one try of a model. One that was skipped, or answered from the cache, sent nothing and counts nothing.

        A cancelled one has the status `cancelled`: the provider saw the request, but there was no error of its own, and
        the time was not that of an answer. Tokens are counted as the provider does: input with the cached ones, output
        with the reasoning.
        """
        if attempt.error_kind is Kind.BUDGET:
            self._module_series(module).refused.inc()
        if attempt.outcome in ("skipped", "cached"):
            return
        series = self._model_series(attempt.provider, attempt.label, attempt.model, listed=attempt.listed)
        cancelled = attempt.error_kind is Kind.CANCELLED
        status: Status = "cancelled" if cancelled else "success" if attempt.outcome == "ok" else "error"
        series.requests[status].inc()
        if not cancelled:
            series.latency.observe(attempt.latency_s, traces.exemplar())
        if status == "error":
            self._errors.labels(self._provider(attempt.provider), attempt.error_kind or "unknown").inc()
        for counter, count in zip(series.tokens, (attempt.usage or Usage()).counts, strict=True):
            if count > 0:
                counter.inc(count)
        if attempt.cost_usd:
            series.cost.inc(float(attempt.cost_usd), traces.exemplar())
        elif attempt.cost_usd is None and (attempt.outcome == "ok" or attempt.usage is not None):
            series.cost_unknown.inc()
            if not series.warned:
                series.warned = True
                why = (
                    "the provider did not say how many tokens it used"
                    if attempt.usage is None
                    else "no price in the catalog, nor from LiteLLM's table or the gateway; give it one in the catalog"
                )
                _logger.warning("cost_unknown model=%s module=%s: %s", attempt.litellm_model, module, why)

    @_harmless
    def set_aside(self, target: Target, aside: bool) -> None:
        self._target_series(target).set_aside.set(aside)

    @_harmless
    def reload(self, ok: bool) -> None:
        """The catalog's file has changed and was read again; not `ok`: the last good catalog stays."""
        self._reloads.labels("ok" if ok else "error").inc()

    def _target_series(self, target: Target) -> ModelSeries:
        return self._model_series(target.provider, target.label, target.name, listed=target.listed)

    def _model_series(self, provider: str, label: str, name: str, *, listed: bool) -> ModelSeries:
        """The series of a model, all of them started at 0 when it is first met."""
        if listed or self._has_own_label(name):
            self._providers.add(provider)
        else:
            provider, label = self._provider(provider), OTHER
        if (series := self._models.get(of := (provider, label))) is None:
            series = self._models[of] = ModelSeries(
                requests={status: self._requests.labels(*of, status) for status in get_args(Status)},
                latency=self._latency.labels(*of),
                first_token=self._first_token.labels(*of),
                tokens=tuple(self._tokens.labels(*of, kind) for kind in _TOKEN_TYPES),
                cost=self._cost.labels(*of),
                cost_unknown=self._cost_unknown.labels(*of),
                set_aside=self._set_aside.labels(*of),
            )
        return series

    def _module_series(self, module: str) -> ModuleSeries:
        if (series := self._modules.get(module)) is None:
            series = self._modules[module] = ModuleSeries(
                requests={outcome: self._module_requests.labels(module, outcome) for outcome in get_args(CallOutcome)},
                cost=self._module_cost.labels(module),
                cache={result: self._cache_requests.labels(module, result) for result in get_args(CacheResult)},
                cache_saved=self._cache_saved.labels(module),
                refused=self._budget_refused.labels(module),
            )
        return series

    def _budget_series(self, budget: Budget) -> BudgetSeries:
        if (series := self._budgets.get(of := (budget.scope, budget.per))) is None:
            gauges = self._budget_limit, self._budget_spent, self._budget_reserved
            series = self._budgets[of] = BudgetSeries(of, *gauges, kept=multiprocess() is not None)
        series.limit(budget.usd)
        return series

    def _provider(self, provider: str) -> str:
        return provider if provider in self._providers else OTHER

    def _name(self, name: str) -> str:
        # What the catalog does not list is named by its LiteLLM string, which has a slash.
        return name if "/" not in name or self._has_own_label(name) else OTHER

    def _has_own_label(self, name: str) -> bool:
        if name not in self._own_labels and len(self._own_labels) < OWN_LABELS:
            self._own_labels.add(name)
        return name in self._own_labels


def _register(registry: CollectorRegistry, *series: Counter | Gauge | Histogram) -> None:
    """Register all or none."""
    done = []
    try:
        for one in series:
            registry.register(one)
            done.append(one)
    except ValueError as error:
        for one in done:
            registry.unregister(one)
        raise MetricsUnavailable(
            f"the Prometheus registry already has a series of this name: {error}.",
            "Rename the application's own series, or give the router another registry: Router(registry=...).",
        ) from error


_made: weakref.WeakKeyDictionary[CollectorRegistry, Metrics] = weakref.WeakKeyDictionary()
