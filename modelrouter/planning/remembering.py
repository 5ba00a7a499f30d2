"""Answers that were paid for already, and the one of this call for those who come later."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from modelrouter.completion import Attempt, Completion

from .call import Candidate
from .effects import Emit, Interrupted, ReadCache, Steps, StreamClosed, WriteCache
from .endings import COMPLETE
from .events import CacheUsed
from .exchange import Failure, Recalled, Remembered, Reply
from .gating import turned_down
from .judging import judge
from .progress import Progress


def remembered(progress: Progress, candidate: Candidate) -> Steps[Completion[Any] | None]:
    """The model's answer out of the cache. It costs nothing, and needs no key."""
    call = progress.call
    if call.cache == "off":
        return None
    look = ReadCache(call.module, candidate.target, candidate.request, call.settings.cache_ttl, call.cache_extra)
    key, found = yield from progress.do(look)
    if found is not None and call.cache == "use":
        answer = yield from recall(progress, candidate, found, "hit")
        if isinstance(answer, Completion):
            return answer
    if key is not None:
        candidate.key = key
        progress.missed = progress.missed or False
    return None


def recall(
    progress: Progress, candidate: Candidate, found: Remembered, result: Literal["hit", "coalesced"]
) -> Steps[Completion[Any] | Failure]:
    """The answer made of one that was paid for already, or why it is none to this call."""
    reply = found.reply
    if reply.response is not None and not callable(reply.response):
        # Each caller may do with the response what it likes.
        reply = replace(reply, response=partial(copy.deepcopy, reply.response))
    failure, parsed = judge(reply, candidate.request)
    if failure is not None:
        return failure
    record = candidate.target.attempt("cached", usage=reply.usage)
    last = candidate.target is progress.call.chain[-1]
    verdict = yield from turned_down(progress, candidate, reply, parsed, record, others=0 if last else 1)
    if isinstance(verdict, Interrupted):
        raise verdict.error
    if verdict is not None:
        return verdict
    progress.publishing = found
    yield from progress.fall_over(candidate)
    yield from progress.report(record)
    yield from progress.report(CacheUsed(result, found.cost_usd, candidate.target))
    if progress.call.stream:
        yield from hand_on(progress, reply)
    return progress.completion(candidate, reply, parsed)


def hand_on(progress: Progress, reply: Reply) -> Steps[None]:
    """A whole answer, to the reader of a stream."""
    if reply.text:
        text = Recalled(reply.text) if progress.call.thinking else reply.text
        stopped = yield from progress.step(Emit(text))
        if isinstance(stopped, Interrupted) and not isinstance(stopped.error, StreamClosed):  # it has all of it
            raise stopped.error


def keep(progress: Progress, candidate: Candidate, reply: Reply, attempt: Attempt) -> Steps[None]:
    """Remember a complete answer, and have it ready for those who wait for the same."""
    progress.publishing = Remembered(reply, attempt.cost_usd)
    if candidate.key is not None and reply.finish_reason in COMPLETE:
        call = progress.call
        ttl = call.settings.cache_ttl
        yield from progress.do(WriteCache(call.module, candidate.key, reply, attempt.cost_usd, ttl))
