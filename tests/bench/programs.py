"""A DSPy program by DSPy's own LiteLLM engine, and by modelrouter."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial

from tests.bench.contenders import MODELS, Bench
from tests.bench.measure import Row, amedians, medians

__all__ = ["programs"]

LIMIT = 1.05
"""What modelrouter may add."""


def programs(bench: Bench) -> list[Row]:
    os.environ.setdefault("DSPY_CACHEDIR", os.devnull)  # nothing of DSPy's on disk
    import dspy

    from modelrouter.dspy import get_lm
    from modelrouter.router import default as router

    router._default = bench.router
    plain = {"api_key": "none", "max_tokens": 50, "temperature": 0, "cache": False, "num_retries": 0}
    rows = []
    for wire in ("openai", "anthropic"):
        theirs = dspy.LM(f"{wire}/{MODELS[wire]}", engine="litellm", api_base=bench.base(wire), **plain)
        lms = {"dspy.LM on litellm": theirs, "modelrouter": get_lm(model=f"{wire}-bench")}
        rows.append(_against(f"{wire}, DSPy call", medians({name: partial(lm, "hi") for name, lm in lms.items()})))
        single: dict[str, Callable[[], Awaitable[object]]] = {n: partial(lm.acall, "hi") for n, lm in lms.items()}
        rows.append(_against(f"{wire}, DSPy async call", asyncio.run(amedians(single))))
    return [*rows, _imports()]


def _against(what: str, took: dict[str, float]) -> Row:
    return Row(
        f"{what}: modelrouter", took["modelrouter"], "dspy.LM on litellm", took["dspy.LM on litellm"], limit=LIMIT
    )


def _imports() -> Row:
    def load(module: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True)

    ours, theirs = "dspy, modelrouter.dspy", "dspy"  # alone, ours loads nothing
    took = medians({name: load(name) for name in (ours, theirs)}, rounds=10, block=1)
    return Row(f"import {ours}", took[ours], f"import {theirs}", took[theirs], limit=1.05)
