"""A real Redis on loopback, that keeps nothing on disk."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redis import Connection
from redis.exceptions import RedisError

from .ports import babbler, free_port

__all__ = ["RedisServer"]

_PREFIX = "modelrouter:{1}:"
_AGE = """
local passed, prefix = tonumber(ARGV[1]), ARGV[2]
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  if left >= 0 then redis.call('PEXPIRE', key, left - passed) end
end
for _, name in ipairs({'until', 'ends'}) do
  for _, member in ipairs(redis.call('ZRANGE', prefix .. name, 0, -1)) do
    redis.call('ZINCRBY', prefix .. name, -passed, member)
  end
end
local index = redis.call('HGETALL', prefix .. 'index')
for i = 1, #index, 2 do
  local set, ends, rest = index[i + 1]:match('^(%d+) (%d+) (.*)$')
  redis.call('HSET', prefix .. 'index', index[i], string.format('%.0f %.0f %s', set - passed, ends - passed, rest))
end
"""


class RedisServer:
    """`program` is started, on a free port and a socket file in `directory`, when the ``with`` block is entered."""

    def __init__(self, program: str, directory: Path, *, cluster: bool = False) -> None:
        """`cluster`: the only node of one."""
        self._program = program
        self._cluster = cluster
        self._directory = directory
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.file = directory / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Also again: it is empty then."""
        place = ["--port", self.port, "--bind", "127.0.0.1", "--unixsocket", self.file, "--dir", self._directory]
        command = [self._program, *map(str, place), "--save", "", "--appendonly", "no"]
        if self._cluster:
            command += ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
        log = self._directory / "redis.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        until = time.monotonic() + 30
        while True:
            with contextlib.suppress(RedisError):
                if self.ask("PING") == b"PONG":
                    break
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < until, "it does not start"
            time.sleep(0.01)
        if self._cluster:
            self.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            while b"cluster_state:ok" not in self.ask("CLUSTER", "INFO"):
                assert time.monotonic() < until, "it has no state"
                time.sleep(0.01)

    def stop(self) -> None:
        """As when its machine is lost: at once, and nothing is kept."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def hang(self) -> None:
        """Connections are made from now on, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def trouble(self, kind: str) -> Iterator[None]:
        """For the block it is ``stopped``, ``hung``, ``restarted`` and empty, or answers ``nonsense``."""
        if kind == "hung":
            self.hang()
            yield
            self.go_on()
            return
        self.stop()
        if kind != "restarted":
            with babbler(b"HTTP/1.1 400\r\n", self.port) if kind == "nonsense" else contextlib.nullcontext():
                yield
        self.start()
        if kind == "restarted":
            yield

    def reset(self) -> None:
        """Empty, and as it was started."""
        if self._process is None:
            self.start()
        self.go_on()
        for command in (["REPLICAOF", "NO", "ONE"], ["CONFIG", "SET", "maxmemory", 0], ["FLUSHALL"]):
            self.ask(*command)

    def ask(self, *command: object) -> Any:
        """What it answers to one command."""
        connection = Connection(port=self.port, protocol=2, socket_timeout=30)
        try:
            connection.send_command(*command)
            return connection.read_response()
        finally:
            connection.disconnect()

    def keys(self) -> dict[bytes, Any]:
        """All that it holds, by name."""
        read = {
            b"string": lambda key: self.ask("GET", key),
            b"hash": lambda key: self.ask("HGETALL", key),
            b"zset": lambda key: self.ask("ZRANGE", key, 0, -1, "WITHSCORES"),
        }
        return {key: read[self.ask("TYPE", key)](key) for key in self.ask("KEYS", "*")}

    def age(self, seconds: float) -> None:
        """Make all that it holds older by so much: its clock cannot be set."""
        self.ask("EVAL", _AGE, 0, round(seconds * 1000), _PREFIX)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
