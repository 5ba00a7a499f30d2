"""A process with one call, start to end, and many threads in one process, against LiteLLM's own call."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.bench.contenders import MODELS, Bench
from tests.bench.measure import Row, medians

THREADS = 16
IN_A_ROW = 8

_OURS = "import modelrouter; modelrouter.Router({path!r}).complete('hi', model='openai-bench')"
_THEIRS = (
    "import litellm; litellm.completion(model={model!r}, api_base={base!r}, api_key='none', max_tokens=50, "
    "temperature=0, messages=[dict(role='user', content='hi')])"
)


def processes(bench: Bench) -> list[Row]:
    model, base = f"openai/{MODELS['openai']}", bench.base("openai")

    def run(code: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)

    ours, theirs = _OURS.format(path=str(bench.path)), _THEIRS.format(model=model, base=base)
    took = medians({"ours": run(ours), "litellm": run(theirs)}, rounds=7, block=1)
    rows = [Row("a process with one call: modelrouter", took["ours"], "litellm", took["litellm"], limit=0.75)]
    found = bench.contenders("openai")
    with ThreadPoolExecutor(THREADS) as pool:

        def many(one: Callable[[], object]) -> Callable[[], object]:
            def several(_: int) -> None:
                for _ in range(IN_A_ROW):
                    one()

            return lambda: list(pool.map(several, range(THREADS)))

        took = medians({name: many(found[name].call) for name in ("litellm", "modelrouter")}, block=1)
    rates = f"{THREADS * IN_A_ROW / took['modelrouter']:,.0f} calls/s"
    what = f"openai, {THREADS} threads: modelrouter"
    return [*rows, Row(what, took["modelrouter"], "litellm", took["litellm"], limit=0.4, remark=rates)]
