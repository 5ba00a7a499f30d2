"""What ``modelrouter compare`` shows, be it as a table, as CSV or as a page."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from decimal import Decimal

from modelrouter.comparing.result import Answer, Comparison, ModelSummary
from modelrouter.comparing.statistics import Interval
from modelrouter.completion import EXACT

from .screen import usd

RIGHT = ("ANSWERS", "P50", "P95", "TOKENS IN", "OUT", "A CALL", "1,000 CALLS", "SCORE")
"""Columns of numbers."""
_CSV = (
    *("id", "prompt", "expected", "model", "repeat", "text", "error_kind", "error", "latency_s"),
    *("input_tokens", "output_tokens", "cost_usd", "score", "remembered"),
)


def columns(comparison: Comparison) -> dict[str, list[str]]:
    """Heading -> a value for each model. What nobody has is left out."""
    models = comparison.models
    found = {
        "MODEL": [each.model for each in models],
        "ANSWERS": [f"{each.answers:,}" for each in models],
        "ERRORS": [_errors(each) for each in models],
        "SCORE": [_points(each.score) for each in models],
        "95 % INTERVAL": [_limits(each.score) for each in models],
        "P50": [_seconds(each.latency_p50_s) for each in models],
        "P95": [_seconds(each.latency_p95_s) for each in models],
        "TOKENS IN": [f"{each.usage.input_tokens:,}" for each in models],
        "OUT": [f"{each.usage.output_tokens:,}" for each in models],
        "A CALL": [_cost(each, 1) for each in models],
        "1,000 CALLS": [_cost(each, 1000) for each in models],
    }
    return {heading: cells for heading, cells in found.items() if any(cells)}


def sentences(comparison: Comparison) -> Iterator[str]:
    """What the figures come to, the most important first."""
    if comparison.stopped is not None:
        yield f"Not all was asked: {comparison.stopped}"
    yield from (f"{each.verdict}." for each in comparison.differences)
    yield from comparison.notes
    judge = comparison.judge_cost_usd
    part = "" if comparison.score != "judge" else f", {money(judge)} of it for the judge"
    unknown = any(each.cost_usd is None and each.text is not None for each in comparison.answers)
    yield f"All of it cost {money(comparison.cost_usd)}{part}{', as far as that is known' if unknown else ''}."


def differs(answers: dict[str, list[Answer]]) -> bool:
    """Whether the models' answers to a prompt are not all the same text."""
    given = [[None if each.text is None else each.text.strip() for each in mine] for mine in answers.values() if mine]
    return any(each != given[0] for each in given)


def rows(comparison: Comparison) -> str:
    """A row of CSV for each answer, under a head."""
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    table.writerow(_CSV)
    prompts = {each.id: each for each in comparison.prompts}
    for each in comparison.answers:
        prompt, usage = prompts[each.prompt], each.usage
        tokens = ("", "") if usage is None else (usage.input_tokens, usage.output_tokens)
        cost = "" if each.cost_usd is None else f"{each.cost_usd:f}"
        asked = (each.prompt, prompt.text, prompt.expected, each.model, each.repeat)
        said = (each.text, each.error_kind, each.error, each.latency_s)
        table.writerow((*asked, *said, *tokens, cost, each.score, each.remembered))
    return written.getvalue()


# -- values, for people


def money(amount: Decimal | None) -> str:
    """A sum that somebody has paid: ``$0`` where `usd` says free."""
    return "$0" if amount is not None and not amount else usd(amount)


def answer_line(answer: Answer) -> str:
    """``1.2 s, $0.000014, score 100``."""
    parts = [_seconds(answer.latency_s), money(answer.cost_usd) if answer.text is not None else ""]
    parts.append("" if answer.score is None else f"score {100 * answer.score:g}")
    return ", ".join(filter(None, parts))


def _errors(model: ModelSummary) -> str:
    return ", ".join(f"{kind} {count:,}" for kind, count in sorted(model.errors.items()))


def _points(score: Interval | None) -> str:
    return "" if score is None else f"{100 * score.value:.1f}"


def _limits(score: Interval | None) -> str:
    return "" if score is None else f"{100 * score.low:.1f} to {100 * score.high:.1f}"


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f} s" if value >= 0.1 else f"{1000 * value:.0f} ms"


def _cost(model: ModelSummary, calls: int) -> str:
    if not model.answers:
        return ""
    each = model.cost_per_call_usd
    return usd(None if each is None else EXACT.multiply(each, Decimal(calls)))


def side_by_side(comparison: Comparison, most: int) -> Iterator[str]:
    """The answers to the first prompts, for a terminal."""
    wide = max(len(each.model) for each in comparison.models)
    for prompt in comparison.prompts[:most]:
        yield f"{prompt.id}. {_indented(prompt.text, 4)}"
        for name, given in comparison.answers_to(prompt).items():
            for answer in given:
                text = answer.text if answer.text is not None else f"({answer.error_kind}: {answer.error})"
                yield f"    {name:<{wide}}  {_indented(text.strip(), wide + 6)}"
        yield ""
    if (more := len(comparison.prompts) - most) > 0:
        yield f"{more:,} more prompt{'s' if more != 1 else ''}: --html FILE writes all of them."


def _indented(text: str, by: int) -> str:
    return f"\n{' ' * by}".join(_lines(text))


def _lines(text: str) -> Sequence[str]:
    return text.splitlines() or [""]
