"""`modelrouter.track`: what a piece of code spends, and that no call is counted where it does not belong."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from decimal import ROUND_UP, Context, Decimal, FloatOperation, Inexact, InvalidOperation, Rounded, localcontext
from pathlib import Path

import pytest
from conftest import WriteCatalog
from prometheus_client import CollectorRegistry
from servers import Fault, Gate, Hang, Reply, ScriptedServer

from modelrouter import AllModelsFailed, Router, Spent, Usage, track
from modelrouter.catalog.binding import load
from modelrouter.cli.check import check
from modelrouter.cli.screen import usd
from modelrouter.completion import Kind
from modelrouter.metering import spend
from modelrouter.metering.track import hear
from modelrouter.planning.events import CallEnded, FellOver
from modelrouter.store import DiskStore

CALL = Decimal("0.00002")
"""What the scripted server's usual answer costs: 10 tokens in, 5 out."""


@pytest.fixture
def router(router: Router, catalog: WriteCatalog, server: ScriptedServer, keys: str) -> Router:
    models = {name: server.openai(name) for name in ("a", "b", "c")} | {"priceless": server.openai("p", price=None)}
    catalog(models, chain=["a", "b"], modules={"scorer": {"chain": ["c"]}}, retries=1, cache=False)
    return router


def test_calls_are_counted_by_module_and_by_model(router: Router, server: ScriptedServer) -> None:
    server.script("a", Fault(401))
    with track() as spent:
        router.complete("one")
        router.complete("two", module="scorer")
        asyncio.run(router.acomplete("three", module="scorer"))
        with router.stream("four", module="scorer") as pieces:
            assert list(pieces) == ["ok"]
    router.complete("five")  # behind the block
    assert spent.total.calls == 4
    assert spent.total.cost_usd == 4 * CALL
    default, scorer = spent.by_module["default"], spent.by_module["scorer"]
    assert (default.calls, default.requests, default.fallbacks, default.cost_usd) == (1, 2, 1, CALL)
    assert (scorer.calls, scorer.requests, scorer.usage) == (3, 3, Usage(30, 15))
    assert {name: (each.calls, each.requests, each.fallbacks) for name, each in spent.by_model.items()} == {
        "a": (0, 1, 0),
        "b": (1, 1, 1),
        "c": (3, 3, 0),
    }
    assert set(spent.by_module_and_model) == {("default", "a"), ("default", "b"), ("scorer", "c")}
    assert spent.fallbacks == {FellOver("default", "a", "b", Kind.AUTH): 1}
    assert spent.total.latency_s > 0


def test_remembered_answers_cost_nothing_and_what_they_saved_is_known(router: Router) -> None:
    router.complete("hi", cache="refresh")
    with track() as spent:
        assert router.complete("hi", cache=True).cached
    assert spent.total == Spent(calls=1, cache_hits=1, saved_usd=CALL)
    assert spent.by_model["a"].cache_hits == 1


def test_a_call_that_nobody_answers_is_nobodys(router: Router, server: ScriptedServer) -> None:
    server.script("c", Fault(500), Fault(503))
    with track() as spent, pytest.raises(AllModelsFailed):
        router.complete("hi", module="scorer", retries=0)
    assert spent.total.calls == spent.total.unanswered == spent.by_module["scorer"].unanswered == 1
    assert (spent.by_model["c"].calls, spent.by_model["c"].requests) == (0, 1)


def test_a_cost_that_is_not_known_is_counted_and_not_taken_for_nothing(router: Router) -> None:
    with track() as spent:
        router.complete("hi", model="priceless")
        router.complete("hi")
    assert (spent.total.unknown, spent.total.cost_usd) == (1, CALL)
    assert spent.by_model["priceless"].unknown == 1


def test_money_is_exact(router: Router, server: ScriptedServer) -> None:
    server.script("a", Reply(input_tokens=1, output_tokens=1))
    with track() as spent:
        for number in range(10):
            router.complete(str(number))
    assert spent.total.cost_usd == Decimal("0.000030")


def test_an_inner_block_counts_in_the_outer_one_too(router: Router) -> None:
    with track() as outer:
        router.complete("one")
        with track() as inner:
            router.complete("two")
        router.complete("three")
    assert (outer.total.calls, inner.total.calls) == (3, 1)


def test_threads_and_tasks_count_only_where_they_belong(router: Router, server: ScriptedServer) -> None:
    together = threading.Barrier(2)

    def work(count: int) -> int:
        with track() as spent:
            together.wait(10)
            for number in range(count):
                router.complete(f"{count}.{number}")
        return spent.total.calls

    with track() as outside, ThreadPoolExecutor() as pool:
        assert list(pool.map(work, [1, 2])) == [1, 2]  # a pool's threads have no context of this one's
        assert outside.total.calls == 0
        pool.submit(copy_context().run, router.complete, "taken along").result()
    assert outside.total.calls == 1

    async def alone(text: str) -> int:
        with track() as spent:
            await router.acomplete(text)
            await asyncio.to_thread(router.complete, f"{text}, in a thread")
        return spent.total.calls

    async def both() -> list[int]:
        return await asyncio.gather(alone("one"), alone("two"))

    with track() as around:
        assert asyncio.run(both()) == [2, 2]
    assert around.total.calls == 4


def test_what_ends_after_the_block_is_counted_as_well(router: Router, server: ScriptedServer) -> None:
    gate = Gate()
    server.script("a", Reply(gate=gate))

    async def main() -> None:
        with track() as spent:
            task = asyncio.create_task(router.acomplete("hi"))
            await asyncio.to_thread(server.wait_for, 1)
        assert spent.total.calls == 0
        gate.open()
        await task
        assert spent.total.calls == 1

    asyncio.run(main())


def test_a_stream_that_is_collected_while_another_call_is_counted_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    plus = Spent.__add__
    ended = CallEnded("cancelled", Decimal(0))

    def collected(self: Spent, other: Spent) -> Spent:
        monkeypatch.undo()
        hear("scorer", ended)
        return plus(self, other)

    with track() as spent:
        monkeypatch.setattr(Spent, "__add__", collected)
        hear("scorer", ended)
    assert spent.total.calls == 2


def test_a_block_may_end_in_another_context(router: Router) -> None:
    outer, inner = track(), track()
    copy_context().run(inner.__enter__)
    with outer:
        inner.__exit__(None, None, None)
        router.complete("hi")
    assert (outer.total.calls, inner.total.calls) == (1, 0)


def test_a_cancelled_call_is_unanswered(router: Router, server: ScriptedServer) -> None:
    server.script("a", Hang())

    async def main() -> Spent:
        with track() as spent:
            task = asyncio.create_task(router.acomplete("hi"))
            await asyncio.to_thread(server.wait_for, 1)
            task.cancel()
            await asyncio.wait([task])
        return spent.total

    total = asyncio.run(main())
    assert (total.calls, total.unanswered, total.requests) == (1, 1, 1)


@pytest.mark.parametrize(
    "context",
    [Context(prec=3), Context(prec=2, rounding=ROUND_UP, traps=[FloatOperation, Inexact, Rounded, InvalidOperation])],
    ids=["few digits", "strict"],
)
def test_sums_of_money_are_exact_whatever_the_applications_decimal_context_is(
    context: Context, catalog: WriteCatalog, server: ScriptedServer, keys: str, tmp_path: Path
) -> None:
    prices = {"input": 1.234567, "output": 2.345678}
    models = {name: server.openai(name, price=prices) for name in ("a", "b")}
    path = catalog(models, chain=["a", "b"], retries=0, max_tokens=77)
    one = (1_001 * Decimal("1.234567") + 77 * Decimal("2.345678")) / 1_000_000
    for _ in range(2):
        server.script("a", Reply("", input_tokens=1_001, output_tokens=77))  # which is turned down, and billed
        server.script("b", Reply("fine", input_tokens=1_001, output_tokens=77))
    with localcontext(context), track() as spent:
        router = Router(registry=CollectorRegistry(), store=(store := DiskStore(tmp_path / "store")))
        answers = [router.complete("hi"), router.complete("hi", model="b"), router.complete("hi", model="b")]
        router.close()
        saved = spend.by(spend.lines(store, spend.last(2)), lambda line: line.module)["default"].saved_usd
        with pytest.raises(AllModelsFailed) as caught:
            router.complete("ho", model=["a", "missing/x"])
        report = check(load(path.read_bytes(), shown="it"), prompt_tokens=1_001)
        shown = [usd(Decimal(cost)) for cost in ("0.0012345678", "1234.5678", "0.0000001")]
    assert report.modules[0].highest_usd == 2 * one
    assert shown == ["$0.001235", "$1,234.57", "<$0.000001"]
    assert [answer.cost_usd for answer in answers] == [2 * one, 0, 0]
    assert (spent.total.cost_usd, spent.total.saved_usd, saved) == (3 * one, 2 * one, 2 * one)
    assert caught.value.cost_usd == one
