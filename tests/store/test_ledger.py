"""Books of counters, and amounts reserved in them: the same on the disk, in memory and on a server."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelrouter.store import Balance, DiskStore, Ledger, MemoryLedger
from modelrouter.store.store import SPENT, granted

DAY = 86_400.0


@pytest.fixture(params=["disk", "memory"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    if request.param == "memory":
        yield MemoryLedger()
        return
    with contextlib.closing(DiskStore(tmp_path / "store")) as store:
        yield store


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets both clocks forward, by so many seconds in all."""
    clocks = {name: getattr(time, name) for name in ("time", "monotonic")}

    def set_forward(seconds: float) -> None:
        for name, clock in clocks.items():
            monkeypatch.setattr(time, name, lambda clock=clock: clock() + seconds)

    return set_forward


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


def test_what_is_told_twice_counts_once(tmp_path: Path, later: Callable[[float], None]) -> None:
    with contextlib.closing(DiskStore(tmp_path / "store")) as store:
        for _ in range(2):
            store.count({"b": {"a": 1}}, once="the same", ttl=DAY)
        assert store.counts(["b"]) == {"b": {"a": 1}}


def test_a_book_goes_when_its_time_is_over(tmp_path: Path, later: Callable[[float], None]) -> None:
    with contextlib.closing(DiskStore(tmp_path / "store")) as store:
        store.count({"old": {"a": 1}, "both": {"a": 1}}, once="1", ttl=DAY)
        later(DAY - 1)
        store.count({"both": {"a": 1}}, once="2", ttl=DAY)
        later(DAY + 120)
        store.count({"new": {"a": 1}}, once="3", ttl=DAY)
        assert store.counts(["old", "both", "new"]) == {"old": {}, "both": {"a": 2}, "new": {"a": 1}}
