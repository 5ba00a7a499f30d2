"""What a process holds: descriptors, threads, memory."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = ["Leftovers"]


_ENDING = ("modelrouter-books", "modelrouter-budgets")
"""Threads that end by themselves some seconds after the last call."""


@dataclass(frozen=True)
class Leftovers:
    descriptors: int
    threads: frozenset[str]
    memory: float
    """Megabytes, resident now, without pages of files: SQLite maps its database, and that grows with the answers in it.
    Where a system does not say, the most that there were."""

    @classmethod
    def now(cls) -> Self:
        gc.collect()
        with contextlib.suppress(AttributeError, OSError):  # glibc's alone: what is free, it keeps for later
            ctypes.CDLL(None).malloc_trim(0)
        return cls(
            descriptors=sum(1 for _ in Path("/dev/fd").iterdir()),
            threads=frozenset(f"{t.name} ({t.ident})" for t in threading.enumerate() if t.name not in _ENDING),
            memory=_resident() / 2**20,
        )

    def beyond(self, before: Self) -> list[str]:
        """What there is more of than before, threads and descriptors alone."""
        found = [f"thread {name}" for name in sorted(self.threads - before.threads)]
        if self.descriptors > before.descriptors:
            found.append(f"{self.descriptors - before.descriptors} descriptors")
        return found


def _resident() -> int:
    """Bytes."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        _, pages, of_files, *_ = map(int, statm.read_text().split())
        return (pages - of_files) * resource.getpagesize()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
