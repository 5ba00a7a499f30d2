"""What may be spent: reserved before a request, settled after it, by everybody who shares the store."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from conftest import WriteCatalog
from prometheus_client import CollectorRegistry
from servers import Fault, Gate, Hang, Reply, ScriptedServer

from modelrouter import AllModelsFailed, BudgetExceeded, InvalidCatalog, InvalidRequest, Router, track
from modelrouter.catalog.target import Budget, Period
from modelrouter.completion import Kind
from modelrouter.metering.budgets import Budgets, window
from modelrouter.metering.posting import Posting
from modelrouter.planning.events import BudgetSeen, Event
from modelrouter.planning.exchange import Hold, Short
from modelrouter.store import DiskStore, MemoryLedger, StoreError

PRICE = {"input": 1, "output": 1000}
"""A prompt costs next to nothing."""
ANSWER = Reply("fine", input_tokens=10, output_tokens=10)
COST = Decimal("0.01001")
"""Of one such answer; its highest price is ten answer tokens and a prompt of a few dozen bytes."""


def seconds(text: str) -> float:
    return datetime.datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("per", "now", "start", "end"),
    [
        ("hour", "2026-11-26T09:59:59.999+00:00", "2026-11-26T09:00", "2026-11-26T10:00"),
        ("hour", "2026-11-26T23:30+00:00", "2026-11-26T23:00", "2026-11-27T00:00"),
        ("day", "2026-11-26T23:59:59.999999+00:00", "2026-11-26T00:00", "2026-11-27T00:00"),
        ("day", "2026-11-27T00:00:00+00:00", "2026-11-27T00:00", "2026-11-28T00:00"),
        ("day", "2026-11-27T01:00:00+02:00", "2026-11-26T00:00", "2026-11-27T00:00"),
        ("week", "2026-11-29T23:59:59+00:00", "2026-11-23T00:00", "2026-11-30T00:00"),
        ("week", "2027-01-01T12:00+00:00", "2026-12-28T00:00", "2027-01-04T00:00"),
        ("month", "2026-12-31T23:59:59+00:00", "2026-12-01T00:00", "2027-01-01T00:00"),
        ("month", "2028-02-29T12:00+00:00", "2028-02-01T00:00", "2028-03-01T00:00"),
        ("month", "2026-02-01T00:00+00:00", "2026-02-01T00:00", "2026-03-01T00:00"),
    ],
)
def test_windows_are_those_of_the_utc_calendar(per: Period, now: str, start: str, end: str) -> None:
    found = tuple(f"{edge:%Y-%m-%dT%H:%M}" for edge in window(per, seconds(now)))
    assert found == (start, end)


class Clock:
    def __init__(self, now: str) -> None:
        self.now = seconds(now)

    def __call__(self) -> float:
        return self.now


def budgets_of(ledger: Any, clock: Callable[[], float], told: list[Event] | None = None) -> tuple[Budgets, Posting]:
    posting = Posting(lambda changes, **how: ledger.count(changes, **how) is None)
    tell = (lambda _, event: told.append(event)) if told is not None else (lambda *_: None)
    return Budgets(lambda: ledger, posting.post, flush=posting.flush, tell=tell, clock=clock), posting


def test_exactly_at_the_windows_turn_the_budget_begins_anew() -> None:
    clock = Clock("2028-02-29T23:59:59.999+00:00")
    budgets, posting = budgets_of(MemoryLedger(), clock)
    daily = Budget(Decimal(1), "day", module="m", source="models.yaml:3")
    held = budgets.reserve("m", [daily], lambda _: Decimal("0.9"))
    assert isinstance(held, Hold)
    short = budgets.reserve("m", [daily], lambda _: Decimal("0.2"))
    assert isinstance(short, Short)
    assert (short.resets_at, short.passing) == (datetime.datetime(2028, 3, 1, tzinfo=datetime.UTC), True)
    clock.now += 0.001
    after = budgets.reserve("m", [daily], lambda _: Decimal(1))
    assert isinstance(after, Hold)
    budgets.settle(held, Decimal("0.5"))  # which began before the turn, and counts there
    budgets.settle(after, None)
    posting.flush()
    assert budgets.standing([daily])[daily][0].spent == 10**12
    clock.now -= 0.001
    assert budgets.standing([daily])[daily][0].spent == 5 * 10**11


def test_what_is_needed_is_counted_closely_only_where_the_cheap_bound_does_not_fit() -> None:
    budgets, _ = budgets_of(MemoryLedger(), Clock("2026-11-26T00:00+00:00"))
    budget = Budget(Decimal(1), "day", module="m")
    asked: list[bool] = []

    def most(closely: bool) -> Decimal:
        asked.append(closely)
        return Decimal("0.3") if closely else Decimal("0.7")

    assert isinstance(budgets.reserve("m", [budget], most), Hold)
    assert isinstance(held := budgets.reserve("m", [budget], most), Hold)
    assert (asked, held.amount) == ([False, False, True], Decimal("0.3"))
    assert isinstance(budgets.reserve("m", [budget], lambda _: None), Short), "nobody knows its price"
    assert budgets.reserve("m", [budget], lambda _: Decimal(0)) is None, "it is free"


def test_nobody_is_warned_because_of_a_price_that_is_only_found_at_a_glance(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Event] = []
    budgets, _ = budgets_of(MemoryLedger(), Clock("2026-11-26T00:00+00:00"), told)
    soft = Budget(Decimal(1), "day", hard=False, module="m")
    for _ in range(2):
        held = budgets.reserve("m", [soft], lambda closely: Decimal("0.7" if closely else "1.5"))
        assert isinstance(held, Hold)
        assert held.amount == Decimal("0.7")
    assert [event.over for event in told if isinstance(event, BudgetSeen)] == [False, True]
    assert len(caplog.records) == 1


def test_what_is_settled_is_never_free_for_others_in_between() -> None:
    ledger, clock = MemoryLedger(), Clock("2026-11-26T00:00+00:00")
    both = [Budget(Decimal(1), "day", module="m"), Budget(Decimal(2), "month")]
    seen: list[int] = []

    def post(book: str, changes: Any, *, release: str | None = None) -> None:
        ledger.count({book: changes}, release=[release] if release is not None else ())
        seen.extend(balance.spent + balance.reserved for balance, _ in budgets.standing(both).values())

    budgets = Budgets(lambda: ledger, post, flush=lambda: None, tell=lambda *_: None, clock=clock)
    held = budgets.reserve("m", both, lambda _: Decimal("0.5"))
    assert isinstance(held, Hold)
    budgets.settle(held, None)
    assert len(seen) == 4
    assert min(seen) == 5 * 10**11
    assert seen[2:] == [5 * 10**11] * 2


def test_reservations_are_renewed_by_one_thread_and_by_the_next_where_none_could_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    budgets, _ = budgets_of(MemoryLedger(), Clock("2026-11-26T00:00+00:00"))
    budget = Budget(Decimal(1), "day", module="m")
    tried: list[str] = []
    both = threading.Barrier(2)

    def start(thread: threading.Thread) -> None:
        tried.append(thread.name)
        if len(tried) == 1:
            raise RuntimeError("can't start new thread")
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.2)  # another one has time to come here, too

    def reserve(_: object) -> Hold | Short | None:
        return budgets.reserve("m", [budget], lambda _: Decimal("0.1"))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: None, range(2)))  # its threads are there
        barrier = threading.Barrier(2)
        list(pool.map(lambda _: barrier.wait(), range(2)))
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            assert isinstance(reserve(None), Hold), "a call goes on without"
            assert all(isinstance(held, Hold) for held in pool.map(reserve, range(2)))
    assert tried == ["modelrouter-budgets"] * 2


def test_while_the_store_fails_a_process_goes_on_from_where_it_last_saw_the_budget(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, budget = Clock("2026-11-26T00:00+00:00"), Budget(Decimal(1), "day", module="m")
    with contextlib.closing(DiskStore(tmp_path / "store")) as store:
        other, others = budgets_of(store, clock)
        held = other.reserve("m", [budget], lambda _: Decimal("0.5"))
        assert isinstance(held, Hold)
        other.settle(held, None)
        others.flush()
        told: list[Event] = []
        mine, posting = budgets_of(store, clock, told)
        first = mine.reserve("m", [budget], lambda _: Decimal("0.1"))
        assert isinstance(first, Hold)

        def fails(*_: object, **__: object) -> None:
            raise StoreError("full", "the disk is full.")

        with monkeypatch.context() as patch:
            patch.setattr(DiskStore, "reserve", fails)
            second = mine.reserve("m", [budget], lambda _: Decimal("0.3"))
            assert isinstance(second, Hold)
            assert isinstance(mine.reserve("m", [budget], lambda _: Decimal("0.2")), Short)
        for held in (first, second):
            mine.settle(held, None)
        posting.flush()
        assert other.standing([budget])[budget][0].spent == 9 * 10**11, "nothing is forgotten once it is back"
    assert [record.getMessage() for record in caplog.records] == [
        "budgets_alone reason=full: each process holds the budgets by its own count. the disk is full."
    ]
    assert [event for event in told if not isinstance(event, BudgetSeen)], "each failure is counted"


# -- through the router


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskStore]:
    with contextlib.closing(DiskStore(tmp_path / "books")) as store:
        yield store


@pytest.fixture
def router(store: DiskStore, registry: CollectorRegistry) -> Iterator[Router]:
    with Router(registry=registry, store=store) as router:
        yield router


def ask(router: Router, how: str, **arguments: Any) -> Any:
    arguments = {"cache": False, **arguments}
    match how:
        case "sync":
            return router.complete("hi", **arguments)
        case "async":
            return asyncio.run(router.acomplete("hi", **arguments))
        case "stream":
            with router.stream("hi", **arguments) as pieces:
                assert list(pieces)
            return pieces.answer


WAYS = pytest.mark.parametrize("how", ["sync", "async", "stream"])


@WAYS
def test_calls_are_answered_until_the_budget_is_spent_and_the_error_says_all_of_it(
    router: Router, catalog: WriteCatalog, server: ScriptedServer, how: str, registry: CollectorRegistry
) -> None:
    budget = {"usd": 0.035, "per": "month"}
    catalog({"a": server.openai("a", price=PRICE)}, modules={"scorer": {"budget": budget}}, max_tokens=10)
    server.script("a", ANSWER)
    assert [ask(router, how, module="scorer").cost_usd for _ in range(3)] == [COST] * 3
    with pytest.raises(BudgetExceeded) as caught:
        ask(router, how, module="scorer")
    error = caught.value
    assert isinstance(error, AllModelsFailed)
    assert (error.spent_usd, error.reserved_usd, error.limit_usd) == (3 * COST, 0, Decimal("0.035"))
    assert error.source.startswith("config/models.yaml:")
    assert error.resets_at == window("month", time.time())[1]
    assert error.attempts[-1].error_kind is Kind.BUDGET
    for said in ("$0.035 a month of module 'scorer'", "$0.03003 is spent and $0 reserved", "it begins anew at "):
        assert said in str(error)
    assert len(server.ledger) == 3
    assert ask(router, how).cost_usd == COST, "another module is not concerned"
    value = registry.get_sample_value
    assert value("llm_budget_refused_total", {"module": "scorer"}) == 1
    assert value("llm_budget_spent_usd", {"scope": "scorer", "per": "month"}) == pytest.approx(0.03003)
    assert value("llm_budget_limit_usd", {"scope": "scorer", "per": "month"}) == 0.035


@WAYS
def test_who_is_too_dear_is_passed_over_and_free_models_answer(
    router: Router, catalog: WriteCatalog, server: ScriptedServer, how: str
) -> None:
    models = {"dear": server.openai("dear", price=PRICE), "free": server.ollama("free", price="free")}
    catalog(models, max_tokens=10, budget={"usd": 0.012, "per": "day"})
    server.script("dear", ANSWER)
    answers = [ask(router, how) for _ in range(3)]
    assert [answer.model for answer in answers] == ["dear", "free", "free"]
    assert [attempt.error_kind for attempt in answers[1].attempts] == [Kind.BUDGET, None]
    assert answers[1].fallback
    assert [request.model for request in server.ledger] == ["dear", "free", "free"]


def test_each_module_has_an_allowance_of_its_own_and_all_together_have_theirs(
    router: Router, catalog: WriteCatalog, server: ScriptedServer
) -> None:
    path = catalog(
        {"a": server.openai("a", price=PRICE)},
        modules={"one": {}, "two": {}, "three": {"budget": None}},
        max_tokens=10,
        budget={"usd": 0.012, "per": "day"},
    )
    path.write_text(path.read_text() + "budget: {usd: 0.035, per: week}\n")
    server.script("a", ANSWER)
    for module in ("one", "two", "three"):
        assert ask(router, "sync", module=module).cost_usd == COST
    with pytest.raises(BudgetExceeded, match=r"\$0.012 a day of module 'one' \(config/models.yaml:\d+ \(default\)\)"):
        ask(router, "sync", module="one")
    with pytest.raises(BudgetExceeded, match=r"\$0.035 a week of all modules \(config/models.yaml:\d+\)"):
        ask(router, "sync", module="three")


@WAYS
def test_a_call_waits_for_what_others_have_reserved(
    router: Router, catalog: WriteCatalog, server: ScriptedServer, how: str, registry: CollectorRegistry
) -> None:
    catalog({"a": server.openai("a", price=PRICE)}, max_tokens=10, budget={"usd": 0.0205, "per": "day"})
    gate = Gate()
    server.script("a", Reply("fine", input_tokens=1, output_tokens=1, gate=gate), Reply("fine", output_tokens=1))
    with ThreadPoolExecutor() as pool:
        first = pool.submit(ask, router, how)
        while not server.ledger:
            time.sleep(0.01)
        second = pool.submit(ask, router, how, max_tokens=19)
        while not registry.get_sample_value("llm_budget_reserved_usd", {"scope": "default", "per": "day"}):
            time.sleep(0.01)  # the second has not looked yet
        gate.open()  # of the 10 tokens that it has reserved, one is used
        assert [each.result().text for each in (first, second)] == ["fine", "fine"]


def test_what_nobody_knows_counts_as_reserved(router: Router, catalog: WriteCatalog, server: ScriptedServer) -> None:
    models = {"slow": server.openai("slow", price=PRICE), "free": server.ollama("free", price="free")}
    catalog(models, max_tokens=10, retries=0, budget={"usd": 0.0199, "per": "day"})
    server.script("slow", Hang())
    assert ask(router, "sync", timeout=0.3).model == "free"
    server.script("slow", ANSWER)
    assert [ask(router, "sync").model for _ in range(2)] == ["free", "free"], "it may have been billed in full"


def test_what_is_free_of_charge_is_given_back(router: Router, catalog: WriteCatalog, server: ScriptedServer) -> None:
    catalog({"a": server.openai("a", price=PRICE)}, max_tokens=10, retries=0, budget={"usd": 0.0205, "per": "day"})
    server.script("a", Fault(503), Fault(400), ANSWER)
    for _ in range(2):
        with pytest.raises(Exception, match=r"503|400"):
            ask(router, "sync")
    assert ask(router, "sync").cost_usd == COST
    assert ask(router, "sync", max_tokens=5, cache=None).cost_usd == COST
    assert ask(router, "sync", max_tokens=5, cache=None).cached, "what was paid for already costs nothing"


def test_a_budget_that_is_not_hard_warns_once_and_counts(
    router: Router,
    catalog: WriteCatalog,
    server: ScriptedServer,
    registry: CollectorRegistry,
    caplog: pytest.LogCaptureFixture,
) -> None:
    soft = {"usd": 0.015, "per": "day", "hard": False}
    catalog({"a": server.openai("a", price=PRICE)}, max_tokens=10, budget=soft)
    server.script("a", ANSWER)
    for _ in range(4):
        assert ask(router, "sync").cost_usd == COST
    assert [r.getMessage().partition(" (")[0] for r in caplog.records if "budget" in r.getMessage()] == [
        "budget_exceeded the budget of $0.015 a day of module 'default'"
    ]
    assert registry.get_sample_value("llm_budget_refused_total", {"module": "default"}) == 3


@pytest.mark.parametrize(
    ("model", "more", "said"),
    [
        (
            {"price": None},
            {"max_tokens": 10},
            "a call of 'a', in the chain of 'default', can cost any sum: the model has no price",
        ),
        ({"price": PRICE}, {}, "a call of 'a', in the chain of 'default', can cost any sum: nothing limits its answer"),
    ],
)
def test_a_budget_that_cannot_be_held_is_a_mistake_with_its_line(
    router: Router, catalog: WriteCatalog, model: dict[str, Any], more: dict[str, Any], said: str
) -> None:
    entry = {"model": "openai/a", "api_base": "http://127.0.0.1:9", **model}
    path = catalog({"a": entry}, budget={"usd": 1, "per": "day"}, **more)
    line = 1 + [line.strip() for line in path.read_text().splitlines()].index("budget:")
    with pytest.raises(InvalidCatalog) as caught:
        ask(router, "sync")
    [problem] = caught.value.problems
    assert problem.where == f"line {line}"
    assert problem.what.startswith(f"modules.default.budget: {said}")


# -- a limit around a piece of work


@WAYS
def test_a_block_spends_no_more_than_it_may(
    router: Router, catalog: WriteCatalog, server: ScriptedServer, how: str
) -> None:
    catalog({"a": server.openai("a", price=PRICE)}, max_tokens=10)
    server.script("a", ANSWER)
    with track() as outer, track(max_usd=0.025) as spent:
        for _ in range(2):
            ask(router, how)
        with pytest.raises(BudgetExceeded, match=r"Of track\(max_usd=0.025\) \$0.02002 is spent and \$0 reserved\."):
            ask(router, how)
    assert spent.total.cost_usd == outer.total.cost_usd == 2 * COST
    assert ask(router, how).cost_usd == COST


def test_a_blocks_tasks_and_threads_share_its_limit(
    router: Router, catalog: WriteCatalog, server: ScriptedServer
) -> None:
    catalog({"a": server.openai("a", price=PRICE)}, max_tokens=10)
    server.script("a", ANSWER)

    async def all_at_once() -> list[Any]:
        calls = [router.acomplete("hi", cache=False, deadline=5) for _ in range(8)]
        calls += [asyncio.to_thread(router.complete, "hi", cache=False, deadline=5) for _ in range(8)]
        return await asyncio.gather(*calls, return_exceptions=True)

    with track(max_usd="0.0812") as spent:
        answers = asyncio.run(all_at_once())
    assert spent.total.cost_usd == 8 * COST
    assert sum(isinstance(answer, BudgetExceeded) for answer in answers) == 8


@pytest.mark.parametrize("amount", [-1, float("nan"), "five", True, float("inf")])
def test_what_is_no_amount_of_money_is_refused(amount: Any) -> None:
    with pytest.raises(InvalidRequest, match="max_usd= takes US dollars from 0"):
        track(max_usd=amount)
