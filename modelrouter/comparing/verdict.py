"""What a difference comes to, in words that say no more than the figures do."""

from __future__ import annotations

from .result import ModelSummary, Outcome
from .statistics import Interval


def outcome(score: Interval | None, margin: float) -> Outcome:
    """What may be said of a difference of scores."""
    if score is None:
        return "not scored"
    if score.low > 0:
        return "better"
    if score.low >= -margin:
        return "not worse"
    return "worse" if score.high < 0 else "cannot tell"


def money(first: ModelSummary, other: ModelSummary, change: Interval | None) -> str:
    """``costs 95 % less``."""
    before, after = first.cost_per_call_usd, other.cost_per_call_usd
    if before is None or after is None:
        unknown = " and ".join(each.model for each in (first, other) if each.cost_per_call_usd is None)
        return f"costs an unknown amount (the cost of {unknown} is not known)"
    if not before:
        return "costs nothing either" if not after else f"costs money, and {first.model} none"
    if not after:
        return "costs nothing"
    return f"costs {_relative(change, 'less', 'more')}"


def speed(change: Interval | None) -> str:
    """``takes 40 % less time``."""
    return f"takes {_relative(change, 'less time', 'more time')}"


def quality(
    score: Interval, said: Outcome, *, margin: float, enough: int | None, judged: bool, against: str, compared: int
) -> str:
    """``its score is 1.2 points lower, 95 % interval -3.0 to +0.7: not worse than 3 points``."""
    limits = f"95 % interval {_signed(score.low)} to {_signed(score.high)}"
    allowance = f", with an allowance for {compared} comparisons" if compared > 1 else ""
    away = f"{abs(100 * score.value):.1f}"
    if judged:
        what = f"the judge prefers it in {50 + 100 * score.value:.1f} of 100, ties halved ({away} "
        what += f"{'above' if score.value >= 0 else 'below'} {against}'s even share"
        head = f"{what}, {limits}{allowance})"
    elif away == "0.0":
        head = f"its score is the same, {limits}{allowance}"
    else:
        head = f"its score is {away} points {'higher' if score.value > 0 else 'lower'}, {limits}{allowance}"
    return f"{head}: {_conclusion(score, said, margin, enough)}"


def _conclusion(score: Interval, said: Outcome, margin: float, enough: int | None) -> str:
    points = f"{100 * margin:g} point{'s' if margin != 0.01 else ''}"
    match said:
        case "better" | "not worse":
            lower = score.high < 0
            return "better" if said == "better" else f"{'lower, but ' if lower else ''}not worse than {points}"
        case "worse":
            return f"worse by more than {points}" if score.high < -margin else "worse"
    would = f"; about {enough:,} would" if enough is not None else ""
    return f"{score.count:,} prompt{'s' if score.count != 1 else ''} cannot tell{would}"


def _relative(change: Interval | None, less: str, more: str) -> str:
    if change is None:
        return f"neither {less} nor {more} that could be told"
    if change.low == change.high == 0:
        return "as much"
    if change.low <= 0 <= change.high:
        return f"about as much (95 % interval {_percent(change.low)} to {_percent(change.high)})"
    if change.value > 1:
        return f"{1 + change.value:,.1f} times as much"
    share = abs(100 * change.value)
    # Never rounded to all of it, or to nothing.
    shown = f"{share:.0f}" if share >= 1 else f"{share:.1f}"
    if change.value < 0 and 99 < share < 100:
        shown = "more than 99"
    return f"{shown} % {less if change.value < 0 else more}"


def _signed(part: float) -> str:
    return f"{100 * part:+.1f}".replace("+0.0", "0.0").replace("-0.0", "0.0")


def _percent(part: float) -> str:
    return f"{100 * part:+.0f} %"
