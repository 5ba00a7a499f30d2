"""The spans of one call: its own, and under it one for each request to a model."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Concatenate, ParamSpec

from opentelemetry import context, trace
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer

from modelrouter.completion import Attempt, Kind
from modelrouter.planning.effects import Effect, OpenStream, ReadCache, Send
from modelrouter.planning.events import CacheUsed, CallEnded, Event, FellOver, FirstToken
from modelrouter.planning.exchange import Remembered, Reply, Request

from . import conventions
from .conventions import Value

_logger = logging.getLogger("modelrouter")

_P = ParamSpec("_P")


def _harmless(method: Callable[Concatenate[Spans, _P], None]) -> Callable[Concatenate[Spans, _P], None]:
    """A failure of the application's own sampler or processor is logged once, and the call goes on."""
    logged = False

    @functools.wraps(method)
    def traced(self: Spans, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        nonlocal logged
        try:
            method(self, *args, **kwargs)
        except Exception:
            if not logged:
                logged = True
                _logger.exception("tracing_failed: calls go on, their traces are incomplete")

    return traced


class Spans:
    """Those of one call. Its steps come one after the other, in whatever thread, task and context each is made."""

    def __init__(self, tracer: Tracer, module: str) -> None:
        self._tracer = tracer
        self._module = module
        self._begun = False
        self._call: Span | None = None
        self._sent: Span | None = None
        """Of the request under way."""
        self._request: Request | None = None
        """The last one that was sent, or whose answer was looked for."""
        self._reply: Reply | None = None
        """The last answer, be it a provider's or a remembered one."""
        self._cached = False
        self._quotes = conventions.wanted()
        """Whether prompts and answers are told, and providers' words for what went wrong, which may quote them."""

    @contextmanager
    def during(self, effect: Effect) -> Iterator[None]:
        """The effect is performed within the span of its request, or else the call's."""
        if not self._begun:
            self._begin()
        if isinstance(effect, Send | OpenStream):
            self._ask(effect)
        elif isinstance(effect, ReadCache):
            self._request = effect.request
        span = self._sent if self._sent is not None else self._call
        if span is None:
            yield
            return
        here = trace.set_span_in_context(span)
        before = context.attach(here)
        try:
            yield
        finally:
            if context.get_current() is here:  # a coroutine may be closed in another context than it has run in
                context.detach(before)

    def saw(self, result: Any) -> Any:
        """What came of an effect."""
        match result:
            case Reply():
                self._reply = result
            case Remembered():
                self._reply = result.reply
            case (_, Remembered() as found):
                self._reply = found.reply
        return result

    def exemplar(self) -> dict[str, str] | None:
        """As `traces.exemplar`."""
        span = self._sent if self._sent is not None else self._call
        if span is None or not (ids := span.get_span_context()).trace_flags.sampled:
            return None
        return {"trace_id": trace.format_trace_id(ids.trace_id), "span_id": trace.format_span_id(ids.span_id)}

    @_harmless
    def hear(self, event: Event) -> None:
        """Put it into the span that it belongs to."""
        if (call := self._call) is None:
            return
        match event:
            case Attempt() if self._sent is not None:
                self._over(self._sent, event)
            case Attempt(outcome="cached"):
                self._recall(call, event)
            case Attempt():
                call.add_event("modelrouter.skipped", self._why(event, {"modelrouter.model": event.model}))
            case FirstToken() if self._sent is not None:
                self._sent.set_attribute("gen_ai.response.time_to_first_chunk", event.seconds)
            case FellOver():
                models = {"modelrouter.from": event.from_model, "modelrouter.to": event.to_model}
                call.add_event("modelrouter.fallback", {**models, "modelrouter.reason": event.reason.value})
            case CacheUsed():
                call.set_attributes(_priced("modelrouter.saved_usd", event.saved_usd))
                call.set_attribute("modelrouter.cache", event.result)
            case CallEnded():
                self._end(call, event)

    @_harmless
    def _begin(self) -> None:
        self._begun = True
        named = {"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": self._module}
        self._call = self._tracer.start_span(
            f"invoke_workflow {self._module}", attributes={**named, "modelrouter.module": self._module}
        )

    @_harmless
    def _ask(self, effect: Send | OpenStream) -> None:
        self._request, self._reply = effect.request, None
        if self._call is None or not self._call.is_recording():
            return  # what is sent is then within the call's own, and is left out of the trace as that is
        said = conventions.of_request(effect.target, effect.request, stream=isinstance(effect, OpenStream))
        if self._quotes:
            said |= conventions.of_prompt(effect.request)
        self._sent = self._tracer.start_span(
            f"chat {effect.target.label}",
            context=trace.set_span_in_context(self._call),
            kind=SpanKind.CLIENT,
            attributes=said,
        )

    def _over(self, span: Span, attempt: Attempt) -> None:
        """A request is over."""
        self._sent = None
        said: dict[str, Value] = {
            "modelrouter.module": self._module,
            "modelrouter.model": attempt.model,
            "modelrouter.outcome": attempt.outcome,
            **_priced("modelrouter.cost_usd", attempt.cost_usd),
        }
        if attempt.usage is not None:
            said |= conventions.of_usage(attempt.usage)
        if attempt.estimated:
            said["modelrouter.estimated"] = True
        if attempt.status is not None:
            said["http.response.status_code"] = attempt.status
        if self._reply is not None:
            said |= conventions.of_reply(self._reply)
            if self._quotes:
                said |= conventions.of_answer(self._reply)
        span.set_attributes(self._why(attempt, said))
        if attempt.error_kind not in (None, Kind.CANCELLED):
            span.set_status(StatusCode.ERROR, attempt.error if self._quotes else None)
        elif attempt.outcome == "ok" and self._call is not None:
            self._call.set_attribute("modelrouter.model", attempt.model)
        span.end()

    def _why(self, attempt: Attempt, said: dict[str, Value]) -> dict[str, Value]:
        """With why there is no answer."""
        if attempt.error_kind is not None:
            said["error.type"] = attempt.error_kind.value
            if self._quotes and attempt.error and attempt.outcome == "skipped":
                said["modelrouter.why"] = attempt.error
        return said

    def _recall(self, call: Span, attempt: Attempt) -> None:
        """The answer was remembered. Nothing was sent, so what there is to say of it is the call's own."""
        self._cached = True
        said: dict[str, Value] = {"modelrouter.model": attempt.model}
        if self._reply is not None and self._request is not None:
            said |= conventions.of_reply(self._reply)
            if self._quotes:
                said |= conventions.of_prompt(self._request) | conventions.of_answer(self._reply)
        call.set_attributes(said)

    def _end(self, call: Span, event: CallEnded) -> None:
        said: dict[str, Value] = {"modelrouter.outcome": event.outcome, "modelrouter.cached": self._cached}
        call.set_attributes(said | _priced("modelrouter.cost_usd", event.cost_usd))
        if event.error is not None:
            home = event.error.__module__.removeprefix("builtins")
            call.set_attribute("error.type", f"{home}.{event.error.__qualname__}".removeprefix("."))
        if event.outcome in ("error", "bad_request"):
            call.set_status(StatusCode.ERROR)
        call.end()


def _priced(name: str, usd: Decimal | None) -> dict[str, Value]:
    """An amount with every digit, which a number would not keep; nothing when it is not known."""
    return {} if usd is None else {name: format(usd, "f")}
