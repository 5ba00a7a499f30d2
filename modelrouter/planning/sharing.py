"""Identical requests in flight are sent once: a call leads, or waits for one that asks the same."""

from __future__ import annotations

from typing import Any

from modelrouter.completion import Attempt, Completion, Kind

from .attempt import attempt, time_until
from .call import Candidate
from .effects import Interrupted, Join, Publish, Steps, Wait
from .exchange import Failure, Remembered
from .progress import SHORTEST, Progress
from .remembering import recall, remembered


def share(
    progress: Progress, candidate: Candidate, rest: list[Candidate]
) -> Steps[tuple[Completion[Any] | None, Attempt]]:
    """Ask one model, or wait for another call that asks it the same: its answer, and the record of it."""
    call = progress.call
    if candidate.key is None or call.stream or call.cache != "use":
        return (yield from attempt(progress, candidate, rest))
    while True:
        flight, leading = yield from progress.do(Join(candidate.key))
        if leading:
            break
        until = time_until(progress, progress.usable(rest))
        outcome = yield from progress.step(Wait(flight, max(SHORTEST, until - progress.now)))
        if outcome is not None:
            return (yield from _follow(progress, candidate, outcome))
        if progress.late:
            return None, (yield from progress.skip(candidate, Kind.TIMEOUT, "no time was left"))
    progress.publishing = None
    try:
        # Another call may have published between the look and the joining.
        answer = yield from remembered(progress, candidate)
        if answer is None:
            return (yield from attempt(progress, candidate, rest))
        return answer, progress.attempts[-1]
    finally:
        yield from progress.do(Publish(flight, progress.publishing))


def _follow(progress: Progress, candidate: Candidate, outcome: Any) -> Steps[tuple[Completion[Any] | None, Attempt]]:
    """What another call's answer or failure means for this one: nobody asks a model again that just failed."""
    if isinstance(outcome, Remembered):
        answer = yield from recall(progress, candidate, outcome, "coalesced")
        if isinstance(answer, Completion):
            return answer, progress.attempts[-1]
        outcome = answer
        why = f"the answer that another call was given: {answer.message}"
    elif isinstance(outcome, Interrupted):
        if not isinstance(outcome.error, TimeoutError):
            raise outcome.error
        outcome = Failure(Kind.TIMEOUT, why := "the same request of another call took too long")
    else:
        why = f"the same request of another call failed: {outcome.message}"
    record = yield from progress.skip(candidate, outcome.kind, why)
    progress.note(candidate, outcome)
    return None, record
