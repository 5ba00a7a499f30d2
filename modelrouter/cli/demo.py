"""The demonstration, in three acts: the guide's pipeline answers a recruiter, goes on when a model is down, and costs
nothing the second time. A table shows what each act took."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import wrap
from typing import Any

import dspy
import yaml
from dspy.utils.callback import BaseCallback
from dspy.utils.exceptions import AdapterParseError
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from modelrouter import environment
from modelrouter.backend.current import current
from modelrouter.catalog.known_providers import known
from modelrouter.catalog.live import find
from modelrouter.catalog.prices import cost
from modelrouter.catalog.target import Price, Resolved, Target, missing_key
from modelrouter.dspy.pipeline import BareAdapter, Fit, Offer, Reply, ScoreOffer, Stage, get_pipeline
from modelrouter.errors import AllModelsFailed, ModelRouterError
from modelrouter.metering.track import Spent, Tracker, track
from modelrouter.router.default import configure, get_router

from .asking import PATIENCE, load, small_model
from .screen import Screen, attempt_lines, usd

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

DOWN = "closed-port"
"""The model that is down in the second act, by its name in that act's catalog."""


@dataclass(slots=True)
class _Act:
    """What one act took."""

    number: int
    spent: Tracker = field(default_factory=track)
    seconds: dict[str, float] = field(default_factory=dict)
    """By stage, from the first try to the answer."""

    def model(self, stage: str) -> str:
        """Who answered a stage; where DSPy has asked again, as the answer had not its form, who answered at last."""
        lines = self.spent.by_module_and_model.items()
        return [model for (module, model), line in lines if module == stage and line.calls][-1]


def run(screen: Screen, config: Path | None) -> bool:
    """Play the acts, and show what they took.

    The process's router has to be made of the catalog `config`; another one, made of the same, is in its place after
    the second act. False: a model answered, but not in the form that was asked for, or the cache has not kept what it
    should. Raises `AllModelsFailed` and what else a call can raise.
    """
    modules = {stage: get_router().catalog.resolve(stage) for stage in STAGES}
    off = next((module.sources["cache"] for module in modules.values() if not module.settings.cache), None)
    if (real := _real_models(modules)) is not None:
        screen.say(f"Real models are asked, and paid for: {real}.\n")
    screen.say("\n".join([f"{RECRUITER} writes:", *_cut(MESSAGE.partition("\n")[2], lines=4), ""]))
    load(screen)
    try:
        # Asked anew whatever an earlier run has left, and remembered for the third act.
        first, result, overrides = _pipeline(screen, cache=False if off else "refresh")
        acts = [first, _one_down(screen, config, first, result.offer, overrides)]
        if off:
            screen.say(f"3. Left out, as {off} turns off the cache: the whole program again, out of it.\n")
        else:
            acts.append(_again(screen, overrides))
    except AdapterParseError as error:
        screen.note(f"A model answered, but not in the form that was asked for:\n{error}")
        return False
    except (ModelRouterError, BrokenPipeError):  # OSErrors, too, some of them
        raise
    except OSError as error:
        screen.note(f"The second act needs a temporary file and a port of this machine: {error}")
        return False
    headings = ("STAGE", "ANSWERED BY", "SENT", "FALLBACKS", "TIME", "TOKENS IN", "OUT", "COST")
    rows = [_row(act, stage, spent) for act in acts for stage, spent in act.spent.by_module.items()]
    screen.table(headings, rows, right=headings[2:])
    screen.say(f"\n{_compared(first.spent.total)}")
    return bool(off) or _remembered(acts[-1].spent.total)


def _real_models(modules: Mapping[str, Resolved]) -> str | None:
    """Of each stage the first model that has its key, if any of them is not on this machine."""
    usable = {stage: [each for each in module.chain if not missing_key(each)] for stage, module in modules.items()}
    firsts = {stage: targets[0] for stage, targets in usable.items() if targets}
    if all(known(target.provider).on_this_machine for target in firsts.values()):
        return None
    return ", ".join(f"{stage} {target.name}" for stage, target in firsts.items())


# -- the acts


def _pipeline(screen: Screen, *, cache: bool | str) -> tuple[_Act, Any, Mapping[str, Any]]:
    """The first act, what came of it, and the overrides with which the same models answer again."""
    told = ", ".join(f"{stage} {does}" for stage, does in STAGES.items())
    screen.say(f"1. The pipeline: {told}.")
    overrides: Mapping[str, Any] = {}
    try:
        act, result = _whole(screen, 1, cache=cache)
    except AllModelsFailed as error:
        small = small_model(screen, get_router().catalog, error, "analyzer")
        overrides = {"model": small, **SMALL}
        act, result = _whole(screen, 1, cache=cache, **overrides)
    for stage, said in zip(STAGES, (result.offer, result.fit, result.reply), strict=True):
        _show(screen, act, stage, said)
    screen.say("")
    return act, result, overrides


def _one_down(screen: Screen, config: Path | None, first: _Act, offer: Offer, overrides: Mapping[str, Any]) -> _Act:
    """The second act: one stage again, with a model at the head of its chain that refuses the connection."""
    screen.say("2. The scorer again, its first model down: a closed port of this machine plays that part, and refuses.")
    chain = get_router().catalog.resolve("scorer", overrides.get("model")).chain
    behind = chain[[target.name for target in chain].index(first.model("scorer")) :]
    # Not out of the cache, where the fallback's answer is; nor into it, where the third act looks for the first's.
    asked = {"model": [DOWN, *(target.name for target in behind)], "cache": False, "retries": 0}
    stage, act = Stage("scorer", ScoreOffer, **{**overrides, **asked}), _Act(2)
    # A stage takes its adapter from the first of its chain, which here is not who answers.
    adapted = dspy.context(adapter=BareAdapter()) if behind[0].provider == "embedded" else nullcontext()
    with _with_one_down(config, behind[0]), adapted:
        fit = _work(screen, act, {"scorer": stage}, lambda: stage(offer=offer, profile=PROFILE)).fit
    screen.say("\n".join(attempt_lines(stage.history[0]["attempts"])))
    _show(screen, act, "scorer", fit)
    screen.say("")
    return act


@contextmanager
def _with_one_down(config: Path | None, behind: Target) -> Iterator[None]:
    """Has the process use the same catalog with one more model, out of a file of its own.

    The model's port is bound, so that it is nobody else's, and does not listen, so that it refuses. The model counts as
    able to do what that `behind` it can, and is spoken to with TLS: through a proxy, it would be sent OpenAI's key.
    """
    content = yaml.safe_load(find(config, environment.config_path()).read())
    with TemporaryDirectory() as directory, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        down = {
            "model": f"openai/{DOWN}",
            "api_base": f"https://127.0.0.1:{closed.getsockname()[1]}",
            "price": "free",
            "supports": {"response_format": current().able(behind, "response_format")},
        }
        content["models"] = {**(content.get("models") or {}), DOWN: down}
        path = Path(directory, "models.yaml")
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        _use(path)
        try:
            yield
        finally:
            _use(config)


def _use(catalog: Path | None) -> None:
    """`configure`, without the warnings that were shown when the catalog was first read."""
    logging.disable(logging.WARNING)
    try:
        configure(catalog)
    finally:
        logging.disable(logging.NOTSET)


def _again(screen: Screen, overrides: Mapping[str, Any]) -> _Act:
    """The third act."""
    screen.say("3. The whole program again, out of the cache.")
    act, _ = _whole(screen, 3, **overrides)
    total = act.spent.total
    saved = f" It was {usd(total.saved_usd)} the first time." if total.saved_usd else ""
    screen.say(
        f"  Remembered: {total.cache_hits} of {total.calls} answers. Requests: {total.requests}. "
        f"Time: {_time(sum(act.seconds.values()))}. Cost: {_cost(total)}.{saved}\n"
    )
    if not _remembered(total):
        screen.note("The cache has not kept every answer: it cannot be written, its ttl is short, or one was cut off.")
    return act


def _remembered(spent: Spent) -> bool:
    return spent.cache_hits == spent.calls


# -- one program at work


def _whole(screen: Screen, number: int, **overrides: Any) -> tuple[_Act, Any]:
    act, pipeline = _Act(number), get_pipeline(**overrides)
    stages = {stage: getattr(pipeline, stage) for stage in STAGES}
    inputs = {"message": MESSAGE, "recruiter_name": RECRUITER, "profile": PROFILE}
    return act, _work(screen, act, stages, lambda: pipeline(**inputs))


def _work(screen: Screen, act: _Act, stages: Mapping[str, Stage], program: Callable[[], Any]) -> Any:
    with act.spent, _progress(screen, stages, act.seconds):
        try:
            return program()
        except dspy.LMError as error:
            ours = _ours(error)
            raise ours from ours.__cause__


def _ours(error: BaseException) -> BaseException:
    """The error that DSPy has made its own of; else the error itself."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, ModelRouterError):
        found = found.__cause__
    return found or error


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
def _progress(screen: Screen, stages: Mapping[str, Stage], seconds: dict[str, float]) -> Iterator[None]:
    columns = SpinnerColumn(finished_text="*"), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=screen.err, transient=True, disable=not screen.err.is_terminal) as progress:
        for name, stage in stages.items():
            task = progress.add_task(f"{name} {STAGES[name]}", start=False, total=None)
            stage.callbacks.append(_Watch(name, progress, task, seconds))
        yield


# -- what came of it


def _show(screen: Screen, act: _Act, stage: str, said: Offer | Fit | Reply) -> None:
    """A stage's result, in a few lines."""
    match said:
        case Offer():
            what = f"{said.role} ({said.seniority}) at {said.company}; {said.place}"
            lines = [*_cut(said.summary), *_cut(what), *_cut(f"{said.pay}; {', '.join(said.stack)}")]
        case Fit():
            lines = [f"  {said.score} of 100: {said.verdict}", *_cut(said.reason)]
        case _:
            lines = _cut(said.text, lines=2)
    screen.say("\n".join([f"{stage}, answered by {act.model(stage)}:", *lines]))


def _cut(text: str, *, lines: int = 1) -> list[str]:
    """The beginning of a text, indented."""
    return wrap(
        " ".join(text.split()), 100, max_lines=lines, placeholder=" ...", initial_indent="  ", subsequent_indent="  "
    )


def _row(act: _Act, stage: str, spent: Spent) -> tuple[str, ...]:
    return (
        f"{act.number} {stage}",
        "the cache" if _remembered(spent) else act.model(stage),
        str(spent.requests),
        str(spent.fallbacks),
        _time(act.seconds[stage]),
        f"{spent.usage.input_tokens:,}",
        f"{spent.usage.output_tokens:,}",
        _cost(spent),
    )


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 0.1 else f"{1000 * seconds:.0f} ms"


def _cost(spent: Spent) -> str:
    return "$0" if not spent.requests else "unknown" if spent.unknown else usd(spent.cost_usd)


def _compared(total: Spent) -> str:
    """What the first act's tokens cost with the guide's dearest model."""
    everywhere = cost(total.usage, GPT_4) or Decimal(0)
    said = f"Act 1 with GPT-4 everywhere, at $30 and $60 per million tokens: {usd(everywhere)} per opportunity."
    if total.unknown or not total.cost_usd or total.cost_usd >= everywhere:
        return said
    return f"{said[:-1]}, {everywhere / total.cost_usd:.0f} times as much."
