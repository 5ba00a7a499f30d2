"""Means and differences with the intervals that hold for them, from numpy's random weights.

A bounded mean (a score, a difference of scores) has Gaffke's interval: the mean under random weights, with one more
observation as bad, or as good, as can be. It is a Bayesian bootstrap that may be believed for few prompts, too, and
where all answers are right; for scores of 0 and 1 it is the exact one of Clopper and Pearson. N. Gaffke, "Three test
statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative variable" (2005); E. Learned-Miller and
P. S. Thomas, "A new confidence interval for the mean of a bounded random variable" (2020).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from modelrouter.completion import Record
from modelrouter.errors import ConfigurationError

_DRAWS = 10_000
"""Sets of weights: a limit then moves by about a hundredth of the interval's width from seed to seed."""
_AT_ONCE = 4_000_000
"""Weights in memory."""
_POWER = 0.8
"""How likely so many prompts as are said to be enough find what there is to be found."""


@dataclass(frozen=True, slots=True)
class Interval(Record):
    """An estimate, and the limits that the true value is within with the probability `level`."""

    value: float
    low: float
    high: float
    level: float
    count: int
    """Of prompts that it is from."""


@functools.cache
def numpy() -> Any:
    """The library. Raises ConfigurationError where it is not installed."""
    try:
        import numpy
    except ImportError:
        raise ConfigurationError(
            "the intervals of a comparison need numpy, which is not installed.\n"
            "  Install the extra: pip install 'modelrouter[compare]'"
        ) from None
    return numpy


def mean(values: Sequence[float], *, level: float, seed: int, least: float, most: float) -> Interval:
    """Of values, one for each prompt, that are never below `least` or above `most`."""
    np = numpy()
    count, beyond = len(values), (1 - level) / 2
    given = np.asarray(values, dtype=float)
    value = float(given.mean())
    lower = _weighted(np.append(given, least), seed)
    upper = _weighted(np.append(given, most), seed)
    low, high = float(np.quantile(lower, beyond)), float(np.quantile(upper, 1 - beyond))
    return Interval(value, max(least, min(low, value)), min(most, max(high, value)), level, count)


def change(first: Sequence[float], other: Sequence[float], *, level: float, seed: int) -> Interval | None:
    """By which part of itself the mean of `first` differs in `other`, paired by prompt: -0.95 is 95 % less. None: that
    of `first` is 0, or there is one pair."""
    np = numpy()
    before, after = np.asarray(first, dtype=float), np.asarray(other, dtype=float)
    if len(before) < 2 or not before.mean() > 0:
        return None
    both = _weighted(np.stack([before, after], axis=1), seed)
    ratios = both[:, 1] / np.maximum(both[:, 0], np.finfo(float).tiny) - 1
    low, high = np.quantile(ratios, [beyond := _widened(level, len(before)), 1 - beyond])
    return Interval(float(after.mean() / before.mean() - 1), float(low), float(high), level, len(before))


def _widened(level: float, count: int) -> float:
    """Which part of the means under random weights is beyond each limit. These vary by less than means of so few
    observations do, as the normal distribution does beside Student's, whose quantile is approximated: T. Hesterberg,
    "What teachers should know about the bootstrap" (2015), on expanded percentiles."""
    normal = NormalDist()
    sure = normal.inv_cdf((1 + level) / 2)
    student = sure + (sure**3 + sure) / (4 * (count - 1))
    return normal.cdf(-student * math.sqrt((count + 1) / (count - 1)))


def percentile(values: Sequence[float], part: float) -> float | None:
    """None: there are no values."""
    return float(numpy().quantile(numpy().asarray(values, dtype=float), part)) if values else None


def enough(differences: Sequence[float], *, margin: float, level: float) -> int:
    """About how many prompts would tell whether a difference is no worse than `margin`, or worse than nothing, if they
    are as these are. To two digits."""
    given = numpy().asarray(differences, dtype=float)
    value, spread = float(given.mean()), float(given.std())
    sure = NormalDist().inv_cdf((1 + level) / 2)
    away = max(value + margin, -value)
    # The limits are as far from the mean as its error says, and by one prompt that went as badly as can be.
    errors = (sure + NormalDist().inv_cdf(_POWER)) * spread
    usual = ((errors + math.sqrt(errors**2 + 4 * away)) / (2 * away)) ** 2
    rare = math.log((1 - level) / 2) / math.log1p(-min(margin, 0.5))  # to have seen what happens so rarely
    wanted: float = max(usual, rare, len(differences) + 1)
    digit: int = 10 ** max(0, math.floor(math.log10(wanted)) - 1)
    return math.ceil(wanted / digit) * digit


def _weighted(values: Any, seed: int) -> Any:
    """The mean of the values (the first axis) under each of the sets of random weights."""
    np = numpy()
    random = np.random.default_rng(seed)
    values, counts = np.unique(values, axis=0, return_counts=True)  # equal ones share the sum of their weights
    step = max(1, _AT_ONCE // len(values))
    parts = []
    for begin in range(0, _DRAWS, step):
        weights = random.standard_gamma(counts, (min(step, _DRAWS - begin), len(values)))
        parts.append(weights @ values / weights.sum(axis=1, keepdims=values.ndim > 1))
    return np.concatenate(parts)
