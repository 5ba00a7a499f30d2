"""Calls while the process ends, or has nothing left: they are made, or it is said why not, and nobody else is asked."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import WriteCatalog
from servers import ScriptedServer

from modelrouter.backend.own_errors import own

ENDS = 120.0
"""Seconds after which a process that hangs is a failure."""

HOW = """
    import asyncio, atexit, threading, time
    import modelrouter

    def stream():
        with modelrouter.stream("hi") as pieces:
            list(pieces)
        return pieces.answer

    async def astream():
        async with modelrouter.astream("hi") as pieces:
            [piece async for piece in pieces]
        return pieces.answer

    HOW = {
        "sync": lambda: modelrouter.complete("hi"),
        "async": lambda: asyncio.run(modelrouter.acomplete("hi")),
        "stream": stream,
        "astream": lambda: asyncio.run(astream()),
    }

    def ask(how):
        try:
            answer = HOW[how]()
            print(how, answer.model, [attempt.error for attempt in answer.attempts])
        except Exception as error:
            print(how, type(error).__name__, str(error))
"""


@pytest.fixture
def run(
    surroundings: Path, catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> Callable[[str, str], list[str]]:
    """Runs a script that asks model a, of this wire, and model b, which is well: the lines that it prints."""

    def run_script(wire: str, script: str) -> list[str]:
        first: dict[str, Any] = getattr(server, wire)("a")
        first["api_base"] = first["api_base"].replace("127.0.0.1", "localhost")  # a name: threads look it up
        catalog({"a": first, "b": server.openai("b")}, retries=0, cache=False)
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(HOW) + textwrap.dedent(script)],
            capture_output=True,
            text=True,
            timeout=ENDS,
            cwd=surroundings,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run_script


@pytest.mark.parametrize("wire", ["openai", "anthropic", "ollama"])
@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
def test_a_call_of_an_exit_handler_is_answered(
    wire: str, warm: bool, run: Callable[[str, str], list[str]], server: ScriptedServer
) -> None:
    ways = ["sync", "async", "stream", "astream"]
    lines = run(
        wire,
        f"""
        atexit.register(ask, "sync")  # before anything else is registered
        if {warm}:
            modelrouter.complete("hi")
        for how in {ways}:
            atexit.register(ask, how)
        """,
    )
    assert lines == [f"{how} a [None]" for how in (*reversed(ways), "sync")]
    assert server.count("b") == 0


def test_a_call_of_a_thread_that_outlives_the_main_one_is_answered(
    run: Callable[[str, str], list[str]], server: ScriptedServer
) -> None:
    lines = run(
        "anthropic",
        """
        def later():
            main = threading.main_thread()
            while main.is_alive():
                time.sleep(0.01)
            for how in HOW:
                ask(how)

        modelrouter.complete("hi")
        threading.Thread(target=later).start()
        """,
    )
    assert lines == [f"{how} a [None]" for how in ("sync", "async", "stream", "astream")]
    assert server.count("b") == 0


@pytest.mark.parametrize("wire", ["openai", "anthropic", "ollama"])
def test_without_descriptors_no_other_model_is_asked(
    wire: str, run: Callable[[str, str], list[str]], server: ScriptedServer
) -> None:
    pytest.importorskip("resource", reason="this system has no limits to set")
    lines = run(
        wire,
        """
        import os, resource

        async def exhausted(ask):
            await modelrouter.acomplete("hi", model="b")  # whose connection stays open
            fillers = []
            try:
                while True:
                    fillers.append(os.dup(0))
            except OSError:
                pass
            try:
                return await ask()
            finally:
                for filler in fillers:
                    os.close(filler)

        async def streamed():
            async with modelrouter.astream("hi") as pieces:
                return [piece async for piece in pieces]

        modelrouter.complete("hi")  # all that is imported on the way
        open_now = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 50, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        HOW = {
            "async": lambda: asyncio.run(exhausted(lambda: modelrouter.acomplete("hi"))),
            "astream": lambda: asyncio.run(exhausted(streamed)),
        }
        for how in HOW:
            ask(how)
        print(modelrouter.complete("hi").model)
        """,
    )
    assert lines[-1] == "a"
    for how, line in zip(("async", "astream"), lines, strict=False):
        assert line.startswith(f"{how} CannotSend this process cannot send a request: OSError: [Errno 24]"), line
    assert server.count("b") == 2


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


COLLECTED = """
    import ctypes, gc, sys, threading, weakref
    import modelrouter.backend.loading as loading

    class Cycle:
        def __init__(self, name):
            self.name, self.me = name, self

        def __del__(self):
            print("collected", self.name)

    def beside():
        begun.set()
        while "litellm.main" not in sys.modules:
            pass
        made.append(Cycle("of another thread"))
        over.wait()

    class Odd:
        @property
        def __class__(self):
            raise RuntimeError("nobody is to ask")

    begun, over, made = threading.Event(), threading.Event(), []
    old, loved = Cycle("old"), Cycle("loved")
    odd = [Odd(), ctypes.py_object(), weakref.proxy(Odd())]  # the last is dead
    gc.collect()
    gc.collect()  # they are in the oldest generation
    before = gc.get_freeze_count()
    if HOW == "beside a thread":
        threading.Thread(target=beside).start()
        begun.wait()
    loading.load()
    over.set()
    print("collecting", gc.isenabled(), (gc.get_freeze_count() - before) // 100_000)
    made.clear()
    del old
    gc.collect()
    print("the rest")
    Cycle("new")
    kept = Cycle("kept")
"""


@pytest.mark.heavy
@pytest.mark.parametrize("how", ["alone", "beside a thread"])
def test_garbage_of_others_is_collected_and_litellm_is_not_looked_through(how: str) -> None:
    script = f"HOW = {how!r}\n{textwrap.dedent(COLLECTED)}"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=ENDS, check=True)
    first, *collected = ended.stdout.splitlines()
    at_once, at_the_end = collected[: collected.index("the rest")], collected[collected.index("the rest") + 1 :]
    assert sorted(at_once) == ["collected of another thread"] * (how != "alone") + ["collected old"]
    assert sorted(at_the_end) == ["collected kept", "collected loved", "collected new"]
    *_, frozen = first.split()
    assert first.startswith("collecting True")
    assert (int(frozen) > 2) is (how == "alone"), "beside another thread, whose they are cannot be told"


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (RuntimeError("cannot schedule new futures after interpreter shutdown"), True),
        (RuntimeError("can't start new thread"), True),
        (RuntimeError("can't create new thread at interpreter shutdown"), True),
        (RuntimeError("Event loop is closed"), True),
        (MemoryError(), True),
        (RecursionError("maximum recursion depth exceeded"), True),
        (OSError(24, "Too many open files"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (OSError(28, "No space left on device"), True),
        (caused(ConnectionError("Connection error."), OSError(23, "Too many open files in system")), True),
        (ConnectionRefusedError(111, "Connection refused"), False),
        (OSError(101, "Network is unreachable"), False),
        (TimeoutError(), False),
        (RuntimeError("the provider's client is odd"), False),
        (ModuleNotFoundError("No module named 'google'"), False),
    ],
    ids=repr,
)
def test_which_errors_are_this_processs_own(error: Exception, ours: bool) -> None:
    assert (own(error, unsent=True) is not None) is ours


def test_an_answer_that_is_too_deep_is_no_error_of_this_process() -> None:
    assert own(RecursionError("maximum recursion depth exceeded"), unsent=False) is None
