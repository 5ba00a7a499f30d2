"""The page of ``modelrouter spend --html``: one file, which loads nothing and runs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from html import escape

from modelrouter.completion import EXACT

from .page import COLOURS, framed
from .spend_chart import chart
from .spend_report import Report, cost_of, counted, money

_OTHERS = "all others"


def page(report: Report) -> str:
    """The whole file."""
    by_day = Report(report.days, report.lines, "day", lambda _: report.baselines)
    named = report if report.by != "day" else Report(report.days, report.lines, "module", lambda _: report.baselines)
    series = [name for name, row in named.rows.items() if row.spending.cost_usd]
    parts = [
        f"<header><h1>Spend</h1><p>{escape(report.period)}</p></header>",
        *_comparison(report),
        *_tiles(report),
        *([_figure(named, series)] if series else []),
        f"<section><h2>By {named.by}</h2><div>{_table(named, series)}</div></section>",
        f"<details><summary>By day</summary><div>{_table(by_day, [])}</div></details>",
        '<section class="notes">',
        *(f"<p>{escape(note)}</p>" for note in report.notes()),
        "</section>",
    ]
    if not report.lines:
        parts = [parts[0], "<p>No call was counted.</p>"]
    return framed(f"Spend, {report.period}", _STYLE, "\n".join(parts), _FOOTER)


def _comparison(report: Report) -> Iterator[str]:
    if report.comparison is not None:
        figure, rest = report.comparison
        dearer = report.total.compared.cost_usd > report.total.compared.baseline_usd
        yield f'<p class="hero{" dearer" if dearer else ""}"><strong>{figure}</strong> {escape(rest)}</p>'


def _tiles(report: Report) -> Iterator[str]:
    spent = report.total.spending
    usage, free = spent.usage, spent.hits + spent.coalesced
    unknown = counted(spent.unknown, "answer of unknown cost", "answers of unknown cost")
    figures = (
        ("Spent", cost_of(spent), f"and {unknown}" if spent.unknown else "by all models"),
        ("Saved by the cache", money(spent.saved_usd), f"{counted(free, 'call', 'calls')} answered"),
        ("Requests", f"{spent.requests:,}", counted(spent.fallbacks, "fallback", "fallbacks")),
        ("Tokens", f"{usage.input_tokens:,}", f"in, and {usage.output_tokens:,} out"),
    )
    yield "<dl>"
    yield from (f"<div><dt>{name}</dt><dd>{value}<small>{more}</small></dd></div>" for name, value, more in figures)
    yield "</dl>"


def _figure(report: Report, series: Sequence[str]) -> str:
    """The chart, with its legend."""
    others = set(series[COLOURS:])
    bars = [*series[:COLOURS], *([_OTHERS] if others else [])]
    days: dict[date, dict[str, Decimal]] = {day: {} for day in report.days}
    for line in report.lines:
        name, costs = str(getattr(line, report.by)), days[line.day]
        name = _OTHERS if name in others else name
        costs[name] = EXACT.add(costs.get(name, Decimal(0)), line.spending.cost_usd)
    legend = "".join(f'<li class="s{place}">{escape(name)}</li>' for place, name in enumerate(bars))
    drawn = chart(days, bars, what=f"US dollars by day and {report.by}; the table by day has the same figures")
    return f"<figure><figcaption><ul>{legend}</ul></figcaption><div>{drawn}</div></figure>"


def _table(report: Report, series: Sequence[str]) -> str:
    columns = report.columns()
    colours = {name: f' class="s{min(place, COLOURS)}"' for place, name in enumerate(series)}
    cells = list(zip(*columns.values(), strict=True))
    rows = [
        _row(name, colours.get(name, ""), dict(zip(columns, each, strict=True)), report.bar(row))
        for (name, row), each in zip(report.rows.items(), cells, strict=False)
    ]
    head = "".join(f'<th scope="col">{escape(each.capitalize())}</th>' for each in (report.by, *columns))
    total = _row("all", "", dict(zip(columns, cells[-1], strict=True)) | {"SHARE": ""}, None)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody><tfoot>{total}</tfoot></table>"


def _row(name: str, colour: str, cells: Mapping[str, str], bar: float | None) -> str:
    drawn = "" if bar is None else f' class="share" style="--part: {bar:.4f}"'
    told = (f"<td{drawn if heading == 'SHARE' else ''}>{escape(value)}</td>" for heading, value in cells.items())
    return f'<tr{colour}><th scope="row">{escape(name)}</th>{"".join(told)}</tr>'


_FOOTER = """Written by <code>modelrouter spend</code>. Money is in US dollars, rounded; <code>--json</code> has every
digit. The same tokens: another model would have counted, and written, others."""

_STYLE = """
h2, summary { margin: 0 0 8px; font-size: 17px; font-weight: 600 }
summary { margin: 0; cursor: pointer }
dt, .notes { color: var(--soft) }
.notes p { margin: 0 }
.hero { margin: 20px 0 24px; font-size: 18px }
.hero strong { display: block; font-size: 46px; line-height: 1.15; letter-spacing: -0.03em; color: var(--good) }
.dearer strong { color: inherit }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 12px; margin: 20px 0 12px }
dl div, figure, section, details {
  padding: 16px 20px; background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
}
dt { font-size: 14px }
dd { margin: 0; font-size: 26px; font-weight: 600; letter-spacing: -0.01em }
small { display: block; font-size: 13px; font-weight: 400; letter-spacing: 0 }
figure, section, details { margin: 0 0 12px }
figure div, section div, details div { overflow-x: auto }
ul { display: flex; flex-wrap: wrap; gap: 4px 20px; margin: 0 0 12px; padding: 0; list-style: none; font-size: 14px }
li::before, tr[class] th::before {
  content: ""; display: inline-block; width: 10px; height: 10px; margin-right: 8px; border-radius: 3px;
  background: var(--c);
}
svg [class^="s"] { fill: var(--c) }
.zero { stroke: var(--soft) }
.day { fill: transparent }
g:hover .day { fill: var(--hover) }
thead th { white-space: normal; vertical-align: bottom }
tfoot th, tfoot td { border-top: 2px solid var(--rule); font-weight: 600 }
.share {
  min-width: 124px;
  background: linear-gradient(var(--c, var(--s7)) 0 0) no-repeat 16px 50% / calc(var(--part) * (100% - 60px)) 8px;
}
.notes { background: none; border: 0; font-size: 14px }
@media print { dl div, figure, section, details { break-inside: avoid } }
"""
