"""The pages are right: their code runs, their sessions print what they show, and every name in them exists."""

from __future__ import annotations

import asyncio
import builtins
import gc
import io
import json
import logging
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import openai
import pytest
import typer
from conftest import CANARY
from markdown_it import MarkdownIt
from opentelemetry import trace
from opentelemetry.util._once import Once
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from servers import Fault, Known, Reply, ScriptedServer

import modelrouter
from modelrouter import Completion, Router
from modelrouter.catalog import mistakes, overrides, schema
from modelrouter.catalog.binding import load as load_catalog
from modelrouter.cli import app as cli
from modelrouter.completion import Kind
from modelrouter.embedded import server as embedded
from modelrouter.metering import books
from modelrouter.metering.server import METRICS_PATH, MetricsServer
from modelrouter.planning import attempt
from modelrouter.router import default, performer

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "config/README.md", "dashboards/README.md")
SHIPPED = (ROOT / "config" / "models.yaml").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
DOTENV = (ROOT / ".env.example").read_text()
PREFIXES = mistakes.prefixes_of(mistakes.check(SHIPPED.encode(), "config/models.yaml")[0])
OLLAMA = "http://localhost:11434"
"""Where the pages have Ollama. The tests have it elsewhere."""


# -- the pages, taken apart


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: str
    language: str
    text: str
    heading: str
    """Of the section that it is in."""
    line: int
    shows: str = ""
    """The block of text right below it: what it prints."""

    def __str__(self) -> str:
        return f"{self.page} line {self.line}"


@dataclass
class Page:
    """What is on a page."""

    blocks: list[Block] = field(default_factory=list)
    spans: set[str] = field(default_factory=set)
    """Of code."""
    links: set[str] = field(default_factory=set)
    """Their addresses."""
    headings: list[str] = field(default_factory=list)
    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    """By heading: the rows of its section's tables, cell by cell, without their heads."""


@lru_cache
def taken_apart(path: str) -> Page:
    page = Page()
    heading, before = "", ""
    for token in MarkdownIt("commonmark").enable("table").parse((ROOT / path).read_text()):
        rows = page.tables.setdefault(heading, [])
        if before == "heading_open":
            heading = token.content
            page.headings.append(heading)
        elif before == "td_open":
            rows[-1].append(token.content)
        elif token.type == "tr_open":
            rows.append([])
        elif token.type == "thead_close":
            rows.pop()
        for child in token.children or ():
            if child.type == "code_inline":
                page.spans.add(child.content)
            elif child.type == "link_open":
                page.links.add(str(child.attrs["href"]))
        if token.type == "fence" and token.map is not None:
            if token.info == "text" and before == "fence":
                page.blocks[-1] = replace(page.blocks[-1], shows=token.content)
            else:
                page.blocks.append(Block(path, token.info, token.content, heading, token.map[0] + 1))
        before = token.type
    return page


BLOCKS = [block for path in PAGES for block in taken_apart(path).blocks]
SPANS = set[str]().union(*(taken_apart(path).spans for path in PAGES))
COMMANDS = [line[2:] for block in BLOCKS for line in block.text.splitlines() if line.startswith("$ ")]
SHELL = [line for block in BLOCKS if block.language == "bash" for line in block.text.splitlines()]
TYPED = "\n".join([*SPANS, *COMMANDS, *(block.text for block in BLOCKS if block.language != "console")])
"""What a reader would type."""

NOT_RUN = {
    "make demo": "it installs a hundred packages from the network; the session of the command behind it runs",
    "make test": "it is what runs this",
    "pip install": "it installs from the network; test_layout.py looks into the wheel",
    "docker compose": "it builds and pulls images; test_dashboards.py reads the file",
    "promtool check rules": "the program is not everywhere; test_prometheus.py runs it where it is",
    "promtool test rules": "the program is not everywhere; test_prometheus.py runs it where it is",
    "export PROMETHEUS_MULTIPROC_DIR": "it is for the next line",
    "litellm": "it serves until it is stopped; tests/export runs it",
    "uvicorn": "it serves until it is stopped; test_multiprocess.py does the same",
}
"""Lines of bash blocks, by what they begin with behind their variables, and why they do not run here."""


def each(language: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == language], ids=str)


def rows(page: str, heading: str) -> list[list[str]]:
    """The table of a section, cell by cell, without its head."""
    found = taken_apart(page).tables[heading]
    assert found
    return found


def names(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


# -- the world that it happens in


@dataclass(frozen=True)
class World:
    """The shipped catalog, a key of each provider, and a server that plays them all."""

    server: ScriptedServer
    refused: str
    """Where no Ollama runs."""
    registry: CollectorRegistry
    patch: pytest.MonkeyPatch

    def write(self, content: str) -> None:
        Path("config").mkdir(exist_ok=True)
        Path("config/models.yaml").write_text(content)

    def to_server(self) -> None:
        """Have the server asked, by a catalog in which all lines keep their numbers."""
        content = SHIPPED
        for provider in ("openai", "anthropic"):
            base = getattr(self.server, f"{provider}_base")
            content, count = re.subn(
                f"^  {provider}: {{", f'  {provider}: {{api_base: "{base}", ', content, flags=re.MULTILINE
            )
            assert count == 1
        self.write(content)

    def run(self, command: str) -> str:
        """What a line of a session prints, on both streams."""
        if made := re.fullmatch(r"make (\w+)", command):
            recipe = re.search(rf"^{made[1]}:.*\n\t@\$\(BIN\)/(.+) \$\(ARGS\)$", MAKEFILE, re.MULTILINE)
            assert recipe is not None
            command = recipe[1]
        if fetched := re.fullmatch(r"curl -s http://localhost:8000(\S+) \| grep (\S+)", command):
            with modelrouter.start_metrics_server(0, registry=self.registry) as metrics:
                lines = httpx.get(metrics.url.replace(METRICS_PATH, fetched[1])).text.splitlines()
            return "\n".join(line for line in lines if re.search(fetched[2], line))
        words = shlex.split(command)
        with self.program() as (patch, out):
            while "=" in words[0]:
                patch.setenv(*words.pop(0).split("=", 1))
            assert words.pop(0) == "modelrouter"
            cli.main(words)
        return self.told(out)

    @contextmanager
    def program(self) -> Iterator[tuple[pytest.MonkeyPatch, io.StringIO]]:
        """What happens in here is like a program of its own, and prints into the text."""
        gc.collect()  # or what earlier tests left would be complained of here
        out = io.StringIO()
        ours = logging.getLogger("modelrouter")
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(out):
            patch.setattr(performer, "_announced", set())
            patch.setattr(trace, "_TRACER_PROVIDER", None)
            patch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())
            patch.setattr(default, "_default", None)
            patch.setattr(logging.getLogger(), "handlers", [])  # nobody has set up logging
            patch.setattr(ours, "level", ours.level)
            yield patch, out

    def told(self, out: io.StringIO) -> str:
        text = out.getvalue()
        assert CANARY not in text
        assert "Traceback" not in text
        return text.replace(self.server.ollama_base, OLLAMA).replace(self.refused, OLLAMA)


@pytest.fixture
def world(server: ScriptedServer, refused: str, keys: str, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(attempt, "BACKOFF", 0.01)
    monkeypatch.setattr(embedded, "present", lambda **_: None)  # as after `make demo`
    monkeypatch.setenv("OLLAMA_URL", server.ollama_base)
    world = World(server, refused, CollectorRegistry(), monkeypatch)
    world.write(SHIPPED)
    return world


# -- the scenes: what the providers are like, by section; in all others they answer "ok"


def a_session(world: World, block: Block) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        world.patch.delenv(name)
    world.patch.setenv("OLLAMA_URL", world.refused)
    # The small model is slow, and another machine's arithmetic gives other words: the server repeats what it said.
    here = embedded.Endpoint(world.server.openai_base, SecretStr("made-for-this-one"), "smollm2")
    world.patch.setattr(embedded, "endpoint", lambda **_: here)
    shown = re.findall(r"^(\w+), answered by smollm2:\n((?:  .+\n)+)", block.text, re.MULTILINE)
    told = {stage: [line.strip() for line in lines.splitlines()] for stage, lines in shown}
    summary, what, more = told["analyzer"]
    role, seniority, company, place = re.findall(r"(.+) \((\w+)\) at (.+); (.+)", what)[0]
    pay, stack = more.split("; ")
    offer = {"summary": summary, "company": company, "role": role, "seniority": seniority, "place": place, "pay": pay}
    score, verdict = re.findall(r"(\d+) of 100: (.+)", told["scorer"][0])[0]
    said = {
        "analyzer": {"offer": offer | {"stack": stack.split(", ")}},
        "scorer": {"fit": {"reason": told["scorer"][1], "score": int(score), "verdict": verdict}},
        "response_generator": {"reply": {"text": "Hi Maria, thank you for your message ..."}},
    }
    # One reply for each of the four rows that smollm2 answered: the pipeline's three, and the scorer's second.
    tokens = re.findall(r"^\d (\w+) +smollm2 .* s +(\d+) +(\d+) ", block.text, re.MULTILINE)
    replies = [Reply(json.dumps(said[stage]), input_tokens=int(i), output_tokens=int(o)) for stage, i, o in tokens]
    world.server.script("smollm2", *replies)


def in_code(world: World, block: Block) -> None:
    world.to_server()
    role = "A senior backend engineer, in Berlin, Lisbon or remote."
    world.server.script("gpt-6-luna", Reply(role, input_tokens=412, output_tokens=14))
    draft = "Dear Maria, thank you for your message. Thursday at 15:30 would suit me."
    score, reply = Reply("71", input_tokens=298, output_tokens=3), Reply(draft, input_tokens=514, output_tokens=19)
    world.server.script("claude-sonnet-5-5", score, reply)
    world.server.script("claude-opus-5-5", Reply('{"points": 87, "why": "The role and the pay fit."}'))


def remembered(world: World, block: Block) -> None:
    world.to_server()
    world.server.script("claude-sonnet-5-5", Reply("71", input_tokens=298, output_tokens=3))


def spent(world: World, block: Block) -> None:
    world.to_server()
    world.server.script("gpt-6-luna", Reply(input_tokens=12_000, output_tokens=400))
    world.server.script("claude-sonnet-5-5", *[Reply(input_tokens=2640, output_tokens=290)] * 30, Known("overloaded"))
    world.server.script("gpt-6.1-sol", Reply(input_tokens=3980, output_tokens=510))
    with Router(registry=world.registry) as router:
        for module, calls in (("analyzer", 40), ("scorer", 30), ("response_generator", 10)):
            for number in range(calls):
                router.complete(f"{number % 32}", module=module, retries=0)


def compared(world: World, block: Block) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        world.patch.setenv(name, CANARY)
    world.to_server()
    here = embedded.Endpoint(world.server.openai_base, SecretStr("made-for-this-one"), "smollm2")
    world.patch.setattr(embedded, "endpoint", lambda **_: here)
    # The models always say the same, and what is right goes by the prompt, so that it does not matter who is quicker.
    right = ["senior"] * 372 + ["remote"] * 5 + ["hybrid"] * 4 + ["junior"] * 19
    lines = [json.dumps({"prompt": f"Offer {number}: ...", "expected": each}) for number, each in enumerate(right)]
    Path("offers.jsonl").write_text("\n".join(lines))
    for model, words, tokens in (
        ("claude-sonnet-5-5", "Senior, and remote.", 14),
        ("gpt-6-luna", "Senior; hybrid.", 11),
        ("smollm2", "The offer is an offer for a junior.", 31),
    ):
        world.server.script(model, Reply(words, input_tokens=412, output_tokens=tokens))


def errors(world: World, block: Block) -> None:
    world.to_server()
    world.server.script("claude-sonnet-5-5", Known("bad_key")).script("gpt-6.1-sol", Reply("", finish_reason="length"))
    world.patch.setenv("OLLAMA_URL", world.refused)


def mistakes_in_the_file(world: World, block: Block) -> None:
    scorer = "    chain: [best, gpt-6.1-sol, llama2]\n    temperature: 0\n"
    assert scorer in SHIPPED
    world.write(SHIPPED.replace(scorer, "    chain: [best, gpt-6.1-soll, llama2]\n    temperture: 0\n"))


def logs(world: World, block: Block) -> None:
    world.to_server()
    world.server.script("claude-sonnet-5-5", Known("overloaded"))


def work_tracked(world: World, block: Block) -> None:
    world.to_server()
    for model, words, tokens in (
        ("claude-opus-5-5", "84, because pay and stack fit and the trips to Berlin are few.", 61),
        ("claude-haiku-5-5", "80, because the stack and the pay match.", 22),
        ("gpt-6-luna", "85: stack, pay and place all fit.", 140),
        ("llama2", "90, it is a great company!", 11),
    ):
        world.server.script(model, Reply(words, input_tokens=433, output_tokens=tokens))


def a_fallback(world: World, block: Block) -> None:
    world.to_server()
    world.server.script("claude-sonnet-5-5", Known("overloaded"))
    words = "87: the role and the pay fit, and Berlin once a quarter is within reach."
    world.server.script("gpt-6.1-sol", Reply(words, input_tokens=431, output_tokens=212))


def no_key(world: World, block: Block) -> None:
    world.patch.delenv("OPENAI_API_KEY")


def bad_keys(world: World, block: Block) -> None:
    world.to_server()
    for model in ("gpt-6.1-sol", "claude-sonnet-5-5"):
        world.server.script(model, Known("bad_key"))


def rate_limits(world: World, block: Block) -> None:
    world.to_server()
    world.server.script("gpt-6.1-sol", Fault(429, "Rate limit exceeded", retry_after=60))


def ollama(world: World, block: Block) -> None:
    if "llama2" in block.text:
        world.patch.setenv("OLLAMA_URL", world.refused)
    world.server.script("mistral", Known("model_not_found"))


def high_costs(world: World, block: Block) -> None:
    world.to_server()
    world.server.script("gpt-6-luna", Reply(input_tokens=40_000, output_tokens=2_000))
    world.server.script("claude-sonnet-5-5", Reply(output_tokens=4_000), Reply(output_tokens=9_000))
    spending = Router(registry=world.registry)
    for module in ("analyzer", "scorer", "response_generator"):
        spending.complete("hi", module=module)


def played(world: World, block: Block) -> None:
    world.to_server()


def nothing_else(world: World, block: Block) -> None:
    """The shipped catalog, as it is."""


def variables(world: World, block: Block) -> None:
    world.to_server()
    world.server.script("claude-3-sonnet-20240229", Known("model_not_found"))


def own_models(world: World, block: Block) -> None:
    world.to_server()
    world.server.script("mymodel", Reply("ok"))


def other_languages(world: World, block: Block) -> None:
    # The scripted server plays the proxy, too; a real one is asked by tests/export.
    world.patch.setenv("LITELLM_MASTER_KEY", CANARY)
    world.server.script("scorer", Reply("71"))


def gated(world: World, block: Block) -> None:
    world.to_server()
    world.server.script("gpt-6-luna", Reply("word " * 58 + "end"))


def dspy_programs(world: World, block: Block) -> None:
    world.to_server()
    score = Reply("[[ ## score ## ]]\n87", input_tokens=412, output_tokens=30)
    world.server.script("claude-sonnet-5-5", score)


SCENES: dict[str, Callable[[World, Block], None]] = {
    # README.md
    "A session": a_session,
    "Use it in code": in_code,
    "Errors": errors,
    "Is it good enough?": gated,
    "What it costs": spent,
    "Which model is good enough": compared,
    "What a piece of work costs": work_tracked,
    "Clients in other languages": other_languages,
    "DSPy programs": dspy_programs,
    # config/README.md
    "Mistakes": mistakes_in_the_file,
    "The cache": remembered,
    "A fallback answered": a_fallback,
    "A key is missing": no_key,
    "Authentication failed": bad_keys,
    "Rate limits": rate_limits,
    "Ollama not responding": ollama,
    "Variables do not do what they should": variables,
    "Coming from app.llm": own_models,
    # dashboards/README.md
    "High costs": high_costs,
    "Logging": logs,
    "Traces": logs,
}


def test_every_scene_is_for_a_section() -> None:
    assert SCENES.keys() <= {block.heading for block in BLOCKS}


def test_no_two_sections_of_the_pages_have_the_same_name() -> None:
    headings = [heading for path in PAGES for heading in taken_apart(path).headings]
    assert sorted(set(headings)) == sorted(headings)


def plain(text: str) -> list[str]:
    """The lines, without what differs from run to run: seconds, days, widths of columns, LiteLLM's version, a port."""
    text = re.sub(r"^(LiteLLM )[\d.]+", r"\1N", text, flags=re.MULTILINE)
    text = re.sub(r"https://127\.0\.0\.1:\d+", "https://127.0.0.1:N", text)  # the demo's closed port
    text = re.sub(r"\b20[\d-]{8} to 20[\d-]{8}\b", "DAY to DAY", text)  # of spend
    return [re.sub(r"\b(?:\d+\.\d s|\d+ ms)\b", "N s", " ".join(line.split())) for line in text.strip().splitlines()]


def assert_shown(printed: str, shown: str) -> None:
    """The same, except where a line of ``...`` leaves lines out."""
    if "..." not in plain(shown):
        assert plain(printed) == plain(shown)
        return
    pattern = "".join("(?:.*\n)*" if line == "..." else f"{re.escape(line)}\n" for line in plain(shown))
    assert re.fullmatch(pattern, "\n".join([*plain(printed), ""])), printed


# -- it happens as it says


@each("python")
def test_the_code_runs_and_prints_what_is_shown(world: World, block: Block) -> None:
    SCENES.get(block.heading, played)(world, block)
    made: dict[str, Any] = {"__name__": "__main__"}
    code = block.text.replace("port=8000", "port=0").replace("http://localhost:4000", world.server.ollama_base)
    with world.program() as (_, out):
        exec(compile("\n" * block.line + code, block.page, "exec"), made)  # noqa: S102
    assert_shown(world.told(out), block.shows)
    for value in made.values():
        if isinstance(value, MetricsServer | openai.OpenAI):
            value.close()
    if "app" in made:
        assert "llm_cost_usd_total" in asyncio.run(_fetched(made["app"], METRICS_PATH))
    if "child_exit" in made:
        made["child_exit"](None, SimpleNamespace(pid=1))


async def _fetched(app: Any, path: str) -> str:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
        return (await client.get(path)).raise_for_status().text


@each("console")
def test_the_sessions_print_what_is_shown(world: World, block: Block) -> None:
    SCENES.get(block.heading, nothing_else)(world, block)
    for session in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, shown = session.partition("\n")
        assert_shown(world.run(command), shown)


@each("env")
def test_the_variables_reach_the_modules(world: World, block: Block) -> None:
    Path(".env").write_text(block.text)
    world.patch.delenv("OLLAMA_URL")
    loaded = Router(registry=world.registry).catalog
    assert not [warning for warning in loaded.warnings if "decides nothing" in warning]
    says = dict(re.findall(r"^(\w+)=(\S+)", block.text, re.MULTILINE))
    for module, prefix in PREFIXES.items():
        provider, model = (says.get(f"{prefix}_LLM_{end}", says[f"LLM_{end}"]) for end in ("PROVIDER", "MODEL"))
        assert [target.name for target in loaded.resolve(module).chain] == [loaded.provider_model(provider, model)]


@each("yaml")
def test_the_yaml_is_a_catalog(block: Block) -> None:
    assert not load_catalog(block.text.encode(), shown=block.page).warnings


@each("bash")
def test_a_shell_can_read_it_and_its_files_are_there(block: Block) -> None:
    for line in block.text.splitlines():
        assert shlex.split(line, comments=True)
    for path in re.findall(r"\bdashboards/\S+", block.text):
        assert (ROOT / path).is_file(), path


def test_what_does_not_run_has_a_reason() -> None:
    lines = [re.sub(r"^(\w+=\S+ )*", "", line) for line in SHELL]
    assert [line for line in lines if not line.startswith(tuple(NOT_RUN))] == []
    assert [start for start in NOT_RUN if not any(line.startswith(start) for line in lines)] == []
    run = {"bash", "console", "env", "python", "yaml"}
    shown = {"promql", "text"}  # a query of the metrics, whose names are looked up; a figure or a table
    assert {block.language for block in BLOCKS} == run | shown


# -- what it names is there, and what is there it names


def test_every_variable_is_one_that_is_read() -> None:
    code = "".join(path.read_text() for path in (ROOT / "modelrouter").rglob("*.py"))
    known = DOTENV + code + (ROOT / "dashboards/docker-compose.yml").read_text()
    ours = re.compile(rf"(?:(?:{'|'.join(PREFIXES.values())})_)?LLM_(?:{'|'.join(overrides._LEVEL)})")
    variables = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", TYPED)) - {"SCORRER_LLM_MODEL"}  # there to show a mistake
    assert {name for name in variables if not ours.fullmatch(name) and not re.search(rf"\b{name}\b", known)} == set()


def test_every_metric_has_the_name_and_the_labels_that_it_says(world: World) -> None:
    world.to_server()
    catalog = Path("config/models.yaml")
    catalog.write_text(f"{catalog.read_text()}\nbudget: {{usd: 100, per: month}}\n")
    Router(registry=world.registry).complete("hi")
    labels: dict[str, set[str]] = {}
    for family in world.registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        labels[name] = {label for sample in family.samples for label in sample.labels} - {"le"}
    listed = {
        name: set(re.sub(r" \(.*\)", "", cells[1]).split(", "))
        for cells in rows("dashboards/README.md", "Metrics")
        for name in names(cells[0])
    }
    assert listed == {name: found for name, found in labels.items() if name.startswith("llm_")}
    logged = set(re.findall(r'"(llm_\w+)', Path(books.__file__).read_text() + Path(performer.__file__).read_text()))
    written = "".join((ROOT / path).read_text() for path in PAGES)
    assert set(re.findall(r"\bllm_\w+", written)) <= labels.keys() | logged


def test_every_name_of_the_package_is_in_it() -> None:
    used = set(re.findall(r"\bmodelrouter\.([a-z]\w+)", TYPED, re.IGNORECASE))
    files = {path.stem for path in (ROOT / "modelrouter").iterdir()}
    assert used <= {*modelrouter.__all__, *files, *_told_in_spans()}


def test_every_word_of_ours_in_spans_is_explained() -> None:
    spans = taken_apart("dashboards/README.md").spans
    assert {f"modelrouter.{name}" for name in _told_in_spans()} <= spans


def _told_in_spans() -> set[str]:
    code = (ROOT / "modelrouter/metering/spans.py").read_text()
    return set(re.findall(r'"modelrouter\.(\w+)"', code))


def test_every_command_and_option_exists() -> None:
    group: Any = typer.main.get_command(cli.app)
    written = [re.fullmatch(r"(?:\w+=\S+ )*modelrouter (.+)", text) for text in (*SPANS, *COMMANDS)]
    for words in (shlex.split(command[1]) for command in written if command is not None):
        command, others = group, list(words)
        while others and not others[0].startswith("-") and (commands := getattr(command, "commands", None)):
            command = commands[others.pop(0)]
        options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert {word for word in others if word.startswith("-")} <= options
    targets = re.search(r"^\.PHONY: (.*)", MAKEFILE, re.MULTILINE)
    assert targets is not None
    assert set(re.findall(r"^make (\w+)", TYPED, re.MULTILINE)) <= set(targets[1].split())


def slugs(page: str) -> set[str]:
    """What a link may name behind a #, as GitHub makes it of the headings."""
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in taken_apart(page).headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    own = {link for link in taken_apart(page).links if "://" not in link}
    assert own
    for link in own:
        path, _, heading = link.partition("#")
        target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert target.exists(), link
        if heading:
            assert heading in slugs(target.relative_to(ROOT).as_posix()), link


def test_the_pages_lead_to_each_other() -> None:
    for page in PAGES:
        files = {((ROOT / page).parent / link.partition("#")[0]).resolve() for link in taken_apart(page).links}
        assert {ROOT / other for other in PAGES if other != page} <= files, page


def test_the_table_of_the_answer_is_complete() -> None:
    public = {field.name for field in fields(Completion) if not field.name.startswith("_")} | {"response"}
    assert {name for row in rows("README.md", "The answer") for name in names(row[0])} == public


def test_the_table_of_errors_is_complete_and_names_what_they_also_are() -> None:
    listed = {name: names(row[1]) for row in rows("README.md", "Errors") for name in names(row[0])}
    errors = {name: getattr(modelrouter, name) for name in modelrouter.__all__}
    errors = {name: kind for name, kind in errors.items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert listed.keys() == errors.keys()
    for name, also in listed.items():
        assert [base.__name__ for base in errors[name].__bases__ if hasattr(builtins, base.__name__)] == (
            also or [base.__name__ for base in errors[name].__bases__ if base is Exception]
        )


def test_the_table_of_kinds_is_complete() -> None:
    assert {name for row in rows("README.md", "When a model fails") for name in names(row[0])} == {*Kind} - {
        Kind.CANCELLED
    }


KEYS = {"": "The file", "providers": "A provider", "models": "A model", "modules": "A module"}
"""The part of the catalog, and the section of config/README.md that has its keys."""


@pytest.mark.parametrize("part", KEYS)
def test_the_tables_of_keys_have_every_key_of_the_schema_and_no_other(part: str) -> None:
    entries = [(path, entry) for path, entry in schema._ENTRIES.items() if (path[0] if path else "") == part]
    known = [".".join([*map(str, path[2:]), key]) for path, entry in entries for key in entry.model_fields]
    listed = [key for row in rows("config/README.md", KEYS[part]) for key in re.findall(r"`([\w.]+)`", row[0])]
    assert sorted(listed) == sorted(known)


def test_the_table_of_variables_is_complete() -> None:
    table = rows("config/README.md", "One model per module, by variables")
    listed = {name for row in table for name in names(row[0])}
    of_modules = re.compile(rf"(?:{'|'.join(PREFIXES.values())})_LLM_\w+")
    there = {name for name in re.findall(r"^#(\w+)=", DOTENV, re.MULTILINE) if not name.endswith("_API_KEY")}
    general = {f"LLM_{ending}" for ending in overrides._LEVEL} | overrides._GENERAL.keys()
    assert {name for name in listed if not of_modules.fullmatch(name)} == {
        name for name in there | general if not of_modules.fullmatch(name)
    }


def test_the_map_of_the_package_is_complete() -> None:
    rooms = {path.stem for path in (ROOT / "modelrouter").iterdir() if not path.name.startswith(("_", "py.typed"))}
    listed = [name for row in rows("README.md", "Develop") for name in names(row[0])]
    assert sorted(listed) == sorted(rooms - {"pipeline", "pytest_plugin"})  # other names, for what is in a room
