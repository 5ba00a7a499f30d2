"""The page of ``modelrouter compare --html``: one file, which loads nothing and runs nothing. Its filter is CSS."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from modelrouter.comparing.result import Answer, Comparison
from modelrouter.comparing.statistics import Interval

from .compare_plot import Point, plot
from .compare_report import answer_line, columns, differs, sentences

_COLOURS = 7


def page(comparison: Comparison) -> str:
    """The whole file."""
    names = [model.model for model in comparison.models]
    count = len(comparison.prompts)
    head = f"{count:,} prompt{'s' if count != 1 else ''}: {', '.join(names)}"
    said = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences(comparison))
    parts = [
        f"<header><h1>Comparison</h1><p>{escape(head)}</p></header>",
        f'<section class="verdict">{said}</section>',
        *_figure(comparison),
        f"<section><div>{_table(comparison)}</div></section>",
        *_answers(comparison),
    ]
    return _FRAME.format(title=escape(head), style=_STYLE, body="\n".join(parts))


def _figure(comparison: Comparison) -> Iterator[str]:
    points, missing = [], []
    for place, model in enumerate(comparison.models):
        score, each = model.score, model.cost_per_call_usd
        if score is None and comparison.score == "judge" and place == 0 and model.answers:
            score = Interval(0.5, 0.5, 0.5, 1.0, model.answers)  # what the others are compared with
        if score is None or each is None:
            missing.append(model.model)
            continue
        limits = (100 * score.value, 100 * score.low, 100 * score.high)
        points.append(Point(model.model, min(place, _COLOURS), float(1000 * each), *limits))
    if comparison.score is None or not points:
        return
    unseen = f" Not in the plot, without a score or a known cost: {', '.join(missing)}." if missing else ""
    what = "What the judge prefers, of 100" if comparison.score == "judge" else f"Score ({comparison.score}), 0 to 100"
    caption = f"{what}, against cost. Bars are 95 % intervals.{unseen}"
    yield f"<figure><figcaption>{escape(caption)}</figcaption><div>{plot(points, what=caption)}</div></figure>"


def _table(comparison: Comparison) -> str:
    found = columns(comparison)
    head = "".join(f'<th scope="col">{escape(each.capitalize())}</th>' for each in found)
    rows = []
    for place, (name, *cells) in enumerate(zip(*found.values(), strict=True)):
        told = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        rows.append(f'<tr class="s{min(place, _COLOURS)}"><th scope="row">{escape(name)}</th>{told}</tr>')
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _answers(comparison: Comparison) -> Iterator[str]:
    by_prompt: dict[str, dict[str, list[Answer]]] = {}
    for answer in comparison.answers:
        by_prompt.setdefault(answer.prompt, {}).setdefault(answer.model, []).append(answer)
    different = sum(map(differs, by_prompt.values()))
    yield (
        f'<h2>Answers</h2><p class="filter"><input type="checkbox" id="differ"> '
        f'<label for="differ">Only where they differ ({different:,} of {len(by_prompt):,})</label></p>'
    )
    for prompt in comparison.prompts:
        if (given := by_prompt.get(prompt.id)) is None:
            continue
        expected = "" if prompt.expected is None else f"<p><small>expected: {escape(str(prompt.expected))}</small></p>"
        yield f"<article{' class=differs' if differs(given) else ''}><h3>{escape(prompt.id)}</h3>"
        yield f'<pre class="prompt">{escape(prompt.text)}</pre>{expected}<div class="side">'
        for place, model in enumerate(comparison.models):
            told = "".join(map(_answer, given.get(model.model, ())))
            yield f'<div class="s{min(place, _COLOURS)}"><h4>{escape(model.model)}</h4>{told}</div>'
        yield "</div></article>"


def _answer(answer: Answer) -> str:
    if answer.text is None:
        return f'<pre class="error">{escape(f"{answer.error_kind}: {answer.error}")}</pre>'
    return f"<pre>{escape(answer.text.strip())}</pre><small>{escape(answer_line(answer))}</small>"


_FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Comparison of {title}</title>
<style>{style}</style>
</head>
<body>
{body}
<footer>Written by <code>modelrouter compare</code>. Money is in US dollars, rounded; <code>--json</code> has every
digit.</footer>
</body>
</html>
"""

_STYLE = """
:root {
  --page: #f7f7f5; --card: #fff; --ink: #1c1d20; --soft: #5d626b; --rule: #e2e3e0; --bad: #b3261e;
  --s0: #2f6bd8; --s1: #e28a12; --s2: #15947f; --s3: #c2417c; --s4: #7a5ad0; --s5: #8a9f1f; --s6: #2f9fd0;
  --s7: #9aa0a8;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  font-variant-numeric: tabular-nums;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #131417; --card: #1c1e22; --ink: #eceef1; --soft: #9ba1ab; --rule: #31343a; --bad: #ff8a80;
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
h2 { margin: 28px 0 8px; font-size: 17px; font-weight: 600 }
h3, h4 { margin: 0 0 6px; font-size: 14px; font-weight: 600 }
header p, small, footer, figcaption, h3 { color: var(--soft) }
header p, .verdict p { margin: 0 }
.verdict p + p { margin-top: 6px; font-size: 14px }
.verdict p:first-child { font-size: 19px }
figure, section, article {
  margin: 16px 0 0; padding: 16px 20px; background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
}
figure div, section div { overflow-x: auto }
figcaption, small { font-size: 13px }
svg { display: block; width: 100%; min-width: 640px; height: auto; margin-top: 8px }
svg text { font-size: 12px; fill: var(--soft) }
svg .name { font-size: 14px; font-weight: 600; fill: var(--ink) }
.line { stroke: var(--rule) }
.point line { stroke: var(--c); stroke-width: 2 }
.point circle { fill: var(--c) }
table { width: 100%; border-collapse: collapse; font-size: 14px; white-space: nowrap }
th, td { padding: 7px 0 7px 16px; border-top: 1px solid var(--rule); text-align: right; font-weight: 400 }
thead th { border: 0; color: var(--soft) }
th:first-child { padding-left: 0; text-align: left }
tbody th::before, h4::before {
  content: ""; display: inline-block; width: 10px; height: 10px; margin-right: 8px; border-radius: 3px;
  background: var(--c);
}
article { content-visibility: auto; contain-intrinsic-size: auto 240px }
.side { display: grid; grid-template-columns: repeat(auto-fit, minmax(240px, 1fr)); gap: 16px; margin-top: 12px }
.side > div { min-width: 0; padding-top: 8px; border-top: 2px solid var(--c) }
pre { margin: 0; font: inherit; font-size: 14px; white-space: pre-wrap; overflow-wrap: anywhere }
small + pre { margin-top: 10px }
.prompt { font-weight: 600 }
.error { color: var(--bad) }
article p { margin: 4px 0 0 }
body:has(#differ:checked) article:not(.differs) { display: none }
footer { margin-top: 28px; padding: 0 20px; font-size: 13px; color: var(--soft) }
@media print { body { padding: 0 } figure, section, article { break-inside: avoid } }
"""
