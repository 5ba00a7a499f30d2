"""``make bench-peers``: the same call by others, each in an environment and a process of its own, in turns in one run.

A name and the path of a Python are given for each, ``langchain=build/envs/.../python``; one whose process does not
start is left out, with a line that says so.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from tests.bench.measure import SETTLING, Row, local_server, show

ROUNDS = 15
COUNTS = {"sync": 15, "async": 15, "flock": 256}
OURS = ("openai", "litellm", "modelrouter")
"""In the environment of this project."""
FASTER = ("langchain",)
"""Than these a synchronous call has to be faster."""


class _Peer:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, line: str) -> float:
        """Seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


def main() -> int:
    pythons = dict.fromkeys(OURS, sys.executable) | dict(argument.split("=", 1) for argument in sys.argv[1:])
    with ExitStack() as stack:
        address = stack.enter_context(local_server())
        peers: dict[str, _Peer] = {}
        for name, python in pythons.items():
            command = [python, str(Path(__file__).with_name("peer.py")), name, address]
            process = stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            if process.stdout.readline() == "ready\n":
                peers[name] = _Peer(process)
            else:
                print(f"{name} does not start: left out", file=sys.stderr)
        rows = [row for how, count in COUNTS.items() for row in _rows(peers, how, count)]
    show(rows)
    return int(any(row.missed for row in rows))


def _rows(peers: dict[str, _Peer], how: str, count: int) -> list[Row]:
    took: dict[str, list[float]] = {name: [] for name in peers}
    for number in range(ROUNDS + 1):
        for name, peer in peers.items():
            seconds = peer.ask(f"{how} {count}") / count
            if number:  # the first round warms up
                took[name].append(seconds)
            time.sleep(SETTLING)
    median = {name: statistics.median(times) for name, times in took.items()}
    rows = [
        Row(f"{how}: {name}", seconds, "litellm", median["litellm"], remark=f"{1 / seconds:,.0f} calls/s")
        for name, seconds in median.items()
        if name != "litellm"
    ]
    ours = median["modelrouter"]
    rivals = [name for name in FASTER if name in median] if how == "sync" else []
    return rows + [Row(f"{how}: modelrouter", ours, name, median[name], limit=1.0) for name in rivals]


if __name__ == "__main__":
    sys.exit(main())
