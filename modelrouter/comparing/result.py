"""What a comparison gives: every answer, a summary of each model, and how each differs from the first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, TypeAlias

from modelrouter.completion import Kind, Money, Record, Usage

from .prompts import Prompt
from .statistics import Interval

Outcome: TypeAlias = Literal["better", "not worse", "worse", "cannot tell", "not scored", "nothing to compare"]
"""Of a model's score against the first's. ``not worse``: by no more than the margin."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a comparison has come."""

    done: int
    """Of the calls; those that are remembered from before are among them."""
    total: int
    cost_usd: Decimal
    """What is known of it, what was paid before included."""


@dataclass(frozen=True, slots=True)
class Answer(Record):
    """What one model gave to one prompt."""

    prompt: str
    """Its id."""
    model: str
    repeat: int
    """Which time the prompt was asked, from 1."""
    text: str | None
    """None: there was no answer."""
    error_kind: Kind | None = None
    error: str | None = None
    """In one line, without secrets."""
    latency_s: float | None = None
    """Seconds of the request that was answered."""
    usage: Usage | None = None
    cost_usd: Money | None = None
    """Of the call, answers that were turned down included; None: not known."""
    score: float | None = None
    """0 to 1; of a judge: 1 it is better than the first model's, 0.5 neither. None: it has none."""
    remembered: bool = False
    """From before; it was not paid for again."""


@dataclass(frozen=True, slots=True)
class ModelSummary(Record):
    """One model, over all prompts."""

    model: str
    litellm_model: str
    answers: int
    errors: Mapping[Kind, int] = field(default_factory=dict)
    latency_p50_s: float | None = None
    latency_p95_s: float | None = None
    usage: Usage = field(default_factory=Usage)
    """Of the answers."""
    cost_per_call_usd: Money | None = None
    """The mean of the answers; None: not known, of one of them at least."""
    score: Interval | None = None
    """0 to 1."""

    @property
    def failed(self) -> int:
        return sum(self.errors.values())


@dataclass(frozen=True, slots=True)
class Difference(Record):
    """A model against the first one, paired by prompt: over the prompts that both have answered."""

    model: str
    against: str
    prompts: int
    outcome: Outcome
    verdict: str
    """In words."""
    score: Interval | None = None
    """By how much it is higher, -1 to 1."""
    cost: Interval | None = None
    """By which part it is dearer: -0.95 is 95 % less. None: not known, or the first is free."""
    latency: Interval | None = None
    """By which part it takes longer."""
    enough: int | None = None
    """About how many prompts would tell."""


@dataclass(frozen=True, slots=True)
class Comparison(Record):
    """Everything. ``str(comparison)`` are its verdicts."""

    models: tuple[ModelSummary, ...]
    """In the order in which they were named."""
    differences: tuple[Difference, ...]
    prompts: tuple[Prompt, ...]
    answers: tuple[Answer, ...]
    score: str | None
    """By what answers were scored; None: they were not."""
    margin: float
    """What counts as worse, 0 to 1."""
    repeat: int
    cost_usd: Money
    """What is known of the cost of all calls, the judge's and those of before included."""
    judge_cost_usd: Money | None
    """The judge's part of it; None: there was no judge."""
    notes: tuple[str, ...] = ()
    """What has to be known beside the figures."""
    stopped: str | None = None
    """Why not all was asked."""

    def __str__(self) -> str:
        return "\n".join(each.verdict for each in self.differences)

    def answers_to(self, prompt: Prompt) -> dict[str, list[Answer]]:
        """By model, in the order of the models."""
        found: dict[str, list[Answer]] = {each.model: [] for each in self.models}
        for answer in self.answers:
            if answer.prompt == prompt.id:
                found[answer.model].append(answer)
        return found
