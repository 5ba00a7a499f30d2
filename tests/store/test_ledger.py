"""Books of counters, and amounts reserved in them: the same on the disk, in memory and on a server."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable

import pytest

from modelrouter.store import Balance, Ledger, MemoryLedger, StoreError
from modelrouter.store.store import SPENT, WouldWait, granted

DAY = 86_400.0


stored = pytest.mark.parametrize("kind", ["disk", pytest.param("redis", marks=pytest.mark.heavy)])


@pytest.fixture(params=["disk", "memory", pytest.param("redis", marks=pytest.mark.heavy)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def ledger(kind: str, request: pytest.FixtureRequest) -> Ledger:
    return MemoryLedger() if kind == "memory" else request.getfixturevalue("any_store")


def test_counters_add_up_by_book_and_name(ledger: Ledger) -> None:
    ledger.count({"monday": {"a": 1, "b": 2}, "tuesday": {"a": 5}}, once="1", ttl=DAY)
    ledger.count({"monday": {"a": 10, "c": -3}}, once="2", ttl=DAY)
    assert ledger.counts(["monday", "tuesday", "never"]) == {
        "monday": {"a": 11, "b": 2, "c": -3},
        "tuesday": {"a": 5},
        "never": {},
    }


def test_a_counter_holds_millions_of_dollars_in_picodollars(ledger: Ledger) -> None:
    for number in range(2):
        ledger.count({"b": {SPENT: 2**62 - 1}}, once=str(number), ttl=DAY)
    assert ledger.counts(["b"]) == {"b": {SPENT: 2**63 - 2}}


@pytest.mark.parametrize("spent", [2**53, 10**18 - 1, 2**63 - 4, -(2**53)])
def test_amounts_are_exact_beyond_what_a_float_holds(ledger: Ledger, spent: int) -> None:
    ledger.count({"b": {SPENT: spent}}, once="1", ttl=DAY)
    limits = {"b": spent + 3}
    asked = {"one": 2, "too much": 2, "two": 1, "still too much": 1}
    got = {
        name: granted(amount, limits, ledger.reserve(name, amount, limits, ttl=60)) for name, amount in asked.items()
    }
    assert got == {"one": True, "too much": False, "two": True, "still too much": False}
    assert ledger.reserve("", 0, limits, ttl=60) == {"b": Balance(spent, 3)}


def test_what_does_not_fit_beside_the_spent_and_the_reserved_is_not_reserved(ledger: Ledger) -> None:
    ledger.count({"module": {SPENT: 40}}, once="1", ttl=DAY)
    limits = {"module": 100, "all": 1000}
    assert ledger.reserve("first", 50, limits, ttl=60) == {"module": Balance(40, 0), "all": Balance()}
    balances = ledger.reserve("second", 11, limits, ttl=60)
    assert balances == {"module": Balance(40, 50), "all": Balance(0, 50)}
    assert not granted(11, limits, balances)
    assert ledger.reserve("", 0, limits, ttl=60) == balances, "neither book has the second"
    assert granted(10, limits, ledger.reserve("third", 10, limits, ttl=60)), "to the limit itself"


def test_what_is_settled_is_spent_and_no_more_reserved(ledger: Ledger) -> None:
    limits = {"module": 100}
    ledger.reserve("one", 100, limits, ttl=60)
    ledger.count({"module": {SPENT: 30}}, once="one", ttl=DAY, release=["one"])
    assert ledger.reserve("", 0, limits, ttl=60) == {"module": Balance(30, 0)}


def test_reservations_end_by_themselves_unless_renewed(ledger: Ledger, later: Callable[[float], None]) -> None:
    limits = {"module": 100}
    for name in ("dead", "alive"):
        ledger.reserve(name, 40, limits, ttl=30)
    later(20)
    ledger.renew(["alive", "unknown"], ttl=30)
    later(40)
    assert ledger.reserve("", 0, limits, ttl=30) == {"module": Balance(0, 40)}
    ledger.renew(["dead"], ttl=30)
    assert ledger.reserve("new", 60, limits, ttl=30) == {"module": Balance(0, 40)}


def test_threads_never_reserve_more_than_there_is(ledger: Ledger) -> None:
    limits = {"module": 20}
    got: list[bool] = []

    def take(name: int) -> None:
        got.extend(granted(1, limits, ledger.reserve(f"{name} {n}", 1, limits, ttl=60)) for n in range(10))

    threads = [threading.Thread(target=take, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(got) == 20
    assert ledger.reserve("", 0, limits, ttl=60) == {"module": Balance(0, 20)}


def test_at_once_is_at_once_or_not_at_all(kind: str, ledger: Ledger, request: pytest.FixtureRequest) -> None:
    def reserve(name: str) -> None:
        ledger.reserve(name, 1, {"b": 10}, ttl=60, at_once=True)

    if kind != "memory":
        with pytest.raises(WouldWait):
            reserve("to be opened")
        ledger.counts(["b"])
    if kind == "disk":
        (file,) = request.getfixturevalue("tmp_path").rglob("cache.db")
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(WouldWait):
                reserve("to be waited for")
    with pytest.raises(WouldWait) if kind == "redis" else contextlib.nullcontext():
        reserve("at once")
    assert ledger.reserve("", 0, {"b": 10}, ttl=60)["b"].reserved == (kind != "redis")


@stored
def test_what_is_told_twice_counts_once(ledger: Ledger) -> None:
    for _ in range(2):
        ledger.count({"b": {"a": 1}}, once="the same", ttl=DAY)
    assert ledger.counts(["b"]) == {"b": {"a": 1}}


@stored
def test_a_book_goes_when_its_time_is_over(ledger: Ledger, later: Callable[[float], None]) -> None:
    ledger.count({"old": {"a": 1}, "both": {"a": 1}}, once="1", ttl=DAY)
    later(DAY - 1)
    ledger.count({"both": {"a": 1}}, once="2", ttl=DAY)
    later(DAY + 120)
    ledger.count({"new": {"a": 1}}, once="3", ttl=DAY)
    assert ledger.counts(["old", "both", "new"]) == {"old": {}, "both": {"a": 2}, "new": {"a": 1}}


@stored
def test_a_change_that_fails_changes_nothing(ledger: Ledger) -> None:
    ledger.count({"b": {"full": 2**63 - 1}}, once="1", ttl=DAY)
    ledger.reserve("held", 1, {"b": 10}, ttl=60)
    for _ in range(2):
        with pytest.raises(StoreError):
            ledger.count({"a": {"x": 5, "y": -5}, "b": {"full": 2**63}}, once="2", ttl=DAY, release=["held"])
    assert {name: count for name, count in ledger.counts(["a"])["a"].items() if count} == {}
    assert ledger.reserve("", 0, {"b": 10}, ttl=60)["b"].reserved == 1
