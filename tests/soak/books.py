"""Runs sessions, many at a time, and compares what the metrics, answers and errors say with what the server saw."""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

import yaml
from prometheus_client import CollectorRegistry
from servers import Answer, Break, Reply, Request, ScriptedServer

import modelrouter.planning.attempt
import modelrouter.planning.health
from modelrouter import AllModelsFailed, CallFailed, Completion, MissingKey, Router
from modelrouter.backend.current import LITELLM
from modelrouter.catalog.target import Target
from modelrouter.completion import Attempt, Kind, Usage
from modelrouter.metering import books
from modelrouter.planning.events import CallEnded, Event, FellOver, FirstToken
from modelrouter.store import NullStore

from .sessions import TIMEOUT, Call, Member, Session, catalog, members, session

__all__ = ["Books"]

GRACE = 20.0
"""Seconds by which a call may miss its deadline, and in which what it leaves behind must be gone: far more than that
takes, as the machine may be busy with other work, and far less than what hangs in these sessions would take."""
_NEVER_SENT = frozenset((Kind.TIMEOUT, Kind.CANCELLED))
"""Kinds of an attempt that may have ended before its request reached the server."""
_TURNED_DOWN = frozenset((Kind.EMPTY_RESPONSE, Kind.CONTENT_POLICY, Kind.MAX_TOKENS))
"""Kinds of a whole answer that is none; it is billed all the same."""


@dataclass
class _Told:
    """What was metered, and when: of a call that was cancelled or left, nobody else says what it cost."""

    attempts: list[tuple[Attempt, float]] = field(default_factory=list)
    calls: list[tuple[str, str, Decimal | None]] = field(default_factory=list)
    """Module, outcome, cost."""
    fallbacks: list[FellOver] = field(default_factory=list)
    first_tokens: list[Target] = field(default_factory=list)

    def hear(self, module: str, event: Event) -> None:
        match event:
            case Attempt():
                self.attempts.append((event, time.monotonic()))
            case CallEnded():
                self.calls.append((module, event.outcome, event.cost_usd))
            case FellOver():
                self.fallbacks.append(event)
            case FirstToken():
                self.first_tokens.append(event.target)


def _listening(listen: Callable[[str, Event], None]) -> AbstractContextManager[Any]:
    """Has `listen` hear of all that comes to the books."""
    tell = books.Books.tell

    def both(told: books.Books, module: str, event: Event) -> None:
        listen(module, event)
        tell(told, module, event)

    return patch.object(books.Books, "tell", both)


@dataclass
class _Result:
    """How a call ended for its caller."""

    call: Call
    answer: Completion | None = None
    error: CallFailed | None = None
    pieces: list[str] = field(default_factory=list)
    late: float = 0.0
    """Seconds over its limit, at the worst."""
    prompt: str = ""
    """No other call of the session has it: this is how its requests are known."""
    told: list[tuple[Attempt, float]] = field(default_factory=list)
    """What was metered of it, and when."""


@dataclass(frozen=True)
class _Pair:
    """An attempt, and the request that the server saw of it."""

    attempt: Attempt
    request: Request | None
    answer: Answer | None
    streamed: bool


class Books:
    """Sessions against one server, through one router, with one registry from the first to the last."""

    def __init__(self, server: ScriptedServer, path: Path, *, slots: int) -> None:
        self.slots = slots
        self.calls = 0
        self.by_outcome: Counter[str] = Counter()
        self.never_sent = 0
        """Attempts that were over before their request reached the server."""
        self.requests = 0
        """As the server counted them."""
        self.ledger_cost = Decimal(0)
        """What the answers that the server gave cost at the catalog's prices."""
        self.billed_cost = Decimal(0)
        """What the answers and errors said, and the records of calls that were left."""
        self.entered: defaultdict[tuple[str, ...], Decimal] = defaultdict(Decimal)
        """By series of the metrics, what the server's ledger has come to in all batches, to the last digit."""
        self._expected: defaultdict[tuple[str, ...], Decimal] = defaultdict(Decimal)
        """By series, what it should have grown by in this batch."""
        self._server = server
        self._path = path
        path.write_text(yaml.safe_dump(catalog(server, slots), sort_keys=False))
        self._registry = CollectorRegistry()
        self._router = Router(path, registry=self._registry)
        self._told = _Told()
        self._held = ExitStack()

    def __enter__(self) -> Self:
        LITELLM.load()
        enter = self._held.enter_context
        self._threads = enter(ThreadPoolExecutor(self.slots, thread_name_prefix="books"))
        enter(_listening(self._hear))
        # Hundredths of a second between retries, and half a second until a failing model is tried again.
        enter(patch.object(modelrouter.planning.attempt, "BACKOFF", 0.01))
        enter(patch.object(modelrouter.planning.health, "PROBE_AFTER", 0.5))
        together = threading.Barrier(self.slots)  # all threads of the pool start now, not when they are first needed
        list(self._threads.map(lambda _: together.wait(), range(self.slots)))
        self._warm_up()
        return self

    def _hear(self, module: str, event: Event) -> None:
        self._told.hear(module, event)  # another one for each batch

    def _warm_up(self) -> None:
        """The first call of a kind has LiteLLM import more, which takes longer than these sessions' deadlines."""
        with Router(self._path, registry=CollectorRegistry(), store=NullStore()) as router:  # it is in nobody's books
            for member in members(0)[::2]:
                router.complete("hi", model=member.name, timeout=GRACE)
                list(router.stream("hi", model=member.name, timeout=GRACE))

    def __exit__(self, *exc: object) -> None:
        self._held.close()

    # -- running

    def close(self) -> None:
        """Write what the router has counted, and close its store."""
        self._router.close()

    def run(self, seeds: Sequence[int]) -> None:
        """One session from each seed, all at the same time. Raises AssertionError with all that was wrong."""
        sessions = [session(seed, slot) for slot, seed in enumerate(seeds)]
        self._server.reset()
        self._told = _Told()
        self._expected.clear()
        before, ledger_before, billed_before = self._shown(), self.ledger_cost, self.billed_cost
        for one in sessions:
            for model, script in one.scripts.items():
                self._server.script(model, *script)
        problems: list[str] = []
        results = self._perform(sessions, problems)
        self._settle(problems)
        sent: defaultdict[str | None, list[Request]] = defaultdict(list)
        for request in self._server.requests():
            sent[request.model].append(request)
        for one, ended in zip(sessions, results, strict=True):
            try:
                self._audit(one, ended, sent)
            except AssertionError:
                problems.append(f"session {one.seed} ({one.way}): {traceback.format_exc(limit=-1)}")
        self._enter_calls()
        problems += self._compare(before)
        for series, amount in self._expected.items():
            self.entered[series] += amount
        if self.ledger_cost - ledger_before != (said := self.billed_cost - billed_before):
            problems.append(f"answers and errors cost {said}, by the ledger {self.ledger_cost - ledger_before}")
        assert not problems, "\n".join([f"{len(problems)} problems", *problems[:10]])

    def _perform(self, sessions: Sequence[Session], problems: list[str]) -> list[list[_Result]]:
        results: dict[int, list[_Result]] = {}
        waiting = {
            index: self._threads.submit(self._in_thread if one.way == "thread" else self._in_runs, one)
            for index, one in enumerate(sessions)
            if one.way != "loop"
        }
        together = [index for index, one in enumerate(sessions) if one.way == "loop"]

        async def in_loop() -> list[Any]:
            gathered = await asyncio.gather(
                *(self._in_loop(sessions[index]) for index in together), return_exceptions=True
            )
            await _tasks_end(problems)
            return gathered

        ended: dict[int, Any] = dict(zip(together, asyncio.run(in_loop()), strict=True))
        for index, future in waiting.items():
            ended[index] = future.exception() or future.result()
        for index, one in enumerate(sessions):
            if isinstance(ended[index], BaseException):
                problems.append(f"session {one.seed} ({one.way}) raised {ended[index]!r}")
                ended[index] = []
            results[index] = ended[index]
        return [results[index] for index in range(len(sessions))]

    def _in_thread(self, one: Session) -> list[_Result]:
        results = []
        for number, call in enumerate(one.calls):
            before = len(self._told_of(one))
            results.append(self._call(one, call, f"hi {number}"))
            results[-1].told = self._told_of(one)[before:]
        return results

    def _in_runs(self, one: Session) -> list[_Result]:
        problems: list[str] = []

        async def run(number: int) -> _Result:
            result = await self._acall(one, number)
            await _tasks_end(problems)
            return result

        results = [asyncio.run(run(number)) for number in range(len(one.calls))]
        assert not problems, problems
        return results

    async def _in_loop(self, one: Session) -> list[_Result]:
        return [await self._acall(one, number) for number in range(len(one.calls))]

    def _call(self, one: Session, call: Call, prompt: str) -> _Result:
        result, names = _Result(call, prompt=prompt), [member.name for member in one.chain]
        try:
            if not call.stream:
                with _limited(result, call.deadline):
                    result.answer = self._router.complete(prompt, model=names, **call.arguments)
                return result
            pieces = self._router.stream(prompt, model=names, **call.arguments)
            while len(result.pieces) != call.leave_after:
                with _limited(result, TIMEOUT if result.pieces else call.deadline):
                    piece = next(pieces, None)
                if piece is None:
                    result.answer = pieces.answer
                    break
                result.pieces.append(piece)
            if call.leave_by == "close":
                pieces.close()
        except CallFailed as error:
            result.error = _bare(error)
        return result

    async def _acall(self, one: Session, number: int) -> _Result:
        before = len(self._told_of(one))
        call = one.calls[number]
        result = _Result(call, prompt=f"hi {number}")
        task = asyncio.create_task(self._read(one, call, result))
        if call.cancel_after is not None:
            await asyncio.wait([task], timeout=call.cancel_after)
            task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
        result.told = self._told_of(one)[before:]
        return result

    async def _read(self, one: Session, call: Call, result: _Result) -> None:
        prompt, names = result.prompt, [member.name for member in one.chain]
        try:
            if not call.stream:
                with _limited(result, call.deadline):
                    result.answer = await self._router.acomplete(prompt, model=names, **call.arguments)
                return
            pieces = self._router.astream(prompt, model=names, **call.arguments)
            while len(result.pieces) != call.leave_after or call.leave_by == "cancel":
                if len(result.pieces) == call.leave_after:
                    current = asyncio.current_task()
                    assert current is not None
                    current.cancel()
                with _limited(result, TIMEOUT if result.pieces else call.deadline):
                    piece = await anext(pieces, None)
                if piece is None:
                    result.answer = pieces.answer
                    return
                result.pieces.append(piece)
            if call.leave_by == "close":
                await pieces.aclose()
                return
            before = len(self._told_of(one))
            del pieces
            # The loop closes a generator that was dropped in a task of its own, and very soon.
            until = time.monotonic() + GRACE
            while result.pieces and len(self._told_of(one)) == before:
                assert time.monotonic() < until, "a stream that was dropped has not been metered"
                await asyncio.sleep(0.001)
        except CallFailed as error:
            result.error = _bare(error)

    def _told_of(self, one: Session) -> list[tuple[Attempt, float]]:
        names = {member.name for member in one.chain}
        return [told for told in list(self._told.attempts) if told[0].model in names]

    def _settle(self, problems: list[str]) -> None:
        """Until the server has seen all that was sent, and every connection that a caller has left is closed."""
        self._ping()
        until = time.monotonic() + GRACE
        problems += [
            f"nobody closed the connection of a request to {request.model}"
            for request in self._server.requests()
            if request.ended(max(0.0, until - time.monotonic())) == "open"
        ]

    def _ping(self) -> None:
        # The server takes what comes in order: after this, nothing that was sent before is still under way.
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port)
        try:
            connection.request("GET", "/api/tags")
            connection.getresponse().read()
        finally:
            connection.close()

    # -- comparing

    def _audit(self, one: Session, results: Sequence[_Result], sent: Mapping[str | None, Sequence[Request]]) -> None:
        """Compare a session's answers, errors and attempts with the requests that it made."""
        for result in results:
            answers: dict[int, Answer | None] = {}
            costs: list[Decimal | None] = []
            for member in one.chain:
                for pair in _paired(one, member, result, sent[member.name]):
                    self._enter(member, pair)
                    answers[id(pair.attempt)] = pair.answer
                    costs.append(_judged(member, pair))
            known = sum((usd for usd in costs if usd is not None), Decimal(0))
            _check_what_was_said(one, result, answers, known)
            ended = result.answer or result.error
            # Of a call that was left or cancelled, the records are all that there is.
            said = ended.cost_usd if ended is not None else None
            self.billed_cost += known if said is None else said
        entered = sum(len(result.told) for result in results)
        assert entered == len(self._told_of(one)), "attempts of no call"

    def _enter(self, member: Member, pair: _Pair) -> None:
        """Write an attempt and its request into the books."""
        attempt, model = pair.attempt, (member.wire, member.name)
        status = {True: "success", False: "error"}[attempt.outcome == "ok"]
        status = "cancelled" if attempt.error_kind is Kind.CANCELLED else status
        self.never_sent += pair.request is None
        self.requests += pair.request is not None
        self._expected["llm_provider_requests_total", *model, status] += 1
        if status != "cancelled":
            self._expected["llm_provider_latency_seconds_count", *model] += 1
        if status == "error":
            self._expected["llm_errors_total", member.wire, str(attempt.error_kind)] += 1
        usage = attempt.usage if attempt.estimated else _stated(pair, attempt)
        if usage is not None:
            for kind in ("input", "output", "cache_read", "cache_write", "reasoning"):
                self._expected["llm_tokens_used_total", *model, kind] += getattr(usage, f"{kind}_tokens")
        usd = _judged_cost(member, pair, usage)
        if usd is None:
            self._expected["llm_cost_unknown_total", *model] += attempt.outcome == "ok" or usage is not None
        else:
            self._expected["llm_cost_usd_total", *model] += usd
            self.ledger_cost += usd

    def _enter_calls(self) -> None:
        """Write down how the calls ended."""
        for module, outcome, cost in self._told.calls:
            self.calls += 1
            self.by_outcome[outcome] += 1
            self._expected["llm_module_requests_total", module, outcome] += 1
            self._expected["llm_module_cost_usd_total", module] += cost or 0
        for fell in self._told.fallbacks:
            self._expected["llm_fallbacks_total", fell.module, fell.from_model, fell.to_model, fell.reason] += 1
        for target in self._told.first_tokens:
            self._expected["llm_time_to_first_token_seconds_count", target.provider, target.label] += 1

    @property
    def series(self) -> int:
        """How many values the metrics have."""
        return sum(len(metric.samples) for metric in self._registry.collect())

    def _shown(self) -> dict[tuple[str, ...], float]:
        """The metrics: name and labels -> value."""
        return {
            (sample.name, *sample.labels.values()): sample.value
            for metric in self._registry.collect()
            for sample in metric.samples
            if sample.name in _COMPARED and "le" not in sample.labels
        }

    def _compare(self, before: Mapping[tuple[str, ...], float]) -> Iterator[str]:
        """Where the metrics have not grown as the books have."""
        shown = self._shown()
        for series in shown.keys() | self._expected.keys():
            grown, expected = shown.get(series, 0.0) - before.get(series, 0.0), float(self._expected[series])
            # Counters of money are floats, which forget the last digits.
            if abs(grown - expected) > (1e-6 if series[0].endswith("_usd_total") else 0):
                yield f"{series}: the metrics say {grown}, the server {expected}"


_COMPARED = frozenset(
    (
        "llm_provider_requests_total",
        "llm_provider_latency_seconds_count",
        "llm_time_to_first_token_seconds_count",
        "llm_tokens_used_total",
        "llm_cost_usd_total",
        "llm_cost_unknown_total",
        "llm_errors_total",
        "llm_fallbacks_total",
        "llm_module_requests_total",
        "llm_module_cost_usd_total",
    )
)


def _bare(error: CallFailed) -> CallFailed:
    # Its traceback holds the frame that is left, and with it a stream that a session means to drop.
    return error.with_traceback(None)


@contextmanager
def _limited(result: _Result, seconds: float) -> Iterator[None]:
    began = time.monotonic()
    try:
        yield
    finally:
        result.late = max(result.late, time.monotonic() - began - seconds)


async def _tasks_end(problems: list[str]) -> None:
    """Wait until the loop has no task but this one."""
    until = time.monotonic() + GRACE
    while left := asyncio.all_tasks() - {asyncio.current_task()}:
        if time.monotonic() > until:
            problems.append(f"tasks are left: {left}")
            return
        await asyncio.sleep(0.001)


def _check_what_was_said(one: Session, result: _Result, answers: Mapping[int, Answer | None], known: Decimal) -> None:
    """Whether the answer or the error of a call says all that was metered of it, and in time."""
    assert result.late <= GRACE, f"{result.late:.2f} s late: {result.call}"
    metered = [attempt for attempt, _ in result.told]
    if (answer := result.answer) is not None:
        assert list(answer.attempts) == metered
        served = answers[id(metered[-1])]
        assert isinstance(served, Reply)
        assert answer.text == served.whole, (answer.text, served)
        assert not result.call.stream or "".join(result.pieces) == answer.text
        assert answer.cost_usd == (known if metered[-1].cost_usd is not None else None)
    elif (error := result.error) is not None:
        assert list(error.attempts) == metered
        assert error.cost_usd == known
        partial = getattr(error, "partial_text", "")
        assert partial == "".join(result.pieces), (partial, result.pieces)
        if isinstance(error, AllModelsFailed):
            assert {a.model for a in metered} == {member.name for member in one.chain}, error
            assert isinstance(error, MissingKey) or all(str(a) in str(error) for a in metered), error


def _prompt(request: Request) -> str:
    content = request.body["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _paired(one: Session, member: Member, result: _Result, sent: Sequence[Request]) -> Iterator[_Pair]:
    """A call's attempts at a model, each with its request: they come in the same order, and of those that were over
    early some may never have been sent."""
    tried = [(a, at) for a, at in result.told if a.model == member.name and a.outcome != "skipped"]
    mine = [(number, request) for number, request in enumerate(sent) if _prompt(request) == result.prompt]
    gaps = len(tried) - len(mine)
    assert gaps >= 0, f"{member.name}: {len(mine)} requests of {len(tried)} attempts"
    for attempt, at in tried:
        if gaps and attempt.error_kind in _NEVER_SENT and (not mine or mine[0][1].at > at):
            gaps -= 1
            yield _Pair(attempt, None, None, streamed=False)
            continue
        assert mine, f"{member.name}: no request of {attempt}"
        number, request = mine.pop(0)
        yield _Pair(attempt, request, one.answer(member.name, number), bool(request.body.get("stream")))
    assert not mine, f"{member.name}: {len(mine)} requests of no attempt"


def _broken(pair: _Pair) -> bool:
    return pair.streamed and any(isinstance(step, Break) for step in getattr(pair.answer, "pieces", None) or ())


def _is_answer(pair: _Pair) -> bool:
    """Whether the server gave an answer that a caller can use."""
    reply = pair.answer
    if not isinstance(reply, Reply) or not reply.choices or reply.finish_reason == "content_filter":
        return False
    return not _broken(pair) and bool(reply.tools or reply.whole.strip())


def _stated(pair: _Pair, attempt: Attempt) -> Usage | None:
    """What the server said was used, where it said it in an answer that came whole."""
    reply = pair.answer
    whole = attempt.outcome == "ok" or attempt.error_kind in _TURNED_DOWN
    if not whole or not isinstance(reply, Reply) or not reply.usage:
        return None
    return Usage(
        reply.input_tokens,
        reply.output_tokens,
        reply.cache_read_tokens,
        reply.cache_write_tokens,
        reply.reasoning_tokens,
    )


def _judged_cost(member: Member, pair: _Pair, usage: Usage | None) -> Decimal | None:
    if usage is not None:
        return member.cost(usage)
    attempt = pair.attempt
    whole = attempt.outcome == "ok" or (attempt.error_kind in _TURNED_DOWN and isinstance(pair.answer, Reply))
    return None if whole or attempt.error_kind in _NEVER_SENT else Decimal(0)


def _judged(member: Member, pair: _Pair) -> Decimal | None:
    """What the attempt has to have cost. Raises AssertionError where it does not say what the server did."""
    attempt = pair.attempt
    if attempt.outcome == "ok":
        assert _is_answer(pair), f"{attempt} out of {pair.answer}"
        assert not attempt.estimated
    elif _is_answer(pair):
        assert attempt.error_kind in _NEVER_SENT, f"{attempt.error_kind}: {attempt.error} out of {pair.answer}"
    if attempt.estimated:
        assert attempt.usage is not None
        assert attempt.outcome == "error"
        usage: Usage | None = attempt.usage
    else:
        usage = _stated(pair, attempt)
        assert attempt.usage == usage, f"{attempt.usage} instead of {usage}, out of {pair.answer}"
    cost = _judged_cost(member, pair, usage)
    assert attempt.cost_usd == cost, f"{attempt.cost_usd} instead of {cost}, out of {pair.answer}: {attempt}"
    if pair.request is not None and (pair.request.status or 0) >= 400:
        assert attempt.status in (pair.request.status, None), f"{attempt} of {pair.request.status}"
    return cost
