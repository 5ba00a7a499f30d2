"""Standard streams that are closed, full, or left by their reader, in real processes: one line and no traceback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import WriteCatalog
from servers import Reply, ScriptedServer

from modelrouter import Router

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[2]
COMMANDS = ("--help", "models", "cache stats", "ask --json hello", "metrics --port 0")
"""Those that have something to say on stdout. What LiteLLM would be loaded for is remembered."""

FULL = "cannot write to stdout: No space left on device"
CLOSED = "cannot write to stdout: Bad file descriptor"


@pytest.fixture
def shell(catalog: WriteCatalog, server: ScriptedServer, keys: str) -> None:
    modules = {name: {} for name in ("analyzer", "scorer", "response_generator")}
    catalog({"first": server.openai("first")}, modules=modules)
    server.script("first", Reply("Fóur."))
    with Router() as router:
        router.complete("hello")


def run(command: str, redirected: str, **variables: str) -> tuple[int, list[str]]:
    """The exit code, and what is on stderr, of a command behind which a shell has put so much."""
    ran = subprocess.run(
        ["/bin/bash", "-c", f"{sys.executable} -m modelrouter {command} {redirected}; exit ${{PIPESTATUS[0]}}"],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    ours = [
        line for line in ran.stderr.splitlines() if not line.startswith(("first (openai", "PROMETHEUS_", "0.0 MiB"))
    ]
    return ran.returncode, ours


@pytest.mark.parametrize("command", COMMANDS)
def test_what_cannot_be_written_is_one_line_and_exit_code_1(shell: None, command: str) -> None:
    assert run(command, ">/dev/full") == (1, [FULL])
    assert run(command, ">&-") == (1, [CLOSED])
    assert run(command, ">&- 2>&- <&-") == (1, [])
    assert run(command, ">/dev/full 2>/dev/full") == (1, [])


@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_that_has_gone_is_not_told_of(shell: None, command: str) -> None:
    assert run(command, "| true") == (1, [])


@pytest.mark.parametrize("command", ["models", "ask hello"])
@pytest.mark.parametrize("redirected", ["2>&-", "2>/dev/full", "<&-", "2> >(true)"])
def test_without_stderr_and_stdin_a_command_does_what_it_does(shell: None, command: str, redirected: str) -> None:
    assert run(command, redirected) == (0, [])


@pytest.mark.parametrize("command", ["ask -q new --config other.yaml", "check", "demo"])
def test_nor_do_the_commands_that_load_the_libraries(shell: None, server: ScriptedServer, command: str) -> None:
    Path("other.yaml").write_text(Path("config/models.yaml").read_text())
    code, said = run(command, ">/dev/full")
    assert (code, said[-1]) == (1, FULL)
    assert not any("Traceback" in line for line in said)


@pytest.mark.parametrize("redirected", [">&-", "2>&-", "2>/dev/full"])
@pytest.mark.parametrize("command", ["nonsense", "ask <&-", "ask 0>/dev/null"])
def test_a_mistake_is_still_a_mistake(shell: None, command: str, redirected: str) -> None:
    code, said = run(command, redirected)
    assert code == 2
    assert not any("Traceback" in line for line in said)


def test_a_socket_whose_other_end_has_gone(shell: None) -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        ran = subprocess.run(
            [sys.executable, "-m", "modelrouter", "models"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=ours,
            stdout=ours,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert (ran.returncode, ran.stderr) == (1, b"")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1:strict", "utf-8"])
def test_what_an_encoding_has_not_is_replaced(shell: None, encoding: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "modelrouter", "ask", "-q", "hello"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout.decode(encoding.partition(":")[0]), ran.stderr) == (
        0,
        "F?ur.\n" if encoding == "ascii" else "Fóur.\n",
        b"",
    )
