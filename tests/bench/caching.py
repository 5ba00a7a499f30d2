"""What a remembered answer costs, against the caches of DSPy, LangChain and LiteLLM.

The LangChain row needs ``langchain-community``, and those of Redis the program ``redis-server``; each is left out
without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

from tests.bench.measure import Row, amedians, local_server, medians

Run = Callable[[], object]

MANY, FEW = 200_000, 10
KEPT = 500
"""Answers of the large store that are asked for in turn, so that not one page of it serves them all."""

_CATALOG = """
models:
  bench: {{model: openai/bench, api_base: "{address}/v1", price: {{input: 1, output: 2}}}}
modules:
  default: {{chain: [bench], max_tokens: 50, temperature: 0, retries: 0}}
"""
_PROCESS = """
import sys, modelrouter
assert modelrouter.complete("hi").cached and "litellm" not in sys.modules
"""


def rows() -> list[Row]:
    """A hit of ours against a hit of theirs, in a small store and in a large one, and in a new process."""
    with tempfile.TemporaryDirectory() as folder, local_server() as address, contextlib.chdir(folder):
        catalog = Path("models.yaml")
        catalog.write_text(_CATALOG.format(address=address))
        with _environment(folder, catalog):
            contenders = _contenders(Path(folder), f"{address}/v1", catalog)
            return [*_processes(), *contenders, *_sizes(Path(folder), catalog), *_redis(Path(folder), catalog)]


@contextlib.contextmanager
def _environment(folder: str, catalog: Path) -> Iterator[None]:
    before = dict(os.environ)
    os.environ |= {
        "OPENAI_API_KEY": "none",
        "MODELROUTER_STATE_DIR": f"{folder}/state",
        "MODELROUTER_CONFIG": str(catalog.absolute()),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _processes() -> list[Row]:
    import modelrouter

    with modelrouter.Router() as router:
        router.complete("hi")

    def run(code: str) -> Run:
        return lambda: subprocess.run([sys.executable, "-c", code], check=True)

    took = medians({"ours": run(_PROCESS), "theirs": run("import litellm")}, rounds=5, block=1)
    return [Row("a process with one remembered answer", took["ours"], "import litellm", took["theirs"], limit=1.0)]


def _contenders(folder: Path, base: str, catalog: Path) -> list[Row]:
    import modelrouter

    with modelrouter.Router(catalog) as router, _litellm(base) as litellms:
        runs: dict[str, Run] = {
            "modelrouter": _hit(lambda: router.complete("hi"), lambda answer: answer.cached),
            "dspy, on disk": _dspys(folder, base),
            "litellm, in memory": litellms,
        }
        limits = {"dspy, on disk": 0.6, "langchain, SQLite": 1.0, "litellm, in memory": 0.1}
        if importlib.util.find_spec("langchain_community") is not None:
            runs["langchain, SQLite"] = _langchains(folder)
        took = medians(runs, block=100)  # shorter ones would measure how caches of the processor fill
    hit = "a remembered answer"
    found = [
        Row(hit, took["modelrouter"], name, took[name], limit=limit) for name, limit in limits.items() if name in took
    ]
    return [Row(hit, took["modelrouter"], most=100e-6), *found]


def _hit(run: Callable[[], Any], is_hit: Callable[[Any], bool]) -> Run:
    run()
    assert is_hit(run()), "not a hit"
    return run


def _dspys(folder: Path, base: str) -> Run:
    import dspy

    dspy.configure_cache(enable_disk_cache=True, enable_memory_cache=False, disk_cache_dir=str(folder / "dspy"))
    lm = dspy.LM("openai/bench", api_base=base, api_key="none", max_tokens=50, temperature=0.0, num_retries=0)
    return _hit(lambda: lm("hi"), lambda _: not lm.history[-1]["usage"])


def _langchains(folder: Path) -> Run:
    """With a model that is none: what it would take to tell ChatOpenAI's parameters apart is left out, to our cost."""
    from langchain_community.cache import SQLiteCache
    from langchain_core.globals import set_llm_cache
    from langchain_core.language_models.fake_chat_models import FakeListChatModel

    warnings.filterwarnings("ignore", module="langchain")  # one with each hit
    set_llm_cache(SQLiteCache(str(folder / "langchain.db")))
    chat = FakeListChatModel(responses=["hello there", "not a hit"])
    return _hit(lambda: chat.invoke("hi"), lambda answer: answer.content == "hello there")


@contextlib.contextmanager
def _litellm(base: str) -> Iterator[Run]:
    import litellm
    from litellm.caching import caching_handler

    litellm.suppress_debug_info = True
    callbacks = [litellm.input_callback, litellm.success_callback, litellm._async_success_callback]
    before = [list(names) for names in callbacks]
    # On a plain install each hit ends in "No module named 'soundfile'", out of an import for hits of streams.
    patched = caching_handler._should_defer_streaming_cache_hit_callbacks
    caching_handler._should_defer_streaming_cache_hit_callbacks = lambda **_: False
    litellm.cache = litellm.Cache()
    arguments: dict[str, Any] = {"model": "openai/bench", "api_base": base, "api_key": "none", "max_tokens": 50}
    messages = [{"role": "user", "content": "hi"}]
    try:
        yield _hit(
            lambda: litellm.completion(**arguments, temperature=0, messages=messages),
            lambda answer: answer._hidden_params["cache_hit"],
        )
    finally:
        litellm.cache = None
        caching_handler._should_defer_streaming_cache_hit_callbacks = patched
        for names, were in zip(callbacks, before, strict=True):
            names[:] = were


def _sizes(folder: Path, catalog: Path) -> list[Row]:
    import modelrouter
    from modelrouter.store.disk import DiskStore

    def hits(entries: int, asked: int) -> Run:
        home = folder / f"of-{entries}"
        router = modelrouter.Router(catalog, store=DiskStore(home))
        prompts = [f"question {number}" for number in range(asked)]
        for prompt in prompts:
            router.complete(prompt)
        router.close()
        _fill(home, entries - asked)
        assert all(router.complete(prompt).cached for prompt in prompts)
        turns = cycle(prompts)
        return lambda: router.complete(next(turns))

    small, large = f"of {FEW}", f"a remembered answer of {MANY:,}"
    took = medians({small: hits(FEW, FEW), large: hits(MANY, KEPT)}, block=KEPT // 5)
    return [Row(large, took[large], small, took[small], limit=2.0)]


def _redis(folder: Path, catalog: Path) -> list[Row]:
    """The whole call; of an asynchronous one, a thread does the reading."""
    import modelrouter
    from modelrouter.store import RedisStore
    from tests.servers.redis import RedisServer

    if (program := shutil.which("redis-server")) is None:
        return []
    with RedisServer(program, folder) as server, modelrouter.Router(catalog, store=RedisStore(server.url)) as router:
        took = medians({"sync": _hit(lambda: router.complete("hi"), lambda answer: answer.cached)})
        took |= asyncio.run(amedians({"async": lambda: router.acomplete("hi")}))
    return [Row(f"a hit out of a local Redis, {how}", seconds, most=0.6e-3) for how, seconds in took.items()]


def _fill(home: Path, count: int) -> None:
    """Copies of an answer under keys of nobody's."""
    (file,) = home.glob("db-*/cache.db")
    columns = "raw, store_time, expire_time, access_time, tag, size, mode, value"
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.execute(
            f"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"  # noqa: S608
            f" INSERT INTO Cache (key, {columns})"
            f" SELECT lower(hex(randomblob(32))), {columns} FROM n, (SELECT * FROM Cache LIMIT 1) WHERE ? > 0",
            (count, count),
        )
