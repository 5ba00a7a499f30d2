"""Whom to call next: every decision of a call, and nothing else.

`plan` is a generator. It yields an effect (call or open this model within these seconds, emit a piece, sleep, tell a
record) and is sent what came of it and what time it is. It performs nothing itself, so the same decisions serve
synchronous and asynchronous callers and streams, and a test can play any course of events as data, with no clock, loop
or network.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from typing import Any, Literal, Protocol

from modelrouter.cache.cache import Remembered
from modelrouter.catalog import prices as pricing
from modelrouter.errors import (
    AllModelsFailed,
    BadRequest,
    DeadlineExceeded,
    MissingKey,
    ProviderError,
    StreamInterrupted,
)
from modelrouter.types import (
    Attempt,
    CacheUsed,
    CallEnded,
    Completion,
    Failure,
    FellOver,
    FirstToken,
    Kind,
    ModelLeft,
    ModuleSettings,
    Obstacle,
    Piece,
    Reply,
    Request,
    Target,
    Thinking,
    Usage,
)

from .effects import (
    Await,
    Board,
    Call,
    Close,
    Effect,
    Emit,
    Interrupted,
    Keep,
    Land,
    Load,
    Look,
    Next,
    Open,
    Plan,
    Record,
    Shared,
    Sleep,
    StreamClosed,
    Tell,
)

__all__ = ["Facts", "Job", "plan"]

MAY_PASS = frozenset((Kind.RATE_LIMIT, Kind.CONNECTION, Kind.SERVER, Kind.TRUNCATED))
"""Kinds for which the same model is asked again."""
PATIENCE = 30.0
"""Seconds: a provider that asks for a longer wait is left for the next model at once."""
BACKOFF = 0.5
"""Seconds before the first retry, doubled before each further one ("exponential backoff with jitter")."""
BACKOFF_MOST = 8.0
LONGEST_WAIT = PATIENCE * 1.1 + 0.1
"""Seconds before a retry, at most: such a wait, with its jitter (`_wait`)."""
COMPLETE = frozenset(("stop", "tool_calls", "function_call"))
"""Finish reasons of answers that are worth remembering: one that was cut off at max_tokens is not."""
NEARLY = 0.9
"""Of a full limit: to wait so long for a model that says nothing tells as much of it."""
SHORTEST = 0.01
"""Seconds: with less time than this left, no request is worth sending."""


class Facts(Protocol):
    """What the plan asks about the world. Synchronous and quick; nothing here sends a request."""

    def obstacle(self, target: Target, request: Request) -> Obstacle | None:
        """Why this model cannot answer this request, or None."""

    def set_aside(self, target: Target, now: float) -> Kind | None:
        """Why it keeps failing, so that it is asked after the others; None: it is asked now, maybe to find out whether
        it answers again."""

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
    stream: bool = False
    thinking: bool = False
    """Whether a stream hands on the model's reasoning too, as `Thinking`."""
    cache: Literal["use", "refresh", "off"] = "off"
    cache_extra: str | None = None
    """The caller's own part of the key of a remembered answer."""

    def timeout_of(self, target: Target) -> float:
        return self.timeout or self.usual_timeout_of(target)

    def usual_timeout_of(self, target: Target) -> float:
        """Without what the call itself says."""
        return target.timeout or self.settings.timeout

    def request_to(self, target: Target) -> Request:
        """The request with what module, model and call say, the later before the earlier. A model's own max_tokens is a
        cap."""
        params: dict[str, Any] = {}
        if self.settings.temperature is not None:
            params["temperature"] = self.settings.temperature
        limits = [limit for limit in (self.settings.max_tokens, target.max_tokens) if limit is not None]
        params |= target.params
        own = self.request.optional & target.params.keys()
        params |= {name: value for name, value in self.request.params.items() if name not in own}
        if limits and not params.keys() & {"max_tokens", "max_completion_tokens"}:
            params["max_tokens"] = min(limits)
        return replace(self.request, params=params, optional=self.request.optional - own)


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
    loaded: bool = False
    """The door is ready."""
    keys: dict[str, str] = field(default_factory=dict)
    """Name of a model -> the key of its remembered answer, once it was looked for and not found."""
    landing: Shared | Failure | None = None
    """What came of the model that is asked, for calls that wait for the same. None: nothing, as this call was cancelled
    or had too little time itself, so that another one has to ask."""
    missed: bool = False
    """It has been told that no remembered answer was found."""
    reader: float = 0.0
    """Seconds that the reader of a stream has taken, which are not the model's."""

    def step(self, effect: Effect) -> Generator[Effect, tuple[Any, float], Any]:
        """Have one effect performed, and keep the time. It may be `Interrupted`."""
        before = self.now
        result, self.now = yield effect
        if isinstance(effect, Emit):
            self.reader += self.now - before
        return result

    def do(self, effect: Effect) -> Generator[Effect, tuple[Any, float], Any]:
        """`step`, where an interruption ends the call."""
        result = yield from self.step(effect)
        if isinstance(result, Interrupted):
            raise result.error
        return result

    def tell(self, record: Record) -> Generator[Effect, tuple[Any, float], None]:
        if isinstance(record, Attempt):
            self.attempts.append(record)
        yield from self.do(Tell(self.job.module, record))

    def obstacle(self, target: Target) -> Obstacle | None:
        """Why this model is passed over, or None."""
        if (known := self.facts.obstacle(target, self.job.request_to(target))) is not None:
            return known
        if self.outgrown is not None:
            was, size = self.facts.context_window(self.outgrown), self.facts.context_window(target)
            if was is not None and size is not None and size <= was:
                return Obstacle(Kind.CONTEXT_WINDOW, f"its context window of {size} tokens is not larger")
        return None

    def usable(self, targets: Sequence[Target]) -> int:
        return sum(self.obstacle(target) is None for target in targets)

    def attempt(
        self, target: Target, began: float, outcome: Reply | Failure | Interrupted, failure: Failure | None
    ) -> Attempt:
        """The record of one request, and of what was made of its outcome."""
        # An answer is billed, turned down or not, and so is what came of a stream. Nobody knows what a provider bills
        # for an answer that was not waited for; an error is free.
        billed = not isinstance(outcome, Failure) or outcome.usage is not None or outcome.kind is Kind.TIMEOUT
        return Attempt(
            model=target.name,
            litellm_model=target.litellm_model,
            provider=target.provider,
            outcome="ok" if failure is None else "skipped" if failure.unsent else "error",
            error_kind=failure.kind if failure else None,
            error=failure.message if failure else None,
            latency_s=self.now - began - self.reader,
            cost_usd=self.facts.cost(target, outcome.usage) if billed else Decimal(0),
            usage=outcome.usage,
            estimated=outcome.estimated,
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

    def cost(self) -> Decimal | None:
        """US dollars, of all the attempts."""
        return pricing.total(self.attempts)

    def spent(self) -> Decimal:
        return pricing.known(self.attempts)


def plan(job: Job, facts: Facts, *, now: float, random: Callable[[], float]) -> Plan:
    """Ask the models of a chain in order until one answers.

    `now` is the monotonic time, `random` gives numbers from 0 to 1 for the jitter.

    Returns the `Completion`. Raises `BadRequest`, `MissingKey`, `DeadlineExceeded`, `AllModelsFailed` or
    `StreamInterrupted` with every attempt; an interruption is metered and raised again as it came.
    """
    course = _Course(job, facts, now=now, start=now, end=now + job.settings.deadline)
    try:
        answer = yield from _ask(course, random)
    except BadRequest:
        yield from course.tell(CallEnded(job.module, "bad_request", course.spent()))
        raise
    except (AllModelsFailed, StreamInterrupted):
        yield from course.tell(CallEnded(job.module, "error", course.spent()))
        raise
    except GeneratorExit:
        raise
    except BaseException as error:
        outcome: Literal["error", "cancelled"] = "error" if isinstance(error, Exception) else "cancelled"
        yield from course.tell(CallEnded(job.module, outcome, course.spent()))
        raise
    yield from course.tell(CallEnded(job.module, "success", answer.cost_usd))
    return answer


def _ask(course: _Course, random: Callable[[], float]) -> Plan:
    job = course.job
    waiting, aside = list(job.chain), list[Target]()
    over: tuple[str, Kind] | None = None  # for whom the next one stands in, and why
    while waiting or aside:
        in_place = bool(waiting)
        target = waiting.pop(0) if in_place else aside.pop(0)
        # Remembered answers are looked for in the order of the chain, just before a model is asked: a fallback's never
        # stands in for the primary's, and a model that is set aside may still have one.
        if in_place and (answer := (yield from _remembered(course, target))) is not None:
            return answer
        if course.end - course.now < SHORTEST:
            for late in [target, *waiting, *aside]:
                yield from course.tell(course.skipped(late, Kind.TIMEOUT, "no time was left"))
            break
        obstacle = course.obstacle(target)
        if obstacle is None and not course.loaded:
            yield from _load(course)
            obstacle = course.obstacle(target)  # LiteLLM's tables know more
        if obstacle is not None:
            yield from course.tell(course.skipped(target, obstacle.kind, obstacle.why))
            continue
        if in_place and (why := course.facts.set_aside(target, course.now)) is not None:
            aside.append(target)
            over = over or (target.name, why)
            continue
        if over is not None and over[0] != target.name:
            yield from course.tell(FellOver(job.module, over[0], target.name, over[1]))
        answer, asked = yield from _fly(course, target, [*waiting, *aside], random)
        if answer is not None:
            return answer
        over = None if asked.error_kind is None else (asked.model, asked.error_kind)
    raise _failed(course)


def _remembered(course: _Course, target: Target) -> Generator[Effect, tuple[Any, float], Completion | None]:
    """The model's answer out of the cache. It costs nothing, and needs no key."""
    job = course.job
    if job.cache == "off":
        return None
    request = job.request_to(target)
    key, found = yield from course.do(Look(job.module, target, request, job.settings.cache_ttl, job.cache_extra))
    if found is not None and job.cache == "use":
        answer = yield from _recall(course, target, request, found, "hit")
        if answer is not None:
            return answer
    if key is not None:
        course.keys[target.name] = key
    return None


def _recall(
    course: _Course, target: Target, request: Request, found: Remembered | Shared, result: Literal["hit", "coalesced"]
) -> Generator[Effect, tuple[Any, float], Completion | None]:
    """The answer made of one that was paid for already."""
    reply = found.reply
    if isinstance(found, Shared) and reply.response is not None and not callable(reply.response):
        # Each caller may do with the response what it likes.
        reply = replace(reply, response=partial(copy.deepcopy, reply.response))
    failure, parsed = _judge(reply, request)
    if failure is not None:
        return None
    course.landing = Shared(reply, found.cost_usd)
    yield from course.tell(
        Attempt(
            model=target.name,
            litellm_model=target.litellm_model,
            provider=target.provider,
            outcome="cached",
            usage=reply.usage,
            listed=target.listed,
        )
    )
    yield from course.tell(CacheUsed(result, found.cost_usd))
    if course.job.stream and reply.text:
        stopped = yield from course.step(Emit(reply.text))
        if isinstance(stopped, Interrupted) and not isinstance(stopped.error, StreamClosed):  # it has all of it
            raise stopped.error
    return _completion(course, target, reply, parsed, None)


def _fly(
    course: _Course, target: Target, rest: Sequence[Target], random: Callable[[], float]
) -> Generator[Effect, tuple[Any, float], tuple[Completion | None, Attempt]]:
    """Ask one model, or wait for another call that asks it the same: identical requests in flight are sent once."""
    job = course.job
    key = course.keys.get(target.name)
    if key is None or job.stream or job.cache != "use":
        return (yield from _try(course, target, rest, random))
    while True:
        flight, leading = yield from course.do(Board(key))
        if leading:
            break
        outcome = yield from course.step(Await(flight, max(SHORTEST, _until(course, rest) - course.now)))
        if outcome is not None:
            return (yield from _follow(course, target, outcome))
        if course.end - course.now < SHORTEST:
            attempt = course.skipped(target, Kind.TIMEOUT, "no time was left")
            yield from course.tell(attempt)
            return None, attempt
    course.landing = None
    try:
        # Another call may have landed between the look and the boarding.
        answer = yield from _remembered(course, target)
        if answer is None:
            answer, attempt = yield from _try(course, target, rest, random)
            return answer, attempt
        return answer, course.attempts[-1]
    finally:
        yield from course.do(Land(flight, course.landing))


def _follow(
    course: _Course, target: Target, outcome: Any
) -> Generator[Effect, tuple[Any, float], tuple[Completion | None, Attempt]]:
    """What another call's answer or failure means for this one: nobody asks a model again that just failed."""
    job = course.job
    if isinstance(outcome, Shared):
        answer = yield from _recall(course, target, job.request_to(target), outcome, "coalesced")
        if answer is not None:
            return answer, course.attempts[-1]
        outcome = Failure(Kind.EMPTY_RESPONSE, "the answer does not validate as the response_format")
    if isinstance(outcome, Interrupted):
        if not isinstance(outcome.error, TimeoutError):
            raise outcome.error
        outcome = Failure(Kind.TIMEOUT, "the same request of another call took too long")
    attempt = course.skipped(target, outcome.kind, f"the same request of another call failed: {outcome.message}")
    yield from course.tell(attempt)
    course.last = outcome
    if outcome.kind is Kind.BAD_REQUEST:
        raise BadRequest(module=job.module, attempts=course.attempts) from _cause(outcome)
    if outcome.kind is Kind.CONTEXT_WINDOW:
        course.outgrown = target
    return None, attempt


def _load(course: _Course) -> Generator[Effect, tuple[Any, float], None]:
    began = course.now
    yield from course.do(Load())
    course.end += course.now - began
    course.loaded = True


def _until(course: _Course, rest: Sequence[Target]) -> float:
    """When a model has to be left: it has, its retries included, what is left of the time divided by the usable models
    that are left."""
    return course.now + (course.end - course.now) / (1 + course.usable(rest))


def _try(
    course: _Course, target: Target, rest: Sequence[Target], random: Callable[[], float]
) -> Generator[Effect, tuple[Any, float], tuple[Completion | None, Attempt]]:
    """Ask one model, again for errors that may pass, within its share of the time."""
    job = course.job
    others = course.usable(rest)
    until = _until(course, rest)
    request = job.request_to(target)
    retries = 0
    if course.keys and not course.missed:
        course.missed = True
        yield from course.tell(CacheUsed("miss"))
    while True:
        began = course.now
        limit = job.timeout_of(target)
        within = max(SHORTEST, min(limit, until - began))
        first_token, text = None, None
        asking = Open(target, request, within, job.thinking) if job.stream else Call(target, request, within)
        outcome = yield from course.step(asking)
        if isinstance(outcome, Piece):
            outcome, text, first_token = yield from _hand_on(course, target, outcome, began=began, gap=limit)
            within = limit
        failure, parsed = _judge(outcome, request)
        attempt = course.attempt(target, began, outcome, failure)
        yield from course.tell(attempt)
        if isinstance(outcome, Interrupted):
            raise outcome.error
        if failure is None:
            yield from course.tell(ModelLeft(target, None))
            yield from _keep(course, target, outcome, attempt)
            return _completion(course, target, outcome, parsed, first_token), attempt
        course.last = failure
        wait = (
            None
            if text is not None
            else _wait(failure, retries, last=not others, left=until - course.now, random=random)
        )
        if wait is None or retries >= job.settings.retries:
            # What the caller alone finds too slow says nothing for other calls.
            cut_short = failure.kind is Kind.TIMEOUT and within < NEARLY * job.usual_timeout_of(target)
            yield from course.tell(ModelLeft(target, failure, cut_short=cut_short))
            course.landing = None if cut_short else failure
            if text is not None:
                raise StreamInterrupted(module=job.module, attempts=course.attempts, partial_text=text) from _cause(
                    failure
                )
            if failure.kind is Kind.BAD_REQUEST:
                raise BadRequest(module=job.module, attempts=course.attempts) from _cause(failure)
            if failure.kind is Kind.CONTEXT_WINDOW:
                course.outgrown = target
            return None, attempt
        retries += 1
        yield from course.do(Sleep(wait))


def _keep(
    course: _Course, target: Target, reply: Reply, attempt: Attempt
) -> Generator[Effect, tuple[Any, float], None]:
    """Remember a complete answer, and have it ready for those who wait for the same."""
    course.landing = Shared(reply, attempt.cost_usd)
    key = course.keys.get(target.name)
    if key is not None and reply.finish_reason in COMPLETE:
        job = course.job
        yield from course.do(Keep(job.module, key, reply, attempt.cost_usd, job.settings.cache_ttl))


def _hand_on(
    course: _Course, target: Target, outcome: Any, *, began: float, gap: float
) -> Generator[Effect, tuple[Any, float], tuple[Reply | Failure | Interrupted, str, float | None]]:
    """Emit a stream's pieces, with at most `gap` seconds between two of them: how it ended, its text so far, and the
    seconds until the first of it.

    Nobody else is asked from here on, however it ends: two models' words are never mixed.
    """
    texts: list[str] = []
    first_token = None
    while isinstance(outcome, Piece):
        piece = outcome
        steps: list[Effect] = [Emit(piece.text), Next(piece.stream, gap)]
        if not isinstance(piece.text, Thinking):
            texts.append(piece.text)
            if first_token is None:
                first_token = course.now - began - course.reader
                steps.insert(0, Tell(course.job.module, FirstToken(target, first_token)))
        for effect in steps:
            if isinstance(outcome := (yield from course.step(effect)), Interrupted):
                break
        while outcome is None:
            outcome = yield from course.step(steps[-1])
        if isinstance(outcome, Interrupted):
            usage = yield from course.step(Close(piece.stream))
            if isinstance(usage, Usage):
                outcome = Interrupted(outcome.error, usage, estimated=True)
    return outcome, "".join(texts), first_token


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
        # Most of the exponential step for certain and some by chance: while the steps grow, so do the waits.
        step = min(BACKOFF_MOST, BACKOFF * 2**retries)
        wait = step * (0.6 + 0.4 * random())
    return wait if wait + SHORTEST < left else None


def _judge(outcome: Reply | Failure | Interrupted, request: Request) -> tuple[Failure | None, Any]:
    """Why this outcome is not an answer, or None when it is one, with the object that was asked for."""
    if isinstance(outcome, Failure):
        return outcome, None
    if isinstance(outcome, Interrupted):
        return Failure(Kind.CANCELLED, f"the caller went away ({type(outcome.error).__name__})"), None
    if outcome.finish_reason == "content_filter":
        return Failure(Kind.CONTENT_POLICY, "the provider filtered the answer"), None
    if outcome.tool_calls or (outcome.other and not outcome.text):
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
    except Exception as error:  # noqa: BLE001 - a validator of the caller's may raise anything
        if outcome.finish_reason == "length":
            limit = request.params.get("max_tokens")
            said = f"at max_tokens={limit}" if limit else "at the limit of tokens"
            return Failure(Kind.MAX_TOKENS, f"the answer was cut off {said} and does not validate; raise it"), None
        problem = " ".join(str(error).split())[:200]
        return Failure(Kind.EMPTY_RESPONSE, f"the answer does not validate as the response_format: {problem}"), None


def _cause(failure: Failure) -> ProviderError:
    return ProviderError(failure.kind, failure.message, status=failure.status, raised=failure.raised)


def _failed(course: _Course) -> AllModelsFailed:
    """The error of a call that no model answered."""
    job, elapsed = course.job, course.now - course.start
    if len(course.attempts) == 1 and course.attempts[0].error_kind is Kind.MISSING_KEY:
        obstacle = course.obstacle(job.chain[0])
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


def _completion(course: _Course, target: Target, reply: Reply, parsed: Any, first_token: float | None) -> Completion:
    job = course.job
    return Completion(
        text=reply.text,
        model=target.name,
        litellm_model=target.litellm_model,
        provider=target.provider,
        module=job.module,
        usage=reply.usage or Usage(),
        cost_usd=course.cost(),
        cached=course.attempts[-1].outcome == "cached",
        fallback=target is not job.chain[0],
        latency_s=course.now - course.start - course.reader,
        first_token_s=first_token,
        finish_reason=reply.finish_reason,
        tool_calls=reply.tool_calls,
        parsed=parsed,
        attempts=tuple(course.attempts),
        _response=reply.response,
    )
