"""How the benchmarks measure: everything that a row compares takes turns in one run, so a slow machine does not
matter."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

__all__ = ["Row", "amedians", "local_server", "medians", "show"]

ROUNDS = 15
BLOCK = 15
SETTLING = 0.02
"""Seconds."""


@dataclass
class Row:
    what: str
    took: float
    """Seconds."""
    base: str = ""
    base_took: float = 0.0
    limit: float | None = None
    """The most that the ratio may be."""
    most: float | None = None
    """The most that it may take, in seconds, where there is nothing to compare it with."""
    remark: str = ""

    @property
    def ratio(self) -> float | None:
        return self.took / self.base_took if self.base else None

    @property
    def missed(self) -> bool:
        too_much = self.limit is not None and self.ratio is not None and self.ratio > self.limit
        return too_much or (self.most is not None and self.took > self.most)

    @property
    def allowed(self) -> str:
        if self.limit is not None:
            return f"{self.limit:.2f}"
        return "" if self.most is None else seconds(self.most)


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


async def amedians(
    runs: Mapping[str, Callable[[], Awaitable[object]]], rounds: int = ROUNDS, block: int = BLOCK
) -> dict[str, float]:
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


def seconds(time: float) -> str:
    return f"{time * 1e3:.3g} ms" if abs(time) >= 1e-3 else f"{time * 1e6:.3g} us"


def show(rows: Sequence[Row]) -> None:
    table = Table("what", "takes", "against", "takes", "ratio", "at most", "")
    for row in rows:
        table.add_row(
            row.what,
            seconds(row.took),
            row.base,
            seconds(row.base_took) if row.base else "",
            "" if row.ratio is None else f"{row.ratio:.2f}",
            f"{row.allowed}{' MISSED' if row.missed else ''}",
            row.remark,
        )
    Console(width=140).print(table)
