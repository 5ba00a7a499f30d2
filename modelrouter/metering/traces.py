"""Traces: what follows a call for the tracer that the application has set up, and nothing at all where it has none.

OpenTelemetry is not imported here: whoever sets up a tracer has done so. What the spans are is in `spans`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from modelrouter.planning.effects import Effect, Report
from modelrouter.planning.events import Event

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer, TracerProvider

    from .spans import Spans

logger = logging.getLogger("modelrouter")

_told: ContextVar[Spans | None] = ContextVar("modelrouter_told", default=None)
"""Whose event the books hear of, as long as they do."""


def performing(perform: Callable[[Effect], Any], module: str) -> Callable[[Effect], Any]:
    """`perform` for the effects of one call of a module, each within the call's span, or that of its request. The
    first begins it."""
    if (spans := _of_a_call(module)) is None:
        return perform

    def traced(effect: Effect) -> Any:
        with _within(spans, effect):
            return spans.saw(perform(effect))

    return traced


def aperforming(perform: Callable[[Effect], Awaitable[Any]], module: str) -> Callable[[Effect], Awaitable[Any]]:
    """`performing`, asynchronously."""
    if (spans := _of_a_call(module)) is None:
        return perform

    async def traced(effect: Effect) -> Any:
        with _within(spans, effect):
            return spans.saw(await perform(effect))

    return traced


def hear(_: str, event: Event) -> None:
    """Put what a call reports into its spans; a listener of the books."""
    if (spans := _told.get()) is not None:
        spans.hear(event)


def exemplar() -> dict[str, str] | None:
    """The span that the event of the moment belongs to, as Prometheus keeps it beside a sample; None: it is kept
    nowhere."""
    return None if (spans := _told.get()) is None else spans.exemplar()


@contextmanager
def _within(spans: Spans, effect: Effect) -> Iterator[None]:
    """The span is the current one here and in whatever the effect starts, and nowhere else: a stream may be read in
    several contexts, and the code between two pieces is not its own."""
    with spans.during(effect):
        if not isinstance(effect, Report):
            yield
            return
        before = _told.set(spans)
        try:
            yield
        finally:
            _told.reset(before)


def _of_a_call(module: str) -> Spans | None:
    """Those of a call that begins now; None: no tracer is set up."""
    if sys.modules.get("opentelemetry.trace") is None:
        return None
    try:
        provider = (api := _api()).get_tracer_provider()
        if isinstance(provider, api.ProxyTracerProvider) or (tracer := _tracer(provider)) is None:
            return None
        from .spans import Spans

        return Spans(tracer, module)
    except Exception as error:
        if (kind := type(error).__qualname__) not in _complained:
            _complained.add(kind)
            logger.exception("tracing_failed: calls go on, without traces")
        return None


_complained: set[str] = set()
"""The exceptions of whatever the application has set up that have been logged."""


@lru_cache(maxsize=1)
def _api() -> Any:
    """Of OpenTelemetry, imported to its end: another thread may be in the middle of that."""
    from opentelemetry import trace

    return trace


_kept: tuple[TracerProvider, Tracer | None] | None = None


def _tracer(provider: TracerProvider) -> Tracer | None:
    global _kept
    if _kept is None or _kept[0] is not provider:
        from importlib.metadata import PackageNotFoundError, version

        known = None
        with suppress(PackageNotFoundError):  # of a copy that nobody has installed
            known = version("modelrouter")
        tracer = provider.get_tracer("modelrouter", known)
        _kept = provider, None if isinstance(tracer, _api().NoOpTracer) else tracer
    return _kept[1]
