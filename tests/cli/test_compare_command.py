"""``modelrouter compare``: the table, JSON, CSV, and the page, as a browser shows it."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from conftest import WriteCatalog

import modelrouter
from modelrouter.cli import app as cli
from modelrouter.cli.compare_page import page
from modelrouter.cli.compare_plot import Point, plot
from modelrouter.comparing.compare import compare
from modelrouter.embedded import server as embedded
from modelrouter.process import event_loops
from modelrouter.testing import Answer, ScriptedProvider

ROOT = Path(__file__).parents[2]

Run = Callable[..., tuple[int, str, str]]
SCRIPT = "<script>document.title = 'taken'</script>"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], catalog: WriteCatalog) -> Run:
    """Runs the command on three models of known price."""
    catalog(
        {
            "dear": {"model": "openai/dear", "price": {"input": 2, "output": 10}},
            "cheap": {"model": "anthropic/cheap", "price": {"input": 0.1, "output": 0.5}},
            "own": {"model": "ollama_chat/own", "price": "free"},
        },
        max_tokens=50,
        retries=0,
    )

    def compare(*argv: str, models: str = "dear,cheap") -> tuple[int, str, str]:
        code = cli.main(["compare", *argv, "--models", models])
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        return code, told.out, told.err

    return compare


@pytest.fixture
def prompts() -> str:
    """Forty, in a file."""
    lines = [
        json.dumps({"prompt": f"Question {number}", "expected": "yes", "id": f"q{number}"}) for number in range(40)
    ]
    Path("p.jsonl").write_text("\n".join(lines))
    return "p.jsonl"


def test_the_table_has_every_model_and_the_verdict_below(run: Run, prompts: str) -> None:
    with ScriptedProvider({"dear": Answer("yes", delay=0.001), "cheap": ["yes"] * 10 + ["no"] * 30, "own": 429}):
        code, out, err = run(prompts, "--score", "exact", models="dear, cheap,own")
    assert (code, err) == (0, "")
    head, dear, cheap, own = (re.split(r"  +", line.strip()) for line in out.split("\n\n")[0].splitlines())
    assert head == [
        *("MODEL", "ANSWERS", "ERRORS", "SCORE", "95 % INTERVAL", "P50", "P95"),
        *("TOKENS IN", "OUT", "A CALL", "1,000 CALLS"),
    ]
    assert dear[:3] == ["dear", "40", "100.0"]
    assert dear[-4:] == ["80", "40", "$0.000014", "$0.014"]
    assert (cheap[0], cheap[2], cheap[-1]) == ("cheap", "25.0", "$0.0007")
    assert own == ["own", "0", "rate_limit 40", "0", "0"]
    said = out.split("\n\n")[1]
    assert "\n" not in said.split("cheap costs 95 % less; its score is 75.0 points lower, 95 % interval -")[0]
    assert "with an allowance for 2 comparisons: worse by more than 3 points.\n" in said
    assert "own: nothing to compare with dear: own gave no answer (rate_limit 40).\n" in said
    assert said.endswith("All of it cost $0.000588.\n")


def test_without_a_score_answers_are_side_by_side(run: Run) -> None:
    Path("p.txt").write_text("\n".join(f"Question {number}" for number in range(12)))
    with ScriptedProvider({"dear": "a longer answer\nof two lines", "cheap": "short"}):
        code, out, _ = run("p.txt")
    assert code == 0
    shown = "1. Question 0\n    dear   a longer answer\n           of two lines\n    cheap  short\n\n2. Question 1\n"
    assert shown in out
    assert "2 more prompts: --html FILE writes all of them.\ncheap costs 99 % less and takes " in out


def test_json_has_every_digit_and_csv_every_answer(run: Run, prompts: str) -> None:
    with ScriptedProvider({"dear": "yes", "cheap": f"=1+1\n{SCRIPT}"}, cache=True):
        code, out, _ = run(prompts, "--score", "exact", "--json")
        told: dict[str, Any] = json.loads(out)
        table = run(prompts, "--score", "exact", "--csv")
    assert (code, table[0]) == (0, 0)
    assert told["cost_usd"] == "0.0006480"
    assert told["models"][0]["cost_per_call_usd"] == "0.000014"
    assert told["differences"][0]["outcome"] == "worse"
    assert told["differences"][0]["score"]["value"] == -1
    assert told["said"][0] == f"{told['differences'][0]['verdict']}."
    rows = list(csv.DictReader(io.StringIO(table[1])))
    assert len(rows) == 80
    assert (rows[1]["id"], rows[1]["model"], rows[1]["text"]) == ("q0", "cheap", f"=1+1\n{SCRIPT}")
    assert (rows[0]["cost_usd"], rows[0]["score"], rows[0]["remembered"]) == ("0.000014", "1.0", "True")
    assert told["said"][0] in table[2]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("none.txt",), "InvalidRequest: none.txt cannot be read: No such file or directory."),
        (("bad.jsonl",), "InvalidRequest: 1 problem in bad.jsonl\n  bad.jsonl:2: this is no JSON"),
        (("p.jsonl", "--score", "exakt"), "no score 'exakt'. Did you mean 'exact'?"),
        (("p.jsonl", "--json", "--csv"), "take one of --json and --csv."),
        (("p.jsonl", "--max-usd", "much"), "max_usd= takes US dollars from 0, not 'much'."),
        (("p.jsonl", "--margin", "0"), "margin is in points of a score"),
        (("p.jsonl", "--module", "skorer"), "UnknownModule: no module 'skorer'"),
        (("p.jsonl", "--scorer", "nowhere:f"), "the scorer nowhere:f cannot be loaded"),
    ],
)
def test_a_mistake_is_one_message_with_its_place(run: Run, prompts: str, argv: tuple[str, ...], said: str) -> None:
    Path("bad.jsonl").write_text('{"prompt": "a"}\n{')
    with ScriptedProvider({}) as provider:
        code, out, err = run(*argv)
    assert (code, out) == (2, "")
    assert said in err
    assert not provider.requests


def test_no_model_at_all_is_an_exit_code(run: Run, prompts: str) -> None:
    with ScriptedProvider({}, missing_keys={"OPENAI_API_KEY", "ANTHROPIC_API_KEY"}):
        code, out, _ = run(prompts, "--score", "exact")
    assert code == 1
    assert "dear was not asked: OPENAI_API_KEY is not set.\n" in out
    assert out.endswith("All of it cost $0.\n")


def test_what_may_be_spent_is_kept_to(run: Run, prompts: str) -> None:
    with ScriptedProvider({"dear": "yes", "cheap": "yes"}):
        code, out, _ = run(prompts, "--score", "exact", "--max-usd", "0.001", "--concurrency", "1")
    assert code == 0
    assert "Not all was asked: what is left of max_usd does not do for another call of dear.\n" in out


def test_a_terminal_shows_how_far_it_is_and_what_is_spent(
    run: Run, prompts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"TERM": "xterm", "COLUMNS": "120", "TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "1"}.items():
        monkeypatch.setenv(name, value)
    with ScriptedProvider({"dear": Answer("yes", delay=0.02), "cheap": "yes"}):
        err = run(prompts, "--score", "exact")[2]
    assert re.search(r"Comparing .*80/80.*\$0\.000588 spent, .*\d:\d\d:\d\d.* left", err)


def test_ctrl_c_is_one_line_and_the_same_command_goes_on(
    run: Run, prompts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*given: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("modelrouter.comparing.compare.compare", interrupted)
    with ScriptedProvider({}):
        code, out, err = run(prompts)
    assert (code, out) == (130, "")
    assert err == "Interrupted. What was answered is remembered: the same command goes on from here.\n"


def test_a_plot_has_room_for_every_point() -> None:
    for points in (
        [Point("free", 0, 0.0, 100.0, 100.0, 100.0)],
        [Point("a", 0, 0.0, 0.0, 0.0, 0.0), Point("b", 1, 0.0, 0.1, 0.0, 0.2)],
        [Point("a", 0, 3.2, 61.0, 50.0, 72.0), Point("b", 1, 900.0, 99.9, 99.0, 100.0)],
    ):
        drawn = plot(points, what="x")
        places = [float(each) for each in re.findall(r'\b(?:y|y1|y2|cy)="([-\d.]+)"', drawn)]
        assert 0 <= min(places) <= max(places) <= 340
        assert drawn.count("<circle") == len(points)


# -- the page, in a browser


@contextlib.asynccontextmanager
async def _browser(chromium: str, profile: Path, dark: bool) -> AsyncIterator[Callable[..., Any]]:
    """Gives what evaluates an expression in a page."""
    alone = ["--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND"]
    own = [f"--user-data-dir={profile}", f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    plain = ["--headless", "--disable-gpu", "--no-sandbox", "--no-first-run", "--remote-debugging-port=0"]
    command = [chromium, *plain, *alone, *own, "about:blank"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:  # noqa: ASYNC220 - nothing else runs here
        try:
            port = profile / "DevToolsActivePort"
            end = time.monotonic() + 60
            while not (port.exists() and port.read_text().count("\n")):
                assert time.monotonic() < end
                await asyncio.sleep(0.05)
            root = f"http://127.0.0.1:{port.read_text().split()[0]}"
            async with aiohttp.ClientSession() as session:
                pages = await (await session.get(f"{root}/json/list")).json()
                address = next(each["webSocketDebuggerUrl"] for each in pages if each["type"] == "page")
                async with session.ws_connect(address, max_msg_size=0) as socket:
                    numbers = iter(range(1, 1000))

                    async def call(method: str, **params: Any) -> Any:
                        number = next(numbers)
                        await socket.send_json({"id": number, "method": method, "params": params})
                        while (told := await socket.receive_json(timeout=60)).get("id") != number:
                            pass
                        return told["result"]

                    yield call
        finally:
            process.kill()


async def _seen(chromium: str, profile: Path, address: str, dark: bool) -> dict[str, Any]:
    async with _browser(chromium, profile, dark) as call:

        async def evaluate(expression: str) -> Any:
            return (await call("Runtime.evaluate", expression=expression, returnByValue=True))["result"].get("value")

        await call("Page.navigate", url=address)
        while await evaluate("document.readyState + location.protocol") != "completefile:":  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        shown = (
            "[...document.querySelectorAll('article')].filter(each => getComputedStyle(each).display != 'none').length"
        )
        seen = {
            "title": await evaluate("document.title"),
            "scripts": await evaluate("document.scripts.length"),
            "requests": await evaluate("performance.getEntriesByType('resource').length"),
            "circles": await evaluate(
                "[...document.querySelectorAll('circle')].filter(each => each.getBoundingClientRect().width > 5).length"
            ),
            "bars": await evaluate(
                "[...document.querySelectorAll('svg .bar')].map(each => each.getBoundingClientRect().height > 1)"
            ),
            "background": await evaluate("getComputedStyle(document.body).backgroundColor"),
            "text": await evaluate("document.body.textContent"),
            "all": await evaluate(shown),
        }
        await evaluate("document.querySelector('#differ').click()")
        seen["differing"] = await evaluate(shown)
        await evaluate("document.querySelector('#differ').click()")
        seen["again"] = await evaluate(shown)
        return seen


@pytest.mark.heavy
@pytest.mark.parametrize(("dark", "background"), [(False, "rgb(247, 247, 245)"), (True, "rgb(19, 20, 23)")])
def test_a_browser_shows_a_thousand_prompts(
    run: Run, tmp_path: Path, needs_program: Callable[[str], str], dark: bool, background: str
) -> None:
    entries = [{"prompt": f"Question {number} of <b>many</b>", "expected": "yes"} for number in range(1000)]
    Path("p.jsonl").write_text("\n".join(map(json.dumps, entries)))
    answers = [SCRIPT if number % 10 == 0 else "yes" for number in range(1000)]
    with ScriptedProvider({"dear": "yes", "cheap": answers}):
        code, _, err = run("p.jsonl", "--score", "exact", "--html", "page.html", "--concurrency", "32")
    assert (code, err) == (0, "Written: page.html\n")
    address = Path("page.html").absolute().as_uri()
    seen = asyncio.run(_seen(needs_program("chromium"), tmp_path / "browser", address, dark))
    assert (seen["all"], seen["differing"], seen["again"]) == (1000, 100, 1000)
    assert (seen["circles"], seen["bars"]) == (2, [True, True])
    assert seen["background"] == background
    assert (seen["scripts"], seen["requests"]) == (0, 0)
    assert seen["title"] == "Comparison of 1,000 prompts: dear, cheap"
    assert seen["text"].count(SCRIPT) == 100
    assert "its score is 10.0 points lower, 95 % interval -" in seen["text"]
    assert "Only where they differ (100 of 1,000)" in seen["text"]


def test_a_page_without_scores_has_no_plot_and_names_what_is_not_in_it(run: Run, process_router: Any) -> None:
    Path("rubric.md").write_text("Prefer what is true.")
    with ScriptedProvider({"dear": "one", "cheap": "two", "own": '{"winner": "A"}'}):
        bare = page(compare(["a"], ["dear", "cheap"]))
        judged = page(compare(["a"], ["dear", "cheap"], judge="own", rubric="rubric.md"))
    with ScriptedProvider({"dear": "one", "cheap": 401}):
        half = page(compare([{"prompt": "b", "expected": "one"}], ["dear", "cheap"], score="exact"))
    assert "<svg" not in bare
    assert judged.count("<circle") == 2
    assert "Not in the plot, without a score or a known cost: cheap." in half
    assert '<pre class="error">auth: ' in half


def test_the_library_is_loaded_when_it_is_used() -> None:
    assert "compare" in dir(modelrouter)
    assert modelrouter.compare is compare
    assert sys.modules["modelrouter.comparing.compare"].compare is compare


@pytest.mark.heavy
def test_the_example_of_the_readme_runs_without_any_key(
    capsys: pytest.CaptureFixture[str], litellms_litter: None
) -> None:
    written = re.search(r"^\$ modelrouter (compare .+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert written is not None
    lines = [json.dumps({"prompt": f"Say {word}.", "expected": word}) for word in ("yes", "no")]
    Path("offers.jsonl").write_text("\n".join(lines))
    try:
        code = cli.main(written[1].split())
    finally:
        event_loops.stop()  # with its connections to what ends now
        embedded.stop()
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    table, said = out.split("\n\n")
    rows = {row.split()[0]: row.split()[1:] for row in table.splitlines()[1:]}
    assert [rows[name][:3] for name in ("claude-sonnet", "gpt-6-luna")] == [["0", "missing_key", "2"]] * 2
    assert rows["smollm2"][0] == "2"
    assert "smollm2: nothing to compare with claude-sonnet: claude-sonnet gave no answer (missing_key 2).\n" in said
    assert "claude-sonnet was not asked: ANTHROPIC_API_KEY is not set.\n" in said
    assert said.endswith("All of it cost $0.\n")
