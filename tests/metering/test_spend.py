"""Where the money went, over processes; and the command that shows what the cache saved and deletes what is kept."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from conftest import WriteCatalog
from faults import run
from servers import Reply, ScriptedServer

from modelrouter import Router
from modelrouter.catalog.target import Target
from modelrouter.cli import app as cli
from modelrouter.completion import Usage
from modelrouter.metering import spend
from modelrouter.metering.posting import TRIES, Posting
from modelrouter.metering.spend import Spend, Spending
from modelrouter.planning.events import CacheUsed
from modelrouter.store import DiskStore, Store, StoreError


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskStore]:
    """Where routers of the tests keep their answers."""
    with contextlib.closing(DiskStore(tmp_path / "state" / "cache")) as store:
        yield store


@pytest.fixture
def router(catalog: WriteCatalog, server: ScriptedServer, keys: str) -> Router:
    catalog({"first": server.openai("first")}, modules={"scorer": {"temperature": 0}})
    server.script("first", Reply("Paris", input_tokens=100, output_tokens=20))
    return Router()


def spent(store: Store) -> dict[str, Spending]:
    """By module."""
    return spend.by(spend.lines(store, spend.last(2)), lambda line: line.module)


def test_attempts_are_added_up_by_day_module_and_model_with_exact_money(router: Router, store: DiskStore) -> None:
    for prompt in "aab":
        router.complete(prompt)
    for _ in range(4):
        router.complete("a", module="scorer")
    router.close()
    usage, cost = Usage(100, 20), Decimal("0.000140")
    (today,) = {line.day for line in spend.lines(store, spend.last(2))}
    assert today == datetime.datetime.now(datetime.UTC).date()
    assert {(line.module, line.model): line.spending for line in spend.lines(store, [today])} == {
        ("default", "first"): Spending(requests=2, usage=usage + usage, cost_usd=2 * cost, hits=1, saved_usd=cost),
        ("default", ""): Spending(misses=2),
        ("scorer", "first"): Spending(requests=1, usage=usage, cost_usd=cost, hits=3, saved_usd=3 * cost),
        ("scorer", ""): Spending(misses=1),
    }
    assert sum(spent(store).values(), Spending()).hit_rate == pytest.approx(4 / 7)
    assert Spending().hit_rate is None


@pytest.mark.parametrize("price", ["0.000000000001", "1234567.000000000001", "0.000000123456789012345678"])
def test_no_digit_of_money_is_lost(price: str, store: DiskStore) -> None:
    with contextlib.closing(DiskStore(store.directory)) as another:
        for one in (store, another):
            posting = Posting(writer(one))
            Spend(posting.post).hear("m", CacheUsed("hit", Decimal(price)))
            posting.flush()
    assert spent(store)["m"].saved_usd == 2 * Decimal(price)


def writer(store: Store) -> Any:
    return lambda changes, **how: store.count(changes, **how) is None


def test_what_could_not_be_written_is_written_later_and_once(store: DiskStore) -> None:
    works = [True, False]  # the second is written, and nobody hears of it
    posting = Posting(lambda changes, **how: (store.count(changes, **how), works.pop(0) if works else True)[1])
    for _ in range(3):
        Spend(posting.post).hear("m", CacheUsed("hit"))
        posting.flush()
    assert spent(store)["m"] == Spending(hits=3)


@pytest.mark.parametrize(("busy", "hits"), [(1, 1), (3, 1), (99, 0)])
def test_a_process_that_ends_tries_more_than_once(store: DiskStore, busy: int, hits: int) -> None:
    """A store that was busy rests, and would refuse the next try."""
    waits: list[str] = []

    def write(changes: Any, **how: Any) -> bool:
        if len(waits) < busy:
            return False
        store.count(changes, **how)
        return True

    posting = Posting(write, begin_again=lambda: waits.append("again"))
    Spend(posting.post).hear("m", CacheUsed("hit"))
    posting.leave()
    assert sum(one.hits for one in spent(store).values()) == hits
    assert len(waits) == min(busy, TRIES)


@pytest.mark.heavy
def test_a_process_that_is_killed_loses_its_last_second_at_most(store: DiskStore) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(store.directory)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "counted\n"
        until = time.monotonic() + 30
        while not spent(store) and time.monotonic() < until:
            time.sleep(0.01)
        process.kill()
    assert spent(store) == {"m": Spending(misses=1)}


KILLED = """
import sys, time
from modelrouter.metering.posting import Posting
from modelrouter.metering.spend import Spend
from modelrouter.planning.events import CacheUsed
from modelrouter.store.disk import DiskStore

store = DiskStore(sys.argv[1])
Spend(Posting(lambda changes, **how: store.count(changes, **how) is None).post).hear("m", CacheUsed("miss"))
print("counted", flush=True)
time.sleep(60)  # it does nothing more by itself
"""

PROCESS = """
import multiprocessing, os, sys
from decimal import Decimal
from modelrouter.metering.posting import Posting
from modelrouter.metering.spend import Spend
from modelrouter.planning.events import CacheUsed
from modelrouter.store.disk import DiskStore

store = DiskStore(sys.argv[1])
posting = Posting(lambda changes, **how: store.count(changes, **how) is None)
spend = Spend(posting.post)
for number in range(100):
    spend.hear("m", CacheUsed("hit", Decimal("0.1")))
    if number % 10 == 0:
        posting.flush()
children = []
for _ in range(4):
    if (child := os.fork()) == 0:
        spend.hear("m", CacheUsed("miss"))
        sys.exit(0)  # it has hits of its parent's, which are not its own
    children.append(child)
assert not any(os.waitpid(child, 0)[1] for child in children)
child = multiprocessing.get_context("fork").Process(target=spend.hear, args=("m", CacheUsed("coalesced")))
child.start()  # which ends without what is registered with atexit
child.join()
"""


@pytest.mark.heavy
def test_processes_and_forks_add_up_and_what_is_left_is_written_at_exit(store: DiskStore) -> None:
    for _ in range(2):
        ended = run(PROCESS, store.directory)
        assert ended.returncode == 0, ended.stderr
    assert spent(store) == {"m": Spending(hits=200, coalesced=2, misses=8, saved_usd=Decimal(20))}


def test_a_store_that_cannot_count_fails_no_call(
    router: Router, store: DiskStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: DiskStore, changes: object, **how: object) -> None:
        raise StoreError("full", "the disk is full.")

    monkeypatch.setattr(DiskStore, "count", full)
    assert [router.complete("a").cached for _ in range(3)] == [False, True, True]
    router.close()
    assert [r.getMessage() for r in caplog.records if "cache_failed" in r.getMessage()] == [
        "cache_failed reason=full: calls go on without it. the disk is full."
    ]


# -- modelrouter cache


@pytest.fixture
def kept(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> DiskStore:
    """Three answers of two modules, one of them a day old."""
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 86400)
    store.set("1", "old", ttl=1e6, tag="scorer")
    monkeypatch.setattr(time, "time", now)
    store.set("2", "new", ttl=1e6, tag="scorer")
    store.set("3", "new", ttl=1e6, tag="default")
    posting = Posting(writer(store))
    books = Spend(posting.post)
    model = Target("first", "openai/first", "openai")
    for result, times, module in (("miss", 2, "scorer"), ("hit", 5, "scorer"), ("coalesced", 1, "scorer")):
        for _ in range(times):
            books.hear(module, CacheUsed(result, None if result == "miss" else Decimal("0.002"), model))
    for result in ("miss", "error"):
        books.hear("default", CacheUsed(result))
    posting.flush()
    return store


Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cache(capsys: pytest.CaptureFixture[str]) -> Cli:
    def run(*argv: str) -> tuple[int, str, str]:
        return cli.main(["cache", *argv]), *capsys.readouterr()

    return run


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_stats_show_each_module_and_all(cache: Cli, kept: DiskStore) -> None:
    code, out, err = cache("stats")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["MODULE", "ENTRIES", "HITS", "COALESCED", "MISSES", "ERRORS", "HIT", "RATE", "SAVED"],
        ["default", "1", "0", "0", "1", "1", "0.0%", "$0"],
        ["scorer", "2", "5", "1", "2", "0", "75.0%", "$0.012"],
        ["all", "3", "5", "1", "3", "1", "66.7%", "$0.012"],
    ]
    assert err.endswith(f" MiB in {kept.directory}\n")


def test_stats_as_json(cache: Cli, kept: DiskStore) -> None:
    found: dict[str, Any] = json.loads(cache("stats", "--json")[1])
    assert (found["entries"], found["hits"], Decimal(found["saved_usd"])) == (3, 5, Decimal("0.012"))
    assert found["modules"]["scorer"]["hit_rate"] == 0.75
    assert found["store"] == str(kept.directory)
    assert found["bytes"] > 0


def test_stats_of_nothing(cache: Cli) -> None:
    assert cache("stats")[1].splitlines()[1].split() == ["all", "0", "0", "0", "0", "0", "$0"]
    assert json.loads(cache("stats", "--json")[1])["hit_rate"] is None


@pytest.mark.parametrize(
    ("argv", "deleted", "left"),
    [
        ([], 3, ""),
        (["--module", "scorer"], 2, "3"),
        (["--older-than", "12h"], 1, "23"),
        (["--older-than", "7d"], 0, "123"),
        (["--module", "default", "--older-than", "90s"], 0, "123"),
    ],
    ids=str,
)
def test_clear_deletes_what_it_is_told_to_and_keeps_the_counts(
    cache: Cli, kept: DiskStore, argv: list[str], deleted: int, left: str
) -> None:
    before = spent(kept)
    said = f"{deleted} deleted.\n" if deleted else "There is nothing to delete.\n"
    assert cache("clear", "--yes", *argv) == (0, "", said)
    assert "".join(key for key in "123" if kept.get(key) is not None) == left
    assert spent(kept) == before


@pytest.mark.parametrize(("typed", "code", "left"), [("y\n", 0, 0), ("n\n", 1, 3), ("\n", 1, 3)])
def test_at_a_terminal_clear_asks_first(
    cache: Cli, kept: DiskStore, monkeypatch: pytest.MonkeyPatch, typed: str, code: int, left: int
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    ended, _, err = cache("clear")
    assert (ended, kept.stats().entries) == (code, left)
    assert f"Delete 3 remembered answers in {kept.directory}?" in err


def test_without_a_terminal_clear_says_what_to_do(cache: Cli, kept: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert cache("clear", "--module", "default") == (
        2,
        "",
        "1 remembered answer would be deleted. There is no terminal to ask at: add --yes.\n",
    )
    assert kept.stats().entries == 3


def test_a_module_that_nothing_was_kept_for_is_named(cache: Cli, kept: DiskStore) -> None:
    said = "no answer was ever kept for a module 'scorrer'. Did you mean 'scorer'?\n"
    assert cache("clear", "--module", "scorrer", "--yes") == (0, "", f"There is nothing to delete: {said}")


@pytest.mark.parametrize("text", ["7", "7 days", "-1d", "d", "1e3s", ""])
def test_a_length_of_time_that_is_none_deletes_nothing(cache: Cli, kept: DiskStore, text: str) -> None:
    code, _, err = cache("clear", "--yes", "--older-than", text)
    assert (code, kept.stats().entries) == (2, 3)
    assert "is no length of time. Write 90s, 15m, 12h or 7d." in err


def test_a_store_that_cannot_be_used_is_one_message(cache: Cli, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the directory should be")
    code, out, err = cache("stats")
    assert (code, out) == (2, "")
    assert err.startswith("StoreError: the store in ")
    assert os.linesep not in err.rstrip("\n")
