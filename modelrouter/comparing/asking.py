"""One call of a comparison: remembered from before, or sent, and on the disk before anybody sees what it gave."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from modelrouter.catalog.target import Resolved, Target
from modelrouter.completion import EXACT, Completion, Kind
from modelrouter.errors import BudgetExceeded, CallFailed, InvalidRequest
from modelrouter.planning.arguments import Arguments, request_from
from modelrouter.planning.call import Call
from modelrouter.planning.exchange import Request
from modelrouter.router import bounds
from modelrouter.router.router import Router

from .journal import Journal, Said
from .prompts import Prompt

_SMALL: Mapping[str, Any] = {"timeout": 120.0, "deadline": 600.0}
"""Seconds for the model on this machine, which makes a few tokens a second and answers one call at a time."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A model to compare, or to judge by."""

    resolved: Resolved
    params: Mapping[str, Any]
    """That its calls are given beside the messages."""
    one: asyncio.Semaphore
    """How many of its calls may be under way."""
    catalog: str
    """The file that it is from, for messages."""

    @property
    def target(self) -> Target:
        return self.resolved.chain[0]

    @property
    def name(self) -> str:
        return self.target.name

    def request(self, messages: Sequence[Mapping[str, Any]]) -> Request:
        """What it is sent. Raises InvalidRequest."""
        request = request_from(Arguments(messages=messages, params=self.params))
        return Call(self.resolved.module, self.resolved.chain, request, self.resolved.settings).request_to(self.target)

    def most(self, messages: Sequence[Mapping[str, Any]]) -> Decimal | None:
        """US dollars that a call can cost at most, its retries included; None: not known."""
        highest = bounds.most(self.target, self.request(messages))
        return None if highest is None else EXACT.multiply(highest, Decimal(1 + self.resolved.settings.retries))


def asked(router: Router, module: str | None, model: str, concurrency: int, **params: Any) -> Asked:
    """Raises what `Catalog.resolve` does."""
    resolved = router.catalog.resolve(module, [model])
    small = resolved.chain[0].provider == "embedded"
    return Asked(resolved, params, asyncio.Semaphore(1 if small else concurrency), router.catalog.path)


class Keys:
    """What calls are remembered by: what is sent to whom, and for what is sent several times, a number."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def of(self, who: Asked, prompt: Prompt) -> str:
        """Of one more call. Raises InvalidRequest when the prompt cannot be sent."""
        try:
            request = who.request(prompt.messages)
        except InvalidRequest as error:
            raise InvalidRequest(f"{prompt.place}: {error}") from None
        digest = key(who, request)
        self._counts[digest] += 1
        return f"{digest}-{self._counts[digest]}"


def key(who: Asked, request: Request, *more: str) -> str:
    """The same in every process."""
    target = who.target
    sent = [target.litellm_model, target.api_base, target.own_address, request.messages, request.params, more]
    return hashlib.sha256(json.dumps(sent, sort_keys=True, default=_plain).encode()).hexdigest()[:32]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return value.model_json_schema() if hasattr(value, "model_json_schema") else str(value)


class Asking:
    """Asks, at most so many calls at a time, until the money is spent."""

    def __init__(self, router: Router, journal: Journal, concurrency: int) -> None:
        self._router = router
        self._journal = journal
        self._slots = asyncio.Semaphore(concurrency)
        self.stopped: str | None = None
        """Why no further call is sent."""

    def remembered(self, key: str) -> Said | None:
        """How it ended before, if to ask again would give nothing else."""
        said = self._journal.ended.get(key)
        return said if said is not None and said.stands else None

    async def ask(self, who: Asked, messages: Sequence[Mapping[str, Any]], key: str, of: str) -> Said | None:
        """How a call ended; None: it was not sent. `of`: the key of the call that it is about."""
        async with who.one, self._slots:
            if self.stopped is not None:
                return None
            most = who.most(messages)
            await self._journal.begin(key, of, most)
            said = await self._send(who, messages, most)
            await self._journal.end(key, of, said)
        return None if said.kind is Kind.BUDGET else said

    async def _send(self, who: Asked, messages: Sequence[Mapping[str, Any]], most: Decimal | None) -> Said:
        limits = _SMALL if who.target.provider == "embedded" else {}
        given: dict[str, Any] = {**who.params, **limits}
        try:
            answer = await self._router.acomplete(
                messages=messages, module=who.resolved.module, model=[who.name], cache=False, accept=False, **given
            )
        except CallFailed as error:
            if isinstance(error, BudgetExceeded):
                self.stopped = _stopped(who, error)
            said, attempts = _failed(error), error.attempts
        else:
            said, attempts = _answered(answer), answer.attempts
        # What was cut off may be billed; `track` counts it at its highest price, and so does the next run.
        cut = any(attempt.cost_usd is None and attempt.outcome == "error" for attempt in attempts)
        return replace(said, held_usd=most or Decimal(0)) if cut else said


def _answered(answer: Completion[Any]) -> Said:
    last = answer.attempts[-1]
    # A judge's text is its verdict, so that what is read again needs no model to be made of it.
    text = answer.text if answer.parsed is None else str(answer.parsed.winner)
    usage = None if last.usage is None else answer.usage
    return Said(text, None, None, last.latency_s, usage, answer.cost_usd, at=time.time())


def _failed(error: CallFailed) -> Said:
    last = error.attempts[-1]
    return Said(None, last.error_kind, last.error, cost_usd=error.cost_usd, at=time.time())


def _stopped(who: Asked, error: BudgetExceeded) -> str:
    if error.source:
        return f"of the budget at {error.source} too little is left for another call of {who.name}."
    return f"what is left of max_usd does not do for another call of {who.name}."
