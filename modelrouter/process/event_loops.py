"""Event loops: one on a thread of its own for synchronous calls, and things that live and die with a loop.

A synchronous attempt has to end when its time is up, and its socket with it. A blocking call on a worker thread can
only be abandoned: a server that sends a byte a second keeps that thread and its socket for ever. A task can be
cancelled, which closes the connection; so synchronous callers use the same asynchronous door as the others, and wait
for it here.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import threading
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, Generic, TypeVar

from . import callers_loop
from .forks import at_fork, process_lock

T = TypeVar("T")


class _Background:
    """An event loop that runs on a daemon thread until it is stopped."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self.tasks: set[asyncio.Task[Any]] = set()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name="modelrouter-loop", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failed is not None:
            raise RuntimeError("no event loop can be started for synchronous calls") from self._failed

    def _main(self) -> None:
        try:
            asyncio.run(self._until_stopped())
        except BaseException as error:  # noqa: BLE001 - of whoever waits for it: out of file descriptors, say
            self._failed = error
        finally:
            self._ready.set()

    async def _until_stopped(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        self._ready.set()
        await self._stopped.wait()

    def is_mine(self) -> bool:
        return threading.current_thread() is self._thread

    def stop(self) -> None:
        """End the loop: what still runs on it is cancelled, generators are closed. Waits two seconds at most."""
        self.loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(2)


_lock = process_lock()
_background: _Background | None = None
_inherited: list[_Background] = []


def _after_fork() -> None:
    # The child has no thread behind the parent's loop. The loop is kept all the same: collecting it would complain of
    # sockets that are the parent's to close.
    global _background
    if _background is not None:
        _inherited.append(_background)
    _background = None


at_fork(in_child=_after_fork)


def _current() -> _Background:
    global _background
    with _lock:
        if _background is None:
            _background = _Background()
            atexit.unregister(stop)  # once is enough
            atexit.register(stop)
        return _background


def run(coroutine: Coroutine[Any, Any, T], *, within: float | None = None, alone: bool = False) -> T:
    """Run `coroutine` on the background loop, in the caller's context variables, and wait for it. Alone: it leaves
    nothing behind and ends by itself, so that the caller may run a loop for it himself, where he can.

    When the wait is interrupted (Ctrl-C), the coroutine is cancelled; and so it is after `within` seconds, for when
    something blocks the loop and nothing on it can end by itself. That raises TimeoutError.
    """
    if alone and (ran := callers_loop.run(coroutine)) is not None:
        return ran[0]
    try:
        background = _current()
    except RuntimeError:
        # Python 3.12 starts no thread any more while it ends.
        if (ran := callers_loop.run(coroutine, wait=-1 if within is None else within)) is not None:
            return ran[0]
        coroutine.close()
        raise
    if background.is_mine():
        coroutine.close()
        raise RuntimeError(
            "a synchronous call was made from modelrouter's own event loop: use the asynchronous one there"
        )
    running: asyncio.Task[T] | None = None
    done = threading.Lock()
    done.acquire()

    def start() -> None:
        nonlocal running
        running = background.loop.create_task(coroutine)
        running.add_done_callback(lambda _: done.release())

    def give_up() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            background.loop.call_soon_threadsafe(lambda: running is not None and running.cancel())

    # What `asyncio.run_coroutine_threadsafe` does with two futures and a condition, in half the time.
    background.loop.call_soon_threadsafe(start)
    try:
        in_time = done.acquire(timeout=-1 if within is None else within)
    except BaseException:
        give_up()
        raise
    if running is None or not in_time:
        give_up()
        raise TimeoutError
    if running.cancelled():
        raise CancelledError  # asyncio's own is for tasks
    try:
        return running.result()
    finally:
        running = None  # an error refers to this frame, and the task to the error


def finish(coroutine: Coroutine[Any, Any, Any]) -> None:
    """As `run`, from anywhere, a finalizer included: on the background loop's own thread it does not wait, and without
    the loop (it was stopped, and its connections with it) there is nothing to finish."""
    if (background := _background) is None:
        coroutine.close()
    elif background.is_mine():
        task = background.loop.create_task(coroutine)
        background.tasks.add(task)  # until it is done: a loop itself refers to its tasks weakly
        task.add_done_callback(background.tasks.discard)
    else:
        run(coroutine)


def outlast_threads() -> None:
    """Have the running loop do here and now what it would do on threads, where the interpreter is about to end. Exit
    handlers may still make calls then, but no pool of threads takes anything any more."""
    if not threading.main_thread().is_alive():
        loop: Any = asyncio.get_running_loop()
        loop.run_in_executor = functools.partial(_at_once, loop)


def _at_once(
    loop: asyncio.AbstractEventLoop, _: object, function: Callable[..., Any], *args: Any
) -> asyncio.Future[Any]:
    future = loop.create_future()
    try:
        future.set_result(function(*args))
    except Exception as error:  # noqa: BLE001 - of whoever awaits it
        future.set_exception(error)
    return future


def stop() -> None:
    """End the background loop, if it runs. The next synchronous call starts a new one."""
    global _background
    with _lock:
        background, _background = _background, None
    if background is not None:
        background.stop()


class PerLoop(Generic[T]):
    """One thing per event loop, made at its first use there and closed when the loop shuts down.

    It is held by an asynchronous generator: `asyncio.run` closes those that are left before it closes the loop, and a
    loop that somebody else runs does so in ``shutdown_asyncgens``.
    """

    def __init__(self, make: Callable[[], T], close: Callable[[T], Awaitable[None]]) -> None:
        self._make = make
        self._close = close
        self._held = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[T, AsyncGenerator[T, None]]]()

    async def get(self) -> T:
        """The running loop's own."""
        loop = asyncio.get_running_loop()
        if (held := self._held.get(loop)) is None:
            for reference in self._held.keyrefs():  # a copy, made at once: other threads have loops too
                if (other := reference()) is not None and other.is_closed():
                    self._held.pop(other, None)  # it was not shut down, so nobody else lets go of it
            thing = self._make()
            keeper = self._keep(thing, weakref.ref(loop))
            held = self._held[loop] = (thing, keeper)
            await anext(keeper)
        return held[0]

    async def _keep(self, thing: T, loop: weakref.ref[asyncio.AbstractEventLoop]) -> AsyncGenerator[T, None]:
        try:
            yield thing
        finally:
            if (ended := loop()) is not None:
                self._held.pop(ended, None)
            await self._close(thing)
