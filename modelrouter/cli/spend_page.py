"""The page of ``modelrouter spend --html``: one file, which loads nothing and runs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from html import escape

from modelrouter.completion import EXACT

from .spend_chart import chart
from .spend_report import Report, cost_of, counted, money

_COLOURS = 7
"""What is left is one grey series together."""
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
    return _FRAME.format(period=escape(report.period), style=_STYLE, body="\n".join(parts))


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
    others = set(series[_COLOURS:])
    bars = [*series[:_COLOURS], *([_OTHERS] if others else [])]
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
    colours = {name: f' class="s{min(place, _COLOURS)}"' for place, name in enumerate(series)}
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


_FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Spend, {period}</title>
<style>{style}</style>
</head>
<body>
{body}
<footer>Written by <code>modelrouter spend</code>. Money is in US dollars, rounded; <code>--json</code> has every
digit. The same tokens: another model would have counted, and written, others.</footer>
</body>
</html>
"""

_STYLE = """
:root {
  --page: #f7f7f5; --card: #fff; --ink: #1c1d20; --soft: #5d626b; --rule: #e2e3e0; --hover: #0000000a; --good: #0b7a5c;
  --s0: #2f6bd8; --s1: #e28a12; --s2: #15947f; --s3: #c2417c; --s4: #7a5ad0; --s5: #8a9f1f; --s6: #2f9fd0;
  --s7: #9aa0a8;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  font-variant-numeric: tabular-nums;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #131417; --card: #1c1e22; --ink: #eceef1; --soft: #9ba1ab; --rule: #31343a; --hover: #ffffff10;
    --good: #45cfa4;
    --s0: #6a9cff; --s1: #f0ad46; --s2: #3cc0a8; --s3: #ee7fae; --s4: #a98cf5; --s5: #b9cc4f; --s6: #62c3ee;
    --s7: #7d838c;
  }
}
.s0 { --c: var(--s0) } .s1 { --c: var(--s1) } .s2 { --c: var(--s2) } .s3 { --c: var(--s3) }
.s4 { --c: var(--s4) } .s5 { --c: var(--s5) } .s6 { --c: var(--s6) } .s7 { --c: var(--s7) }
* { box-sizing: border-box }
body { max-width: 1180px; margin: 0 auto; padding: 40px 24px; background: var(--page); color: var(--ink) }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 16px }
h1 { margin: 0; font-size: 30px; letter-spacing: -0.02em }
h2, summary { margin: 0 0 8px; font-size: 17px; font-weight: 600 }
summary { margin: 0; cursor: pointer }
header p, dt, small, footer, .notes { color: var(--soft) }
header p, .notes p { margin: 0 }
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
svg { display: block; width: 100%; min-width: 640px; height: auto }
svg text { font-size: 12px; fill: var(--soft) }
svg [class^="s"] { fill: var(--c) }
.line { stroke: var(--rule) }
.zero { stroke: var(--soft) }
.day { fill: transparent }
g:hover .day { fill: var(--hover) }
table { width: 100%; border-collapse: collapse; font-size: 14px; white-space: nowrap }
th, td { padding: 7px 0 7px 16px; border-top: 1px solid var(--rule); text-align: right; font-weight: 400 }
thead th { border: 0; color: var(--soft); white-space: normal; vertical-align: bottom }
th:first-child { padding-left: 0; text-align: left }
tfoot th, tfoot td { border-top: 2px solid var(--rule); font-weight: 600 }
.share {
  min-width: 124px;
  background: linear-gradient(var(--c, var(--s7)) 0 0) no-repeat 16px 50% / calc(var(--part) * (100% - 60px)) 8px;
}
.notes { background: none; border: 0; font-size: 14px }
footer { margin-top: 28px; padding: 0 20px; font-size: 13px }
@media print { body { padding: 0 } dl div, figure, section, details { break-inside: avoid } }
"""
