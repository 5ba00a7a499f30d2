"""An event loop that a synchronous caller runs himself while he waits, in his own thread. To cross to another one and
back takes a sixth of a call that is answered at once.

There is one in a process, for one caller at a time. It stands still in between, so it is for what leaves nothing behind
on it, and never blocks it. What comes meanwhile, such as that a server has closed a connection, it hears at the next
call, before anything is sent.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import selectors
import signal
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from .forks import at_fork, process_lock

T = TypeVar("T")

_NAMES = "SIGALRM", "SIGINT", "SIGUSR1", "SIGUSR2", "SIGVTALRM", "SIGPROF"
_INTERRUPTING = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
"""Signals whose handlers may raise what is to end a function: a limit on its time, say."""

_turn = process_lock()
_runner: asyncio.Runner | None = None
_inherited: list[asyncio.Runner] = []


def _after_fork() -> None:
    # Its sockets are the parent's, which goes on with them.
    global _runner
    if _runner is not None:
        _inherited.append(_runner)
    _runner = None


at_fork(in_child=_after_fork)


def run(coroutine: Coroutine[Any, Any, T], *, wait: float = 0.0) -> tuple[T] | None:
    """What the coroutine returns, alone in a tuple. None: it was not begun, because somebody else has the loop for more
    than `wait` seconds, none can be made, this thread runs another one, or a handler of signals may raise an exception
    here, which a loop would swallow.

    What else interrupts the wait (Ctrl-C) cancels the coroutine, on another thread.
    """
    if not _is_free() or not _turn.acquire(timeout=wait):
        return None
    try:
        return None if (loop := _current()) is None else (_run(loop, coroutine),)
    finally:
        _turn.release()


def _is_free() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        if threading.current_thread() is not threading.main_thread():
            return True
        return not any(map(_raises, map(signal.getsignal, _INTERRUPTING)))
    return False


def _raises(handler: Any) -> bool:
    """Whether it may raise an `Exception`: that of Ctrl-C is none, and loops let it through."""
    return callable(handler) and handler is not signal.default_int_handler


def _current() -> asyncio.AbstractEventLoop | None:
    global _runner
    if _runner is None:
        made = asyncio.Runner(loop_factory=_loop)
        try:
            made.get_loop()
        except OSError:  # no descriptors
            return None
        _runner = made
        atexit.unregister(stop)  # once is enough
        atexit.register(stop)
    return _runner.get_loop()


def _run(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> T:
    task = loop.create_task(_up_to_date(coroutine))
    try:
        return loop.run_until_complete(task)
    except asyncio.CancelledError:
        raise CancelledError from None  # asyncio's own is for tasks
    except BaseException as error:
        if not task.done() or not isinstance(error, Exception):
            _leave()
        raise


async def _up_to_date(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        for _ in range(3):  # to hear what has come meanwhile, which TLS says in two turns
            await asyncio.sleep(0)
    except BaseException:
        coroutine.close()
        raise
    return await coroutine


def _leave() -> None:
    """Have another thread end what was interrupted: it may have to wait for a name that is being looked up."""
    global _runner
    interrupted, _runner = _runner, None
    if interrupted is not None:
        try:
            threading.Thread(target=interrupted.close, name="modelrouter-interrupted", daemon=True).start()
        except RuntimeError:  # at the end of the process
            with contextlib.suppress(RuntimeError):
                interrupted.close()


def _loop() -> asyncio.AbstractEventLoop:
    # Not epoll, whose instance a forked child shares: what is closed there would be closed here.
    return asyncio.SelectorEventLoop(getattr(selectors, "PollSelector", selectors.DefaultSelector)())


def stop() -> None:
    """Close the loop, unless somebody is running it. The next call makes a new one."""
    global _runner
    if _turn.acquire(blocking=False):
        try:
            if _runner is not None:
                # It waits for threads of names that are looked up, on a thread, which may not start any more.
                with contextlib.suppress(RuntimeError):
                    _runner.close()
        finally:
            _runner = None
            _turn.release()
