"""What a request may cost, reserved before it is sent."""

from __future__ import annotations

from .call import Candidate
from .effects import Reserve, Sleep, Steps
from .exchange import Hold, Short
from .progress import SHORTEST, Progress

FIRST = 0.02
"""Seconds before it is asked again whether a request fits now, doubled each time."""
MOST = 0.25


def reserve(progress: Progress, candidate: Candidate, until: float) -> Steps[Hold | Short | None]:
    """Reserve the highest price of a request to this model; None: there is no budget, or it is free.

    Where it would fit but for what other requests have reserved, these are waited for, `until` the model has to be
    left: most of them cost less in the end.
    """
    call = progress.call
    if not call.budgets and not progress.facts.capped():
        return None
    pause = FIRST
    while True:
        asked = Reserve(call.module, candidate.target, candidate.request, call.budgets, candidate.highest)
        got: Hold | Short | None = yield from progress.do(asked)
        if not isinstance(got, Short):
            return got
        wait = pause * (0.5 + progress.random())
        if not got.passing or progress.now + wait + SHORTEST > until:
            progress.short = got if got.limit else progress.short
            return got
        yield from progress.do(Sleep(wait, for_others=True))
        pause = min(MOST, 2 * pause)
