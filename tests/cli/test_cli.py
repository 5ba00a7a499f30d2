"""The command line as its users meet it: what is on stdout, what on stderr, with which exit code."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import CANARY, WriteCatalog
from servers import Fault, Hang, Reply, ScriptedServer
from servers.raw import RawServer
from servers.tls import Authority, closes, listening, talks_tls

from modelrouter.cli.app import main
from modelrouter.cli.screen import Screen

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Ran]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command in this process. Whatever it is, it never shows a key or a traceback."""

    def run(*argv: str) -> Ran:
        code = main(argv)
        out, err = capsys.readouterr()
        assert CANARY not in out + err
        assert "Traceback" not in err
        return Ran(code, out, err)

    return run


def start(*argv: str, **variables: str) -> subprocess.Popen[str]:
    """The command as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "modelrouter", *argv],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> Ran:
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err, err
    return Ran(process.returncode, out, err)


_WIRES = {"first": "openai", "second": "anthropic", "third": "openai"}


@pytest.fixture
def two(catalog: WriteCatalog, server: ScriptedServer, keys: str) -> ScriptedServer:
    """A chain of two models, of which the first one's key is refused."""
    catalog(
        {name: getattr(server, wire)(name) for name, wire in _WIRES.items()},
        chain=["first", "second"],
        modules={"summarizer": {"max_tokens": 50}},
    )
    return server.script("first", Fault(401, f"Incorrect API key provided: {CANARY}")).script("second", Reply("Four."))


# -- ask


def test_the_answer_is_alone_on_stdout_and_what_it_took_is_on_stderr(cli: Cli, two: ScriptedServer) -> None:
    ran = cli("ask", "Two and two?")
    assert (ran.code, ran.out) == (0, "Four.\n")
    assert "second (anthropic/second): 10 tokens in, 5 out, " in ran.err
    assert "cost $0.00002, after 1 failed or skipped:\n  1. first  openai/first  auth: " in ran.err


def test_ask_as_json_is_one_document_with_exact_money(cli: Cli, two: ScriptedServer) -> None:
    ran = cli("ask", "Two and two?", "--json")
    answer = ran.json
    assert (answer["text"], answer["model"], answer["fallback"]) == ("Four.", "second", True)
    assert answer["cost_usd"] == "0.000020"
    assert answer["usage"]["input_tokens"] == 10
    assert [(a["model"], a["outcome"], a["error_kind"]) for a in answer["attempts"]] == [
        ("first", "error", "auth"),
        ("second", "ok", None),
    ]
    assert not any(name.startswith("_") for name in answer)


def test_quiet_leaves_the_answer_and_nothing_else(cli: Cli, two: ScriptedServer) -> None:
    assert cli("ask", "Two and two?", "-q") == Ran(0, "Four.\n", "")


def test_module_model_and_system_are_sent_and_several_models_are_a_chain(cli: Cli, two: ScriptedServer) -> None:
    two.script("third", Fault(404))
    ran = cli("ask", "Well?", "--module", "summarizer", "-m", "third", "-m", "second", "-s", "Be short.")
    assert ran.out == "Four.\n"
    (sent,) = two.requests("second")
    assert (sent.body["max_tokens"], sent.body["messages"][-1]["content"]) == (50, [{"type": "text", "text": "Well?"}])
    assert "Be short." in json.dumps(sent.body["system"])
    assert two.count("first") == 0


@pytest.mark.parametrize("argv", [["ask"], ["ask", "-"]])
def test_the_question_may_come_from_a_pipe(
    cli: Cli, two: ScriptedServer, monkeypatch: pytest.MonkeyPatch, argv: Sequence[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Two\nand two?"))
    assert cli(*argv).out == "Four.\n"
    assert "Two\\nand two?" in json.dumps(two.requests("second")[0].body)


def test_a_price_that_nobody_knows_is_unknown_and_a_free_one_free(
    cli: Cli, catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    catalog({"new": server.openai("new", price=None), "own": server.ollama("llama2")})
    assert "cost unknown" in cli("ask", "hi").err
    assert "cost free" in cli("ask", "hi", "-m", "own").err


def test_no_answer_is_exit_code_1_with_every_attempt(cli: Cli, two: ScriptedServer) -> None:
    two.script("second", Fault(403, "not for you"))
    ran = cli("ask", "hi")
    assert (ran.code, ran.out) == (1, "")
    assert "AllModelsFailed: module 'default': no answer from 2 models in 2 attempts" in ran.err
    assert "  2. second  anthropic/second  permission: " in ran.err
    assert ran.err.endswith("  See 'modelrouter check default'.\n")


def test_a_missing_key_says_what_to_set(cli: Cli) -> None:
    assert cli("ask", "hi", "-m", "gpt-4") == Ran(
        1,
        "",
        "MissingKey: model 'gpt-4' (openai/gpt-4) needs OPENAI_API_KEY, which is not set.\n"
        "  Export it or add it to .env (see .env.example).\n",
    )


# -- the small model on this machine


ADVICE = (
    "No key is set and no Ollama answers, so the small model on this machine does. "
    "For a better one set ANTHROPIC_API_KEY or OPENAI_API_KEY (.env is read), or start Ollama ('ollama serve')."
)


@pytest.mark.heavy
def test_a_user_who_has_set_up_nothing_is_answered_and_told(surroundings: Path, refused: str) -> None:
    ran = finished(start("ask", "Name a colour.", OLLAMA_URL=refused))
    assert ran.code == 0, ran.err
    assert ran.out.strip()
    lines = ran.err.splitlines()
    assert "INFO llm_provider_created provider=embedded model=smollm2" in lines
    assert [line for line in lines if line.startswith("No key is set")] == [ADVICE]
    assert lines[-1].startswith("smollm2 (embedded/smollm2): ")
    assert lines[-1].endswith("cost free")


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("argv", "variables"),
    [
        (["-m", "llama2"], {}),
        ([], {"LLM_MODEL": "llama2"}),
        ([], {"OPENAI_API_KEY": CANARY, "LLM_FALLBACKS": "", "OPENAI_BASE_URL": "http://127.0.0.1:9"}),
    ],
    ids=["pinned by the call", "pinned by the environment", "a key is set"],
)
def test_where_anything_is_set_up_the_small_model_stays_out_of_it(
    cli: Cli, refused: str, monkeypatch: pytest.MonkeyPatch, argv: Sequence[str], variables: dict[str, str]
) -> None:
    for name, value in {"OLLAMA_URL": refused, **variables}.items():
        monkeypatch.setenv(name, value)
    ran = cli("ask", "hi", *argv)
    assert (ran.code, ran.out) == (1, "")
    assert "connection: nothing answers at" in ran.err
    assert "embedded" not in ran.err


@pytest.mark.heavy
def test_without_the_small_model_the_error_says_how_to_get_it(
    cli: Cli, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_URL", refused)
    monkeypatch.setenv("MODELROUTER_GGUF", "/nowhere.gguf")
    ran = cli("ask", "hi")
    assert (ran.code, ran.out) == (1, "")
    assert "AllModelsFailed: module 'default': no answer from 3 models" in ran.err
    assert "a small model could answer, but the embedded model cannot run here" in ran.err
    assert "pip install 'modelrouter[local]'" in ran.err


# -- listings


def test_models_lists_names_prices_and_what_to_move_to(cli: Cli) -> None:
    ran = cli("models")
    rows = {line.split()[0]: line.split() for line in ran.out.splitlines()}
    assert ran.code == 0
    assert rows["gpt-4"][1:6] == ["openai/gpt-4", "$30.00", "/", "$60.00", "8,192"]
    assert rows["gpt-4"][6:9] == ["2026-10-23,", "use", "gpt-6.1-sol"]
    assert rows["llama2"][1:3] == ["ollama_chat/llama2", "free"]
    assert rows["claude-3-sonnet"][-1] == "claude-3-sonnet-20240229"
    listed = {model["name"]: model for model in cli("models", "--json").json["models"]}
    assert (listed["gpt-4"]["price"]["input"], listed["gpt-4"]["successor"]) == ("30", "gpt-6.1-sol")
    assert listed["claude-3-sonnet"]["aliases"] == ["claude-3-sonnet-20240229"]


def test_in_a_pipe_nothing_is_cut_folded_or_coloured(cli: Cli, catalog: WriteCatalog) -> None:
    name = "a-[bold]very-" + "long-" * 60 + "name"
    catalog({name: {"model": f"openai/{name}", "price": {"input": 1, "output": 2}}})
    (row,) = cli("models").out.splitlines()[1:]
    assert row.split()[:2] == [name, f"openai/{name}"]


def test_on_a_narrow_terminal_rows_become_blocks_and_nothing_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    screen.out.width = 30
    screen.table(
        ("NAME", "LITELLM", "NOTE"), [("a-name-of-its-own", "openai/a-name-of-its-own", ""), ("b", "c/d", "e")]
    )
    assert capsys.readouterr().out == (
        "NAME     a-name-of-its-own\nLITELLM  openai/a-name-of-its-own\n\nNAME     b\nLITELLM  c/d\nNOTE     e\n\n"
    )


def test_explain_shows_every_value_with_its_source_and_no_key(
    cli: Cli, catalog: WriteCatalog, monkeypatch: pytest.MonkeyPatch, keys: str
) -> None:
    catalog(
        {
            "a": {"model": "openai/a", "timeout": 7, "retired": date(2020, 1, 1), "successor": "b"},
            "b": {"model": "openai/b", "price": {"input": 1, "output": 2}, "api_base": "http://me:pw@127.0.0.1:9/v1"},
            "c": {"model": "anthropic/c", "api_key_env": "OTHER_KEY", "price": {"input": 0.5, "output": 2}},
        },
        modules={"scorer": {"temperature": 0}},
    )
    monkeypatch.setenv("SCORER_LLM_TIMEOUT", "12")
    ran = cli("explain", "scorer")
    assert ran.code == 0
    rows = [line.split() for line in ran.out.splitlines()]
    assert ["timeout", "12", "s", "SCORER_LLM_TIMEOUT"] in rows
    assert ["deadline", "90", "s", "built", "in"] in rows
    assert any(row[:2] == ["temperature", "0.0"] and row[2].startswith("config/models.yaml:") for row in rows)
    assert "OPENAI_API_KEY set" in ran.out
    assert "OTHER_KEY NOT SET" in ran.out
    assert "http://***@127.0.0.1:9/v1" in ran.out
    assert "2020-01-01, use b" in ran.out
    told = cli("explain", "scorer", "--json").json
    assert told["settings"]["timeout"] == {"value": 12.0, "source": "SCORER_LLM_TIMEOUT"}
    assert told["settings"]["chain"]["value"] == ["a", "b", "c"]
    assert [(m["name"], m["key"]["set"], m["timeout"]) for m in told["chain"]] == [
        ("a", True, 7.0),
        ("b", True, 12.0),
        ("c", False, 12.0),
    ]
    assert (told["chain"][0]["price"], told["chain"][2]["price"]["input"]) == (None, "0.5")


@pytest.mark.heavy
def test_listings_do_not_load_litellm(surroundings: Path) -> None:
    script = (
        "import sys; from modelrouter.cli.app import main\n"
        "assert [main(argv) for argv in (['--help'], ['models'], ['explain'], ['ask', ''])] == [0, 0, 0, 2]\n"
        "assert 'litellm' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


# -- check


def test_check_and_explain_show_each_budget_with_what_is_left(
    cli: Cli, catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    model = server.openai("a", price={"input": 1, "output": 1000}, context_window=1000)
    path = catalog({"a": model}, max_tokens=10, cache=False, budget={"usd": 0.015, "per": "day"})
    path.write_text(path.read_text() + "budget: {usd: 100, per: month, hard: false}\n")
    server.script("a", Reply("ok", input_tokens=10, output_tokens=10))
    assert cli("ask", "hi", "--quiet").code == 0
    one, everybody = cli("check", "--json").json["budgets"]
    assert (one["scope"], one["usd"], one["spent_usd"], one["left_usd"]) == ("default", "0.015", "0.01001", "0.00499")
    assert (everybody["scope"], everybody["hard"], everybody["spent_usd"]) == ("(all)", False, "0.01001")
    checked = cli("check").out
    assert re.search(
        r"^default +day +\$0.015 +\$0.01001 +\$0 +\$0.00499 +.* UTC +config/models.yaml:\d+", checked, re.MULTILINE
    )
    assert "which is more than the budget of $0.015 a day of module 'default'" in checked
    explained = cli("explain").out
    assert re.search(r"^budget +\$0.015 a day +config/models.yaml:\d+", explained, re.MULTILINE)
    assert re.search(r"^budget of all +\$100 a month, not hard +config/models.yaml:\d+", explained, re.MULTILINE)


def test_check_finds_what_keeps_a_module_from_being_answered(
    cli: Cli, catalog: WriteCatalog, server: ScriptedServer, refused: str
) -> None:
    models: dict[str, Any] = {
        "keyless": {"model": "openai/gpt-4.1-mini", "price": {"input": 1, "output": 2}},
        "pulled": server.ollama("llama2"),
        "unpulled": {"model": "ollama_chat/mistral", "api_base": server.ollama_base},
        "down": server.ollama("llama2", api_base=refused),
    }
    catalog(models, modules={"lost": {"chain": ["keyless", "down"]}})
    ran = cli("check")
    lines = ran.out.splitlines()
    assert ran.code == 1
    assert lines[0] == (
        "error: module 'lost': no model of its chain can be called (keyless: OPENAI_API_KEY is not set; "
        f"down: nothing answers at {refused}; start it with 'ollama serve')"
    )
    assert "warning: model 'keyless': OPENAI_API_KEY is not set (in the chain of default)" in lines
    assert (
        f"warning: model 'unpulled': it is not pulled at {server.ollama_base}; run 'ollama pull mistral' "
        "(in the chain of default)"
    ) in lines
    assert lines[-1].startswith("config/models.yaml: 1 error, ")
    assert [r.path for r in server.ledger] == ["/api/tags"]  # nothing was spent
    report = cli("check", "default", "--json")
    assert report.code == 0  # one model is left
    assert {finding["level"] for finding in report.json["findings"]} == {"warning"}
    assert (report.json["modules"][0]["models"], report.json["modules"][0]["usable"]) == (4, 1)


@pytest.mark.heavy
def test_check_names_what_is_wrong_on_the_way_to_a_server(cli: Cli, catalog: WriteCatalog, tmp_path: Path) -> None:
    with listening(talks_tls(Authority(tmp_path).server())) as untrusted, listening(closes) as closing:
        bases = (f"https://127.0.0.1:{untrusted}", f"http://127.0.0.1:{closing}", "http://no-such-host.invalid")
        catalog({str(n): {"model": "ollama/llama2", "api_base": base} for n, base in enumerate(bases)})
        said = cli("check").out
    assert f"the certificate of {bases[0]} is not trusted: unable to get local issuer certificate" in said
    assert f"the connection to {bases[1]} was lost" in said
    assert f"the name in {bases[2]} is not known (" in said
    assert "ollama serve" not in said


def test_check_asks_nobody_whom_a_server_points_at(cli: Cli, catalog: WriteCatalog, server: ScriptedServer) -> None:
    with RawServer() as raw:
        raw.says("", 307, Location=f"{server.ollama_base}/api/tags")
        catalog({"moved": {"model": "ollama_chat/llama2", "api_base": raw.base}})
        assert f"what answers at {raw.base} is not Ollama: status 307 to GET /api/tags" in cli("check").out
    assert server.ledger == []


def test_explain_shows_how_a_module_is_split_and_who_turns_answers_down(cli: Cli, catalog: WriteCatalog) -> None:
    models = {name: {"model": f"openai/{name}"} for name in ("a", "b", "c")}
    catalog(models, chain=["c"], split={"a": 90, "b": 10}, accept="operator:truth")
    lines = [" ".join(line.split()) for line in cli("explain").out.splitlines()]
    assert any(line.startswith("chain a, b, c config/models.yaml:") for line in lines)
    assert any(line.startswith("split a 90, b 10 config/models.yaml:") for line in lines)
    assert any(line.startswith("accept operator:truth config/models.yaml:") for line in lines)
    assert cli("explain", "--json").json["settings"]["split"]["value"] == {"a": 90.0, "b": 10.0}


@pytest.mark.heavy
def test_check_asks_a_gateway_which_models_it_has_and_of_which_version_it_is(
    cli: Cli, catalog: WriteCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog({"a": {"model": "openai/a", "price": "free"}, "b": {"model": "anthropic/b", "price": "free"}})
    with RawServer() as raw:
        monkeypatch.setenv("GATEWAY_URL", f"{raw.base}/v1/")
        monkeypatch.setenv("GATEWAY_API_KEY", CANARY)
        raw.says({"data": [{"id": "a"}], "litellm_version": "1.108.7"})
        said = cli("check", "default")
        assert [headers["authorization"] for headers in raw.headers] == [f"Bearer {CANARY}"] * 3
        assert "warning: model 'b': the gateway at" in said.out
        assert "is LiteLLM 1.108.7, where streams that were cut off look whole" in said.out
        raw.says({"data": [{"id": "a"}, {"id": "b"}], "litellm_version": "1.110.2"})
        assert cli("check", "default").out.splitlines()[-1] == "config/models.yaml: 0 errors, 0 warnings"
        assert f"{raw.base}/v1 (gateway)" in cli("explain").out
        raw.says("no", 500)
        assert (said := cli("check", "default")).code == 1
        shown = f"what answers at {raw.base}/v1 is no gateway of LiteLLM's"
        assert f"{shown}, or not well: status 500 to GET /health/liveliness" in said.out
        for strange in ("[" * 100_000, "<html>", [1]):
            raw.says(strange)
            assert shown in cli("check", "default").out
        monkeypatch.setenv("GATEWAY_URL", raw.base.replace("//", f"//user:{CANARY}@"))
        raw.says({"data": [{"id": "a"}, {"id": "b"}], "litellm_version": "1.110.2"})
        assert cli("check", "default").code == 0
        assert raw.headers[-1]["x-litellm-api-key"] == f"Bearer {CANARY}"
        assert raw.headers[-1]["authorization"].startswith("Basic ")
    assert CANARY not in said.out


@pytest.mark.heavy
def test_check_compares_prices_and_names_successors(cli: Cli, catalog: WriteCatalog, keys: str) -> None:
    catalog(
        {
            "dear": {"model": "openai/gpt-4", "price": {"input": 30, "output": 61}},
            "right": {"model": "openai/gpt-4", "price": {"input": 30, "output": 60}},
            "new": {"model": "openai/gpt-never-heard-of"},
            "old": {"model": "openai/gpt-4", "retired": date(2020, 1, 1), "successor": "right"},
        }
    )
    found = {finding["where"]: finding["what"] for finding in cli("check", "--json").json["findings"]}
    assert found["model 'dear'"] == (
        "its price differs from LiteLLM's list: output is 61 here and 60 there (US dollars per million tokens)"
    )
    assert found["model 'new'"].startswith("has no price in the catalog and none in LiteLLM's list")
    assert "move to 'right'" in found["config/models.yaml"]
    assert set(found) == {"config/models.yaml", "model 'dear'", "model 'new'"}


@pytest.mark.heavy
def test_check_says_how_long_and_how_dear_one_call_can_become(cli: Cli, catalog: WriteCatalog, keys: str) -> None:
    price = {"input": 10, "output": 20}
    catalog(
        {
            "a": {"model": "openai/a", "price": price, "context_window": 100_000, "timeout": 5},
            "b": {"model": "openai/b", "price": price, "context_window": 50_000},
        },
        max_tokens=1000,
        timeout=10,
        deadline=60,
        retries=1,
        modules={"quick": {"retries": 0, "deadline": 600}},
    )
    default, quick = cli("check", "--json").json["modules"]
    # One answer of each, 1.02 and 0.52 dollars, and the dearer one again.
    assert (default["requests"], default["highest_usd"], default["longest_s"]) == (4, "2.560000", 60.0)
    assert (quick["requests"], quick["highest_usd"], quick["longest_s"]) == (2, "1.540000", 15.0)
    assert cli("check", "--json", "--prompt-tokens", "1000").json["modules"][1]["highest_usd"] == "0.060000"


@pytest.mark.parametrize(
    ("content", "variables", "first"),
    [
        ("modules: {default: {chain: [gpt-44], tiemout: 3}}", {}, "config/models.yaml line 1"),
        (None, {"LLM_TEMPERATURE": "hot"}, "LLM_TEMPERATURE"),
    ],
    ids=["catalog", "environment"],
)
def test_for_check_a_broken_set_up_is_a_finding(
    cli: Cli, catalog: WriteCatalog, monkeypatch: pytest.MonkeyPatch, content: str | None, variables: Any, first: str
) -> None:
    path = catalog({"a": {"model": "openai/a"}})
    if content is not None:
        path.write_text(content)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    ran = cli("check", "--json")
    assert ran.code == 1
    assert ran.json["findings"][0]["where"] == first
    assert all(finding["level"] == "error" for finding in ran.json["findings"])


# -- mistakes


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (
            ["explain", "sumarizer"],
            (
                "UnknownModule: no module 'sumarizer' in config/models.yaml. Did you mean 'summarizer'?\n"
                "  Defined: default, summarizer.\n"
            ),
        ),
        (["check", "sumarizer"], "UnknownModule: no module 'sumarizer'"),
        (["ask", "hi", "--module", "sumarizer"], "UnknownModule: no module 'sumarizer'"),
        (
            ["ask", "hi", "--model", "secnd"],
            "UnknownModel: no model 'secnd' in config/models.yaml. Did you mean 'second'?",
        ),
        (["ask", " "], "InvalidRequest: the prompt is empty.\n"),
        (["ask", "hi", "--modle", "x"], "No such option: --modle"),
        (["askk", "hi"], "No such command 'askk'"),
        (["--config", "nope.yaml", "models"], "InvalidCatalog: 1 problem in nope.yaml\n"),
        (["models", "--config", "nope.yaml"], "InvalidCatalog: 1 problem in nope.yaml\n"),
        (["check", "--prompt-tokens", "0"], "--prompt-tokens"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_one_message_and_exit_code_2(
    cli: Cli, two: ScriptedServer, argv: Sequence[str], said: str
) -> None:
    ran = cli(*argv)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert two.ledger == []


@pytest.mark.parametrize("command", ["models", "explain", "ask hi", "metrics"])
def test_wrong_variables_are_named(cli: Cli, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("LLM_TEMPERATURE", "hot")
    ran = cli(*command.split())
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("InvalidEnvironment: 1 problem in the environment\n  LLM_TEMPERATURE: ")


def test_check_says_whose_errors_it_counts(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_TEMPERATURE", "hot")
    assert cli("check").out.endswith("the environment: 1 error, 0 warnings\n")


def test_at_a_terminal_a_question_is_asked_for(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    ran = cli("ask")
    assert (ran.code, ran.out) == (2, "")
    assert "a question is needed, as an argument or from a pipe" in ran.err


def test_a_stdin_that_is_no_text_is_refused(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe\x00"), encoding="utf-8"))
    ran = cli("ask", "-")
    assert (ran.code, ran.out) == (2, "")
    assert "what stdin gives is not text" in ran.err


# -- as a program


def test_help_and_version(cli: Cli) -> None:
    ran = cli("--help")
    assert ran.code == 0
    for command in ("ask", "demo", "models", "explain", "check", "spend", "metrics"):
        assert f"\n  {command} " in ran.out
        assert cli(command, "--help").code == 0
    assert cli("--version") == Ran(0, f"modelrouter {version('modelrouter')}\n", "")


@pytest.mark.heavy
def test_metrics_are_served_until_ctrl_c(surroundings: Path) -> None:
    process = start("metrics", "--port", "0")
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert "llm_provider_requests_total" in httpx.get(url).text
    process.send_signal(signal.SIGINT)
    ran = finished(process)
    assert (ran.code, ran.err) == (
        130,
        "PROMETHEUS_MULTIPROC_DIR is not set, so no other process's metrics are shown.\n",
    )


def test_a_port_that_is_taken_is_said(cli: Cli, server: ScriptedServer) -> None:
    ran = cli("metrics", "--port", str(server.port))
    assert (ran.code, ran.out) == (2, "")
    assert f"CannotListen: cannot serve metrics on port {server.port} of 127.0.0.1" in ran.err


def test_ctrl_c_while_waiting_for_an_answer_ends_at_once_and_quietly(two: ScriptedServer) -> None:
    two.script("first", Hang())
    process = start("ask", "hi", "-q")
    (request,) = two.wait_for(1, "first", timeout=30)
    process.send_signal(signal.SIGINT)
    assert finished(process) == Ran(130, "", "")
    assert request.ended() == "abandoned"


@pytest.mark.heavy
def test_a_reader_that_leaves_early_is_no_error(surroundings: Path) -> None:
    process = start("models")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == ""
    process.wait(30)
