"""Whom to call next: every decision of a call, and nothing else.

`plan` is a generator. It yields an effect (ask this model within these seconds, emit a piece, sleep, report an event)
and is sent what came of it and what time it is. It performs nothing itself, so the same decisions serve synchronous and
asynchronous callers and streams, and a test can play any course of events as data, with no clock, loop or network.

Its chapters: this file has the order of the chain; `sharing` the calls that ask the same at the same time;
`remembering` the cache; `attempt` the requests to one model, their limits and retries; `budgeting` what one may cost;
`judging` whether what came is an answer; `progress` what happened so far.
"""

from __future__ import annotations

from collections.abc import Callable

from modelrouter.completion import Kind, known
from modelrouter.errors import BadRequest

from .call import Call, Candidate, Facts
from .effects import Plan, StreamClosed
from .events import CallEnded, CallOutcome
from .progress import Progress
from .remembering import remembered
from .sharing import share


def plan(call: Call, facts: Facts, *, now: float, random: Callable[[], float]) -> Plan:
    """Ask the models of a chain in order until one answers.

    `now` is the monotonic time, `random` gives numbers from 0 to 1 for the jitter.

    Returns the `Completion`. Raises `BadRequest`, `MissingKey`, `DeadlineExceeded`, `AllModelsFailed` or
    `StreamInterrupted` with every attempt; an interruption is metered and raised again as it came.
    """
    progress = Progress(call, facts, random, now=now, start=now, end=now + call.settings.deadline)
    try:
        answer = yield from _ask(progress)
    except GeneratorExit:
        raise
    except BaseException as error:
        outcome: CallOutcome = "error" if isinstance(error, Exception) else "cancelled"
        if isinstance(error, BadRequest):
            outcome = "bad_request"
        raised = None if isinstance(error, StreamClosed) else type(error)
        yield from progress.report(CallEnded(outcome, known(progress.attempts), raised))
        raise
    yield from progress.report(CallEnded("success", answer.cost_usd))
    return answer


def _ask(progress: Progress) -> Plan:
    candidates = [Candidate(progress.call, target) for target in progress.call.chain]
    waiting, aside = candidates[:], list[Candidate]()
    while waiting or aside:
        in_place = bool(waiting)
        candidate = waiting.pop(0) if in_place else aside.pop(0)
        # Remembered answers are looked for in the order of the chain, just before a model is asked: a fallback's never
        # stands in for the primary's, and a model that is set aside may still have one.
        if in_place and (answer := (yield from remembered(progress, candidate))) is not None:
            return answer
        if progress.late:
            for missed in [candidate, *waiting, *aside]:
                yield from progress.skip(missed, Kind.TIMEOUT, "no time was left")
            break
        obstacle = progress.obstacle(candidate)
        if obstacle is None and not progress.loaded:
            if (yield from progress.load()):
                candidate.checked = False  # LiteLLM's tables know more
            obstacle = progress.obstacle(candidate)
        if obstacle is not None:
            yield from progress.skip(candidate, obstacle.kind, obstacle.why)
            continue
        if in_place and (why := progress.facts.set_aside(candidate.target, progress.now)) is not None:
            aside.append(candidate)
            progress.left = progress.left or (candidate.target.name, why)
            continue
        yield from progress.fall_over(candidate)
        answer, asked = yield from share(progress, candidate, [*waiting, *aside])
        if answer is not None:
            return answer
        # Whom there is no money for was not asked, as who has no key.
        progress.left = None if asked.error_kind in (None, Kind.BUDGET) else (asked.model, asked.error_kind)
    raise progress.failed(candidates)
