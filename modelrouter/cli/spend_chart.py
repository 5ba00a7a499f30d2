"""The chart of a page of ``modelrouter spend``: a stacked bar for each day, as SVG that needs no script."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from html import escape

from modelrouter.completion import add

from .screen import usd
from .spend_report import money

_WIDTH, _HEIGHT = 960, 280
_LEFT, _TOP, _BOTTOM = 56, 10, 26
"""Beside the bars: amounts, and days below."""
_LINES = 5
"""Horizontal lines above zero, at most."""
_LABELS = 8
"""Days that are named, about."""

Costs = Mapping[str, Decimal]
"""Series -> US dollars."""


def chart(days: Mapping[date, Costs], series: Sequence[str], *, what: str) -> str:
    """An ``<svg>``. `days` are all days, in order, and `series` those of the bars from the bottom up, which have the
    classes s0, s1 ...; `what` is said to who cannot see it. Something has to have been paid."""
    scale = _Scale(days)
    return "\n".join(
        [
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="what">',
            f'<title id="what">{escape(what)}</title>',
            *scale.lines(),
            *(scale.bar(number, series) for number in range(len(days))),
            *scale.labels(),
            "</svg>",
        ]
    )


def _step(most: Decimal) -> Decimal:
    """Between two lines: 1, 2 or 5 times a power of ten."""
    unit = Decimal(1).scaleb(most.adjusted() - 1)
    return next(unit * times for times in (1, 2, 5, 10, 20, 50) if unit * times * _LINES >= most)


class _Scale:
    """Where a day and an amount are."""

    def __init__(self, days: Mapping[date, Costs]) -> None:
        self._days = list(days.items())
        most = max(add(costs.values()) for costs in days.values())
        self._step = _step(most)
        self._count = math.ceil(most / self._step)
        self._wide = (_WIDTH - _LEFT) / len(days)

    def _y(self, amount: Decimal) -> float:
        part = float(amount / (self._step * self._count))
        return _HEIGHT - _BOTTOM - part * (_HEIGHT - _TOP - _BOTTOM)

    def lines(self) -> Iterator[str]:
        for number in range(self._count + 1):
            y, amount = self._y(self._step * number), usd(self._step * number) if number else "$0"
            yield f'<line class="{"line" if number else "zero"}" x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
            yield f'<text x="{_LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{amount}</text>'

    def bar(self, number: int, series: Sequence[str]) -> str:
        """A day, with what it says when it is pointed at."""
        day, costs = self._days[number]
        x, gap = _LEFT + self._wide * number, min(6.0, self._wide / 4)
        parts, said, below = [], [f"{day:%A}, {day}: {money(add(costs.values()))}"], Decimal(0)
        for index, name in enumerate(series):
            if cost := costs.get(name):
                y = self._y(below + cost)
                parts.append(
                    f'<rect class="s{index}" x="{x + gap / 2:.2f}" y="{y:.2f}" width="{self._wide - gap:.2f}" '
                    f'height="{self._y(below) - y:.2f}"/>'
                )
                said.insert(1, f"{name}: {money(cost)}")  # as they are piled up
                below += cost
        whole = f'<rect class="day" x="{x:.2f}" y="0" width="{self._wide:.2f}" height="{_HEIGHT - _BOTTOM}"/>'
        return f"<g><title>{escape(chr(10).join(said))}</title>{whole}{''.join(parts)}</g>"

    def labels(self) -> Iterator[str]:
        each = max(1, -(-len(self._days) // _LABELS))
        for number in range((len(self._days) - 1) % each, len(self._days), each):  # today among them
            day = self._days[number][0]
            said = f"{day.day} {day:%b}" if len(self._days) < 300 else f"{day:%b %Y}"
            x = _LEFT + self._wide * (number + 0.5)
            at, anchor = (x, "middle") if x < _WIDTH - 24 else (_WIDTH, "end")
            yield f'<text x="{at:.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{said}</text>'
