"""What a call stands on that may change under it: the working directory, and the file with the keys."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import CANARY, WriteCatalog
from prometheus_client import CollectorRegistry
from servers import Fault, Reply, ScriptedServer

import modelrouter
import modelrouter.store.disk
from modelrouter import InvalidEnvironment, Router, environment

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[2]
KEYS = f"OPENAI_API_KEY={CANARY}\nANTHROPIC_API_KEY=sk-ant-from-the-file\n"


@pytest.fixture
def two(catalog: WriteCatalog, server: ScriptedServer) -> ScriptedServer:
    """A chain of which the first model fails."""
    catalog({"first": server.openai("first"), "second": server.anthropic("second")}, retries=1, cache=False)
    return server.script("first", Fault(401, "no")).script("second", Reply("Four."))


def whole(router: Router) -> str:
    return router.complete("Two and two?").model


def awaited(router: Router) -> str:
    return asyncio.run(router.acomplete("Two and two?")).model


def streamed(router: Router) -> str:
    pieces = router.stream("Two and two?")
    assert list(pieces)
    return pieces.answer.model


async def _astreamed(router: Router) -> str:
    pieces = router.astream("Two and two?")
    assert [piece async for piece in pieces]
    return pieces.answer.model


each_way = pytest.mark.parametrize(
    "ask",
    [whole, awaited, streamed, lambda router: asyncio.run(_astreamed(router))],
    ids="whole async stream astream".split(),
)
Ask = Callable[[Router], str]


def break_in(server: ScriptedServer, router: Router, ask: Ask, harm: Callable[[], object]) -> None:
    """A call before the harm, and two after it: each falls over to the second model, and has the key of before."""
    assert ask(router) == "second"
    harm()
    assert [ask(router), ask(router)] == ["second", "second"]
    assert {request.headers["x-api-key"] for request in server.requests("second")} == {"sk-ant-from-the-file"}


@each_way
def test_a_working_directory_that_is_removed_changes_nothing(
    router: Router, two: ScriptedServer, surroundings: Path, ask: Ask, eager_catalog: None
) -> None:
    Path(".env").write_text(KEYS)
    break_in(two, router, ask, lambda: shutil.rmtree(surroundings))


def test_nor_does_a_change_of_directory(router: Router, two: ScriptedServer, tmp_path: Path) -> None:
    Path(".env").write_text(KEYS)
    (tmp_path / ".env").write_text("ANTHROPIC_API_KEY=of-another-place")
    break_in(two, router, whole, lambda: os.chdir(tmp_path))
    assert environment.gguf() is None
    os.environ["MODELROUTER_GGUF"] = "weights.gguf"
    assert environment.gguf() == tmp_path / "work" / "weights.gguf"
    with Router() as another:  # a catalog that is read first there takes the file from there
        assert another.catalog.modules
    assert environment.value("ANTHROPIC_API_KEY") == "of-another-place"


def test_a_call_from_a_directory_that_is_gone_already(
    two: ScriptedServer,
    surroundings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    elsewhere = tmp_path / "models.yaml"
    shutil.copy("config/models.yaml", elsewhere)
    monkeypatch.setenv("MODELROUTER_STATE_DIR", "state")
    monkeypatch.setenv("MODELROUTER_CONFIG", str(elsewhere))
    monkeypatch.setattr(modelrouter.store.disk, "REST", 0.0)
    shutil.rmtree(surroundings)
    with pytest.raises(modelrouter.InvalidCatalog, match="there is no such file"):
        Router("models.yaml").catalog  # noqa: B018
    with Router() as router:
        assert router.complete("Two and two?", cache=True).model == "second"
        router.warm_up()
        os.chdir(tmp_path)
        router.complete("Two and two?", cache=True)
    assert "cache_failed reason=enoent" in caplog.text
    assert not Path("state").exists(), "the same name means another place now"


def test_the_command_line_in_a_directory_that_is_gone(two: ScriptedServer, tmp_path: Path) -> None:
    elsewhere = tmp_path / "models.yaml"
    shutil.copy("config/models.yaml", elsewhere)
    command = (
        f"rmdir {tmp_path / 'gone'} && exec {sys.executable} -m modelrouter --config {elsewhere} ask 'Two and two?' -q"
    )
    (tmp_path / "gone").mkdir()
    ran = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=tmp_path / "gone",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "Four.\n", "")


# -- .env


def another_encoding() -> None:
    Path(".env").write_text("OPENAI_API_KEY=other", encoding="utf-16")


def a_directory() -> None:
    Path(".env").unlink()
    Path(".env").mkdir()


def a_pipe() -> None:
    Path(".env").unlink()
    os.mkfifo(".env")


def a_socket() -> None:
    Path(".env").unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(".env")


def half_written() -> None:
    Path(".env").write_text("")


def too_large() -> None:
    with Path(".env").open("wb") as file:
        file.truncate(3 * 2**30)


def gone() -> None:
    Path(".env").unlink()


@each_way
@pytest.mark.parametrize(
    "harm",
    [another_encoding, a_directory, a_pipe, a_socket, half_written, too_large, gone],
    ids=lambda harm: harm.__name__,
)
def test_what_was_read_of_the_file_once_holds(
    router: Router, two: ScriptedServer, ask: Ask, harm: Callable[[], object], caplog: pytest.LogCaptureFixture
) -> None:
    Path(".env").write_text(KEYS)
    break_in(two, router, ask, harm)
    told = [record for record in caplog.records if record.getMessage().startswith("dotenv_")]
    assert len(told) == (harm is not half_written)
    if harm is a_directory:
        Path(".env").rmdir()
    Path("new").write_text("ANTHROPIC_API_KEY=mended\n")
    Path("new").replace(".env")
    assert ask(router) == "second"
    assert two.requests("second")[-1].headers["x-api-key"] == "mended"


def test_a_file_that_may_be_read_again_is(router: Router, two: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text(KEYS)
    refuse = True
    read = environment.files.read

    def guarded(path: Path, most: int, *, within: float) -> bytes:
        if refuse:
            raise PermissionError(13, "Permission denied")  # which root is not told
        return read(path, most, within=within)

    def harm() -> None:
        monkeypatch.setattr(environment.files, "read", guarded)
        Path(".env").write_text("ANTHROPIC_API_KEY=new\n")

    break_in(two, router, whole, harm)
    refuse = False
    Path(".env").chmod(0o600)
    assert whole(router) == "second"
    assert two.requests("second")[-1].headers["x-api-key"] == "new"


def test_at_first_use_a_broken_file_is_the_users_to_mend(router: Router, two: ScriptedServer) -> None:
    another_encoding()
    for _ in range(2):
        with pytest.raises(InvalidEnvironment, match=r"\.env: is not a text file"):
            router.complete("Two and two?")
    Path(".env").write_text(KEYS)
    break_in(two, router, whole, another_encoding)


# -- .env as a pipe, which a password manager fills for whoever opens it


@pytest.fixture
def pipe() -> Path:
    os.mkfifo(".env")
    return Path(".env").absolute()


def test_a_pipe_is_read_once(
    router: Router, two: ScriptedServer, pipe: Path, caplog: pytest.LogCaptureFixture, eager_catalog: None
) -> None:
    writer = threading.Thread(target=pipe.write_text, args=(KEYS,))
    writer.start()
    assert [whole(router), awaited(router), streamed(router), whole(Router(registry=CollectorRegistry()))] == [
        "second"
    ] * 4
    writer.join()
    assert {request.headers["x-api-key"] for request in two.requests("second")} == {"sk-ant-from-the-file"}
    assert "dotenv_" not in caplog.text


def test_a_pipe_is_waited_for_off_the_event_loop(router: Router, two: ScriptedServer, pipe: Path) -> None:
    async def both() -> str:
        answer = asyncio.create_task(router.acomplete("Two and two?"))
        while True:
            await asyncio.sleep(0)
            with contextlib.suppress(OSError):  # until somebody opens it for reading
                opened = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
                break
        os.write(opened, KEYS.encode())
        os.close(opened)
        return (await answer).model

    assert asyncio.run(both()) == "second"
    assert two.requests("second")[-1].headers["x-api-key"] == "sk-ant-from-the-file"


@pytest.mark.parametrize("held", [False, True], ids=["nobody writes", "somebody does not"])
def test_a_pipe_that_stays_empty_hangs_nobody(
    router: Router, two: ScriptedServer, pipe: Path, monkeypatch: pytest.MonkeyPatch, held: bool
) -> None:
    monkeypatch.setattr(environment, "_PATIENCE", 0.05)
    opened = os.open(pipe, os.O_RDWR | os.O_NONBLOCK) if held else None
    why = "not come to its end within 0.05 s" if held else "a pipe that nobody writes to"
    for ask in whole, awaited, streamed:
        with pytest.raises(InvalidEnvironment, match=rf"\.env: cannot be read: .*{why}"):
            ask(router)
    if opened is not None:
        os.close(opened)
    assert two.count() == 0


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (lambda: Path(".env").symlink_to("/dev/null"), None),
        (lambda: Path(".env").symlink_to("/dev/zero"), "larger than 1 MiB"),
        (lambda: Path(".env").symlink_to(".env"), None),
        (too_large, "larger than 1 MiB"),
        (a_socket, "cannot be read"),
    ],
    ids=["/dev/null", "/dev/zero", "a circle", "3 GiB", "a socket"],
)
def test_a_file_of_another_kind(
    router: Router, two: ScriptedServer, kind: Callable[[], object], said: str | None
) -> None:
    kind()
    if said is None:
        assert whole(router) == "second"
    else:
        with pytest.raises(InvalidEnvironment, match=said):
            whole(router)


def test_a_catalog_out_of_a_pipe_is_read_once(
    two: ScriptedServer, monkeypatch: pytest.MonkeyPatch, eager_catalog: None
) -> None:
    reading, writing = os.pipe()
    os.write(writing, Path("config/models.yaml").read_bytes())
    os.close(writing)
    monkeypatch.setenv("MODELROUTER_CONFIG", f"/dev/fd/{reading}")
    with Router(registry=CollectorRegistry()) as one, Router(registry=CollectorRegistry()) as other:
        assert [whole(one), whole(one), whole(other)] == ["second"] * 3
        os.close(reading)
        assert whole(one) == "second"


# -- no home directory


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user has no account, as in a container that runs with a number of its own."""

    def no_account(who: object) -> None:
        raise KeyError(who)

    monkeypatch.setattr(pwd, "getpwuid", no_account)
    monkeypatch.setattr(pwd, "getpwnam", no_account)
    for name in ("HOME", "XDG_CACHE_HOME", "MODELROUTER_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({}, "no_home"),
        ({"MODELROUTER_STATE_DIR": "~/state"}, "no_home"),
        ({"MODELROUTER_STATE_DIR": "~nobody/state"}, "no_home"),
        ({"HOME": "{tmp}/file"}, "enotdir"),
        ({"HOME": "{tmp}"}, None),
        ({"XDG_CACHE_HOME": "{tmp}/cache"}, None),
        ({"MODELROUTER_STATE_DIR": "{tmp}/state"}, None),
    ],
    ids=str,
)
def test_without_a_home_directory_calls_go_on_without_the_cache(
    two: ScriptedServer,
    homeless: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    variables: dict[str, str],
    reason: str | None,
) -> None:
    (tmp_path / "file").touch()
    for name, said in variables.items():
        monkeypatch.setenv(name, said.format(tmp=tmp_path))
    with Router(registry=CollectorRegistry()) as router:
        answers = [router.complete("Two and two?", cache=True) for _ in range(3)]
    assert [answer.cached for answer in answers] == [False, reason is None, reason is None]
    told = [line.split(":")[0] for line in caplog.messages if line.startswith("cache_failed")]
    assert told == ([f"cache_failed reason={reason}"] if reason else [])
    assert [path.name for path in Path().iterdir()] == ["config"], "a directory of the name ~"


def test_a_path_from_the_home_directory_that_there_is_not(homeless: None, monkeypatch: pytest.MonkeyPatch) -> None:
    why = "there is no such file, as there is no home directory for '~'"
    monkeypatch.setenv("MODELROUTER_CONFIG", "~/models.yaml")
    with pytest.raises(modelrouter.InvalidCatalog, match=f"MODELROUTER_CONFIG: {why}"):
        Router().catalog  # noqa: B018
    with pytest.raises(modelrouter.InvalidCatalog, match=f"catalog: {why}"):
        Router("~/models.yaml").catalog  # noqa: B018
    monkeypatch.setenv("MODELROUTER_GGUF", "~/weights.gguf")
    assert environment.gguf() == Path.cwd() / "~/weights.gguf"


_COMMANDS = """
import contextlib, io, pwd, sys

def no_account(who):
    raise KeyError(who)

pwd.getpwuid = pwd.getpwnam = no_account

from modelrouter.cli.app import main

for command in ["models", "explain", "cache stats", "ask -q hello", "check"]:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        code = main(command.split())
    print(command, code, next((line for line in out.getvalue().splitlines() if "no home" in line), "-"))
"""


def test_no_command_needs_a_home_directory(two: ScriptedServer) -> None:
    path = Path("config/models.yaml")
    path.write_text(path.read_text().replace("cache: false", "cache: true"))
    kept = {
        name: said
        for name, said in os.environ.items()
        if name not in ("HOME", "XDG_CACHE_HOME", "MODELROUTER_STATE_DIR")
    }
    ran = subprocess.run(
        [sys.executable, "-c", _COMMANDS],
        env={**kept, "PYTHONPATH": str(ROOT), "OPENAI_API_KEY": CANARY},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    why = "there is no home directory to keep answers in; set HOME or MODELROUTER_STATE_DIR."
    assert ran.stdout.splitlines() == [
        "models 0 -",
        "explain 0 -",
        f"cache stats 2 StoreError: {why}",
        "ask -q hello 0 -",
        f"check 0 warning: the cache: answers are not remembered: {why}",
    ], ran.stderr
