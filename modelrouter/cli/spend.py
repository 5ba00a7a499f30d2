"""``modelrouter spend``: where the money went, by all processes that share the store."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelrouter.metering import spend as books

from .screen import Config, Json, Screen, duration
from .writing import write

if TYPE_CHECKING:
    from .spend_report import Report, Row

_DAYS = 30
_WIDE = 10
"""Characters of the longest bar."""


def spend(
    context: typer.Context,
    since: Annotated[
        float | None,
        typer.Option(metavar="TIME", parser=duration, help="Begin so long ago: 12h, 7d, 30d. Left out: 30d."),
    ] = None,
    by: Annotated[books.By, typer.Option(help="What the rows are.")] = "module",
    as_json: Json = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Also write a page with a chart, for any browser.")
    ] = None,
    _: Config = None,
) -> None:
    """Show where the money went, and what the same tokens would have cost with one model everywhere.

    Counted are the attempts of all processes that share the store; a process adds its own within a second. The books
    are kept by UTC day, for 400 days: the day that --since falls on is shown whole.

    UNKNOWN are answers of unknown cost, which are in no sum of money. SAVED is what the cache's answers had cost when
    they were made. BASELINE is what the tokens would have cost with the model that the module's key 'baseline' names;
    another model would have counted and written other tokens, and the cache's answers are not in it.

    \b
    Examples:
      modelrouter spend
      modelrouter spend --since 7d --by day
      modelrouter spend --since 365d --by model --html spend.html
    """
    from modelrouter.store.default import default_store

    from . import asking
    from .spend_report import Report, baselines

    screen: Screen = context.obj.screen
    days = books.since(_DAYS * 86_400 if since is None else since)
    with context.obj.router(logging.ERROR) as router, closing(default_store()) as store:
        catalog = router.catalog
        report = Report(
            days,
            books.lines(store, days),
            by,
            lambda modules: baselines(catalog, modules, lambda: asking.load(screen)),
        )
    if as_json:
        screen.document(_facts(report))
    else:
        _show(screen, report)
    if html is not None:
        from .spend_page import page

        write(html, page(report), option="--html")
        screen.note(f"Written: {html}")


def _show(screen: Screen, report: Report) -> None:
    if not report.lines:
        screen.say(f"No call was counted: {report.period}.")
        return
    screen.say(f"{report.period}\n")
    columns = report.columns()
    if "SHARE" in columns:
        bars = (_bar(screen, report, row) for row in report.rows.values())
        shares = zip(bars, columns["SHARE"], strict=False)
        columns["SHARE"] = [*(f"{bar:<{_WIDE}} {share:>4}" for bar, share in shares), ""]
    names = [*report.rows, "all"]
    screen.table(
        (report.by.upper(), *columns),
        [(name, *cells) for name, *cells in zip(names, *columns.values(), strict=True)],
        right=[heading for heading in columns if heading != "SHARE"],
    )
    screen.say("")
    for sentence in report.sentences():
        screen.say(sentence)


def _bar(screen: Screen, report: Report, row: Row) -> str:
    """``██████▌``"""
    eighths = round(8 * _WIDE * report.bar(row))
    if screen.out.options.ascii_only:
        return "#" * round(eighths / 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _facts(report: Report) -> dict[str, object]:
    return {
        "from": report.days[0],
        "to": report.days[-1],
        "by": report.by,
        "total": _row(report.total),
        "rows": {name: _row(row) for name, row in report.rows.items()},
        "baselines": report.baselines,
        "lines": report.lines,
        "said": list(report.sentences()),
    }


def _row(row: Row) -> dict[str, object]:
    return {"spending": row.spending, "compared": row.compared, "less": row.compared.less}
