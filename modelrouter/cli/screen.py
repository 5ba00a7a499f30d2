"""What the command line shows: lines and tables for people, one JSON document for programs."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from modelrouter.catalog.prices import is_free
from modelrouter.catalog.target import Price
from modelrouter.completion import EXACT, Attempt, Completion, plain


def _use(context: typer.Context, config: Path | None) -> Path | None:
    if config is not None and context.obj is not None:
        context.obj = replace(context.obj, config=config)
    return config


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        callback=_use,
        help="The catalog. Left out: MODELROUTER_CONFIG, config/models.yaml here, or the packaged one.",
    ),
]
"""Taken before the command's name and behind it."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]

_ENDLESS = 100_000
"""Columns of a pipe: programs need values whole, however long."""


class Screen:
    """Answers and listings on stdout, everything about them on stderr: a pipe gets what was asked for alone."""

    def __init__(self) -> None:
        plain: Mapping[str, Any] = {"markup": False, "emoji": False, "highlight": False}
        self.out = Console(width=None if sys.stdout.isatty() else _ENDLESS, **plain)
        self.err = Console(stderr=True, **plain)

    def say(self, text: str) -> None:
        """Text as it is, on stdout: neither wrapped nor coloured."""
        print(text, flush=True)  # noqa: T201 - this is the command line's own output

    def note(self, text: str, style: str | None = None) -> None:
        """A line on stderr."""
        self.err.print(text, style=style, soft_wrap=True)

    def document(self, value: object) -> None:
        """One JSON document on stdout. Money is a string, so that no digit is lost."""
        self.say(json.dumps(plain(value), indent=2))

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
        """A table on stdout; the columns in `right` are numbers.

        Nothing is ever cut: where the table is too wide, each row becomes a block of lines.
        """
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for heading in headings:
            table.add_column(heading, no_wrap=True, justify="right" if heading in right else "left")
        for row in rows:
            table.add_row(*row)
        if Measurement.get(self.out, self.out.options.update(width=_ENDLESS), table).maximum <= self.out.width:
            self.out.print(table)
            return
        wide = max(map(len, headings))
        for row in rows:
            lines = (f"{heading:<{wide}}  {value}" for heading, value in zip(headings, row, strict=True) if value)
            self.say("\n".join(lines) + "\n")

    def busy(self, text: str) -> AbstractContextManager[object]:
        """Says on a terminal what takes its time, and removes it again."""
        return self.err.status(text) if self.err.is_terminal else nullcontext()

    @contextmanager
    def logging(self, level: int) -> Iterator[None]:
        """Shows the library's log lines from `level` on stderr."""
        handler = _Lines(self, level)
        logger = logging.getLogger("modelrouter")
        before = logger.level
        logger.addHandler(handler)
        logger.setLevel(min(level, before or level))
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(before)


class _Lines(logging.Handler):
    """Log lines through the console, which keeps them clear of what moves on it."""

    def __init__(self, screen: Screen, level: int) -> None:
        super().__init__(level)
        self._screen = screen
        self.setFormatter(logging.Formatter("%(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._screen.note(self.format(record), style="dim" if record.levelno < logging.WARNING else None)
        except Exception:  # noqa: BLE001 - as every handler of the standard library does
            self.handleError(record)


# -- values, for people


def usd(cost: Decimal | None) -> str:
    """``$0.000213``, ``$1.50``, ``free``, or ``unknown``."""
    if cost is None:
        return "unknown"
    if not cost:
        return "free"
    if cost >= 1:
        return f"${EXACT.quantize(cost, Decimal('0.01')):,f}"
    rounded = EXACT.quantize(cost, Decimal("0.000001"))
    return _dollars(rounded) if rounded else "<$0.000001"


def per_million(price: Price | None) -> str:
    """Prices of input and output: ``$2.00 / $10.00``, with ``+`` where a long prompt costs more."""
    if price is None:
        return "LiteLLM's list"
    if is_free(price):
        return "free"
    above = "+" if price.above is not None else ""
    return f"{_dollars(price.input)} / {_dollars(price.output)}{above}"


def _dollars(amount: Decimal) -> str:
    whole, _, digits = f"{amount.normalize(EXACT):f}".partition(".")
    return f"${whole}.{digits:0<2}"


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def duration(text: str) -> float:
    """``90s``, ``15m``, ``12h`` or ``7d`` in seconds: the parser of an option."""
    if (found := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())) is None:
        raise typer.BadParameter(f"{text!r} is no length of time. Write 90s, 15m, 12h or 7d.")
    return float(found[1]) * _UNITS[found[2]]


def seconds(value: float) -> str:
    """``0.5 s``, ``3,600 s``."""
    return f"{value:,g} s"


def summary(answer: Completion) -> str:
    """One line: who answered, and what it took."""
    counted = answer.cached or (bool(answer.attempts) and answer.attempts[-1].usage is not None)
    usage = answer.usage
    tokens = f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out" if counted else "tokens unknown"
    name = answer.model if answer.model == answer.litellm_model else f"{answer.model} ({answer.litellm_model})"
    parts = [tokens, f"{answer.latency_s:.1f} s", f"cost {usd(answer.cost_usd)}"]
    if answer.cached:
        parts.append("cached")
    if before := len(_before(answer.attempts)):
        parts.append(f"after {before} failed or skipped:")
    return f"{name}: {', '.join(parts)}"


def attempt_lines(attempts: Sequence[Attempt]) -> list[str]:
    """A line for each attempt that gave no answer."""
    return [f"  {number}. {a.model}  {a.litellm_model}  {a}" for number, a in enumerate(_before(attempts), start=1)]


def _before(attempts: Sequence[Attempt]) -> list[Attempt]:
    return [a for a in attempts if a.outcome in ("error", "skipped")]
