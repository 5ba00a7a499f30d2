"""README.md is right: its code runs, its sessions print what it shows, and every name in it exists."""

from __future__ import annotations

import asyncio
import builtins
import io
import json
import logging
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from conftest import CANARY
from markdown_it import MarkdownIt
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from servers import Fault, Known, Reply, ScriptedServer

import modelrouter
from modelrouter import Completion, Router
from modelrouter.catalog import mistakes, overrides
from modelrouter.catalog.binding import load as load_catalog
from modelrouter.cli import app as cli
from modelrouter.completion import Kind
from modelrouter.embedded import server as embedded
from modelrouter.metering import books
from modelrouter.metering.server import METRICS_PATH, MetricsServer
from modelrouter.planning import attempt
from modelrouter.router import default, performer

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SHIPPED = (ROOT / "config" / "models.yaml").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
PREFIXES = mistakes.prefixes_of(mistakes.check(SHIPPED.encode(), "config/models.yaml")[0])
OLLAMA = "http://localhost:11434"
"""Where README.md has Ollama. The tests have it elsewhere."""


# -- README.md, taken apart


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    language: str
    text: str
    heading: str
    """Of the section that it is in."""
    line: int
    shows: str = ""
    """The block of text right below it: what it prints."""

    def __str__(self) -> str:
        return f"line {self.line}"


def _take_apart() -> tuple[list[Block], set[str], set[str]]:
    """The blocks, the code spans, the addresses of the links."""
    blocks: list[Block] = []
    spans: set[str] = set()
    links: set[str] = set()
    heading, before = "", ""
    for token in MarkdownIt("commonmark").enable("table").parse(README):
        if before == "heading_open":
            heading = token.content
        for child in token.children or ():
            if child.type == "code_inline":
                spans.add(child.content)
            elif child.type == "link_open":
                links.add(str(child.attrs["href"]))
        if token.type == "fence" and token.map is not None:
            if token.info == "text" and before == "fence":
                blocks[-1] = replace(blocks[-1], shows=token.content)
            else:
                blocks.append(Block(token.info, token.content, heading, token.map[0] + 1))
        before = token.type
    return blocks, spans, links


BLOCKS, SPANS, LINKS = _take_apart()
COMMANDS = [line[2:] for block in BLOCKS for line in block.text.splitlines() if line.startswith("$ ")]
TYPED = "\n".join([*SPANS, *COMMANDS, *(block.text for block in BLOCKS if block.language != "console")])
"""What a reader would type."""


def each(language: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == language], ids=str)


def rows(heading: str) -> list[list[str]]:
    """The table of a section, cell by cell, without its head."""
    section = re.split(rf"^#+ {heading}\n", README, flags=re.MULTILINE)[1]
    lines = [line for line in re.split(r"^#", section, flags=re.MULTILINE)[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


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
        out = io.StringIO()
        ours = logging.getLogger("modelrouter")
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(out):
            patch.setattr(performer, "_announced", set())
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
    if "modelrouter ask" in block.text:
        world.to_server()
        world.server.script("claude-sonnet-5-5", Known("overloaded"))
        words = "87: the role and the pay fit, and Berlin once a quarter is within reach."
        world.server.script("gpt-6.1-sol", Reply(words, input_tokens=431, output_tokens=212))
    if "make demo" not in block.text:
        return
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        world.patch.delenv(name)
    world.patch.setenv("OLLAMA_URL", world.refused)
    # The small model is slow, and another machine's arithmetic gives other words: the server repeats what it said.
    here = embedded.Endpoint(world.server.openai_base, SecretStr("made-for-this-one"), "smollm2")
    world.patch.setattr(embedded, "endpoint", lambda **_: here)
    facts = dict(re.findall(r"^(\w+)  +(.+)", block.text.split("--- ")[1], re.MULTILINE))
    score, verdict, reason = re.findall(r"^(\d+) of 100: (.+)\n(.+)", block.text, re.MULTILINE)[0]
    said = {
        "analyzer": {"offer": facts | {"stack": facts["stack"].split(", ")}},
        "scorer": {"fit": {"reason": reason, "score": int(score), "verdict": verdict}},
        "response_generator": {"reply": {"text": "Dear Maria, let us talk on Thursday."}},
    }
    tokens = re.findall(r"^(\w+) +smollm2 .* s +(\d+) +(\d+) ", block.text, re.MULTILINE)
    replies = [Reply(json.dumps(said[stage]), input_tokens=int(i), output_tokens=int(o)) for stage, i, o in tokens]
    world.server.script("smollm2", *replies)


def in_code(world: World, block: Block) -> None:
    world.to_server()
    role = "A senior backend engineer, in Berlin, Lisbon or remote."
    world.server.script("gpt-6-luna", Reply(role, input_tokens=412, output_tokens=14))
    draft = "Dear Maria, thank you for your message. Thursday at 15:30 would suit me."
    score, reply = Reply("71", input_tokens=298, output_tokens=3), Reply(draft, input_tokens=514, output_tokens=19)
    world.server.script("claude-sonnet-5-5", reply if "Draft" in block.text else score)
    world.server.script("claude-opus-5-5", Reply('{"points": 87, "why": "The role and the pay fit."}'))


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


def models_compared(world: World, block: Block) -> None:
    world.to_server()
    for model, words, tokens in (
        ("claude-opus-5-5", "84, because pay and stack fit and the trips to Berlin are few.", 61),
        ("claude-haiku-5-5", "80, because the stack and the pay match.", 22),
        ("gpt-6-luna", "85: stack, pay and place all fit.", 140),
        ("llama2", "90, it is a great company!", 11),
    ):
        world.server.script(model, Reply(words, input_tokens=433, output_tokens=tokens))


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


def work_tracked(world: World, block: Block) -> None:
    world.to_server()
    world.server.script("gpt-6-luna", Reply("senior, remote", input_tokens=412, output_tokens=14))
    world.server.script("claude-sonnet-5-5", Known("overloaded"))
    world.server.script("gpt-6.1-sol", Reply("87", input_tokens=431, output_tokens=2))


def dspy_programs(world: World, block: Block) -> None:
    world.to_server()
    score = Reply("[[ ## score ## ]]\n87", input_tokens=412, output_tokens=30)
    world.server.script("claude-sonnet-5-5", score)


SCENES: dict[str, Callable[[World, Block], None]] = {
    "A session": a_session,
    "Use it in code": in_code,
    "Errors": errors,
    "The YAML file": mistakes_in_the_file,
    "Logging": logs,
    "Compare models": models_compared,
    "Remembered answers": in_code,
    "What a piece of work costs": work_tracked,
    "DSPy programs": dspy_programs,
    "A key is missing": no_key,
    "Authentication failed": bad_keys,
    "Rate limits": rate_limits,
    "Ollama not responding": ollama,
    "High costs": high_costs,
    "Variables do not do what they should": variables,
    "Coming from app.llm": own_models,
}


def test_every_scene_is_for_a_section() -> None:
    assert SCENES.keys() <= {block.heading for block in BLOCKS}


def plain(text: str) -> list[str]:
    """The lines, without what differs from run to run: seconds, and the width of columns."""
    return [re.sub(r"\b\d+\.\d s\b", "N s", " ".join(line.split())) for line in text.strip().splitlines()]


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
    code = block.text.replace("port=8000", "port=0")
    with world.program() as (_, out):
        exec(compile("\n" * block.line + code, "README.md", "exec"), made)  # noqa: S102
    assert_shown(world.told(out), block.shows)
    for value in made.values():
        if isinstance(value, MetricsServer):
            value.close()
    if "app" in made:
        assert "llm_cost_usd_total" in asyncio.run(_fetched(made["app"], METRICS_PATH))


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
    assert not load_catalog(block.text.encode(), shown="README.md").warnings


# -- what it names is there, and what is there it names


def test_every_variable_is_one_that_is_read() -> None:
    code = "".join(path.read_text() for path in (ROOT / "modelrouter").rglob("*.py"))
    known = (ROOT / ".env.example").read_text() + code
    ours = re.compile(rf"(?:(?:{'|'.join(PREFIXES.values())})_)?LLM_(?:{'|'.join(overrides._LEVEL)})")
    variables = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", TYPED)) - {"SCORRER_LLM_MODEL"}  # there to show a mistake
    assert {name for name in variables if not ours.fullmatch(name) and not re.search(rf"\b{name}\b", known)} == set()


def test_every_metric_has_the_name_and_the_labels_that_it_says(world: World) -> None:
    world.to_server()
    Router(registry=world.registry).complete("hi")
    labels: dict[str, set[str]] = {}
    for family in world.registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        labels[name] = {label for sample in family.samples for label in sample.labels} - {"le"}
    for row in rows("Metrics"):
        for name in names(row[0]):
            assert set(re.sub(r" \(.*?\)", "", row[1]).split(", ")) == labels[name], name
    logged = set(re.findall(r'"(llm_\w+)', Path(books.__file__).read_text() + Path(performer.__file__).read_text()))
    assert set(re.findall(r"\bllm_\w+", README)) <= labels.keys() | logged


def test_every_name_of_the_package_is_in_it() -> None:
    used = set(re.findall(r"\bmodelrouter\.([a-z]\w+)", TYPED, re.IGNORECASE))
    files = {path.stem for path in (ROOT / "modelrouter").iterdir()}
    assert used <= {*modelrouter.__all__, *files}


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


def test_every_link_leads_somewhere() -> None:
    headings = re.findall(r"^#+ (.+)", README, re.MULTILINE)
    slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    own = {link for link in LINKS if "://" not in link}
    assert own
    assert {
        link for link in own if not (link[1:] in slugs if link.startswith("#") else (ROOT / link).exists())
    } == set()


def test_the_table_of_the_answer_is_complete() -> None:
    public = {field.name for field in fields(Completion) if not field.name.startswith("_")} | {"response"}
    assert {name for row in rows("The answer") for name in names(row[0])} == public


def test_the_table_of_errors_is_complete_and_names_what_they_also_are() -> None:
    listed = {name: names(row[1]) for row in rows("Errors") for name in names(row[0])}
    errors = {name: getattr(modelrouter, name) for name in modelrouter.__all__}
    errors = {name: kind for name, kind in errors.items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert listed.keys() == errors.keys()
    for name, also in listed.items():
        assert [base.__name__ for base in errors[name].__bases__ if hasattr(builtins, base.__name__)] == (
            also or [base.__name__ for base in errors[name].__bases__ if base is Exception]
        )


def test_the_table_of_kinds_is_complete() -> None:
    assert {name for row in rows("When a model fails") for name in names(row[0])} == {*Kind} - {Kind.CANCELLED}
