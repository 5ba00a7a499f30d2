"""``make soak``: many random calls, and the books, the memory and the descriptors at the start and at the end.

``ARGS="--calls 1000"`` for fewer; ``ARGS="--seed 7"`` for other sessions; ``ARGS="--session 123"`` for one alone, as a
failed run names it.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console
from rich.table import Table

# The servers and fixtures of the tests are modules of their own there, and have to be the same ones here.
sys.path.insert(0, str(Path(__file__).parents[1]))

from faults import kill_writers
from servers import ScriptedServer

from modelrouter.process import event_loops as _loop
from soak.books import Books
from soak.leftovers import Leftovers
from soak.sessions import environment

SETTLING = 0.2
"""Of the calls, until caches and pools have their size and most falls have been met; what grows after is a leak."""
MEMORY = 10.0
SERIES = 0.0025
"""Megabytes by which the process may grow: in all, and for each new value of the metrics. Falls from any of 240 models
to another, for any reason, are met for the first time until the end; a process of an application has a few dozen."""

console = Console(width=120, highlight=False)


class _Complaints(logging.Handler):
    """What event loops say of tasks and connections that nobody closed, and what Python says of objects."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []
        logging.getLogger("asyncio").addHandler(self)
        sys.unraisablehook = lambda what: self.heard.append(f"{what.exc_value!r} in {what.object!r}")
        warnings.showwarning = lambda message, *_, **__: self.heard.append(f"{type(message).__name__}: {message}")

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make soak", description="Many random calls against a misbehaving server.")
    parser.add_argument("--calls", type=int, default=100_000, help="how many, at least (100,000)")
    parser.add_argument("--seed", type=int, default=0, help="of the first session's seed (0)")
    parser.add_argument("--at-once", type=int, default=40, help="sessions at the same time (40)")
    parser.add_argument("--kills", type=int, default=500, help="of a process that writes to the cache (500)")
    parser.add_argument("--session", type=int, help="run this one session alone")
    return parser.parse_args()


def main() -> int:
    chosen = arguments()
    for talkative in ("modelrouter", "aiohttp.server"):
        logging.getLogger(talkative).setLevel(logging.CRITICAL)
    os.environ |= environment()
    warnings.simplefilter("always")
    complaints = _Complaints()
    random = Random(chosen.seed)
    with (
        ScriptedServer() as server,
        tempfile.TemporaryDirectory() as folder,
        Books(server, Path(folder) / "models.yaml", slots=chosen.at_once) as books,
    ):
        os.chdir(folder)
        if chosen.session is not None:
            books.run([chosen.session])
            show(books)
            return 0
        began, before, series = None, None, 0
        while True:
            if began is None and books.calls >= SETTLING * chosen.calls:
                began, before, series = books.calls, _now(), books.series
            if books.calls >= chosen.calls:
                break
            books.run([random.getrandbits(32) for _ in range(chosen.at_once)])
            progress(books, chosen.calls)
        books.close()
        after = _now()
        met = books.series - series
        show(books)
        kill_writers(Path(folder) / "store", chosen.kills)  # asserts that what they leave is whole
        console.print(f"{chosen.kills} writers were killed, and every value that they left was whole")
        os.chdir("/")
    assert before is not None
    return verdict(before, after, books.calls - (began or 0), met, complaints.heard)


def _now() -> Leftovers:
    _loop.stop()  # with the connections that it keeps for the next call
    return Leftovers.now()


def progress(books: Books, calls: int, every: float = 30.0, last: list[float] = []) -> None:  # noqa: B006 - the time
    now = time.monotonic()
    if not last or now - last[0] > every:
        last[:] = [now]
        console.print(
            f"{books.calls:,} of {calls:,} calls, {Leftovers.now().memory:.0f} MB, {books.series:,} values of metrics"
        )


def show(books: Books) -> None:
    table = Table("the books", "by the server", "by modelrouter")
    rows: list[tuple[str, Any, Any]] = [
        ("calls", "", f"{books.calls:,}"),
        *((f"  {outcome}", "", f"{number:,}") for outcome, number in sorted(books.by_outcome.items())),
        ("requests", f"{books.requests:,}", f"{books.requests + books.never_sent:,}"),
        ("  over before they were sent", "", f"{books.never_sent:,}"),
        ("US dollars", books.ledger_cost, books.billed_cost),
    ]
    for what, server, ours in rows:
        table.add_row(what, str(server), str(ours))
    console.print(table)


def verdict(before: Leftovers, after: Leftovers, calls: int, met: int, heard: list[str]) -> int:
    table = Table("what the process holds", "at the start", f"{calls:,} calls later")
    table.add_row("memory", f"{before.memory:.1f} MB", f"{after.memory:.1f} MB")
    table.add_row("values of metrics", "", f"{met:,} more")
    table.add_row("descriptors", str(before.descriptors), str(after.descriptors))
    table.add_row("threads", str(len(before.threads)), str(len(after.threads)))
    console.print(table)
    problems = [*after.beyond(before), *heard]
    if (grown := after.memory - before.memory) > (may := MEMORY + SERIES * met):
        problems.append(f"{grown:.1f} MB of memory, where {may:.1f} may be for what was met late")
    for problem in problems[:20]:
        console.print(f"left behind: {problem}", markup=False)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
