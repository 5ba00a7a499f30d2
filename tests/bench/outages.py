"""How much longer a call takes at worst while a Redis that many share fails, and after it, until it is used again.

Needs the program ``redis-server``.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from prometheus_client import CollectorRegistry

from modelrouter import Router
from modelrouter.store import RedisStore
from modelrouter.store.redis import REST
from modelrouter.testing import ScriptedProvider
from tests.bench.measure import Row
from tests.servers import RedisServer

_CATALOG = """
models:
  bench: {model: openai/bench, price: {input: 1, output: 2}}
modules:
  default: {chain: [bench], max_tokens: 50, temperature: 0, budget: {usd: 1000, per: month}}
"""
CALLERS = 8
PAUSE = 0.05
"""Seconds between two calls of one: so many that wait for a core are no matter of the store's."""


def rows() -> list[Row]:
    """The longest call of each outage against the longest one before it, with a budget and a cache in the Redis."""
    if (program := shutil.which("redis-server")) is None:
        return []
    logging.getLogger("modelrouter").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, RedisServer(program, Path(folder)) as server:
        catalog = Path(folder) / "models.yaml"
        catalog.write_text(_CATALOG)
        return [
            _row(server, catalog, kind, how)
            for kind in ("stopped", "hung", "restarted", "nonsense")
            for how in ("threads", "tasks")
        ]


def _row(server: RedisServer, catalog: Path, kind: str, how: str) -> Row:
    server.reset()
    store, took = RedisStore(server.url), list[float]()
    with (
        ScriptedProvider({"bench": "fine"}, cache=True),
        Router(catalog, store=store, registry=CollectorRegistry()) as router,
    ):
        router.complete("?")
        with _load(router, how, took):
            time.sleep(REST)
            before = max(took)
            took.clear()
            with server.trouble(kind):
                time.sleep(2 * REST)
            time.sleep(2 * REST)
        assert any(b":value:" in name for name in server.ask("KEYS", "*")), "it is not used again"
    return Row(f"the longest of {len(took):,} calls as a Redis is {kind}, {how}: more", max(took) - before, most=0.5)


@contextlib.contextmanager
def _load(router: Router, how: str, took: list[float]) -> Iterator[None]:
    """Callers who ask nine questions again and again, every other time past the cache; `took` gets seconds."""
    done, numbers = threading.Event(), itertools.count()

    def question() -> dict[str, object]:
        number = next(numbers)
        return {"prompt": f"question {number % 9}", "cache": number % 2 == 0}

    def timed(began: float) -> None:
        took.append(time.monotonic() - began)

    def ask() -> None:
        while not done.wait(PAUSE):
            began = time.monotonic()
            router.complete(**question())
            timed(began)

    async def ask_too() -> None:
        while not done.is_set():
            await asyncio.sleep(PAUSE)
            began = time.monotonic()
            await router.acomplete(**question())
            timed(began)

    async def ask_all() -> None:
        await asyncio.gather(*(ask_too() for _ in range(CALLERS)))

    asking: list[Callable[[], object]] = [ask] * CALLERS if how == "threads" else [lambda: asyncio.run(ask_all())]
    with ThreadPoolExecutor(CALLERS) as pool:
        callers = [pool.submit(one) for one in asking]
        try:
            yield
        finally:
            done.set()
        for caller in callers:
            caller.result()
