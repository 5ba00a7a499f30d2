"""The loop that a synchronous caller runs himself: what it has to hold as the background loop does."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import WriteCatalog
from servers import Reply, ScriptedServer

from modelrouter import Router
from modelrouter.process import callers_loop, event_loops

ENDS = 60.0
"""Seconds after which what hangs is a failure."""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no signals and forks to try")


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    callers_loop.stop()
    yield
    callers_loop.stop()


async def thread() -> threading.Thread:
    await asyncio.sleep(0)
    return threading.current_thread()


def run() -> threading.Thread:
    return event_loops.run(thread(), within=ENDS, alone=True)


def test_a_caller_runs_it_himself_and_one_at_a_time() -> None:
    assert run() is threading.current_thread()
    begun, over = threading.Event(), threading.Event()

    async def wait() -> None:
        begun.set()
        await asyncio.to_thread(over.wait, ENDS)

    first = threading.Thread(target=lambda: event_loops.run(wait(), alone=True))
    first.start()
    assert begun.wait(ENDS)
    assert run().name == "modelrouter-loop"
    over.set()
    first.join(ENDS)
    assert run() is threading.current_thread()


def test_beside_a_loop_that_runs_here_it_is_the_background_loop() -> None:
    async def inside() -> threading.Thread:
        return run()

    assert asyncio.run(inside()).name == "modelrouter-loop"


def test_what_a_handler_of_signals_raises_ends_the_call() -> None:
    class OutOfTime(Exception):
        pass

    def end(*_: object) -> None:
        raise OutOfTime

    async def busy() -> None:
        for _ in itertools.count():
            await asyncio.sleep(0)

    before = signal.signal(signal.SIGALRM, end)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(OutOfTime):
            event_loops.run(busy(), within=ENDS, alone=True)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_what_is_interrupted_is_cancelled_and_the_next_call_is_made() -> None:
    ended = threading.Event()

    async def wait() -> None:
        threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT]).start()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(KeyboardInterrupt):
        event_loops.run(wait(), alone=True)
    assert ended.wait(ENDS)
    assert run() is threading.current_thread()


class Forgetful(BaseHTTPRequestHandler):
    """Closes a connection on which nothing more comes for a moment, and says so in no header."""

    protocol_version = "HTTP/1.1"
    timeout = ENDS
    closed = threading.Semaphore(0)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}
        body = json.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": "a", "choices": [choice]})
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())
        self.connection.settimeout(0.02)

    def finish(self) -> None:
        super().finish()
        self.closed.release()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.heavy
def test_a_connection_that_its_server_has_closed_meanwhile_is_not_used(
    router: Router, catalog: WriteCatalog, keys: str
) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Forgetful)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/v1"
    catalog({"a": {"model": "openai/a", "api_base": address}}, cache=False, retries=0)
    try:
        for _ in range(10):
            assert router.complete("hi").text == "ok"
            assert Forgetful.closed.acquire(timeout=ENDS)
            time.sleep(0.01)  # the connection is closed when it has ended
    finally:
        server.shutdown()
        server.server_close()


FORKED = """
    import os, sys
    import modelrouter

    def ask():
        return modelrouter.complete("hi").text

    print(ask(), ask(), flush=True)
    for _ in range(2):
        if not (child := os.fork()):
            print("child", ask(), flush=True)
            sys.exit()  # as a process ends, with all that it does at its end
        print(os.waitpid(child, 0)[1], ask(), ask(), flush=True)
"""


@pytest.mark.heavy
@pytest.mark.parametrize("wire", ["openai", "anthropic", "ollama"])
def test_a_forked_child_that_ends_leaves_the_parents_connections_alone(
    wire: str, surroundings: Path, catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    catalog({"a": getattr(server, wire)("a")}, cache=False, retries=0)
    server.script("a", *[Reply("ok")] * 8)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(FORKED)],
        capture_output=True,
        text=True,
        timeout=ENDS,
        cwd=surroundings,
        check=False,
    )
    assert (done.stderr, done.stdout.splitlines()) == ("", ["ok ok", *["child ok", "0 ok ok"] * 2])
