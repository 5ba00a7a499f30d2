"""The event loop behind synchronous calls, and what lives and dies with a loop: blocked, out of descriptors, forked in
the worst moment, closed without notice, at the end of the process."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import WriteCatalog
from prometheus_client import CollectorRegistry
from servers import Hang, ScriptedServer

from modelrouter import DeadlineExceeded, Router
from modelrouter.process import event_loops as _loop

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
ENDS = 30.0
"""Seconds after which a process that hangs is a failure."""


@pytest.fixture
def run(surroundings: Path) -> Callable[[str], str]:
    """Runs a script in a process of its own, which has to end well and say nothing on stderr: its output."""

    def run_script(script: str) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
            capture_output=True,
            text=True,
            timeout=ENDS,
            cwd=surroundings,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), f"{done.stdout}\n{done.stderr}"
        return done.stdout

    return run_script


async def one() -> int:
    return 1


# A blocked loop


@pytest.fixture
def blocked() -> Iterator[threading.Event]:
    """The background loop is blocked by something that does not await, until this is set."""
    begun, released = threading.Event(), threading.Event()

    async def block() -> None:
        begun.set()
        released.wait(ENDS)

    blocker = threading.Thread(target=_loop.run, args=(block(),))
    blocker.start()
    assert begun.wait(ENDS)
    yield released
    released.set()
    blocker.join()


def test_what_waits_for_a_blocked_loop_ends_in_its_time_and_the_loop_works_again(blocked: threading.Event) -> None:
    with pytest.raises(TimeoutError):
        _loop.run(one(), within=0.05)
    blocked.set()
    assert _loop.run(one(), within=ENDS) == 1


# LiteLLM's own, when it is cancelled between two threads.
@pytest.mark.filterwarnings("ignore:coroutine 'OpenAIChatCompletion.acompletion' was never awaited:RuntimeWarning")
def test_a_call_ends_within_its_deadline_though_its_loop_is_blocked(
    blocked: threading.Event, catalog: WriteCatalog, server: ScriptedServer, keys: str, bare_litellm: ModuleType
) -> None:
    catalog({"a": server.openai("a")}, retries=0)
    router = Router(registry=CollectorRegistry())
    with pytest.raises(DeadlineExceeded, match="timeout after"):
        list(router.stream("hi", deadline=0.2))
    blocked.set()
    assert "".join(router.stream("hi")) == "ok"


def test_a_call_that_nobody_waits_for_any_more_is_cancelled() -> None:
    cancelled = threading.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(TimeoutError):
        _loop.run(wait(), within=0.05)
    assert cancelled.wait(ENDS)


def test_a_synchronous_call_on_the_loop_itself_is_refused_and_not_waited_for() -> None:
    async def inside() -> None:
        _loop.run(one())

    with pytest.raises(RuntimeError, match="modelrouter's own event loop: use the asynchronous one"):
        _loop.run(inside())


def test_a_loop_that_was_stopped_is_started_anew() -> None:
    assert _loop.run(one()) == 1
    _loop.stop()
    assert _loop.run(one()) == 1


# No descriptors left


@pytest.mark.heavy
def test_without_descriptors_it_is_an_error_and_with_them_it_works(run: Callable[[str], str]) -> None:
    pytest.importorskip("resource", reason="this system has no limits to set")
    said = run("""
        import os, resource, sys, threading, warnings
        from modelrouter.process import event_loops as _loop

        # asyncio's own, of a loop that it could not make.
        warnings.filterwarnings("ignore", "coroutine '_Background._until_stopped'", RuntimeWarning)
        theirs = lambda unraisable: "BaseEventLoop.__del__" in repr(unraisable.object)
        sys.unraisablehook = lambda unraisable: theirs(unraisable) or sys.__unraisablehook__(unraisable)

        async def one():
            return 1

        def ask():
            try:
                said.append(_loop.run(one()))
            except RuntimeError as error:
                said.append(f"{error} ({type(error.__cause__).__name__})")

        said = []
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.dup(0)
        os.close(lowest)
        for limit in (lowest, soft):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            asking = threading.Thread(target=ask, daemon=True)
            asking.start()
            asking.join(10)
        print(said)
    """)
    assert said == "['no event loop can be started for synchronous calls (OSError)', 1]\n"


# Forks


@forks
def test_a_child_that_is_forked_while_litellm_is_imported_answers(
    run: Callable[[str], str], catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    catalog({"a": server.openai("a")}, retries=0, cache=False)
    said = run("""
        import os, signal, sys, threading, time, warnings
        import modelrouter

        warnings.simplefilter("default")  # LiteLLM's own, and from 3.12 the one about forks with threads
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        calling = threading.Thread(target=lambda: os.write(1, f"parent {modelrouter.complete('hi')}\\n".encode()))
        calling.start()
        while "litellm" not in sys.modules:
            time.sleep(0.001)
        if (child := os.fork()) == 0:
            signal.alarm(15)
            os.write(1, f"child {modelrouter.complete('hi')}\\n".encode())  # print's buffer is forked half full
            sys.exit(0)
        calling.join()
        print("ended with", os.waitpid(child, 0)[1])
    """)
    assert sorted(said.splitlines()) == ["child ok", "ended with 0", "parent ok"]


@pytest.mark.heavy
@forks
@pytest.mark.parametrize(
    ("holder", "user"),
    [
        ("_loop._lock", "_loop.run(one())"),
        ("lock", "exec('with lock: pass')"),
    ],
)
def test_a_child_that_is_forked_while_a_lock_is_held_can_take_it(
    holder: str, user: str, run: Callable[[str], str]
) -> None:
    said = run(f"""
        import os, signal, sys, threading, warnings
        from modelrouter.process import event_loops as _loop
        from modelrouter.process.forks import process_lock

        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

        async def one():
            return 1

        def hold():
            with {holder}:
                held.set()
                forked.wait()

        lock, held, forked = process_lock(), threading.Event(), threading.Event()
        holding = threading.Thread(target=hold)
        holding.start()
        held.wait()
        if (child := os.fork()) == 0:
            signal.alarm(10)
            {user}
            os._exit(0)
        forked.set()
        holding.join()
        print(os.waitpid(child, 0)[1])
        {user}
    """)
    assert said == "0\n"


@pytest.mark.heavy
def test_a_child_that_forks_while_it_holds_a_lock_can_give_it_back(run: Callable[[str], str]) -> None:
    said = run("""
        import os
        from modelrouter.process.forks import held_lock, process_lock

        for lock in process_lock(), held_lock():
            with lock:
                if (child := os.fork()) == 0:
                    with lock:
                        pass
            if child == 0:
                os._exit(0)
            print(os.waitpid(child, 0)[1])
    """)
    assert said == "0\n0\n"


# Loops that end


class Thing:
    """What a loop has one of."""

    def __init__(self) -> None:
        self.closed = False

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def things() -> _loop.PerLoop[Thing]:
    return _loop.PerLoop(Thing, Thing.close)


def test_each_loop_has_one_thing_which_is_closed_with_it(things: _loop.PerLoop[Thing]) -> None:
    async def twice() -> Thing:
        first, second = await things.get(), await things.get()
        assert first is second
        assert not first.closed
        return first

    one_loop, other_loop = asyncio.run(twice()), asyncio.run(twice())
    assert one_loop is not other_loop
    assert one_loop.closed
    assert other_loop.closed


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # as it should be: such loops are not closed as they should be
def test_a_loop_that_is_closed_without_notice_is_let_go_of(things: _loop.PerLoop[Thing]) -> None:
    left: list[weakref.ref[Any]] = []
    for _ in range(5):
        loop = asyncio.new_event_loop()
        left.append(weakref.ref(loop.run_until_complete(things.get())))
        loop.close()  # and no shutdown_asyncgens
    del loop

    async def get() -> None:
        await things.get()

    asyncio.run(get())
    gc.collect()
    assert [ref for ref in left if ref() is not None] == []


# The end of the process


def test_a_process_ends_well_with_its_loop_running_and_calls_hanging(
    run: Callable[[str], str], catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    catalog({"a": server.openai("a"), "good": server.openai("good")}, retries=0)
    server.script("a", Hang())
    said = run("""
        import asyncio, threading, warnings
        import modelrouter

        warnings.simplefilter("default")
        print(modelrouter.complete("hi", model="good"))
        print(asyncio.run(modelrouter.acomplete("hi again", model="good")))
        threading.excepthook = lambda args: None  # of the calls that hang, when their loop ends under them
        for number in range(3):
            threading.Thread(target=modelrouter.complete, args=(f"{number}",), daemon=True).start()
        import time
        time.sleep(0.3)
    """)
    assert said == "ok\nok\n"
    assert [request.ended() for request in server.requests("a")] == ["abandoned"] * 3
