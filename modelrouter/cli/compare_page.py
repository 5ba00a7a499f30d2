"""The page of ``modelrouter compare --html``: one file, which loads nothing and runs nothing. Its filter is CSS."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from modelrouter.comparing.result import Answer, Comparison
from modelrouter.comparing.statistics import Interval

from .compare_plot import Point, plot
from .compare_report import answer_line, columns, differs, sentences
from .page import COLOURS, framed


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
    return framed(f"Comparison of {head}", _STYLE, "\n".join(parts), _FOOTER)


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
        points.append(Point(model.model, min(place, COLOURS), float(1000 * each), *limits))
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
        rows.append(f'<tr class="s{min(place, COLOURS)}"><th scope="row">{escape(name)}</th>{told}</tr>')
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
            yield f'<div class="s{min(place, COLOURS)}"><h4>{escape(model.model)}</h4>{told}</div>'
        yield "</div></article>"


def _answer(answer: Answer) -> str:
    if answer.text is None:
        return f'<pre class="error">{escape(f"{answer.error_kind}: {answer.error}")}</pre>'
    return f"<pre>{escape(answer.text.strip())}</pre><small>{escape(answer_line(answer))}</small>"


_FOOTER = """Written by <code>modelrouter compare</code>. Money is in US dollars, rounded; <code>--json</code> has every
digit."""

_STYLE = """
h2 { margin: 28px 0 8px; font-size: 17px; font-weight: 600 }
h3, h4 { margin: 0 0 6px; font-size: 14px; font-weight: 600 }
figcaption, h3 { color: var(--soft) }
.verdict p { margin: 0 }
.verdict p + p { margin-top: 6px; font-size: 14px }
.verdict p:first-child { font-size: 19px }
figure, section, article {
  margin: 16px 0 0; padding: 16px 20px; background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
}
figure div, section div { overflow-x: auto }
figcaption, small { font-size: 13px }
svg { margin-top: 8px }
svg .name { font-size: 14px; font-weight: 600; fill: var(--ink) }
.point line { stroke: var(--c); stroke-width: 2 }
.point circle { fill: var(--c) }
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
@media print { figure, section, article { break-inside: avoid } }
"""
