"""The flow of a comparison: prompt after prompt, so that what is asked before it is stopped can be paired."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, TypeAlias

from modelrouter.completion import EXACT
from modelrouter.errors import InvalidRequest
from modelrouter.metering.track import track

from . import judge as judging
from .asking import Asked, Asking, Keys, key
from .journal import Journal, Said
from .prompts import Prompt
from .result import Answer, Progress
from .scores import Scorer

Told: TypeAlias = Callable[[Progress], None]
_Given: TypeAlias = tuple[Said, bool]
"""How a call ended, and whether that is remembered from before."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Whom two answers are shown to, and what for."""

    who: Asked
    rubric: str


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done."""

    prompts: Sequence[Prompt]
    models: Sequence[Asked]
    repeat: int
    scorer: Scorer | None
    judge: Judge | None
    concurrency: int
    max_usd: Decimal | None


@dataclass(slots=True)
class Found:
    """What came of it."""

    answers: list[Answer] = field(default_factory=list)
    stopped: str | None = None
    cost_usd: Decimal = Decimal(0)
    judge_cost_usd: Decimal | None = Decimal(0)
    judged: int = 0
    contradicted: int = 0
    unjudged: int = 0
    """Pairs that the judge gave no verdict on."""
    lost: int = 0
    """Calls that were in flight when an earlier run was killed."""
    oldest: float | None = None
    """The wall-clock time of the oldest answer from before."""


@dataclass(frozen=True, slots=True)
class _Unit:
    """A prompt, asked once of each model."""

    prompt: Prompt
    repeat: int
    keys: tuple[str, ...]


class Run:
    """One run. Answers are in the order of prompts, repeats and models, however they came."""

    def __init__(self, task: Task, asking: Asking, journal: Journal, tell: Told | None) -> None:
        self._task, self._asking, self._journal, self._tell = task, asking, journal, tell
        keys = Keys()
        self._units = [
            _Unit(prompt, repeat, tuple(keys.of(model, prompt) for model in task.models))
            for prompt in task.prompts
            for repeat in range(1, task.repeat + 1)
        ]
        self._keys = [each for unit in self._units for each in unit.keys]
        pairs = len(task.models) - 1 if task.judge else 0
        self._total = len(self._units) * (len(task.models) + 2 * pairs)
        self._done = 0
        self._cost = journal.spent(self._keys)
        self._answers: dict[tuple[str, int, str], Answer] = {}
        self.found = Found(lost=journal.lost(self._keys))

    async def __call__(self) -> Found:
        """Raises InvalidRequest when the money cannot be held to, or a scorer fails."""
        before = self._journal.charged(self._keys)
        left = None
        if (most := self._task.max_usd) is not None:
            self._limit_can_be_held()
            left = max(Decimal(0), EXACT.subtract(most, before))
        waiting = iter(self._units)
        self._show()
        with track() if left is None else track(max_usd=left):
            # As many units are under way as there may be calls.
            await _together(self._work(waiting) for _ in range(min(self._task.concurrency, len(self._units))))
        found = self.found
        order = [(unit.prompt.id, unit.repeat, model.name) for unit in self._units for model in self._task.models]
        found.answers = [self._answers[each] for each in order if each in self._answers]
        found.stopped = self._asking.stopped
        found.cost_usd = self._journal.spent(self._keys)
        return found

    def _limit_can_be_held(self) -> None:
        judge = [self._task.judge.who] if self._task.judge else []
        for model in (*self._task.models, *judge):
            if model.most(self._task.prompts[0].messages) is None:
                raise InvalidRequest(
                    f"max_usd cannot be held to: what a call of {model.name!r} costs at most is not known.\n"
                    f"  Give it a 'price' in {model.catalog}, and its module 'max_tokens'."
                )

    async def _work(self, waiting: Iterator[_Unit]) -> None:
        for unit in waiting:
            if self._asking.stopped is not None:
                return
            await _together(self._answer(unit, at) for at in range(len(self._task.models)))
            if self._task.judge is not None:
                judge = self._task.judge
                await _together(self._judge(judge, unit, at) for at in range(1, len(self._task.models)))

    async def _call(self, who: Asked, messages: Sequence[Mapping[str, Any]], name: str, of: str) -> _Given | None:
        """None: it was not sent."""
        said, remembered = self._asking.remembered(name), True
        if said is None:
            said, remembered = await self._asking.ask(who, messages, name, of), False
        if said is not None and remembered:
            self.found.oldest = min(said.at, self.found.oldest or said.at)
        elif said is not None:
            self._cost = EXACT.add(self._cost, said.cost_usd or Decimal(0))
        self._done += 1
        self._show()
        return None if said is None else (said, remembered)

    async def _answer(self, unit: _Unit, at: int) -> None:
        model, prompt = self._task.models[at], unit.prompt
        given = await self._call(model, prompt.messages, unit.keys[at], unit.keys[at])
        if given is None:
            return
        said, remembered = given
        score = None
        if self._task.scorer is not None and said.text is not None:
            score = self._task.scorer.score(said.text, prompt)
        facts = (said.text, said.kind, said.error, said.latency_s, said.usage, said.cost_usd, score, remembered)
        self._answers[prompt.id, unit.repeat, model.name] = Answer(prompt.id, model.name, unit.repeat, *facts)

    async def _judge(self, judge: Judge, unit: _Unit, at: int) -> None:
        """Compare an answer with the first model's."""
        names = [(unit.prompt.id, unit.repeat, model.name) for model in self._task.models]
        first, other = (self._answers.get(names[each]) for each in (0, at))
        if first is None or other is None or first.text is None or other.text is None:
            self._done += 2
            self._show()
            return
        winners: list[str | None] = ["tie", "tie"]
        if first.text.strip() == other.text.strip():
            self._done += 2  # nothing has to be paid for that
        else:
            orders = ((first.text, other.text), (other.text, first.text))
            winners = [
                await self._winner(judge, unit, at, judging.question(judge.rubric, unit.prompt, *texts))
                for texts in orders
            ]
        if winners[0] is None or winners[1] is None:
            self.found.unjudged += 1
            return
        self.found.judged += 1
        self.found.contradicted += judging.contradicts(winners[0], winners[1])
        score = judging.preference(winners[0], winners[1])
        self._answers[names[at]] = replace(other, score=score)

    async def _winner(self, judge: Judge, unit: _Unit, at: int, messages: list[dict[str, Any]]) -> str | None:
        name = key(judge.who, judge.who.request(messages), unit.keys[0], unit.keys[at])
        given = await self._call(judge.who, messages, name, unit.keys[at])
        if given is None:
            return None
        cost, so_far = given[0].cost_usd, self.found.judge_cost_usd
        self.found.judge_cost_usd = None if cost is None or so_far is None else EXACT.add(so_far, cost)
        return given[0].text

    def _show(self) -> None:
        if self._tell is not None:
            self._tell(Progress(self._done, self._total, self._cost))


async def _together(calls: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All of them at once. When one fails, or who waits is cancelled, the others are ended before it goes on."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
