"""``make bench``: every figure is a ratio of two things measured in turn in the same run, so a slow machine does not
matter.

A row whose ratio is above its limit is marked, and the run then ends with exit code 1.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROUNDS = 20
BLOCK = 20
SETTLING = 0.02
"""Seconds."""
IN_FLIGHT = 64
WIRES = ("openai", "anthropic", "ollama_chat")


@dataclass
class Row:
    what: str
    took: float
    """Seconds."""
    base: str
    base_took: float
    limit: float | None = None

    @property
    def ratio(self) -> float:
        return self.took / self.base_took

    @property
    def missed(self) -> bool:
        return self.limit is not None and self.ratio > self.limit


def medians(runs: Mapping[str, Callable[[], object]], rounds: int = ROUNDS, block: int = BLOCK) -> dict[str, float]:
    """Seconds of one run of each at the median of blocks; the blocks take turns.

    A block, because LiteLLM leaves a part of its work to threads and tasks that run after it has returned: within a
    block it pays for them itself, and the pause after it keeps the rest from the next one's account.
    """
    took: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            for _ in range(block):
                run()
            if number:  # the first round warms up
                took[name].append((time.perf_counter() - began) / block)
            time.sleep(SETTLING)
    return {name: statistics.median(times) for name, times in took.items()}


async def amedians(runs: Mapping[str, Callable[[], Awaitable[object]]], rounds: int, block: int) -> dict[str, float]:
    """`medians` for coroutines."""
    took: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            for _ in range(block):
                await run()
            if number:
                took[name].append((time.perf_counter() - began) / block)
            await asyncio.sleep(SETTLING)
    return {name: statistics.median(times) for name, times in took.items()}


@contextmanager
def local_server() -> Iterator[str]:
    """The address of a server in a process of its own."""
    command = [sys.executable, str(Path(__file__).with_name("server.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()


def imports() -> list[Row]:
    def load(module: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True)

    took = medians({name: load(name) for name in ("sys", "modelrouter", "litellm")}, rounds=5, block=1)
    ours, theirs = (took[name] - took["sys"] for name in ("modelrouter", "litellm"))
    return [Row("import modelrouter", ours, "import litellm", theirs, limit=0.1)]


def resolving(folder: Path) -> list[Row]:
    from modelrouter import catalog
    from modelrouter.types import Environment, Overrides

    def bound(models: int) -> Any:
        lines = ["models:"]
        lines += [f"  m{n}: {{model: openai/m{n}, price: {{input: 1, output: 2}}}}" for n in range(models)]
        lines += ["modules:", "  default: {chain: [m0, m1, m2]}", "  scorer: {chain: [m3, m4]}"]
        draft = catalog.parse("\n".join(lines).encode(), shown="bench.yaml")
        return draft.bind(Environment(Overrides("LLM_")))

    def resolve(found: Any) -> Callable[[], object]:
        def run() -> None:
            for _ in range(100):
                found.resolve("scorer")
                found.resolve("scorer", "m5")

        return run

    small, large = "a catalog of 10 models", "resolve in a catalog of 10,000"
    took = medians({small: resolve(bound(10)), large: resolve(bound(10_000))})
    return [Row(large, took[large] / 200, small, took[small] / 200, limit=1.25)]


def write_catalog(folder: Path, address: str) -> Path:
    bases = {"openai": f"{address}/v1", "anthropic": address, "ollama_chat": address}
    lines = ["models:"]
    lines += [
        f"  {wire}-{name}: {{model: {wire}/{name}, api_base: '{bases[wire]}', price: {{input: 1, output: 2}}}}"
        for wire in WIRES
        for name in ("bench", "down")
    ]
    lines += ["modules:", "  default: {chain: [openai-bench], max_tokens: 50, temperature: 0, retries: 0}"]
    path = folder / "models.yaml"
    path.write_text("\n".join(lines))
    return path


def calls(folder: Path, address: str) -> list[Row]:
    import modelrouter
    from modelrouter import _litellm

    router = modelrouter.Router(write_catalog(folder, address))
    _litellm.load()
    rows: list[Row] = []
    for wire in WIRES:
        contenders, acontenders = callers(wire, address, router)
        rows += compared(f"{wire}, sync", medians(contenders))
        rows += asyncio.run(asynchronous(wire, acontenders))
    return rows


def callers(
    wire: str, address: str, router: Any
) -> tuple[dict[str, Callable[[], object]], dict[str, Callable[[], Any]]]:
    """The same call by each contender, synchronous and asynchronous."""
    import litellm

    model, messages = f"{wire}/bench", [{"role": "user", "content": "hi"}]
    there = {"api_base": f"{address}/v1" if wire == "openai" else address, "api_key": "none"}
    fixed: dict[str, Any] = {"messages": messages, "max_tokens": 50, "temperature": 0}
    models = [{"model_name": "bench", "litellm_params": {"model": model, **there}}]
    theirs = litellm.Router(model_list=models, num_retries=0)
    name = f"{wire}-bench"
    return (
        {
            "litellm": lambda: litellm.completion(model=model, **there, **fixed),
            "litellm.Router": lambda: theirs.completion(model="bench", **fixed),
            "modelrouter": lambda: router.complete("hi", model=name),
        },
        {
            "litellm": lambda: litellm.acompletion(model=model, **there, **fixed),
            "litellm.Router": lambda: theirs.acompletion(model="bench", **fixed),
            "modelrouter": lambda: router.acomplete("hi", model=name),
        },
    )


async def asynchronous(wire: str, single: Mapping[str, Callable[[], Awaitable[object]]]) -> list[Row]:
    def many(one: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[object]]:
        return lambda: asyncio.gather(*(one() for _ in range(IN_FLIGHT)))

    flock = {name: many(one) for name, one in single.items()}
    return [
        *compared(f"{wire}, async", await amedians(single, ROUNDS, BLOCK)),
        *compared(f"{wire}, {IN_FLIGHT} in flight", await amedians(flock, ROUNDS, 1)),
    ]


def compared(what: str, took: Mapping[str, float]) -> list[Row]:
    """What the layer adds to the bare call is at most 5 %, and less than what LiteLLM's own Router adds."""
    bare = took["litellm"]
    limit = min(1.05, max(1.0, took["litellm.Router"] / bare))
    return [
        Row(f"{what}: litellm.Router", took["litellm.Router"], "litellm", bare),
        Row(f"{what}: modelrouter", took["modelrouter"], "litellm", bare, limit=limit),
    ]


def show(rows: Sequence[Row]) -> None:
    table = Table("what", "takes", "against", "takes", "ratio", "at most")
    for row in rows:
        table.add_row(
            row.what,
            f"{row.took * 1e3:.3g} ms",
            row.base,
            f"{row.base_took * 1e3:.3g} ms",
            f"{row.ratio:.2f}",
            "" if row.limit is None else f"{row.limit:.2f}{' MISSED' if row.missed else ''}",
        )
    Console(width=120).print(table)


def main() -> int:
    for name in [name for name in os.environ if "LLM_" in name or name.endswith("_API_KEY")]:
        del os.environ[name]
    os.environ |= {"OPENAI_API_KEY": "none", "ANTHROPIC_API_KEY": "none"}
    with tempfile.TemporaryDirectory() as folder, local_server() as address:
        os.chdir(folder)
        rows = [*imports(), *resolving(Path(folder)), *calls(Path(folder), address)]
        os.chdir("/")
    show(rows)
    return int(any(row.missed for row in rows))


if __name__ == "__main__":
    sys.exit(main())
