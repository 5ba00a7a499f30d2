"""Whether an answer passes the caller's own gate."""

from __future__ import annotations

from typing import Any

from modelrouter.completion import Attempt, Kind

from .call import Candidate
from .effects import Check, Interrupted, Steps
from .exchange import Failure, Reply
from .progress import Progress

_LONGEST = 200
"""Characters of a reason."""


def turned_down(
    progress: Progress, candidate: Candidate, reply: Reply, parsed: Any, record: Attempt, *, others: int
) -> Steps[Failure | Interrupted | None]:
    """Why the answer, of which `record` will be told, is not taken; None: it is. Interrupted: by the gate itself."""
    gate = progress.call.gate_with(others)
    if gate is None:
        return None
    answer = progress.completion(candidate, reply, parsed, record=record)
    said = yield from progress.step(Check(gate, answer))
    if said is True:
        return None
    if isinstance(said, Interrupted):
        return said
    return Failure(Kind.REJECTED, " ".join(said.split())[:_LONGEST] or "the gate has turned it down")
