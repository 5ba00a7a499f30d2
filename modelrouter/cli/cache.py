"""``modelrouter cache``: what the remembered answers were good for, and how to be rid of them."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from modelrouter.hints import nearest

from .screen import Json, Screen, duration, usd

if TYPE_CHECKING:
    from modelrouter.metering.spend import Spending
    from modelrouter.store.store import Store

app = typer.Typer(no_args_is_help=True, help="Show or delete remembered answers.")


@app.command()
def stats(context: typer.Context, as_json: Json = False) -> None:
    """Show how many answers are kept, and what they have saved.

    Counted are the calls of all processes in the last 400 days; a process adds its own within a second. COALESCED are
    calls that were answered by an identical one in flight; the hit rate has them in it.
    """
    from modelrouter.metering.spend import Spending
    from modelrouter.store.default import default_store

    screen: Screen = context.obj.screen
    with closing(default_store()) as store:
        kept = store.stats()
        modules = _modules(store)
        entries = {module: store.stats(tag=module).entries for module in modules}
    total = sum(modules.values(), Spending())
    if as_json:
        screen.document(
            {
                "store": str(store),
                "bytes": kept.bytes,
                "entries": kept.entries,
                **_facts(total),
                "modules": {name: {"entries": entries[name], **_facts(one)} for name, one in modules.items()},
            }
        )
        return
    rows = [_row(name, entries[name], one) for name, one in modules.items()]
    headings = ("MODULE", "ENTRIES", "HITS", "COALESCED", "MISSES", "ERRORS", "HIT RATE", "SAVED")
    screen.table(headings, [*rows, _row("all", kept.entries, total)], right=headings[1:])
    screen.note(f"{kept.bytes / 2**20:,.1f} MiB in {store}")


@app.command()
def clear(
    context: typer.Context,
    module: Annotated[str | None, typer.Option(metavar="NAME", help="Only answers that this module asked for.")] = None,
    older_than: Annotated[
        float | None,
        typer.Option(metavar="TIME", parser=duration, help="Only older answers: 90s, 15m, 12h, 7d."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete remembered answers; what they have saved stays counted.

    \b
    Examples:
      modelrouter cache clear --module scorer
      modelrouter cache clear --older-than 7d --yes
    """
    from modelrouter.store.default import default_store

    screen: Screen = context.obj.screen
    age = older_than or 0.0
    with closing(default_store()) as store:
        found = store.stats(tag=module, older_than=age)
        if not found.entries:
            screen.note(_nothing(module, store))
            return
        what = f"{found.entries:,} remembered {'answer' if found.entries == 1 else 'answers'}"
        if not yes and (sys.stdin is None or not sys.stdin.isatty()):
            screen.note(f"{what} would be deleted. There is no terminal to ask at: add --yes.")
            raise typer.Exit(2)
        if not yes:
            typer.confirm(f"Delete {what} in {store}?", abort=True, err=True)
        deleted = store.clear(tag=module, older_than=age)
    screen.note(f"{deleted:,} deleted.")


def _modules(store: Store) -> dict[str, Spending]:
    """What the cache was good for, by module."""
    from modelrouter.metering import spend

    return dict(sorted(spend.by(spend.lines(store, spend.last(spend.DAYS)), lambda line: line.module).items()))


def _nothing(module: str | None, store: Store) -> str:
    if module is None or module in (known := _modules(store)):
        return "There is nothing to delete."
    meant = f" Did you mean {near!r}?" if (near := nearest(module, known)) else ""
    return f"There is nothing to delete: no answer was ever kept for a module {module!r}.{meant}"


def _facts(one: Spending) -> dict[str, object]:
    names = ("hits", "coalesced", "misses", "errors", "saved_usd", "hit_rate")
    return {name: getattr(one, name) for name in names}


def _row(name: str, entries: int, one: Spending) -> tuple[str, ...]:
    rate = "" if one.hit_rate is None else f"{one.hit_rate:.1%}"
    counted = (entries, one.hits, one.coalesced, one.misses, one.errors)
    return name, *(f"{number:,}" for number in counted), rate, usd(one.saved_usd) if one.saved_usd else "$0"
