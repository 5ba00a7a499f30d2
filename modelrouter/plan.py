"""Whom to call next: every decision of a call, and nothing else.

`plan` is a generator. It yields an effect (load the door, call this model within these seconds, sleep, tell a record)
and is sent what came of it and what time it is. It performs nothing itself, so a driver of a few lines serves
synchronous callers and another one asynchronous callers (`drive`, `adrive`), no decision is written twice, and a test
can play any course of events as data, with no clock, loop or network.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Protocol, TypeAlias

from .errors import AllModelsFailed, BadRequest, DeadlineExceeded, MissingKey, ProviderError
from .types import (
    Attempt,
    CallEnded,
    Completion,
    Failure,
    FellOver,
    Kind,
    ModuleSettings,
    Reply,
    Request,
    Target,
    Usage,
)

__all__ = [
    "Call",
    "Effect",
    "Facts",
    "Interrupted",
    "Job",
    "Load",
    "Obstacle",
    "Plan",
    "Sleep",
    "Tell",
    "adrive",
    "drive",
    "plan",
]

MAY_PASS = frozenset((Kind.RATE_LIMIT, Kind.CONNECTION, Kind.SERVER))
"""Kinds for which the same model is asked again."""
PATIENCE = 30.0
"""Seconds: a provider that asks for a longer wait is left for the next model at once."""
BACKOFF = 0.5
"""Seconds before the first retry, doubled before each further one ("exponential backoff with jitter")."""
BACKOFF_MOST = 8.0
SHORTEST = 0.01
"""Seconds: with less time than this left, no request is worth sending."""


@dataclass(frozen=True, slots=True)
class Load:
    """Make the door ready: LiteLLM takes seconds to import, once. Not charged to the call's deadline."""


@dataclass(frozen=True, slots=True)
class Call:
    """Ask one model once. Performed into a `Reply` or a `Failure`, within `within` seconds."""

    target: Target
    request: Request
    within: float


@dataclass(frozen=True, slots=True)
class Sleep:
    seconds: float


@dataclass(frozen=True, slots=True)
class Tell:
    """Meter and log a record: synchronous, inline, in the thread or task of the call."""

    module: str
    record: Attempt | FellOver | CallEnded


Effect: TypeAlias = Load | Call | Sleep | Tell


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Sent in place of a result: performing the effect was cut short by `error` (a cancelled task, Ctrl-C)."""

    error: BaseException


Plan: TypeAlias = Generator[Effect, tuple[Any, float], Completion]


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Known before a request is sent: this model cannot answer."""

    kind: Kind
    why: str
    variable: str | None = None
    """The variable that is not set, where a key is what is missing."""


class Facts(Protocol):
    """What the plan asks about the world. Synchronous and quick; nothing here sends a request."""

    def obstacle(self, target: Target, request: Request) -> Obstacle | None:
        """Why this model cannot answer this request, or None."""

    def context_window(self, target: Target) -> int | None:
        """Tokens; None when it is not known."""

    def cost(self, target: Target, usage: Usage | None) -> Decimal | None:
        """US dollars; None when it is not known."""


@dataclass(frozen=True, slots=True)
class Job:
    """One call: whom it may ask, for what, within which limits."""

    module: str
    chain: tuple[Target, ...]
    request: Request
    settings: ModuleSettings
    timeout: float | None = None
    """Seconds for one attempt, said by the call itself: before the model's own and the module's."""

    def timeout_of(self, target: Target) -> float:
        return self.timeout or target.timeout or self.settings.timeout

    def request_to(self, target: Target) -> Request:
        """The request with what module, model and call say, the later before the earlier. A model's own max_tokens is a
        cap."""
        params: dict[str, Any] = {}
        if self.settings.temperature is not None:
            params["temperature"] = self.settings.temperature
        limits = [limit for limit in (self.settings.max_tokens, target.max_tokens) if limit is not None]
        if limits and "max_completion_tokens" not in self.request.params:
            params["max_tokens"] = min(limits)
        params |= target.params
        params |= self.request.params
        return replace(self.request, params=params)


def drive(plan: Plan, perform: Callable[[Effect], Any]) -> Completion:
    """Perform a plan's effects one after the other, synchronously."""
    effect = next(plan)
    while True:
        try:
            result = perform(effect)
        except BaseException as error:  # noqa: BLE001 - the plan meters it and raises it again
            result = Interrupted(error)
        try:
            effect = plan.send((result, time.monotonic()))
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


async def adrive(plan: Plan, perform: Callable[[Effect], Awaitable[Any]]) -> Completion:
    """Perform a plan's effects one after the other, asynchronously."""
    effect = next(plan)
    while True:
        try:
            result = await perform(effect)
        except BaseException as error:  # noqa: BLE001 - the plan meters it and raises it again
            result = Interrupted(error)
        try:
            effect = plan.send((result, time.monotonic()))
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


@dataclass(slots=True)
class _Course:
    """One call under way: what happened so far, and the clock."""

    job: Job
    facts: Facts
    now: float
    start: float
    end: float
    attempts: list[Attempt] = field(default_factory=list)
    last: Failure | None = None
    """The last model's last failure: what the error will name as its cause."""
    outgrown: Target | None = None
    """The model whose context window the prompt was too long for."""

    def step(self, effect: Effect) -> Generator[Effect, tuple[Any, float], Any]:
        """Have one effect performed, and keep the time."""
        result, self.now = yield effect
        return result

    def tell(self, record: Attempt | FellOver | CallEnded) -> Generator[Effect, tuple[Any, float], None]:
        if isinstance(record, Attempt):
            self.attempts.append(record)
        yield from self.step(Tell(self.job.module, record))

    def obstacle(self, target: Target) -> Obstacle | None:
        """Why this model is passed over, or None."""
        if (known := self.facts.obstacle(target, self.job.request)) is not None:
            return known
        if self.outgrown is not None:
            was, size = self.facts.context_window(self.outgrown), self.facts.context_window(target)
            if was is not None and size is not None and size <= was:
                return Obstacle(Kind.CONTEXT_WINDOW, f"its context window of {size} tokens is not larger")
        return None

    def attempt(
        self, target: Target, began: float, usage: Usage | None, failure: Failure | None, *, billed: bool
    ) -> Attempt:
        """The record of one request. `billed`: the provider may charge for it, answer or none."""
        return Attempt(
            model=target.name,
            litellm_model=target.litellm_model,
            provider=target.provider,
            outcome="ok" if failure is None else "error",
            error_kind=failure.kind if failure else None,
            error=failure.message if failure else None,
            latency_s=self.now - began,
            cost_usd=self.facts.cost(target, usage) if billed else Decimal(0),
            usage=usage,
            retry_after=failure.retry_after if failure else None,
            status=failure.status if failure else None,
            listed=target.listed,
        )

    def skipped(self, target: Target, kind: Kind, why: str) -> Attempt:
        return Attempt(
            model=target.name,
            litellm_model=target.litellm_model,
            provider=target.provider,
            outcome="skipped",
            error_kind=kind,
            error=why,
            listed=target.listed,
        )

    def spent(self) -> Decimal:
        return sum((a.cost_usd for a in self.attempts if a.cost_usd is not None), Decimal(0))


def plan(job: Job, facts: Facts, *, now: float, random: Callable[[], float]) -> Plan:
    """Ask the models of a chain in order until one answers.

    `now` is the monotonic time, `random` gives numbers from 0 to 1 for the jitter.

    Returns the `Completion`. Raises `BadRequest`, `MissingKey`, `DeadlineExceeded` or `AllModelsFailed` with every
    attempt; an interruption is metered and raised again as it came.
    """
    course = _Course(job, facts, now=now, start=now, end=now + job.settings.deadline)
    try:
        answer = yield from _ask(course, random)
    except (AllModelsFailed, BadRequest):
        yield from course.tell(CallEnded(job.module, "error", course.spent()))
        raise
    except GeneratorExit:
        raise
    except BaseException:
        yield from course.tell(CallEnded(job.module, "cancelled", course.spent()))
        raise
    yield from course.tell(CallEnded(job.module, "success", answer.cost_usd))
    return answer


def _ask(course: _Course, random: Callable[[], float]) -> Plan:
    job, loaded = course.job, False
    asked: Attempt | None = None
    for index, target in enumerate(job.chain):
        if course.end - course.now < SHORTEST:
            for late in job.chain[index:]:
                yield from course.tell(course.skipped(late, Kind.TIMEOUT, "no time was left"))
            raise _failed(course)
        obstacle = course.obstacle(target)
        if obstacle is None and not loaded:
            began = course.now
            if isinstance(stopped := (yield from course.step(Load())), Interrupted):
                raise stopped.error
            course.end += course.now - began
            loaded = True
            obstacle = course.obstacle(target)  # LiteLLM's tables know more
        if obstacle is not None:
            yield from course.tell(course.skipped(target, obstacle.kind, obstacle.why))
            continue
        if asked is not None and asked.error_kind is not None:
            yield from course.tell(FellOver(job.module, asked.model, target.name, asked.error_kind))
        rest = job.chain[index + 1 :]
        answer, asked = yield from _try(course, target, rest, random)
        if answer is not None:
            return answer
    raise _failed(course)


def _try(
    course: _Course, target: Target, rest: tuple[Target, ...], random: Callable[[], float]
) -> Generator[Effect, tuple[Any, float], tuple[Completion | None, Attempt]]:
    """Ask one model, again for errors that may pass, within its share of the time."""
    job = course.job
    others = sum(course.obstacle(other) is None for other in rest)
    # A model, its retries included, has what is left of the time divided by the usable models that are left.
    until = course.now + (course.end - course.now) / (1 + others)
    request = job.request_to(target)
    retries = 0
    while True:
        began = course.now
        within = max(SHORTEST, min(job.timeout_of(target), until - began))
        outcome = yield from course.step(Call(target, request, within))
        failure, parsed = _judge(outcome, request)
        attempt = course.attempt(
            target,
            began,
            outcome.usage if isinstance(outcome, Reply) else None,
            failure,
            # Nobody knows what a provider bills for an answer that was not waited for.
            billed=failure is None or isinstance(outcome, Reply) or failure.kind in (Kind.TIMEOUT, Kind.CANCELLED),
        )
        yield from course.tell(attempt)
        if failure is None:
            return _completion(course, target, outcome, parsed), attempt
        if isinstance(outcome, Interrupted):
            raise outcome.error
        course.last = failure
        if failure.kind is Kind.BAD_REQUEST:
            raise BadRequest(module=job.module, attempts=course.attempts) from _cause(failure)
        if failure.kind is Kind.CONTEXT_WINDOW:
            course.outgrown = target
        wait = _wait(failure, retries, last=not others, left=until - course.now, random=random)
        if wait is None or retries >= job.settings.retries:
            return None, attempt
        retries += 1
        if isinstance(stopped := (yield from course.step(Sleep(wait))), Interrupted):
            raise stopped.error


def _wait(failure: Failure, retries: int, *, last: bool, left: float, random: Callable[[], float]) -> float | None:
    """Seconds before the same model is asked again; None: go on to the next one."""
    again = failure.kind in MAY_PASS or (failure.kind is Kind.TIMEOUT and last)
    if not again or failure.lasting:
        return None
    if failure.retry_after is not None:
        if failure.retry_after > PATIENCE:
            return None
        # A little more than was asked for: many clients were told the same.
        wait = failure.retry_after * (1 + random() / 10) + random() / 10
    else:
        # "Equal jitter": half of the exponential step for certain, half by chance.
        step = min(BACKOFF_MOST, BACKOFF * 2**retries)
        wait = step / 2 + step / 2 * random()
    return wait if wait + SHORTEST < left else None


def _judge(outcome: Reply | Failure | Interrupted, request: Request) -> tuple[Failure | None, Any]:
    """Why this outcome is not an answer, or None when it is one, with the object that was asked for."""
    if isinstance(outcome, Failure):
        return outcome, None
    if isinstance(outcome, Interrupted):
        return Failure(Kind.CANCELLED, f"the caller went away ({type(outcome.error).__name__})"), None
    if outcome.finish_reason == "content_filter":
        return Failure(Kind.CONTENT_POLICY, "the provider filtered the answer"), None
    if outcome.tool_calls:
        return None, None
    if not outcome.text.strip():
        if outcome.finish_reason == "length":
            limit = request.params.get("max_tokens")
            spent = f"all of max_tokens={limit}" if limit else "the whole limit of tokens"
            return Failure(Kind.MAX_TOKENS, f"{spent} went into reasoning and none into text; raise max_tokens"), None
        return Failure(Kind.EMPTY_RESPONSE, "the answer has no text and no tool call"), None
    if request.parse is None:
        return None, None
    try:
        return None, request.parse(outcome.text)
    except ValueError as error:
        problem = " ".join(str(error).split())[:200]
        return Failure(Kind.EMPTY_RESPONSE, f"the answer does not validate as the response_format: {problem}"), None


def _cause(failure: Failure) -> ProviderError:
    return ProviderError(failure.kind, failure.message, status=failure.status, raised=failure.raised)


def _failed(course: _Course) -> AllModelsFailed:
    """The error of a call that no model answered."""
    job, elapsed = course.job, course.now - course.start
    if len(course.attempts) == 1 and course.attempts[0].error_kind is Kind.MISSING_KEY:
        obstacle = course.facts.obstacle(job.chain[0], job.request)
        if obstacle is not None and obstacle.variable is not None:
            return MissingKey(module=job.module, variable=obstacle.variable, attempts=course.attempts)
    facts: Mapping[str, Any] = {
        "module": job.module,
        "models": len(job.chain),
        "attempts": course.attempts,
        "elapsed": elapsed,
    }
    error: AllModelsFailed
    if course.end - course.now < SHORTEST:
        error = DeadlineExceeded(**facts, deadline=job.settings.deadline)
    else:
        error = AllModelsFailed(**facts)
    error.__cause__ = _cause(course.last) if course.last is not None else None
    return error


def _completion(course: _Course, target: Target, reply: Reply, parsed: Any) -> Completion:
    job = course.job
    return Completion(
        text=reply.text,
        model=target.name,
        litellm_model=target.litellm_model,
        provider=target.provider,
        module=job.module,
        usage=reply.usage or Usage(),
        cost_usd=course.spent() if course.attempts[-1].cost_usd is not None else None,
        cached=False,
        fallback=target is not job.chain[0],
        latency_s=course.now - course.start,
        finish_reason=reply.finish_reason,
        tool_calls=reply.tool_calls,
        parsed=parsed,
        attempts=tuple(course.attempts),
        _response=reply.response,
    )
