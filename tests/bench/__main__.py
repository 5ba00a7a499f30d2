"""``make bench``: every figure is a ratio of two things measured in turn in the same run, so a slow machine does not
matter.

A row whose ratio is above its limit is marked, and the run then ends with exit code 1. ``ARGS="calls"`` runs one part
alone: imports, resolving, metering, traces, calls, streams, fallbacks, programs,
processes, caching, spending or outages.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.bench.measure import Row, local_server, medians, show

__all__ = ["Row", "local_server", "medians"]


def imports() -> list[Row]:
    def load(module: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True)

    took = medians({name: load(name) for name in ("sys", "modelrouter", "litellm")}, rounds=5, block=1)
    ours, theirs = (took[name] - took["sys"] for name in ("modelrouter", "litellm"))
    return [Row("import modelrouter", ours, "import litellm", theirs, limit=0.1)]


def resolving() -> list[Row]:
    from modelrouter.catalog.binding import load
    from modelrouter.catalog.overrides import Environment, Overrides

    def bound(models: int) -> Any:
        lines = ["models:"]
        lines += [f"  m{n}: {{model: openai/m{n}, price: {{input: 1, output: 2}}}}" for n in range(models)]
        lines += ["modules:", "  default: {chain: [m0, m1, m2]}", "  scorer: {chain: [m3, m4]}"]
        data = "\n".join(lines).encode()
        return load(data, shown="bench.yaml", environment=Environment(Overrides("LLM_")))

    def resolve(found: Any) -> Callable[[], object]:
        def run() -> None:
            for _ in range(100):
                found.resolve("scorer")
                found.resolve("scorer", "m5")

        return run

    small, large = "a catalog of 10 models", "resolve in a catalog of 10,000"
    took = medians({small: resolve(bound(10)), large: resolve(bound(10_000))})
    return [Row(large, took[large] / 200, small, took[small] / 200, limit=1.25)]


def metering() -> list[Row]:
    from prometheus_client import CollectorRegistry

    from modelrouter.completion import Attempt, Usage
    from modelrouter.metering.metrics import Metrics

    metrics = Metrics.of(CollectorRegistry())
    usage = Usage(1000, 200, cache_read_tokens=100, cache_write_tokens=100, reasoning_tokens=50)
    attempt = Attempt("m", "openai/m", "openai", "ok", latency_s=1.0, cost_usd=Decimal("0.001"), usage=usage)
    what = "metering an attempt"
    return [Row(what, medians({what: lambda: metrics.hear("default", attempt)}, block=1000)[what], most=50e-6)]


def traces() -> list[Row]:
    """What they cost each call of an application without a tracer, OpenTelemetry's API being there all the same."""
    from opentelemetry import trace

    from modelrouter.catalog.target import Target
    from modelrouter.metering.books import Books
    from modelrouter.metering.traces import exemplar, hear, performing
    from modelrouter.planning.events import CacheUsed, CallEnded, Event

    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    attempt = Target("m", "openai/m", "openai").attempt("ok")
    events: list[Event] = [CacheUsed("miss"), attempt, CallEnded("success", Decimal(0))]
    books = Books({hear: tuple(map(type, events))})

    def call() -> None:
        performing(print, "default")
        for event in events:
            books.tell("default", event)
        for _ in ("latency", "cost", "the module's cost"):
            exemplar()

    what = "traces, without a tracer: what they add to a call"
    return [Row(what, medians({what: call}, block=1000)[what], most=5e-6)]


def caching() -> list[Row]:
    from tests.bench import caching

    return caching.rows()


def spending() -> list[Row]:
    from tests.bench import spending

    return spending.rows()


def outages() -> list[Row]:
    from tests.bench import outages

    return outages.rows()


def main() -> int:
    for name in [name for name in os.environ if "LLM_" in name or name.endswith("_API_KEY")]:
        del os.environ[name]
    os.environ |= {"OPENAI_API_KEY": "none", "ANTHROPIC_API_KEY": "none", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    from tests.bench import contenders, processes, programs

    local: dict[str, Callable[[], list[Row]]] = {
        "imports": imports,
        "resolving": resolving,
        "metering": metering,
        "traces": traces,
        "caching": caching,
        "spending": spending,
        "outages": outages,
    }
    served: dict[str, Callable[[contenders.Bench], list[Row]]] = {
        "calls": contenders.calls,
        "streams": contenders.streams,
        "fallbacks": contenders.fallbacks,
        "programs": programs.programs,
        "processes": processes.processes,
    }
    chosen = sys.argv[1:] or [*local, *served]
    if unknown := set(chosen) - {*local, *served}:
        print(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join([*local, *served])}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name in [name for name in chosen if name in local]:
            rows += local[name]()
        if any(name in served for name in chosen):
            with local_server() as address:
                bench = contenders.Bench(Path(folder), address)
                for name in [name for name in chosen if name in served]:
                    rows += served[name](bench)
        os.chdir("/")
    show(rows)
    return int(any(row.missed for row in rows))


if __name__ == "__main__":
    sys.exit(main())
