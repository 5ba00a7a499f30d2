"""``modelrouter compare``: the same asked of several models, what it costs, and what may be said of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .screen import Config, Json, Screen
from .writing import write

if TYPE_CHECKING:
    from modelrouter.comparing.result import Comparison, Progress
    from modelrouter.router.router import Router

_SHOWN = 10
"""Prompts whose answers are shown side by side."""


def compare(
    context: typer.Context,
    prompts: Annotated[
        Path, typer.Argument(metavar="PROMPTS", help="Text with a prompt in each line, or .jsonl, or .csv.")
    ],
    models: Annotated[
        str,
        typer.Option("--models", "-m", metavar="NAMES", help="With commas between them; the first is compared with."),
    ],
    module: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose settings hold. Left out: those of default.")
    ] = None,
    score: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="exact, contains, regex, json or numeric, against 'expected'."),
    ] = None,
    schema: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Score by a JSON schema: is the answer valid under it?")
    ] = None,
    scorer: Annotated[
        str | None,
        typer.Option(metavar="MODULE:FUNCTION", help="Score by a function: (text, expected) to a bool, or 0 to 1."),
    ] = None,
    judge: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Have a model say which answer is better, in both orders.")
    ] = None,
    rubric: Annotated[Path | None, typer.Option(metavar="FILE", help="What the judge goes by.")] = None,
    repeat: Annotated[int, typer.Option(min=1, metavar="N", help="Ask each prompt N times.")] = 1,
    concurrency: Annotated[int, typer.Option(min=1, metavar="N", help="Calls at a time.")] = 8,
    max_usd: Annotated[
        str | None,
        typer.Option("--max-usd", metavar="USD", help="What it may cost, with what was paid for it before."),
    ] = None,
    margin: Annotated[
        float, typer.Option(metavar="POINTS", help="A score that is lower by no more is not worse.")
    ] = 3.0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Ask everything anew, whatever was answered before.")] = False,
    journal: Annotated[
        Path | None,
        typer.Option("--resume", metavar="FILE", help="Remember answers in this file. Left out: one for PROMPTS."),
    ] = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a row of CSV for each answer instead.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Also write a page with a plot and all answers.")
    ] = None,
    _: Config = None,
) -> None:
    """Ask several models the same prompts, and say how they differ in cost, speed and score.

    Each prompt goes to each model, with the module's settings and no fallback. JSONL has an object in each line, with
    'prompt' or 'messages', and perhaps 'expected' and 'id'; CSV has these as columns.

    What was answered is remembered as it comes, as plain text on the disk: after Ctrl-C or a kill the same command goes
    on, and with another prompt, model or score only what is new is paid for.

    An error of a model is counted, and what it did not answer is not compared. Scores are from 0 to 100. Intervals are
    for 95 %; differences are paired by prompt, with an allowance for as many models as are compared.

    \b
    Examples:
      modelrouter compare prompts.txt --models claude-sonnet,gpt-6-luna,llama2
      modelrouter compare offers.jsonl --models claude-sonnet,gpt-6-luna --module scorer --score numeric --max-usd 2
      modelrouter compare offers.csv -m best,fast --schema offer.schema.json --html offers.html
      modelrouter compare mails.jsonl -m best,fast --judge gpt-6.1-sol --rubric rubric.md --margin 5

    Exit codes: 0; 1 when no model has answered; 2 when the command or its input has to be mended; 130 after Ctrl-C.
    """
    from modelrouter.comparing.compare import compare as run

    screen: Screen = context.obj.screen
    if as_json and as_csv:
        raise typer.BadParameter("take one of --json and --csv.", param_hint="--csv")
    names = [name for each in models.split(",") if (name := each.strip())]
    options: dict[str, Any] = {"module": module, "score": score, "schema": schema, "scorer": scorer, "judge": judge}
    options |= {"rubric": rubric, "repeat": repeat, "concurrency": concurrency, "max_usd": max_usd, "margin": margin}
    options |= {"fresh": fresh, "journal": journal}
    with context.obj.router(logging.ERROR) as router:
        _load(screen, router, names, module)
        try:
            with _bar(screen) as progress:
                found = run(prompts, names, **options, router=router, progress=progress)
        except KeyboardInterrupt:
            screen.note("Interrupted. What was answered is remembered: the same command goes on from here.")
            raise typer.Exit(130) from None
    _show(screen, found, as_json=as_json, as_csv=as_csv)
    if html is not None:
        from .compare_page import page

        write(html, page(found), option="--html")
        screen.note(f"Written: {html}")
    if not any(model.answers for model in found.models):
        raise typer.Exit(1)


def _load(screen: Screen, router: Router, models: list[str], module: str | None) -> None:
    """Load LiteLLM, visibly, where a model can be asked."""
    from modelrouter.catalog.target import missing_key

    from .asking import load

    if models and not all(map(missing_key, router.catalog.resolve(module, models).chain)):
        load(screen)


@contextmanager
def _bar(screen: Screen) -> Iterator[Any]:
    """On a terminal: how far it is, what is spent, and how long it takes still."""
    if not screen.err.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from .compare_report import money

    parts = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[spent]} spent,"), TimeRemainingColumn())
    with Bar(TextColumn("Comparing"), *parts, TextColumn("left"), console=screen.err, transient=True) as bar:
        task = bar.add_task("", total=None, spent="$0")

        def show(progress: Progress) -> None:
            bar.update(task, total=progress.total, completed=progress.done, spent=money(progress.cost_usd))

        yield show


def _show(screen: Screen, found: Comparison, *, as_json: bool, as_csv: bool) -> None:
    from . import compare_report as told

    if as_json:
        screen.document({**found.to_dict(), "said": list(told.sentences(found))})
        return
    if as_csv:
        screen.say(told.rows(found).rstrip("\n"))
        for sentence in told.sentences(found):
            screen.note(sentence)
        return
    columns = told.columns(found)
    screen.table(tuple(columns), list(zip(*columns.values(), strict=True)), right=told.RIGHT)
    screen.say("")
    if found.score is None:
        for line in told.side_by_side(found, _SHOWN):
            screen.say(line)
    for sentence in told.sentences(found):
        screen.say(sentence)
