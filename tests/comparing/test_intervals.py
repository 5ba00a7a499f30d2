"""The statistics: over many simulated comparisons the intervals hold what they promise, and so do the words."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from modelrouter.comparing import statistics
from modelrouter.comparing.statistics import change, enough, mean
from modelrouter.comparing.verdict import outcome
from modelrouter.errors import ConfigurationError

MARGIN = 0.03
SIMULATIONS = 200

WORLDS = [
    # quality of the first and of the other, how often both do alike, prompts
    (0.80, 0.77, 0.6, 120),
    (0.90, 0.87, 0.7, 120),
    (0.98, 0.95, 0.5, 60),
    (0.99, 0.96, 0.5, 150),
    (0.50, 0.47, 0.0, 1000),
    (0.70, 0.80, 0.3, 120),
    (0.70, 0.70, 0.5, 30),
]


def simulated(random: np.random.Generator, first: float, other: float, alike: float, prompts: int) -> Any:
    """Differences of scores of 0 and 1."""
    luck = random.random(prompts)
    others = np.where(random.random(prompts) < alike, luck, random.random(prompts))
    return (others < other).astype(float) - (luck < first)


@pytest.mark.parametrize("world", WORLDS, ids=str)
def test_the_interval_has_the_true_difference_in_it_and_not_worse_is_seldom_wrong(world: Any) -> None:
    first, other, _, _ = world
    random = np.random.default_rng(7)
    found = [
        mean(list(simulated(random, *world)), level=0.95, seed=0, least=-1.0, most=1.0) for _ in range(SIMULATIONS)
    ]
    covered = sum(each.low <= other - first <= each.high for each in found) / SIMULATIONS
    assert covered >= 0.93, covered
    if other - first <= -MARGIN:  # at the margin itself it is the hardest
        wrong = sum(outcome(each, MARGIN) in ("not worse", "better") for each in found) / SIMULATIONS
        assert wrong <= 0.05, wrong


def test_scores_between_0_and_1_are_covered_too() -> None:
    random = np.random.default_rng(7)
    covered = 0
    for _ in range(SIMULATIONS):
        differences = random.beta(2, 5, 80) - random.beta(5, 2, 80) * 0.4
        found = mean(list(differences), level=0.95, seed=0, least=-1.0, most=1.0)
        covered += found.low <= 2 / 7 - 0.4 * 5 / 7 <= found.high
    assert covered / SIMULATIONS >= 0.93


def test_a_change_of_cost_is_covered() -> None:
    random = np.random.default_rng(7)
    covered = 0
    for _ in range(500):
        size = random.gamma(4, 1, 60)  # of a prompt: what both pay for
        first, other = size * random.gamma(20, 0.05, 60), 0.4 * size * random.gamma(20, 0.05, 60)
        found = change(list(first), list(other), level=0.95, seed=0)
        assert found is not None
        covered += found.low <= -0.6 <= found.high
    assert covered / 500 >= 0.93


def test_the_interval_of_zeros_and_ones_is_clopper_and_pearsons() -> None:
    found = mean([1.0] * 20, level=0.95, seed=0, least=0.0, most=1.0)
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(0.025 ** (1 / 20), abs=0.01)
    found = mean([1.0] * 15 + [0.0] * 5, level=0.95, seed=0, least=0.0, most=1.0)
    assert (found.low, found.high) == (pytest.approx(0.509, abs=0.01), pytest.approx(0.913, abs=0.01))


def test_prompts_that_all_agree_are_not_enough_by_themselves() -> None:
    few, many = (mean([0.0] * count, level=0.95, seed=0, least=-1.0, most=1.0) for count in (40, 200))
    assert (outcome(few, MARGIN), outcome(many, MARGIN)) == ("cannot tell", "not worse")
    assert 40 < enough([0.0] * 40, margin=MARGIN, level=0.95) <= 130


def test_the_same_answers_have_the_same_interval() -> None:
    values = [0.1, 0.9, 0.4, 1.0, 0.0] * 9
    one, other = (mean(values, level=0.95, seed=3, least=0.0, most=1.0) for _ in range(2))
    assert one == other
    assert one != mean(values, level=0.95, seed=4, least=0.0, most=1.0)
    assert one.low < 0.48 < one.high


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.01, 0.2, "better"),
        (-0.03, 0.007, "not worse"),
        (-0.029, -0.01, "not worse"),
        (-0.2, -0.01, "worse"),
        (-0.05, 0.05, "cannot tell"),
    ],
)
def test_what_may_be_said(low: float, high: float, said: str) -> None:
    assert outcome(statistics.Interval(0, low, high, 0.95, 9), MARGIN) == said


def test_so_many_prompts_as_are_said_to_be_enough_tell_mostly() -> None:
    random = np.random.default_rng(7)
    sample = [1.0] * 10 + [-1.0] * 10 + [0.0] * 100
    needed = enough(sample, margin=MARGIN, level=0.95)
    told = 0
    for _ in range(50):
        differences = list(random.choice(sample, needed))
        told += outcome(mean(differences, level=0.95, seed=0, least=-1.0, most=1.0), MARGIN) != "cannot tell"
    assert needed > 120
    assert told >= 35


def test_nothing_is_compared_with_nothing() -> None:
    assert change([0, 0], [1, 1], level=0.95, seed=0) is None
    assert change([1], [1], level=0.95, seed=0) is None
    assert statistics.percentile([], 0.5) is None


def test_without_numpy_the_line_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    statistics.numpy.cache_clear()
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'modelrouter\[compare\]'"):
        statistics.numpy()
    monkeypatch.undo()
    statistics.numpy.cache_clear()
