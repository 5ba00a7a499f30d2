"""Which model of a split is asked first: by weight, and for a user always the same one."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

from modelrouter.catalog.target import Target


def ordered(
    chain: Sequence[Target], weights: Sequence[float], random: Callable[[], float], *, module: str, user: str | None
) -> tuple[Target, ...]:
    """The chain with one of its first models, of which `weights` has one each, at its head.

    A user is given a model by rendezvous hashing with weights: nobody has to remember which, and when weights change
    only those move who have to.
    """
    first = max(range(len(weights)), key=lambda n: _score(weights[n], _draw(module, user, chain[n], random)))
    return chain[first], *chain[:first], *chain[first + 1 :]


def _score(weight: float, drawn: float) -> float:
    """The highest of these is each model's with a probability of its share of the weights."""
    return weight / -math.log(drawn) if weight else -1.0


def _draw(module: str, user: str | None, target: Target, random: Callable[[], float]) -> float:
    """A number between 0 and 1, and neither of them."""
    if user is None:
        return min(max(random(), 2**-53), 1 - 2**-53)
    digest = hashlib.sha256(f"{module}\0{target.name}\0{user}".encode()).digest()
    return (int.from_bytes(digest[:6]) + 0.5) / 2**48
