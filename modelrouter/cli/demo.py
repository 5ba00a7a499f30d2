"""The demonstration: the guide's pipeline works through one recruiter's message, and a table shows what that took."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback
from dspy.utils.exceptions import AdapterParseError
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from modelrouter.catalog.prices import cost
from modelrouter.catalog.target import Price
from modelrouter.dspy.pipeline import get_pipeline
from modelrouter.errors import AllModelsFailed, ModelRouterError
from modelrouter.metering.track import Spent, Tracker, track
from modelrouter.router.router import Router

from .asking import PATIENCE, load, small_model
from .screen import Screen, usd

RECRUITER = "Maria Lindqvist"

MESSAGE = """\
Hi Alex,

I came across your profile while looking for backend engineers with experience in payments, and your work on \
reconciliation at scale caught my eye. I am a talent partner at Northwind Ledger, a Series B company of about 120 \
people that builds accounting infrastructure for online marketplaces.

We are hiring a Senior Backend Engineer for the Settlement team. You would own the services that match bank files with \
our double-entry ledger, about 40 million entries a day, and lead their move from a Django monolith to Python services \
on Kubernetes. The stack is Python 3.12, PostgreSQL, Kafka and a little Go. The team has seven people in Berlin, \
Lisbon and remote within two hours of CET; we meet in Berlin once a quarter.

The salary range is 95,000 to 115,000 euros with equity on top, 30 days of holiday and a learning budget of 2,000 \
euros. The process is short: a call with me, a pairing session on a real ticket, and an afternoon with the team. There \
is no take-home exercise.

Would you have 25 minutes this week or next for a first call? Thursday after 15:00 would suit me well, and I am happy \
to send the full job description beforehand.

Best regards,
Maria Lindqvist"""

PROFILE = """\
Alex Novak, backend engineer, 8 years. Python, PostgreSQL, Kafka; payments and reconciliation for the last four years.
Wants: a senior role, fully remote from Prague, at least 100,000 euros, a small team. Does not want: take-home \
exercises, crypto, more than four trips a year."""

GPT_4 = Price(Decimal(30), Decimal(60))
"""US dollars per million tokens: what the guide compares with."""

STAGES = {
    "analyzer": "reads the message",
    "scorer": "compares it with the profile",
    "response_generator": "writes the reply",
}

SMALL: Mapping[str, Any] = {
    **PATIENCE,
    "temperature": 0,
    "max_tokens": 1000,  # more than its form lets it write, so that no answer is cut off
    "extra_body": {"dry_multiplier": 4},  # llama.cpp's way to keep it from going round in circles
}
"""For the model on this machine."""


@dataclass(slots=True)
class _Run:
    """What one run of the pipeline gave and took."""

    result: Any = None
    spent: Tracker = field(default_factory=track)
    seconds: dict[str, float] = field(default_factory=dict)
    """By stage, from the first try to the answer."""


def run(screen: Screen, router: Router) -> bool:
    """Show the message, let the pipeline work through it, show what came of it and what that took.

    `router` has to be the process's own. False: a model answered, but not in the form that was asked for. Raises
    `AllModelsFailed` and what else a call can raise.
    """
    screen.say(f"{MESSAGE}\n")
    load(screen)
    try:
        try:
            done = _work(screen)
        except AllModelsFailed as error:
            done = _work(screen, model=small_model(screen, router.catalog, error, "analyzer"), **SMALL)
    except AdapterParseError as error:
        screen.note(f"A model answered, but not in the form that was asked for:\n{error}")
        return False
    _show(screen, done)
    return True


def _work(screen: Screen, **overrides: Any) -> _Run:
    done = _Run()
    pipeline = get_pipeline(**overrides)
    with done.spent, _progress(screen, pipeline, done.seconds):
        try:
            done.result = pipeline(message=MESSAGE, recruiter_name=RECRUITER, profile=PROFILE)
        except dspy.LMError as error:
            ours = _ours(error)
            raise ours from ours.__cause__
    return done


def _ours(error: BaseException) -> BaseException:
    """The error that DSPy has made its own of; else the error itself."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, ModelRouterError):
        found = found.__cause__
    return found or error


# -- while it works


@dataclass(eq=False)
class _Watch(BaseCallback):  # type: ignore[misc]
    """Shows on a terminal which stage is at work, and keeps how long each took."""

    stage: str
    progress: Progress
    task: TaskID
    seconds: dict[str, float]
    began: float = 0.0

    def on_module_start(self, call_id: str, instance: Any, inputs: Any) -> None:  # noqa: ARG002 - DSPy's names
        self.began = time.monotonic()
        self.progress.start_task(self.task)

    def on_module_end(self, call_id: str, outputs: Any, exception: Exception | None = None) -> None:  # noqa: ARG002
        self.seconds[self.stage] = time.monotonic() - self.began
        if exception is None:
            self.progress.update(self.task, total=1, completed=1)


@contextmanager
def _progress(screen: Screen, pipeline: Any, seconds: dict[str, float]) -> Iterator[None]:
    columns = SpinnerColumn(finished_text="*"), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=screen.err, transient=True, disable=not screen.err.is_terminal) as progress:
        for stage, does in STAGES.items():
            task = progress.add_task(f"{stage} {does}", start=False, total=None)
            getattr(pipeline, stage).callbacks.append(_Watch(stage, progress, task, seconds))
        yield


# -- what came of it


def _show(screen: Screen, done: _Run) -> None:
    offer, fit, reply = done.result.offer, done.result.fit, done.result.reply
    facts = offer.model_dump() | {"stack": ", ".join(offer.stack)}
    sections = {
        "analyzer": "\n".join(f"{name:<10} {str(value).strip()}" for name, value in facts.items()),
        "scorer": f"{fit.score} of 100: {fit.verdict}\n{fit.reason.strip()}",
        "response_generator": reply.text.strip(),
    }
    lines = done.spent.by_module_and_model.items()
    models = {
        stage: ", ".join(model for (module, model), line in lines if module == stage and line.calls) for stage in STAGES
    }
    for stage, text in sections.items():
        screen.say(f"--- {stage}, answered by {models[stage]}\n{text}\n")
    by_module, total = done.spent.by_module, done.spent.total
    rows = [(stage, models[stage], *_numbers(by_module[stage], done.seconds[stage])) for stage in STAGES]
    rows.append(("one opportunity", "", *_numbers(total, sum(done.seconds.values()))))
    headings = ("STAGE", "MODEL", "FALLBACKS", "LATENCY", "TOKENS IN", "OUT", "COST")
    screen.table(headings, rows, right=headings[2:])
    screen.say(f"\n{_compared(total)}")


def _numbers(spent: Spent, seconds: float) -> tuple[str, ...]:
    remembered = spent.cache_hits == spent.calls
    return (
        str(spent.fallbacks),
        f"{seconds:.1f} s",
        f"{spent.usage.input_tokens:,}",
        f"{spent.usage.output_tokens:,}",
        "remembered" if remembered else "unknown" if spent.unknown else usd(spent.cost_usd),
    )


def _compared(total: Spent) -> str:
    """What the same tokens cost with the guide's dearest model."""
    if not total.requests:
        cost_then = f" That had cost {usd(total.saved_usd)}." if total.saved_usd else ""
        return f"All of it was remembered from an earlier run.{cost_then}"
    everywhere = cost(total.usage, GPT_4) or Decimal(0)
    said = f"The same tokens with GPT-4 everywhere, at $30 and $60 per million: {usd(everywhere)} per opportunity."
    if total.unknown or not total.cost_usd or total.cost_usd >= everywhere:
        return said
    return f"{said[:-1]}, {everywhere / total.cost_usd:.0f} times as much."
