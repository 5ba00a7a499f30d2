"""What was answered, on disk before anything follows from it: after Ctrl-C or kill -9 nobody pays for it again.

A line is written before a call is sent and one when it has ended, each on the disk before it goes on. What was killed
in between was in flight: its provider may bill it, nobody knows what it would have said, and it is asked again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from modelrouter.completion import Kind, Usage, add, plain
from modelrouter.errors import InvalidRequest

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_HEAD = b'{"modelrouter": "comparison", "version": 1}\n'
"""The first line: no other file is ever written to."""

PASSING = frozenset(
    (
        *(Kind.RATE_LIMIT, Kind.CONNECTION, Kind.SERVER, Kind.TIMEOUT, Kind.MISSING_KEY, Kind.AUTH, Kind.PERMISSION),
        *(Kind.QUOTA, Kind.NOT_FOUND, Kind.BUDGET, Kind.TRUNCATED, Kind.CANCELLED),
    )
)
"""Kinds of errors that another time, or a mended set-up, may do away with: such a call is asked again."""


@dataclass(frozen=True, slots=True)
class Said:
    """How a call ended."""

    text: str | None
    kind: Kind | None = None
    error: str | None = None
    latency_s: float | None = None
    usage: Usage | None = None
    cost_usd: Decimal | None = None
    held_usd: Decimal = Decimal(0)
    """At most so much may be billed beside `cost_usd`, for attempts that were cut off."""
    at: float = 0.0
    """The wall-clock time."""

    @property
    def stands(self) -> bool:
        """Whether to ask again would give nothing else."""
        return self.kind not in PASSING


class Journal:
    """A file of what was asked and answered. One process has it at a time; use it as a context manager.

    Raises InvalidRequest when the file cannot be had.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        """None: nothing is kept beyond this process."""
        self.ended: dict[str, Said] = {}
        self._of: dict[str, set[str]] = {}
        self._begun: dict[str, list[Decimal]] = {}
        self._spent: dict[str, list[Decimal]] = {}
        self._held: dict[str, list[Decimal]] = {}
        self._file: int | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="modelrouter-journal")

    def __enter__(self) -> Self:
        if self.path is not None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
                self._lock(self._file)
                self._load(self._file)
            except OSError as error:
                self.__exit__(None, None, None)
                raise InvalidRequest(
                    f"answers cannot be remembered in {self.path}: {error.strerror}.\n"
                    "  Set MODELROUTER_STATE_DIR to a directory that can be written to, or name another file."
                ) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.shutdown()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _lock(self, file: int) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            self._file = None
            raise InvalidRequest(
                f"the same comparison is running already: {self.path} is another process's.\n  Wait for its end."
            ) from None

    # -- reading

    def _load(self, file: int) -> None:
        with open(file, "rb", closefd=False) as lines:
            lines.seek(0)
            content = lines.read()
        if _HEAD.startswith(content):  # a new file, or one whose process was killed at once
            os.ftruncate(file, 0)
            os.write(file, _HEAD)
            return
        if not content.startswith(_HEAD):
            self.__exit__(None, None, None)
            raise InvalidRequest(
                f"{self.path} is no file of answers that a comparison has written.\n  Name another one, or none."
            )
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.ftruncate(file, whole)  # a line that was being written when its process was killed
        for line in content[len(_HEAD) : whole].splitlines():
            with contextlib.suppress(ValueError, TypeError, ArithmeticError, LookupError, AttributeError):
                self._take(json.loads(line))

    def _take(self, line: dict[str, Any]) -> None:
        key = str(line["key"])
        self._of.setdefault(str(line["of"]), set()).add(key)
        if "most" in line:
            self._begun.setdefault(key, []).append(Decimal(line["most"] or 0))
            return
        facts: dict[str, Any] = {each.name: line[each.name] for each in fields(Said)}
        facts["kind"] = facts["kind"] and Kind(facts["kind"])
        facts["usage"] = facts["usage"] and Usage(**facts["usage"])
        facts["cost_usd"] = None if facts["cost_usd"] is None else Decimal(facts["cost_usd"])
        facts["held_usd"] = Decimal(facts["held_usd"])
        self._end(key, Said(**facts))

    def _end(self, key: str, said: Said) -> None:
        self.ended[key] = said
        if begun := self._begun.get(key):
            begun.pop()
        self._spent.setdefault(key, []).append(said.cost_usd or Decimal(0))
        self._held.setdefault(key, []).append(said.held_usd)

    def spent(self, keys: Collection[str]) -> Decimal:
        """US dollars that are known to have been paid for these calls, and for those that were about them."""
        return self._sum(self._spent, keys)

    def charged(self, keys: Collection[str]) -> Decimal:
        """`spent`, and the most that what was in flight or cut off may have cost."""
        return add((self.spent(keys), self._sum(self._held, keys), self._sum(self._begun, keys)))

    def lost(self, keys: Collection[str]) -> int:
        """Calls that were in flight when their process was killed."""
        return sum(len(self._begun.get(key, ())) for key in self._about(keys))

    def _sum(self, amounts: dict[str, list[Decimal]], keys: Collection[str]) -> Decimal:
        return add(amount for key in self._about(keys) for amount in amounts.get(key, ()))

    def _about(self, keys: Collection[str]) -> set[str]:
        return set().union(*(self._of.get(key, ()) for key in keys))

    # -- writing

    async def begin(self, key: str, of: str, most: Decimal | None) -> None:
        """Before a call is sent. `of`: the call that it is about, itself or the one that is judged; `most`: what it can
        cost, None: not known."""
        self._of.setdefault(of, set()).add(key)
        self._begun.setdefault(key, []).append(most or Decimal(0))
        await self._write({"key": key, "of": of, "most": plain(most)})

    async def end(self, key: str, of: str, said: Said) -> None:
        """When it has ended."""
        self._end(key, said)
        await self._write({"key": key, "of": of, **plain(said)})

    async def _write(self, line: dict[str, Any]) -> None:
        if self._file is not None:
            loop = asyncio.get_running_loop()
            # Once it is handed over it is written, also when who waits for it is cancelled.
            await asyncio.shield(loop.run_in_executor(self._writer, self._append, self._file, line))

    def _append(self, file: int, line: dict[str, Any]) -> None:
        content = f"{json.dumps(line)}\n".encode()
        try:
            while content:
                content = content[os.write(file, content) :]
            os.fsync(file)
        except OSError as error:
            raise InvalidRequest(f"{self.path} cannot be written: {error.strerror}. No further call is sent.") from None
