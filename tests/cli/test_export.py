"""``modelrouter export litellm-proxy``: a file, and what there is to say about it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import CANARY, WriteCatalog

from modelrouter.cli.app import main
from modelrouter.export.differences import GENERAL

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], catalog: WriteCatalog) -> Cli:
    """Runs the command. Whatever it is, it never shows a key or a traceback."""
    address = f"http://me:{CANARY}@localhost:1/v1"
    catalog(
        {"a": {"model": "openai/a", "price": "free"}, "b": {"model": "openai/b", "api_base": address}},
        modules={"scorer": {}},
        deadline=7,
    )

    def run(*argv: str) -> tuple[int, str, str]:
        code = main(["export", "litellm-proxy", *argv])
        out, err = capsys.readouterr()
        assert CANARY not in out + err
        assert "Traceback" not in err
        return code, out, err

    return run


def test_the_file_is_alone_on_stdout_and_what_it_lacks_is_on_stderr(cli: Cli, keys: str) -> None:
    code, out, err = cli()
    assert code == 0
    assert [each["model_name"] for each in yaml.safe_load(out)["model_list"]] == [
        "default", "default/2", "scorer", "scorer/2", "a", "b"
    ]  # fmt: skip
    assert "  deadline (modules.default, modules.scorer): 7 s, not held: " in err
    assert all(f"  {about}: {text}\n" in err for about, text in GENERAL.items())
    unset = err.partition("Not set here, and needed where the proxy runs:\n")[2]
    assert [line.split(":")[0].strip() for line in unset.splitlines()] == [
        "BASIC_AUTH_LOCALHOST_1",
        "LITELLM_MASTER_KEY",
    ]


def test_with_output_the_same_is_written_and_nothing_else_is_left(cli: Cli) -> None:
    _, shown, _ = cli()
    Path("to").mkdir()
    Path("to/proxy.yaml").write_text("of before")
    code, out, err = cli("--output", "to/proxy.yaml")
    assert (code, out) == (0, "")
    assert err.endswith("Written: to/proxy.yaml\n")
    assert Path("to/proxy.yaml").read_text() == shown
    assert [*Path("to").iterdir()] == [Path("to/proxy.yaml")]


@pytest.mark.parametrize("place", ["there/is/no/such.yaml", "config", "/", "config/models.yaml/under"])
def test_what_cannot_be_written_is_refused(cli: Cli, place: str) -> None:
    code, out, err = cli("--output", place)
    assert (code, out) == (2, "")
    assert "--output" in err
    assert "cannot be written" in err.replace("\n", " ")


def test_what_is_no_file_stays_what_it_is(cli: Cli) -> None:
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert cli("-o", "pipe")[0] == 0
        assert os.read(reader, 100).startswith(b"# The configuration of LiteLLM Proxy")
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(Path("pipe").stat().st_mode)


def test_the_store_is_named_and_an_address_that_is_none_is_refused(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELROUTER_STORE", f"redis://:{CANARY}@localhost/0")
    code, out, _ = cli()
    assert code == 0
    assert yaml.safe_load(out)["litellm_settings"]["cache_params"]["url"] == "os.environ/MODELROUTER_STORE"
    monkeypatch.setenv("MODELROUTER_STORE", f"elsewhere:{CANARY}")
    code, out, err = cli()
    assert (code, out) == (2, "")
    assert err.startswith("InvalidEnvironment: ")


def test_a_broken_catalog_is_said_to_be_one(cli: Cli) -> None:
    Path("config/models.yaml").write_text("modules: {default: {}}\n")
    code, out, err = cli()
    assert (code, out) == (2, "")
    assert err.startswith("InvalidCatalog: ")
