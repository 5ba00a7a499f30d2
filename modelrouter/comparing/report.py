"""Answers added up: each model by itself, and each against the first, paired by prompt."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from statistics import fmean
from typing import TypeVar

from modelrouter.catalog.target import missing_key
from modelrouter.completion import EXACT, Kind, Usage, add

from . import verdict
from .asking import Asked
from .result import Answer, Comparison, Difference, ModelSummary
from .run import Found, Task
from .statistics import Interval, change, enough, mean, percentile

LEVEL = 0.95

T = TypeVar("T")
ByPrompt = dict[str, list[T]]


def report(task: Task, found: Found, *, margin: float, seed: int) -> Comparison:
    """Of one run. `seed`: of the random weights."""
    models = [_summary(found, model, seed) for model in task.models]
    compared = len(models) - 1
    # As many chances to be wrong as there are comparisons (Bonferroni).
    level = 1 - (1 - LEVEL) / max(1, compared)
    differences = [_difference(task, found, models[0], other, level, margin, seed) for other in models[1:]]
    score = task.scorer.name if task.scorer is not None else None
    return Comparison(
        models=tuple(models),
        differences=tuple(differences),
        prompts=tuple(task.prompts),
        answers=tuple(found.answers),
        score="judge" if task.judge is not None else score,
        margin=margin,
        repeat=task.repeat,
        cost_usd=found.cost_usd,
        judge_cost_usd=found.judge_cost_usd if task.judge is not None else None,
        notes=tuple(_notes(task, found, models)),
        stopped=found.stopped,
    )


def _summary(found: Found, model: Asked, seed: int) -> ModelSummary:
    mine = [each for each in found.answers if each.model == model.name]
    answered = [each for each in mine if each.text is not None]
    latencies = [each.latency_s for each in answered if each.latency_s is not None]
    costs = [each.cost_usd for each in answered if each.cost_usd is not None]
    whole = len(costs) == len(answered) > 0
    scores = _means(_by_prompt(answered))
    return ModelSummary(
        model=model.name,
        litellm_model=model.target.litellm_model,
        answers=len(answered),
        errors=Counter(each.error_kind for each in mine if each.error_kind is not None),
        latency_p50_s=percentile(latencies, 0.5),
        latency_p95_s=percentile(latencies, 0.95),
        usage=sum((each.usage for each in answered if each.usage is not None), Usage()),
        cost_per_call_usd=_each(costs) if whole else None,
        score=mean(list(scores.values()), level=LEVEL, seed=seed, least=0.0, most=1.0) if scores else None,
    )


def _each(costs: Sequence[Decimal]) -> Decimal:
    """The mean, to a trillionth of a dollar."""
    return EXACT.quantize(EXACT.divide(add(costs), Decimal(len(costs))), Decimal("1e-12")).normalize(EXACT)


def _difference(
    task: Task, found: Found, first: ModelSummary, other: ModelSummary, level: float, margin: float, seed: int
) -> Difference:
    pairs = list(_pairs(found.answers, first.model, other.model))
    if not pairs:
        return Difference(other.model, first.model, 0, "nothing to compare", _nothing(first, other))
    judged = task.judge is not None
    scored = [(b.prompt, 0.5 if judged else a.score, b.score) for a, b in pairs]
    by_prompt = _grouped((prompt, b - a) for prompt, a, b in scored if a is not None and b is not None)
    values = list(_means(by_prompt).values())
    edge = 0.5 if judged else 1.0
    score = mean(values, level=level, seed=seed, least=-edge, most=edge) if values else None
    cost = _change([(a.prompt, a.cost_usd, b.cost_usd) for a, b in pairs], level, seed)
    latency = _change([(a.prompt, a.latency_s, b.latency_s) for a, b in pairs], level, seed)
    said = verdict.outcome(score, margin)
    needed = enough(values, margin=margin, level=level) if said == "cannot tell" else None
    count = len({a.prompt for a, _ in pairs})
    words = f"{other.model} {verdict.money(first, other, cost)}"
    if score is None:
        words += f" and {verdict.speed(latency)}; no answer was scored" + _over(task, count)
    else:
        told = verdict.quality(
            score, said, margin=margin, enough=needed, judged=judged, against=first.model, compared=len(task.models) - 1
        )
        words += f"; {told}" + _over(task, score.count)
    return Difference(other.model, first.model, count, said, words, score, cost, latency, needed)


def _over(task: Task, count: int) -> str:
    missing = len(task.prompts) - count
    return f" (over the {count:,} of {len(task.prompts):,} prompts that could be compared)" if missing else ""


def _nothing(first: ModelSummary, other: ModelSummary) -> str:
    silent = [each for each in (first, other) if not each.answers]
    if not silent:
        return f"{other.model}: nothing to compare, since no prompt was answered by {first.model} as well"
    kinds = "; ".join(f"{each.model} gave no answer{_kinds(each)}" for each in silent)
    return f"{other.model}: nothing to compare with {first.model}: {kinds}"


def _kinds(summary: ModelSummary) -> str:
    return f" ({', '.join(f'{kind} {count}' for kind, count in summary.errors.items())})" if summary.errors else ""


def _notes(task: Task, found: Found, models: Sequence[ModelSummary]) -> Iterator[str]:
    for asked, model in zip(task.models, models, strict=True):
        if Kind.MISSING_KEY in model.errors:
            yield f"{model.model} was not asked: {missing_key(asked.target)} is not set."
    if len(models) > 1 and any(each.failed and each.answers for each in models):
        yield "What was not answered has no score; only prompts that both models have answered are compared."
    before = sum(each.remembered for each in found.answers)
    if before and found.oldest is not None:
        day = time.strftime("%Y-%m-%d", time.gmtime(found.oldest))
        yield f"{before:,} of {len(found.answers):,} answers are from before, the oldest of {day}."
    if found.lost:
        calls = f"{found.lost:,} call{'s were' if found.lost != 1 else ' was'}"
        yield f"{calls} under way when an earlier run was ended: asked again, and perhaps billed twice."
    if task.judge is not None and found.judged:
        yield (
            f"The judge, {task.judge.who.name}, contradicted itself on {found.contradicted:,} of {found.judged:,} "
            "pairs when their order was changed; these are ties."
        )
    if found.unjudged:
        yield f"On {found.unjudged:,} pair{'s' if found.unjudged != 1 else ''} the judge gave no verdict."
    if len(task.prompts) < 2:
        yield "One prompt says nothing about others."


# -- by prompt


def _grouped(pairs: Iterable[tuple[str, T]]) -> ByPrompt[T]:
    found: ByPrompt[T] = {}
    for prompt, value in pairs:
        found.setdefault(prompt, []).append(value)
    return found


def _by_prompt(answers: Iterable[Answer]) -> ByPrompt[float]:
    return _grouped((each.prompt, each.score) for each in answers if each.score is not None)


def _means(values: ByPrompt[float]) -> dict[str, float]:
    """A prompt that was asked again says no more about the others, so its repeats are one value."""
    return {prompt: fmean(each) for prompt, each in values.items()}


def _pairs(answers: Iterable[Answer], first: str, other: str) -> Iterator[tuple[Answer, Answer]]:
    """The answers to the same prompt, asked the same time, of two models that both gave one."""
    found: dict[tuple[str, int], dict[str, Answer]] = {}
    for each in answers:
        if each.text is not None:
            found.setdefault((each.prompt, each.repeat), {})[each.model] = each
    yield from ((both[first], both[other]) for both in found.values() if first in both and other in both)


def _change(
    pairs: Sequence[tuple[str, Decimal | float | None, Decimal | float | None]], level: float, seed: int
) -> Interval | None:
    if any(a is None or b is None for _, a, b in pairs):
        return None
    sides = [_means(_grouped((pair[0], float(pair[side] or 0)) for pair in pairs)) for side in (1, 2)]
    return change(list(sides[0].values()), list(sides[1].values()), level=level, seed=seed)
