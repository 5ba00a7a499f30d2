"""A call under way: what happened so far, the clock, and what is made of both at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Any

from modelrouter.completion import Attempt, Completion, Kind, Usage, total
from modelrouter.errors import AllModelsFailed, BadRequest, BudgetExceeded, DeadlineExceeded, MissingKey, ProviderError

from .call import Call, Candidate, Facts
from .effects import Effect, Emit, Interrupted, Load, Report, Steps
from .events import Event, FellOver
from .exchange import Failure, Obstacle, Remembered, Reply, Short

SHORTEST = 0.01
"""Seconds: with less time than this left, no request is worth sending."""


@dataclass(slots=True)
class Progress:
    """One call under way."""

    call: Call
    facts: Facts
    random: Callable[[], float]
    now: float
    start: float
    end: float
    attempts: list[Attempt] = field(default_factory=list)
    last: Failure | None = None
    """The last model's last failure: what the error will name as its cause."""
    outgrown: Candidate | None = None
    """The model whose context window the prompt was too long for."""
    loaded: bool = False
    """The backend is ready."""
    missed: bool | None = None
    """Whether a remembered answer was looked for and not found, and False: that it has not been reported yet."""
    short: Short | None = None
    """The budget that the last request did not fit into."""
    publishing: Remembered | Failure | None = None
    """What came of the model that is asked, for calls that wait for the same. None: nothing, as this call was cancelled
    or had too little time itself, so that another one has to ask."""
    left: tuple[str, Kind] | None = None
    """For which model the next one stands in, and why."""
    reader: float = 0.0
    """Seconds that the reader of a stream has taken, which are not the model's."""

    def step(self, effect: Effect) -> Steps[Any]:
        """Have one effect performed, and keep the time. It may be `Interrupted`."""
        before = self.now
        result, self.now = yield effect
        if isinstance(effect, Emit):
            self.reader += self.now - before
        return result

    def do(self, effect: Effect) -> Steps[Any]:
        """`step`, where an interruption ends the call; not for `Emit`."""
        result, self.now = yield effect  # not by way of `step`: that would be one more generator for each of a hit
        if isinstance(result, Interrupted):
            raise result.error
        return result

    def report(self, event: Event) -> Steps[None]:
        if isinstance(event, Attempt):
            self.attempts.append(event)
        yield from self.do(Report(self.call.module, event))

    def fall_over(self, candidate: Candidate) -> Steps[None]:
        """Report that the model stands in for another one: when it is asked, or when its answer is remembered."""
        left, self.left = self.left, None
        if left is not None and left[0] != candidate.target.name:
            name, provider = candidate.target.name, candidate.target.provider
            yield from self.report(FellOver(self.call.module, left[0], name, left[1], provider=provider))

    def load(self) -> Steps[bool]:
        """Have the backend made ready, which is not charged to the deadline; whether it was not."""
        began = self.now
        loaded: bool = yield from self.do(Load())
        self.end += self.now - began
        self.loaded = True
        return loaded

    # -- what is known

    def obstacle(self, candidate: Candidate) -> Obstacle | None:
        """Why this model is passed over, or None."""
        if (known := candidate.obstacle(self.facts)) is not None:
            return known
        if self.outgrown is not None:
            was, size = (self.facts.context_window(each.target) for each in (self.outgrown, candidate))
            if was is not None and size is not None and size <= was:
                return Obstacle(Kind.CONTEXT_WINDOW, f"its context window of {size} tokens is not larger")
        return None

    def usable(self, candidates: Iterable[Candidate]) -> int:
        """How many of them nothing keeps from answering."""
        return sum(self.obstacle(candidate) is None for candidate in candidates)

    @property
    def late(self) -> bool:
        """No time is left for a request."""
        return self.end - self.now < SHORTEST

    # -- records

    def attempt(
        self, candidate: Candidate, began: float, outcome: Reply | Failure | Interrupted, failure: Failure | None
    ) -> Attempt:
        """The record of one request, and of what was made of its outcome."""
        target = candidate.target
        # An answer is billed, turned down or not, and so is what came of a stream. Nobody knows what a provider bills
        # for an answer that was not waited for; an error is free.
        billed = not isinstance(outcome, Failure) or outcome.usage is not None or outcome.kind is Kind.TIMEOUT
        cost = self.facts.cost(target, outcome.usage) if billed else Decimal(0)
        if isinstance(outcome, Reply) and outcome.billed_usd is not None:
            cost = outcome.billed_usd
        return target.attempt(
            "ok" if failure is None else "skipped" if failure.unsent else "error",
            error_kind=failure.kind if failure else None,
            error=failure.message if failure else None,
            latency_s=self.now - began - self.reader,
            cost_usd=cost,
            usage=outcome.usage,
            estimated=outcome.estimated,
            retry_after=failure.retry_after if failure else None,
            status=failure.status if failure else None,
        )

    def skip(self, candidate: Candidate, kind: Kind, why: str) -> Steps[Attempt]:
        """Report that a model is passed over: the record of it."""
        attempt = candidate.target.attempt("skipped", error_kind=kind, error=why)
        yield from self.report(attempt)
        return attempt

    def completion(
        self,
        candidate: Candidate,
        reply: Reply,
        parsed: Any,
        first_token: float | None = None,
        record: Attempt | None = None,
    ) -> Completion[Any]:
        """The answer of the call. `record` is that of the last attempt, where it has not been reported."""
        target = candidate.target
        attempts = (*self.attempts, record) if record is not None else tuple(self.attempts)
        return Completion(
            text=reply.text,
            model=target.name,
            litellm_model=target.litellm_model,
            provider=target.provider,
            module=self.call.module,
            usage=reply.usage or Usage(),
            cost_usd=total(attempts),
            cached=attempts[-1].outcome == "cached",
            fallback=target is not self.call.chain[0],
            latency_s=self.now - self.start - self.reader,
            first_token_s=first_token,
            finish_reason=reply.finish_reason,
            tool_calls=reply.tool_calls,
            parsed=parsed,
            attempts=attempts,
            _response=reply.response,
        )

    # -- errors

    def note(self, candidate: Candidate, failure: Failure) -> None:
        """What a model's failure means for the call. Raises `BadRequest`: the request is the caller's to mend."""
        self.last = failure
        if failure.kind is Kind.BAD_REQUEST:
            raise BadRequest(module=self.call.module, attempts=self.attempts) from cause(failure)
        if failure.kind is Kind.CONTEXT_WINDOW:
            self.outgrown = candidate

    def failed(self, candidates: list[Candidate]) -> AllModelsFailed:
        """The error of a call that no model answered."""
        module = self.call.module
        if len(self.attempts) == 1 and self.attempts[0].error_kind is Kind.MISSING_KEY:
            obstacle = candidates[0].obstacle(self.facts)
            if obstacle is not None and obstacle.variable is not None:
                return MissingKey(module=module, variable=obstacle.variable, attempts=self.attempts)
        made: Callable[..., AllModelsFailed] = AllModelsFailed
        if self.short is not None:
            short = self.short
            made = partial(
                BudgetExceeded,
                limit=short.limit,
                source=short.source,
                limit_usd=short.limit_usd,
                spent_usd=short.spent_usd,
                reserved_usd=short.reserved_usd,
                resets_at=short.resets_at,
            )
        elif self.late:
            made = partial(DeadlineExceeded, deadline=self.call.settings.deadline)
        error = made(module=module, models=len(candidates), attempts=self.attempts, elapsed=self.now - self.start)
        error.__cause__ = cause(self.last) if self.last is not None else None
        return error


def cause(failure: Failure) -> ProviderError:
    """The failure as the cause of an error."""
    return ProviderError(failure.kind, failure.message, status=failure.status, raised=failure.raised)
