"""A lock that a forked child can take, whoever held it in the parent."""

from __future__ import annotations

import os
import threading

__all__ = ["ProcessLock"]


class ProcessLock:
    """A lock of this process. A child that is forked while another thread holds it begins with one that is free: the
    thread is not there to release it, and what it guards is still whole enough to begin anew."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if self._process != os.getpid():
            self._process, self._lock = os.getpid(), threading.Lock()
        self._lock.acquire()

    def __exit__(self, *exc: object) -> None:
        self._lock.release()
