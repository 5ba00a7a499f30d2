"""``modelrouter spend``: the table, the document and the page, and what they say of a baseline."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import time
import zlib
from collections.abc import Callable
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import WriteCatalog
from servers import Reply, ScriptedServer

from modelrouter import Router
from modelrouter.catalog.target import Target
from modelrouter.cli import app as cli
from modelrouter.completion import Attempt, Usage
from modelrouter.metering.posting import Posting
from modelrouter.metering.spend import Spend, day_of
from modelrouter.planning.events import CacheUsed, Event, FellOver
from modelrouter.store import DiskStore, StoreError

OLD = {"model": "openai/gpt-4", "price": {"input": 30, "output": 60}}
CHEAP, FREE = Target("cheap", "openai/cheap", "openai"), Target("own", "ollama_chat/own", "ollama")
DAY = 86_400
SCRIPT = "<script src=https://example.org/x.js>"
"""A module's name, as a page must not take it."""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def spend(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*argv: str) -> tuple[int, str, str]:
        code = cli.main(["spend", *argv])
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        return code, told.out, told.err

    return run


@pytest.fixture
def enter(tmp_path: Path) -> Callable[..., None]:
    """Writes into the books what a module's calls have reported, so many days ago."""

    def write(module: str, *events: Event, ago: int = 0) -> None:
        store = DiskStore(tmp_path / "state" / "cache")
        posting = Posting(lambda changes, **how: store.count(changes, **how) is None)
        books = Spend(posting.post, clock=lambda: time.time() - ago * DAY)
        for event in events:
            books.hear(module, event)  # type: ignore[arg-type]
        posting.flush()
        store.close()

    return write


def answer(target: Target = CHEAP, tokens: int = 1_000_000, cost: str | None = "1.5") -> Attempt:
    """One that has as many tokens in as out."""
    cost_usd = None if cost is None else Decimal(cost)
    return target.attempt("ok", usage=Usage(tokens, tokens), cost_usd=cost_usd)


@pytest.fixture
def month(catalog: WriteCatalog, enter: Callable[..., None]) -> None:
    """Three modules, of which the catalog has two."""
    catalog(
        {"cheap": {"model": "openai/cheap", "price": {"input": 0.5, "output": 1}}, "gpt-4": OLD},
        chain=["cheap"],
        modules={"scorer": {}},
        baseline="gpt-4",
    )
    enter("scorer", answer(), answer(), CacheUsed("miss"), ago=3)
    enter("scorer", answer(FREE, cost="0"), FellOver("scorer", "cheap", "own", "server", "ollama"))
    enter("default", answer(tokens=1000, cost="0.0015"), CacheUsed("hit", Decimal("0.25"), CHEAP), ago=2)
    enter(SCRIPT, answer(cost=None), ago=2)
    enter("scorer", answer(), ago=40)


def rows(out: str) -> list[list[str]]:
    return [re.split(r"  +", line.strip()) for line in out.split("\n\n")[1].splitlines()]


def test_the_table_has_every_module_its_share_and_what_the_baseline_had_cost(spend: Run, month: None) -> None:
    code, out, _ = spend()
    head, *found, total = rows(out)
    assert code == 0
    assert head == [
        *("MODULE", "COST", "SHARE", "UNKNOWN", "REQUESTS", "FALLBACKS"),
        *("TOKENS IN", "OUT", "SAVED", "BASELINE", "AGAINST IT"),
    ]
    assert found == [
        ["scorer", "$3.00", "██████████ >99%", "0", "3", "1", "3,000,000", "3,000,000", "$0", "$270.00", "99% less"],
        ["default", "$0.0015", "<1%", "0", "1", "0", "1,000", "1,000", "$0.2500", "$0.0900", "98% less"],
        [SCRIPT, "unknown", "1", "1", "0", "1,000,000", "1,000,000", "$0"],
    ]
    assert total == ["all", "$3.00", "1", "5", "1", "4,001,000", "4,001,000", "$0.2500", "$270.09", "99% less"]
    assert out.endswith(
        "\n99% less than gpt-4: $3.00 in place of $270.09 for the same tokens, in 4 of 5 requests.\n"
        "1 call was answered by the cache, which saved $0.2500; no other figure has that in it.\n"
        "1 answer is of unknown cost, and in no sum of money.\n"
        f"Not compared with a baseline: {SCRIPT} (no longer in the catalog).\n"
    )


def test_by_day_model_and_provider(spend: Run, month: None) -> None:
    days = [str(day_of(time.time() - ago * DAY)) for ago in (3, 2, 0)]
    names = {by: [row[0] for row in rows(spend("--by", by)[1])[1:]] for by in ("day", "model", "provider")}
    assert names == {
        "day": [*days, "all"],
        "model": ["cheap", "own", "all"],
        "provider": ["openai", "ollama", "all"],
    }


@pytest.mark.parametrize(("since", "requests"), [("90s", 1), ("47h", 3), ("3d", 5), ("41d", 6), ("99999999999d", 6)])
def test_the_day_that_since_falls_on_is_whole(
    spend: Run, month: None, monkeypatch: pytest.MonkeyPatch, since: str, requests: int
) -> None:
    noon = time.time() // DAY * DAY + DAY / 2
    monkeypatch.setattr(time, "time", lambda: noon)
    code, out, _ = spend("--since", since, "--json")
    assert (code, json.loads(out)["total"]["spending"]["requests"]) == (0, requests)


def test_a_length_of_time_that_is_none(spend: Run) -> None:
    code, _, err = spend("--since", "a month")
    assert code == 2
    assert "is no length of time. Write 90s, 15m, 12h or 7d." in err


def test_the_document_has_every_line_and_every_digit(spend: Run, month: None, enter: Callable[..., None]) -> None:
    enter("default", answer(cost="0.000000000000000000000001"))
    told: dict[str, Any] = json.loads(spend("--json", "--by", "model")[1])
    assert told["total"]["spending"]["cost_usd"] == "3.001500000000000000000001"
    compared = told["total"]["compared"]
    assert (compared["requests"], compared["cost_usd"]) == (5, "3.001500000000000000000001")
    assert Decimal(compared["baseline_usd"]) == Decimal("360.09")
    assert list(told["rows"]) == ["cheap", "own"]
    assert told["rows"]["own"]["less"] == 1
    assert {(line["module"], line["model"], line["provider"]) for line in told["lines"] if line["model"]} == {
        *(("scorer", "cheap", "openai"), ("scorer", "own", "ollama"), ("default", "cheap", "openai")),
        (SCRIPT, "cheap", "openai"),
    }
    assert told["baselines"]["scorer"]["name"] == "gpt-4"


TIERS = {"input": 1, "output": 1, "above": {"tokens": 100, "input": 9, "output": 9}}


@pytest.mark.parametrize(
    ("models", "settings", "said"),
    [
        (
            {"old": {**OLD, "price": TIERS}},
            {"baseline": "old"},
            ["25% less than old everywhere: $1.50 in place of $2.00"],
        ),
        (
            {"old": {**OLD, "price": TIERS}},
            {"baseline": "old"},
            ["old costs more when a prompt has more than 100 tokens"],
        ),
        (
            {"dear": {**OLD, "price": {"input": 1, "output": 0.25}}},
            {"baseline": "dear"},
            ["20% more than dear everywhere"],
        ),
        ({}, {"baseline": "first"}, ["As much as cheap everywhere: $1.50 in place of $1.50 for the same tokens."]),
        (
            {"own": {"model": "ollama_chat/own"}},
            {"baseline": "own"},
            ["More than own everywhere: $1.50 in place of $0 "],
        ),
        ({}, {}, ["Not compared with a baseline: default (no baseline)."]),
        (
            {"new": {"model": "openai/new", "api_base": "http://127.0.0.1:9/v1"}},
            {"baseline": "new"},
            ["Not compared with a baseline: default (the price of new is not known)."],
        ),
    ],
    ids=["less", "the lower price of two", "more", "an alias, and as much", "free", "none", "no price"],
)
def test_what_is_said_of_the_baseline(
    spend: Run,
    catalog: WriteCatalog,
    enter: Callable[..., None],
    models: dict[str, Any],
    settings: dict[str, Any],
    said: list[str],
) -> None:
    cheap = {"model": "openai/cheap", "price": {"input": 0.5, "output": 1}}
    aliases = {"first": "cheap"}
    catalog({"cheap": cheap, **models}, chain=["cheap"], aliases=aliases, **settings)
    enter("default", answer())
    told = spend()[1]
    assert all(each in told for each in said), told


def test_what_is_of_unknown_cost_is_not_compared(spend: Run, catalog: WriteCatalog, enter: Callable[..., None]) -> None:
    catalog({"cheap": {"model": "openai/cheap"}, "gpt-4": OLD}, chain=["cheap"], baseline="gpt-4")
    enter("default", answer(cost=None), answer(FREE, cost="0"))
    said = spend()[1]
    assert "100% less than gpt-4: $0 in place of $90.00 for the same tokens, in 1 of 2 requests.\n" in said
    assert said.endswith("Not compared with a baseline: what cheap answered on some days (unknown cost).\n")


def test_two_baselines_are_added_up(spend: Run, catalog: WriteCatalog, enter: Callable[..., None]) -> None:
    two = {"model": "openai/two", "price": {"input": 1, "output": 1}}
    catalog({"two": two, "gpt-4": OLD}, baseline="gpt-4", modules={"scorer": {"baseline": "two"}})
    for module in ("default", "scorer"):
        enter(module, answer())
    said = "97% less than on the modules' baselines: $3.00 in place of $92.00 for the same tokens.\n"
    assert spend()[1].endswith(f"\n{said}")


@pytest.mark.heavy
def test_a_price_is_looked_up_in_litellms_list(
    spend: Run, catalog: WriteCatalog, enter: Callable[..., None], server: ScriptedServer
) -> None:
    catalog({"cheap": {"model": "openai/cheap"}}, baseline="openai/gpt-4")
    enter("default", answer())
    assert "98% less than openai/gpt-4 everywhere: $1.50 in place of $90.00" in spend()[1]


def test_nothing_was_spent(spend: Run, catalog: WriteCatalog, enter: Callable[..., None], tmp_path: Path) -> None:
    catalog({"cheap": {"model": "openai/cheap"}})
    page = tmp_path / "spend.html"
    today = day_of(time.time())
    assert spend("--since", "1s", "--html", str(page))[:2] == (0, f"No call was counted: {today}, the day in UTC.\n")
    assert "No call was counted." in page.read_text()
    assert json.loads(spend("--json")[1])["rows"] == {}
    enter("default", answer(FREE, cost="0"))
    assert rows(spend("--html", str(page))[1])[1] == ["default", "$0", "1", "1,000,000", "1,000,000"]
    assert "<svg" not in page.read_text()


@pytest.mark.heavy
def test_what_a_router_has_spent_is_there_once_it_is_closed(
    spend: Run, catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    catalog({"first": server.openai("first"), "gpt-4": OLD}, chain=["first"], baseline="gpt-4")
    server.script("first", Reply("Paris", input_tokens=100, output_tokens=20))
    with Router() as router:
        for _ in range(2):
            router.complete("Where?")
    assert "97% less than gpt-4 everywhere: $0.00014 in place of $0.0042 for the same tokens." in spend()[1]


def test_a_store_that_cannot_be_used_is_one_line(spend: Run, month: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(store: DiskStore, books: object) -> None:
        raise StoreError("busy", "the store in /somewhere cannot be used (database is locked).")

    monkeypatch.setattr(DiskStore, "counts", locked)
    said = "StoreError: the store in /somewhere cannot be used (database is locked).\n"
    assert spend() == (2, "", said)


# -- the page


def test_the_page_is_replaced_as_a_whole_where_a_link_leads(spend: Run, month: None, tmp_path: Path) -> None:
    there, link = tmp_path / "public.html", tmp_path / "spend.html"
    there.write_text("before")
    link.symlink_to(there)
    code, _, err = spend("--html", str(link))
    assert (code, err) == (0, f"Written: {link}\n")
    assert link.is_symlink()
    assert there.read_text().startswith("<!doctype html>")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_page_that_cannot_be_written_is_said(spend: Run, month: None, tmp_path: Path) -> None:
    for target, why in ((tmp_path / "none" / "x.html", "No such file or directory"), (tmp_path, "Is a directory")):
        code, _, err = spend("--html", str(target))
        assert code == 2
        assert why in " ".join(err.split())


def test_many_series_are_one_in_the_end(
    spend: Run, catalog: WriteCatalog, enter: Callable[..., None], tmp_path: Path
) -> None:
    catalog({"cheap": {"model": "openai/cheap"}})
    page = tmp_path / "spend.html"
    for number in range(9):
        enter(f"module-{number}", answer(cost=str(10 - number)))
    spend("--html", str(page))
    drawn = page.read_text()
    assert f"{day_of(time.time())}: $54.00\nall others: $5.00\nmodule-6: $4.00\n" in drawn
    assert drawn.count('<li class="s7">all others</li>') == 1


class Text(HTMLParser):
    """The words of a page, and what it would load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.loads: list[str] = []
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [str(value) for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]

    def handle_data(self, data: str) -> None:
        self.words += data.split()


def first_pixel(png: bytes) -> tuple[int, ...]:
    """Red, green and blue of the upper left corner, where no filter of PNG's changes anything."""
    at, packed = 8, b""
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        packed += png[at + 8 : at + 8 + size] if png[at + 4 : at + 8] == b"IDAT" else b""
        at += size + 12
    return tuple(zlib.decompress(packed)[1:4])


@pytest.mark.parametrize(
    ("scheme", "number", "background"), [("light", 1, (0xF7, 0xF7, 0xF5)), ("dark", 0, (0x13, 0x14, 0x17))]
)
def test_a_browser_shows_the_page_in_light_and_dark(
    spend: Run,
    month: None,
    tmp_path: Path,
    needs_program: Callable[[str], str],
    scheme: str,
    number: int,
    background: tuple[int, ...],
) -> None:
    page, picture = tmp_path / "spend.html", tmp_path / "spend.png"
    spend("--html", str(page))
    chromium = [needs_program("chromium"), "--headless", "--disable-gpu", "--no-sandbox", "--no-first-run"]
    alone = ["--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND"]
    own = [f"--user-data-dir={tmp_path / 'browser'}", f"--blink-settings=preferredColorScheme={number}"]

    def opened(*what: str) -> str:
        run = [*chromium, *alone, *own, *what, page.as_uri()]
        return subprocess.run(run, capture_output=True, text=True, timeout=120, check=True).stdout

    found = Text(opened("--dump-dom"))
    said = " ".join(found.words)
    assert "99% less than gpt-4: $3.00 in place of $270.09 for the same tokens, in 4 of 5 requests." in said
    assert "Spent $3.00 and 1 answer of unknown cost Saved by the cache $0.2500 1 call answered" in said
    assert f"{SCRIPT} (no longer in the catalog)" in said
    assert f"{day_of(time.time() - 3 * DAY)}: $3.00 scorer: $3.00" in said
    assert (found.loads, found.tags & {"script", "link", "img", "iframe"}) == ([], set())
    opened(f"--screenshot={picture}", "--window-size=1200,1000", "--hide-scrollbars")
    assert first_pixel(picture.read_bytes()) == background
