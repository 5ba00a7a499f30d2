"""One model asked, again for errors that may pass, within its share of the time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from modelrouter.completion import Attempt, Completion, Kind, Usage
from modelrouter.errors import StreamInterrupted

from .budgeting import reserve
from .call import Candidate
from .effects import Close, Effect, Emit, Interrupted, Next, OpenStream, Report, Send, Settle, Sleep, Steps
from .events import CacheUsed, FirstToken, ModelLeft
from .exchange import Failure, Piece, Remembered, Reply, Short, Thinking
from .gating import turned_down
from .judging import judge
from .progress import SHORTEST, Progress, cause
from .remembering import hand_on, keep

MAY_PASS = frozenset((Kind.RATE_LIMIT, Kind.CONNECTION, Kind.SERVER, Kind.TRUNCATED))
"""Kinds for which the same model is asked again."""
PATIENCE = 30.0
"""Seconds: a provider that asks for a longer wait is left for the next model at once."""
BACKOFF = 0.5
"""Seconds before the first retry, doubled before each further one ("exponential backoff with jitter")."""
BACKOFF_MOST = 8.0
LONGEST_WAIT = PATIENCE * 1.1 + 0.1
"""Seconds before a retry, at most: such a wait, with its jitter (`_wait`)."""
NEARLY = 0.9
"""Of a full limit: to wait so long for a model that says nothing tells as much of it."""


def time_until(progress: Progress, others: int) -> float:
    """When a model has to be left: it has, its retries included, what is left of the time divided by the usable models
    that are left."""
    return progress.now + (progress.end - progress.now) / (1 + others)


def attempt(
    progress: Progress, candidate: Candidate, rest: list[Candidate]
) -> Steps[tuple[Completion[Any] | None, Attempt]]:
    """Ask one model, with `rest` behind it: its answer if it gave one, and the record of the last request."""
    call, target, request = progress.call, candidate.target, candidate.request
    others = progress.usable(rest)
    until = time_until(progress, others)
    limit, retries = call.timeout_of(target), 0
    if progress.missed is False:
        progress.missed = True
        yield from progress.report(CacheUsed("miss"))
    while True:
        hold = yield from reserve(progress, candidate, until)
        if isinstance(hold, Short):
            return None, (yield from progress.skip(candidate, Kind.BUDGET, hold.why))
        began = progress.now
        within = max(SHORTEST, min(limit, until - began))
        first_token, text = None, None
        # An answer that may be turned down is not handed on before.
        live = call.stream and call.gate_with(others) is None
        asking = OpenStream(target, request, within, call.thinking) if live else Send(target, request, within)
        outcome = yield from progress.step(asking)
        if isinstance(outcome, Piece):
            outcome, text, first_token = yield from _hand_on(progress, candidate, outcome, began=began, gap=limit)
            within = limit
        failure, parsed = judge(outcome, request)
        record = progress.attempt(candidate, began, outcome, failure)
        stopped = outcome if isinstance(outcome, Interrupted) else None
        if failure is None:
            verdict = yield from turned_down(progress, candidate, outcome, parsed, record, others=others)
            if isinstance(verdict, Failure):
                failure = verdict
                record = replace(record, outcome="error", error_kind=failure.kind, error=failure.message)
            elif verdict is not None:
                stopped = verdict
        yield from progress.report(record)
        if hold is not None:
            yield from progress.do(Settle(hold, record.cost_usd))
        if stopped is not None:
            raise stopped.error
        if failure is None:
            yield from progress.report(ModelLeft(target, None))
            yield from keep(progress, candidate, outcome, record)
            if call.stream and not live:
                yield from hand_on(progress, outcome)
            return progress.completion(candidate, outcome, parsed, first_token), record
        wait = None
        if text is None and retries < call.settings.retries:
            wait = _wait(failure, retries, last=not others, left=until - progress.now, random=progress.random)
        if wait is None:
            # What the caller alone finds too slow says nothing for other calls.
            cut_short = failure.kind is Kind.TIMEOUT and within < NEARLY * call.usual_timeout_of(target)
            yield from progress.report(ModelLeft(target, failure, cut_short=cut_short))
            progress.publishing = None if cut_short else failure
            if failure.kind is Kind.REJECTED:  # others have gates of their own
                progress.publishing = Remembered(outcome, record.cost_usd)
            if text is not None:
                broken = StreamInterrupted(module=call.module, attempts=progress.attempts, partial_text=text)
                raise broken from cause(failure)
            progress.note(candidate, failure)
            return None, record
        retries += 1
        yield from progress.do(Sleep(wait))


def _hand_on(
    progress: Progress, candidate: Candidate, outcome: Any, *, began: float, gap: float
) -> Steps[tuple[Reply | Failure | Interrupted, str, float | None]]:
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
                first_token = progress.now - began - progress.reader
                steps.insert(0, Report(progress.call.module, FirstToken(candidate.target, first_token)))
        for effect in steps:
            if isinstance(outcome := (yield from progress.step(effect)), Interrupted):
                break
        while outcome is None:
            outcome = yield from progress.step(steps[-1])
        if isinstance(outcome, Interrupted):
            usage = yield from progress.step(Close(piece.stream))
            if isinstance(usage, Usage):
                outcome = Interrupted(outcome.error, usage, estimated=True)
    return outcome, "".join(texts), first_token


def _wait(failure: Failure, retries: int, *, last: bool, left: float, random: Callable[[], float]) -> float | None:
    """Seconds before the same model is asked again; None: go on to the next one."""
    again = failure.kind in MAY_PASS or (failure.kind is Kind.TIMEOUT and last)
    if not again or failure.lasting or (failure.retry_after or 0) > PATIENCE:
        return None
    if failure.retry_after is not None:
        # A little more than was asked for: many clients were told the same.
        wait = failure.retry_after * (1 + random() / 10) + random() / 10
    else:
        # Most of the exponential step for certain and some by chance: while the steps grow, so do the waits.
        wait = min(BACKOFF_MOST, BACKOFF * 2**retries) * (0.6 + 0.4 * random())
    return wait if wait + SHORTEST < left else None
