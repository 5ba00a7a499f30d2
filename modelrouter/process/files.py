"""Files that may be anything, and may go: a pipe that a password manager fills, a device, a release that is removed."""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from .forks import process_lock

_NOBODY = 0.5
"""Seconds in which a writer that waits for a reader at a pipe has opened it."""

_SPECIAL = 2
"""The length of the stamp of what is no regular file."""

_lock = process_lock()
_kept: dict[tuple[str, tuple[int, ...]], bytes] = {}
"""What came out of pipes and devices: it comes out once."""


def absolute(path: Path) -> Path:
    """The path from the root on; as it is where the working directory has been removed, and nothing is found by it."""
    try:
        return path.absolute()
    except OSError:
        return path


def stamp(path: Path) -> tuple[int, ...]:
    """Differs after the file, or who may read it, was changed: its time in nanoseconds, size, inode and time of that;
    empty when it is not there.

    Of what is no regular file, only which one it is: a pipe's time is that of its last reader."""
    try:
        found = path.stat()
    except OSError:
        return ()
    if not stat.S_ISREG(found.st_mode):
        return found.st_dev, found.st_ino  # as many as _SPECIAL
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_ctime_ns


def is_special(path: object) -> bool:
    """Whether it is there and no regular file."""
    return isinstance(path, Path) and len(stamp(path)) == _SPECIAL


def read(path: Path, most: int, *, within: float) -> bytes:
    """Up to `most` bytes of a file. One that is a pipe or a device is read once in a process, whoever asks.

    Raises OSError, also when nobody writes to a pipe, or not all `within` so many seconds.
    """
    if path.is_file():
        return _read(path, most, within)
    with _lock:
        key = str(path), stamp(path)
        if not (content := _kept.get(key, b"")) and (content := _read(path, most, within)):
            _kept[key] = content
        return content


def _read(path: Path, most: int, within: float) -> bytes:
    # Else to open a pipe waits for somebody who writes, and for ever.
    opened = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
    try:
        regular = stat.S_ISREG(os.fstat(opened).st_mode) or not hasattr(select, "poll")
        content = bytearray()
        for piece in iter(lambda: os.read(opened, 1 << 16), b"") if regular else _pieces(opened, within):
            content += piece
            if len(content) >= most:
                break
        return bytes(content[:most])
    finally:
        os.close(opened)


def _pieces(opened: int, within: float) -> Iterator[bytes]:
    poll = select.poll()
    poll.register(opened, select.POLLIN)
    end = time.monotonic() + within
    while (left := end - time.monotonic()) > 0:
        ready = poll.poll(1000 * min(left, _NOBODY))
        try:
            piece = os.read(opened, 1 << 16)
        except BlockingIOError:  # somebody has it open, and has not written yet
            continue
        if not piece and not ready:
            raise OSError(errno.ETIMEDOUT, "it is a pipe that nobody writes to")
        if not piece:
            return
        yield piece
    raise OSError(errno.ETIMEDOUT, f"it is a pipe or a device, and has not come to its end within {within:g} s")
