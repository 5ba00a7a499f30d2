"""Processes that are killed, and that fork, while they write to a store. For the tests, and for longer runs."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from modelrouter.store import DiskStore, StoreError

__all__ = ["fork_while_writing", "kill_writers", "patiently", "run"]

T = TypeVar("T")

KEYS = [f"key-{number}" for number in range(40)]

_WRITER = """
import sys
from faults import KEYS, value
from modelrouter.store.disk import DiskStore

store = DiskStore(sys.argv[1])
number = int(sys.argv[2])
while True:
    number += 1
    key = KEYS[number % len(KEYS)]
    store.set(key, value(key, number), ttl=3600)
    print(number, flush=True)
"""

_FORKER = """
import os, signal, sys, threading
import modelrouter.store.disk
from faults import patiently
from modelrouter.store.disk import DiskStore

modelrouter.store.disk.REST = 0.0
store, children = DiskStore(sys.argv[1]), int(sys.argv[2])
done = threading.Event()
proc = os.path.isdir("/proc/self/fd")

def write(name):
    number = 0
    while not done.is_set():
        number += 1
        patiently(lambda: store.set(f"{name}-{number % 50}", "parent " * 300, ttl=3600))
        patiently(lambda: store.get(f"{name}-{number % 50}"))

threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
for thread in threads:
    thread.start()
pids = []
for number in range(children):
    if (pid := os.fork()) == 0:
        status = 1
        signal.alarm(50)  # one that waits for a lock for ever ends with the test
        try:
            inherited = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")[:-1]] if proc else []
            assert not [path for path in inherited if "cache.db" in path], "SQLite must not carry a file over a fork"
            for round in range(20):
                patiently(lambda: store.set(f"child-{number}", f"{number} {round}", ttl=3600))
            status = int(patiently(lambda: store.get(f"child-{number}")) != f"{number} 19")
        except BaseException as error:
            print(number, repr(error), file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    pids.append(pid)
statuses = [os.waitpid(pid, 0)[1] for pid in pids]
done.set()
for thread in threads:
    thread.join()
assert [store.get(f"child-{number}") for number in range(children)] == [f"{n} 19" for n in range(children)]
sys.exit(any(statuses))
"""


def patiently(operation: Callable[[], T], *, seconds: float = 30.0) -> T:
    """Try again while the database is busy, where a call would go on without the cache: a slow disk and twenty writers
    are enough for that. What a fork has left locked stays locked."""
    end = time.monotonic() + seconds
    while True:
        try:
            return operation()
        except StoreError as error:
            if error.reason != "busy" or time.monotonic() > end:
                raise
            time.sleep(0.01)


def value(key: str, number: int) -> dict[str, object]:
    """A value that shows whether it is whole, and whose it is. Up to 35 KB."""
    return {"number": number, "text": f"{key}: {number} " * (number * 37 % 2000)}


def run(script: str, *arguments: object, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, with what the tests can import."""
    command = [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", script, *map(str, arguments)]
    return subprocess.run(command, env=_environment(), capture_output=True, text=True, timeout=timeout, check=False)


def _environment() -> dict[str, str]:
    here = Path(__file__).parent
    return {**os.environ, "PYTHONPATH": f"{here.parent}{os.pathsep}{here}"}


def fork_while_writing(directory: Path, children: int) -> None:
    """Fork a process in which four threads write; each child has to write too."""
    ended = run(_FORKER, directory, children)
    assert ended.returncode == 0, ended.stderr


def kill_writers(directory: Path, times: int) -> None:
    """Kill a process that writes, at a random moment, again and again; what is there afterwards has to be whole."""
    kept = DiskStore(directory)
    written = 0
    for round_ in range(times):
        # The odd rounds leave nobody who has the database open, so that the next one has to recover it.
        store = kept if round_ % 2 == 0 else DiskStore(directory)
        if store is not kept:
            kept.close()
        command = [sys.executable, "-c", _WRITER, str(directory), str(written)]
        with subprocess.Popen(command, env=_environment(), stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline(), "the writer did not start"
            time.sleep(random.random() * 0.03)
            writer.kill()
            written = max([written + 1, *(int(line) for line in writer.stdout if line.endswith("\n"))])
        for key in KEYS:
            if (found := store.get(key)) is not None:
                assert found == value(key, found["number"]), f"round {round_}: {key} is not what was written"
        last = KEYS[written % len(KEYS)]
        assert store.get(last)["number"] >= written, f"round {round_}: what was written before the kill is lost"
        store.set("after", round_, ttl=3600)
        assert store.get("after") == round_
        if store is not kept:
            store.close()
    kept.close()
