"""The standard streams of a command, which may be closed, full, or left by their reader: that is one line, if anybody
can read it, and never a traceback."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable
from io import TextIOWrapper
from typing import Any, TextIO, cast

_LEFT = frozenset((errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN))
"""The reader has gone, as ``head`` does when it has enough: nobody has to be told."""


class _Unwritable(Exception):
    """Nothing more can be written to stdout."""


class _Guarded:
    """A stream whose failure ends the command, or with `needed` false, nothing."""

    def __init__(self, stream: TextIO, *, needed: bool) -> None:
        self._stream = stream
        self._needed = needed
        self.failure: OSError | None = None
        """Kept, because Typer tries a stream out, and swallows what comes of that."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._do(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._do(self._stream.flush)

    def _do(self, step: Callable[[], object]) -> None:
        try:
            if self.failure is None:
                step()
        except OSError as error:
            self.failure = error
            with contextlib.suppress(OSError):  # what is left in its buffer must not fail again when the process ends
                _put_null(self._stream.fileno(), os.O_WRONLY)
        if self._needed and self.failure is not None:
            raise _Unwritable


def guarded(command: Callable[[], int]) -> int:
    """The exit code of a command, which finds standard streams to use: 1 when stdout cannot be written to."""
    before = sys.stdin, sys.stdout, sys.stderr
    for number, stream in enumerate(before):
        if stream is None and not _is_open(number):
            # Or the next file that is opened would get its number, and what is meant for a terminal. To use it the
            # wrong way fails, as it does with a closed one.
            _put_null(number, os.O_RDONLY if number else os.O_WRONLY)
    for stream in before[1:]:
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a character still shows the rest
    out, err = (stream or open(number, "w", closefd=False) for number, stream in enumerate(before[1:], start=1))  # noqa: SIM115
    stdout, stderr = _Guarded(out, needed=True), _Guarded(err, needed=False)
    sys.stdout, sys.stderr = cast("TextIO", stdout), cast("TextIO", stderr)
    try:
        with contextlib.suppress(_Unwritable):
            code = command()
            stdout.flush()
            return code
        if stdout.failure is not None and stdout.failure.errno not in _LEFT:
            stderr.write(f"cannot write to stdout: {stdout.failure.strerror}\n")
        return 1
    finally:
        _, sys.stdout, sys.stderr = before


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _put_null(number: int, mode: int) -> None:
    null = os.open(os.devnull, mode)
    if null != number:
        os.dup2(null, number)
        os.close(null)
