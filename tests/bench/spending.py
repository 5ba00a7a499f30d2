"""What budgets and the books of spend add to a call, by a model that answers at once."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from prometheus_client import CollectorRegistry

from modelrouter import Router
from modelrouter.catalog.target import Target
from modelrouter.completion import Usage
from modelrouter.metering.posting import Posting
from modelrouter.metering.spend import Spend
from modelrouter.store import DiskStore
from modelrouter.testing import ScriptedProvider
from tests.bench.measure import Row, medians

_CATALOG = """
models:
  bench: {model: openai/bench, price: {input: 1, output: 2}}
modules:
  default: {chain: [bench], max_tokens: 50, temperature: 0, cache: false}
  held: {budget: {usd: 1000, per: month}}
budget: {usd: 1000000, per: month}
"""
_BOTH = ("a call within two budgets", "the same without")
CALLS = 20
ROUNDS = 60


def rows() -> list[Row]:
    """Budgets on the disk, for synchronous and asynchronous calls; and the books alone."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        paths = [Path("held.yaml"), Path("free.yaml")]
        paths[0].write_text(_CATALOG)
        paths[1].write_text(_CATALOG.partition("budget:")[0].rpartition("  held")[0] + "  held: {}\n")
        store = DiskStore(Path(folder) / "store")
        routers = [Router(path, store=store, registry=CollectorRegistry()) for path in paths]
        with ScriptedProvider({"bench": "fine"}, cache=True), asyncio.Runner() as runner:

            def sync(router: Router) -> Callable[[], object]:
                return lambda: [router.complete("hi", module="held") for _ in range(CALLS)]

            def in_turn(router: Router) -> Callable[[], object]:
                async def calls() -> None:
                    for _ in range(CALLS):
                        await router.acomplete("hi", module="held")

                return lambda: runner.run(calls())

            found = []
            for how, make in (("", sync), (", asynchronous", in_turn)):
                names = [f"{name}{how}" for name in _BOTH]
                took = medians(dict(zip(names, map(make, routers), strict=True)), rounds=ROUNDS, block=1)
                held, free = (took[name] / CALLS for name in names)
                found.append(Row(f"{names[0]}: what they add", held - free, most=250e-6))
        store.close()
    return [*found, _books()]


def _books() -> Row:
    spend = Spend(Posting(lambda *_, **__: True).post)
    attempt = Target("bench", "openai/bench", "openai").attempt("ok", cost_usd=Decimal("0.001"), usage=Usage(1000, 200))
    what = "spend: an attempt in the books"
    return Row(what, medians({what: lambda: spend.hear("default", attempt)}, block=1000)[what], most=30e-6)
