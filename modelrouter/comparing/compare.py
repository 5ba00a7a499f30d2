"""`modelrouter.compare` and `acompare`."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from modelrouter import environment
from modelrouter.backend.current import current
from modelrouter.errors import InvalidRequest
from modelrouter.hints import hinting
from modelrouter.metering.track import track
from modelrouter.process import event_loops
from modelrouter.router.default import get_router
from modelrouter.router.router import Router

from . import judge as judging
from .asking import Asked, Asking, asked
from .journal import Journal
from .prompts import Prompt, read, taken
from .report import report
from .result import Comparison
from .run import Judge, Run, Task, Told
from .scores import Function, Scorer, scorer
from .statistics import numpy

__all__ = ["acompare", "compare"]

P = ParamSpec("P")
T = TypeVar("T")


@hinting
async def acompare(
    prompts: Path | str | Iterable[Any],
    models: Sequence[str],
    *,
    module: str | None = None,
    score: str | None = None,
    schema: Path | str | Mapping[str, Any] | None = None,
    scorer: Function | str | None = None,
    judge: str | None = None,
    rubric: Path | str | None = None,
    repeat: int = 1,
    concurrency: int = 8,
    max_usd: Decimal | float | str | None = None,
    margin: float = 3.0,
    seed: int = 0,
    journal: Path | str | None = None,
    fresh: bool = False,
    progress: Told | None = None,
    router: Router | None = None,
) -> Comparison:
    """Ask several models the same, each with the settings of a module, and say how they differ in cost, speed and
    score. No model stands in for another, and nothing comes from the cache.

    What was answered is remembered on disk, as it comes: after Ctrl-C or a kill, or with another prompt, model or way
    to score, only what is new is paid for.

    Args:
        prompts: A file (text with a prompt in each line, JSONL or CSV), or a list of texts, or of mappings with
            `prompt` or `messages`, and perhaps `expected` and `id`.
        models: Names of the catalog, aliases or LiteLLM strings. The others are compared with the first.
        module: Whose settings hold; None: those of ``default``.
        score: ``exact``, ``contains``, ``regex``, ``json`` or ``numeric``, against `expected`.
        schema: A JSON schema, or its file: an answer that is valid under it has a score of 1.
        scorer: A function, or its ``package.module:function``: given text and `expected`, it gives a bool or 0 to 1.
        judge: A model that says which of two answers is better, asked in both orders; with `rubric`, a file.
        repeat: How often each prompt is asked.
        concurrency: Calls that are under way at a time.
        max_usd: US dollars that all of it may cost, with what was paid before. See `track`.
        margin: In points of 100: a score that is lower by no more is not worse.
        seed: Of the random weights behind the intervals.
        journal: The file of remembered answers; None: one for these prompts, in the state directory.
        fresh: Ask everything anew.
        progress: Called with a `Progress` after each call.
        router: None: the process's own.

    Raises:
        InvalidRequest: the input is wrong; with the file and the line. Nothing was sent, but for a scorer that fails.
        ConfigurationError: no such module or model, or numpy is not installed.
    """
    numpy()  # before money is spent
    router = get_router() if router is None else router
    given, place = _prompts(prompts)
    for name, number in (("repeat", repeat), ("concurrency", concurrency)):
        if type(number) is not int or number < 1:
            raise InvalidRequest(f"{name} is a whole number from 1, not {number!r}.")
    if isinstance(margin, bool) or not 0 < margin <= 100:
        raise InvalidRequest(f"margin is in points of a score, above 0 and up to 100, not {margin!r}.")
    task = Task(
        prompts=given,
        models=_models(router, module, models, concurrency),
        repeat=repeat,
        scorer=_scorer(given, score, schema, scorer, judge),
        judge=_judge(router, module, judge, rubric, concurrency),
        concurrency=concurrency,
        max_usd=None if max_usd is None else _limit(max_usd),
    )
    if max_usd is not None:
        await asyncio.to_thread(current().load)  # for the prices that the catalog leaves to LiteLLM's list
    path = _journal(journal, place)
    if fresh and path is not None and path.is_file():
        path.replace(path.with_name(f"{path.name}.before"))
    with Journal(path) as kept:
        found = await Run(task, Asking(router, kept, concurrency), kept, progress)()
    return report(task, found, margin=margin / 100, seed=seed)


def _waiting_for(call: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """The same for synchronous callers."""

    @functools.wraps(call)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        return event_loops.run(call(*args, **kwargs))

    called.__name__ = called.__qualname__ = "compare"
    return called


compare = hinting(_waiting_for(acompare))


# -- what is given, checked


def _prompts(prompts: Path | str | Iterable[Any]) -> tuple[tuple[Prompt, ...], str]:
    """And what the file of remembered answers is named after."""
    if isinstance(prompts, Path | str):
        # By its name, so that a prompt can be mended and the others' answers stay.
        real = os.path.realpath(prompts)
        return read(prompts), f"{Path(real).stem[:40]}-{_digest(real)}"
    given = taken(prompts)
    return given, f"prompts-{_digest(repr([each.messages for each in given]))}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def _journal(given: Path | str | None, place: str) -> Path | None:
    if given is not None:
        return Path(given)
    state = environment.state_dir()
    # A script's answers must not be taken for a model's some day.
    return None if state is None or not current().remembers else state / "comparisons" / f"{place}.jsonl"


def _models(router: Router, module: str | None, models: Sequence[str], concurrency: int) -> tuple[Asked, ...]:
    if isinstance(models, str) or not models:
        raise InvalidRequest(f"models is a list of at least one name, not {models!r}.")
    found: dict[str, tuple[str, Asked]] = {}
    for name in models:
        model = asked(router, module, name, concurrency)
        if (other := found.get(model.name)) is not None:
            raise InvalidRequest(f"{other[0]!r} and {name!r} are the same model, {model.name!r}.\n  Name each once.")
        found[model.name] = name, model
    return tuple(model for _, model in found.values())


def _scorer(prompts: Sequence[Prompt], score: Any, schema: Any, function: Any, judge: str | None) -> Scorer | None:
    found = scorer(score, schema=schema, function=function)
    if found is not None and judge is not None:
        raise InvalidRequest("a judge is the whole score.\n  Leave out the other way to score, or the judge.")
    if found is not None:
        found.check(prompts)
    return found


def _judge(router: Router, module: str | None, judge: str | None, rubric: Any, concurrency: int) -> Judge | None:
    if (judge is None) != (rubric is None):
        missing = "rubric, the file that says what makes an answer good" if rubric is None else "judge, a model"
        raise InvalidRequest(f"a judge needs a model and a rubric.\n  Give --{missing}.")
    if judge is None or rubric is None:
        return None
    who = asked(router, module, judge, concurrency, response_format=judging.Judgement, temperature=0)
    return Judge(who, judging.rubric(rubric))


def _limit(max_usd: Decimal | float | str) -> Decimal:
    """Raises InvalidRequest when it is no amount of money."""
    cap = track(max_usd=max_usd).cap
    return Decimal(0) if cap is None else cap.usd
