"""The plot of a page of ``modelrouter compare``: cost against quality, as SVG that needs no script."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 960, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 40, 16, 44
_LINES = 5
"""Lines across and upwards, about."""


@dataclass(frozen=True, slots=True)
class Point:
    """A model."""

    name: str
    place: int
    """Its number among the models, for its colour."""
    cost: float
    """US dollars of 1,000 calls."""
    score: float
    """0 to 100."""
    low: float
    high: float


def plot(points: Sequence[Point], *, what: str) -> str:
    """An ``<svg>``; `what` is said to who cannot see it. There is at least one point."""
    scale = _Scale(points)
    return "\n".join(
        [
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="what">',
            f'<title id="what">{escape(what)}</title>',
            *scale.lines(),
            *map(scale.point, points),
            "</svg>",
        ]
    )


def _step(most: float) -> float:
    """Between two lines: 1, 2 or 5 times a power of ten."""
    unit = 10.0 ** math.floor(math.log10(most / _LINES))
    return next(unit * times for times in (1, 2, 5, 10) if unit * times * _LINES >= most * 0.999)


class _Scale:
    """Where a cost and a score are."""

    def __init__(self, points: Sequence[Point]) -> None:
        self._most = max(point.cost for point in points) * 1.08 or 1.0
        least, most = min(point.low for point in points), max(point.high for point in points)
        self._rise = _step(max(most - least, 5.0))
        self._least = max(0.0, math.floor(least / self._rise) * self._rise)
        self._highest = min(100.0, math.ceil(most / self._rise) * self._rise)
        if self._highest <= self._least:
            self._least = max(0.0, self._highest - self._rise)

    def _x(self, cost: float) -> float:
        return _LEFT + cost / self._most * (_WIDTH - _LEFT - _RIGHT)

    def _y(self, score: float) -> float:
        part = (score - self._least) / (self._highest - self._least)
        return _HEIGHT - _BOTTOM - part * (_HEIGHT - _TOP - _BOTTOM)

    def lines(self) -> Iterator[str]:
        for number in range(round((self._highest - self._least) / self._rise) + 1):
            score = self._least + number * self._rise
            y = self._y(score)
            yield f'<line class="line" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            yield f'<text x="{_LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{score:g}</text>'
        step = _step(self._most)
        for number in range(math.floor(self._most / step) + 1):
            x = self._x(number * step)
            yield f'<line class="line" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>'
            yield f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">${number * step:g}</text>'
        yield f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 6}" text-anchor="end">US dollars for 1,000 calls</text>'

    def point(self, point: Point) -> str:
        """The mean, its interval as a bar, and the name, with what it says when it is pointed at."""
        x, y = self._x(point.cost), self._y(point.score)
        low, high = self._y(point.low), self._y(point.high)
        said = (
            f"{point.name}: {point.score:.1f} ({point.low:.1f} to {point.high:.1f}), ${point.cost:.4g} for 1,000 calls"
        )
        ends = "".join(
            f'<line x1="{x - 5:.1f}" x2="{x + 5:.1f}" y1="{end:.1f}" y2="{end:.1f}"/>' for end in (low, high)
        )
        side, anchor = (-10, "end") if x > _WIDTH * 0.75 else (10, "start")
        return (
            f'<g class="point s{point.place}"><title>{escape(said)}</title>'
            f'<line class="bar" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>{ends}'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6"/>'
            f'<text class="name" x="{x + side:.1f}" y="{y - 8:.1f}" text-anchor="{anchor}">{escape(point.name)}</text>'
            "</g>"
        )
