"""Values that are kept on the disk, and all that can happen to a disk."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import stat
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diskcache
import pytest
from faults import fork_while_writing, kill_writers, run
from hypothesis import given
from hypothesis import strategies as st

import modelrouter.store.disk
from modelrouter.store import DiskStore, NullStore, Stats, Store, StoreError
from modelrouter.store.database import Database

KILLS = int(os.environ.get("KILLS", "50"))

JSON = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner | st.none()) | st.dictionaries(st.text(), inner | st.none()),
    max_leaves=20,
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def store(directory: Path) -> Iterator[DiskStore]:
    with contextlib.closing(DiskStore(directory)) as store:
        yield store


@pytest.fixture
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is tried again at once."""
    monkeypatch.setattr(modelrouter.store.disk, "REST", 0.0)


def database(directory: Path) -> Path:
    (file,) = directory.glob("db-*/cache.db")
    return file


def on_disk(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


def reason(operation: Callable[[], object]) -> str:
    with pytest.raises(StoreError) as caught:
        operation()
    return caught.value.reason


# -- what it is for


def test_what_is_set_is_what_is_got(open_store: Callable[[], Store]) -> None:
    store, another = open_store(), open_store()

    @given(st.text(alphabet="abc"), JSON)
    def check(key: str, value: Any) -> None:
        store.set(key, value, ttl=60)
        assert store.get(key) == another.get(key) == value

    check()


def test_nothing_is_touched_before_the_first_use(directory: Path) -> None:
    DiskStore(directory).close()
    assert not directory.exists()


def test_what_is_not_there_is_none(any_store: Store) -> None:
    assert any_store.get("nothing") is None


def test_its_time_over_a_value_is_gone_and_soon_forgotten(
    any_store: Store, directory: Path, later: Callable[[float], None]
) -> None:
    store = any_store
    for number in range(30):
        store.set(f"old-{number}", "ephemeral", ttl=60)
    later(59)
    assert store.get("old-0") == "ephemeral"
    later(61)
    assert store.get("old-0") is None
    for number in range(3):
        store.set(f"new-{number}", "fresh", ttl=60)
    assert store.stats().entries == 3
    store.close()
    assert b"ephemeral" not in on_disk(directory)


def test_above_the_limit_the_oldest_go_first(directory: Path) -> None:
    with contextlib.closing(DiskStore(directory, size_limit=2**20)) as store:
        for number in range(300):
            store.set(str(number), "x" * 10_000, ttl=3600)
        assert 2**19 < store.stats().bytes < 2**20 + 2**17
        assert store.get("0") is None
        assert store.get("299") == "x" * 10_000
    assert len(on_disk(directory)) < 2**20 + 2**17


def test_clear_goes_by_tag_and_age_and_leaves_nothing_behind(
    any_store: Store, directory: Path, later: Callable[[float], None]
) -> None:
    store = any_store
    store.set("1", "first-secret", ttl=1e6, tag="scorer")
    store.set("2", "second-secret", ttl=1e6)
    later(100)
    store.set("3", "third-secret", ttl=1e6, tag="scorer")
    assert store.clear(tag="unknown") == 0
    assert store.clear(tag="scorer", older_than=50) == 1
    assert [store.get(key) for key in "123"] == [None, "second-secret", "third-secret"]
    assert (store.stats(tag="scorer").entries, store.stats(older_than=50).entries, store.stats().entries) == (1, 1, 2)
    assert store.clear(older_than=50) == 1
    assert store.clear(tag="scorer") == 1
    assert store.stats().entries == 0
    assert b"-secret" not in on_disk(directory)


def test_a_closed_store_opens_again(store: DiskStore, directory: Path) -> None:
    store.set("key", "value", ttl=60)
    store.close()
    assert sorted(path.name for path in database(directory).parent.iterdir()) == ["cache.db"]
    assert store.get("key") == "value"


def test_the_null_store_keeps_nothing() -> None:
    store = NullStore()
    store.set("key", "value", ttl=60)
    assert store.get("key") is None
    assert (store.clear(), store.stats()) == (0, Stats(0, 0))
    store.close()


# -- who may read it


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_only_the_owner_can_read_it(directory: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        directory.mkdir(mode=0o755)
        directory.chmod(0o755)  # somebody else made it
        store = DiskStore(directory)
        store.set("key", "value", ttl=60)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.rglob("*"))}
        store.close()
    finally:
        os.umask(before)
    files = dict.fromkeys(("cache.db", "cache.db-shm", "cache.db-wal"), 0o600)
    assert modes == {"cache": 0o700, "db-1": 0o700} | files


class Trap:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("sprung",)


def test_a_planted_pickle_runs_no_code(store: DiskStore, directory: Path) -> None:
    store.set("key", "value", ttl=60)
    store.close()
    with contextlib.closing(diskcache.Cache(str(database(directory).parent))) as planted:
        planted.set("key", Trap())
        planted.set("large", [Trap(), "x" * 100_000])  # in a file of its own
        planted.set(Trap(), "value")
        sprung = Path("sprung")
        assert not sprung.exists()
        with contextlib.suppress(FileExistsError):
            planted.get("key")
        assert sprung.exists(), "the trap does not work"
        sprung.rmdir()
    assert reason(lambda: store.get("key")) == "refused_value"
    assert reason(lambda: store.get("large")) == "refused_value"
    store.set("key", "value", ttl=60)
    store.set("large", "value", ttl=60)
    assert store.get("key") == store.get("large") == "value"
    assert store.clear() == 3
    assert not sprung.exists()


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param({"value": b"\x80\x04N.", "mode": 4}, id="a pickle"),
        pytest.param({"value": "x", "mode": "1"}, id="a mode that is text"),
        pytest.param({"value": b"00000000{}"}, id="bytes"),
        pytest.param({"value": None, "mode": 3, "filename": "../../victim"}, id="a file outside"),
        pytest.param({"value": 5}, id="a number"),
        pytest.param({"value": ""}, id="nothing"),
        pytest.param({"value": '"somebody else\'s"'}, id="no checksum"),
    ],
)
def test_a_planted_row_is_refused_and_overwritten(
    store: DiskStore, directory: Path, columns: dict[str, object], tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    store.set("key", "value", ttl=60)
    with contextlib.closing(sqlite3.connect(database(directory))) as planted, planted:
        planted.execute(f"UPDATE Cache SET {', '.join(f'{name} = ?' for name in columns)}", tuple(columns.values()))  # noqa: S608
    assert reason(lambda: store.get("key")) in ("refused_value", "damaged_value")
    store.set("key", "value again", ttl=60)
    assert store.get("key") == "value again"
    assert victim.read_text() == "precious"


def test_a_value_under_another_key_is_none_of_it(store: DiskStore, directory: Path) -> None:
    store.set("one", "value", ttl=60)
    with contextlib.closing(sqlite3.connect(database(directory))) as planted, planted:
        planted.execute("UPDATE Cache SET key = 'two'")
    assert reason(lambda: store.get("two")) == "damaged_value"


def test_an_error_never_quotes_a_value(store: DiskStore, directory: Path) -> None:
    store.set("key", "value", ttl=60)
    with contextlib.closing(sqlite3.connect(database(directory))) as planted, planted:
        planted.execute("UPDATE Cache SET value = CAST(? AS TEXT)", (b'00000000"secret \xff"',))
    with pytest.raises(StoreError) as caught:
        store.get("key")
    assert caught.value.reason == "damaged_value"
    assert "secret" not in "".join(traceback.format_exception(caught.value))


# -- what can happen to it


@pytest.mark.parametrize("value", [object(), {1, 2}, float("nan"), {"a": b"bytes"}])
def test_what_is_not_json_is_refused(any_store: Store, value: object) -> None:
    assert reason(lambda: any_store.set("key", value, ttl=60)) == "not_json"
    assert any_store.get("key") is None


@pytest.mark.parametrize("opened", [True, False], ids=["while it is open", "before it is opened"])
def test_a_database_that_is_garbage_is_left_for_a_new_one(directory: Path, opened: bool, no_rest: None) -> None:
    stores = [DiskStore(directory), DiskStore(directory)]
    for number, store in enumerate(stores):
        store.set(f"key-{number}", "x" * 50_000, ttl=60)
        if not opened:
            store.close()
    for file in database(directory).parent.iterdir():
        if not file.name.endswith("shm"):  # which is memory, not disk
            file.write_bytes(os.urandom(file.stat().st_size))
    for store in stores:
        for number in range(2):  # one of them is told
            with contextlib.suppress(StoreError):
                store.get(f"key-{number}")
                store.set("other", "y" * 50_000, ttl=60)
    stores[0].set("key", "value", ttl=60)
    assert stores[1].get("key") == "value", "both have gone on to the same one"
    assert names(directory) == ["damaged-1", "db-2"]
    for store in stores:
        store.close()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def said_by_sqlite(name: str) -> sqlite3.OperationalError:
    """As SQLite says it, where it cannot be had in a test: of a network's file system, or of a broken disk."""
    error = sqlite3.OperationalError(name)
    error.sqlite_errorname, error.sqlite_errorcode = f"SQLITE_{name}", getattr(sqlite3, f"SQLITE_{name}")
    return error


ERRORS = """
    ABORT AUTH BUSY BUSY_RECOVERY CANTOPEN CANTOPEN_DIRTYWAL CONSTRAINT CORRUPT CORRUPT_INDEX ERROR FULL INTERNAL
    INTERRUPT IOERR IOERR_CORRUPTFS IOERR_SHMMAP LOCKED MISMATCH MISUSE NOLFS NOMEM NOTADB PERM PROTOCOL READONLY
    READONLY_DBMOVED SCHEMA TOOBIG
""".split()
DAMAGE = ("CORRUPT", "NOTADB")


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("opened", [True, False], ids=["while it is open", "when it is opened"])
def test_only_what_proves_damage_moves_a_database_aside(
    store: DiskStore, directory: Path, monkeypatch: pytest.MonkeyPatch, no_rest: None, opened: bool, name: str
) -> None:
    store.set("key", "value", ttl=60)
    if not opened:
        store.close()

    def refuse(*_: object) -> None:
        raise said_by_sqlite(name)

    with monkeypatch.context() as patched:
        patched.setattr(Database, "get" if opened else "_connect", refuse)
        told = {reason(lambda: store.get("key")) for _ in range(3 if not name.startswith(DAMAGE) else 1)}
    damaged = name.startswith(DAMAGE)
    assert told == {"damaged" if damaged else name.lower()}
    assert store.get("key") == (None if damaged else "value")
    assert names(directory) == (["damaged-1", "db-2"] if damaged else ["db-1"])


@pytest.mark.parametrize(
    "edit",
    [
        "ALTER TABLE Cache RENAME COLUMN store_time TO stored",
        "DROP TABLE Settings; CREATE TABLE Settings (key TEXT NOT NULL UNIQUE, value NOT NULL, more NOT NULL)",
    ],
)
def test_a_database_of_another_make_is_left_as_it_is(
    store: DiskStore, directory: Path, edit: str, no_rest: None
) -> None:
    store.set("key", "value", ttl=60)
    store.close()
    with contextlib.closing(sqlite3.connect(database(directory))) as other, other:
        other.executescript(edit)
    for _ in range(2):
        with contextlib.suppress(StoreError):
            store.get("key")
        with contextlib.suppress(StoreError):
            store.set("key", "value", ttl=60)
    assert names(directory) == ["db-1"]


def test_what_was_moved_aside_is_whole_and_is_removed_a_day_later(
    store: DiskStore, directory: Path, no_rest: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.set("key", "value", ttl=60)
    store.close()
    file = database(directory)
    file.write_bytes(b"garbage " * 1000)
    assert reason(lambda: store.get("key")) == "damaged"
    assert (directory / "damaged-1" / "cache.db").read_bytes() == b"garbage " * 1000
    store.set("key", "value", ttl=60)
    store.close()
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 90_000)
    store.set("key", "value", ttl=60)
    assert names(directory) == ["db-2"]


def test_clear_takes_what_was_moved_aside_with_it(store: DiskStore, directory: Path, no_rest: None) -> None:
    store.set("key", "value", ttl=60)
    store.close()
    database(directory).write_bytes(b"garbage " * 1000)
    assert reason(lambda: store.get("key")) == "damaged"
    store.clear()
    assert names(directory) == ["db-2"]


def test_a_few_damaged_values_condemn_the_database(store: DiskStore, directory: Path) -> None:
    for key in ("one", "two", "three", "good"):
        store.set(key, "value", ttl=60)
    with contextlib.closing(sqlite3.connect(database(directory))) as planted, planted:
        planted.execute("UPDATE Cache SET value = value || ' ' WHERE key <> 'good'")
    assert [reason(lambda: store.get("one")), reason(lambda: store.get("two"))] == ["damaged_value"] * 2
    assert store.get("good") == "value"
    assert reason(lambda: store.get("three")) == "damaged"
    assert store.get("good") is None
    store.set("one", "value", ttl=60)
    assert store.get("one") == "value"


@pytest.mark.parametrize("seed", range(10))
def test_damage_never_gives_a_wrong_value(directory: Path, seed: int) -> None:
    chance = random.Random(seed)
    values = {f"key-{number}": f"{number} " * chance.randrange(4000) + "." for number in range(40)}
    with contextlib.closing(DiskStore(directory)) as store:
        for key, value in values.items():
            store.set(key, value, ttl=60)
    file = database(directory)
    content = bytearray(file.read_bytes())
    for _ in range(chance.choice([1, 10, 100, 1000])):
        content[chance.randrange(len(content))] = chance.randrange(256)
    file.write_bytes(content[: len(content) if chance.random() < 0.7 else chance.randrange(len(content))])
    with contextlib.closing(DiskStore(directory)) as store:
        for key, value in values.items():
            with contextlib.suppress(StoreError):
                assert store.get(key) in (value, None)
            with contextlib.suppress(StoreError):
                store.set(key, value, ttl=60)


@pytest.mark.parametrize("lock", ["BEGIN EXCLUSIVE", "PRAGMA locking_mode = EXCLUSIVE"])
def test_a_locked_database_keeps_nobody_waiting_twice(
    store: DiskStore, directory: Path, monkeypatch: pytest.MonkeyPatch, lock: str
) -> None:
    store.set("key", "value", ttl=60)
    store.close()
    with contextlib.closing(sqlite3.connect(database(directory), isolation_level=None)) as other:
        other.execute(lock)
        other.execute("UPDATE Settings SET value = value")
        assert reason(lambda: store.get("key")) == "busy"
        monkeypatch.setattr(modelrouter.store.disk, "BUSY", 3600.0)
        assert reason(lambda: store.get("key")) == "busy", "it waited again"
        assert reason(lambda: store.set("key", "value", ttl=60)) == "busy", "it waited again"
    store.close()  # which ends the rest
    assert store.get("key") == "value"


def test_a_locked_database_can_still_be_read(store: DiskStore, directory: Path, no_rest: None) -> None:
    store.set("key", "value", ttl=60)
    with contextlib.closing(sqlite3.connect(database(directory), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert reason(lambda: store.set("key", "new", ttl=60)) == "busy"
        assert store.get("key") == "value"
    store.set("key", "new", ttl=60)
    assert store.get("key") == "new"


def test_where_many_write_everybody_has_a_turn(directory: Path) -> None:
    done = threading.Event()

    def write() -> None:
        with contextlib.closing(sqlite3.connect(database(directory), isolation_level=None, timeout=60)) as other:
            while not done.is_set():
                other.execute("BEGIN IMMEDIATE")
                time.sleep(0.01)
                other.execute("ROLLBACK")
                time.sleep(0.002)

    with contextlib.closing(DiskStore(directory)) as store:
        store.set("key", 0, ttl=60)
        writer = threading.Thread(target=write)
        writer.start()
        try:
            for number in range(60):
                store.set("key", number, ttl=60)
                time.sleep(0.003)  # or all would have their turn in the same gap
                store.count({"book": {"a": 1}}, once=str(number), ttl=60)
                time.sleep(0.003)
        finally:
            done.set()
            writer.join()
        assert (store.get("key"), store.counts(["book"])) == (59, {"book": {"a": 60}})


def test_a_directory_that_cannot_be_made(tmp_path: Path, no_rest: None) -> None:
    (tmp_path / "file").touch()
    store = DiskStore(tmp_path / "file" / "cache")
    assert reason(lambda: store.get("key")) == reason(lambda: store.set("key", 1, ttl=60)) == "enotdir"
    (tmp_path / "file").unlink()
    store.set("key", 1, ttl=60)  # once it can be
    assert store.get("key") == 1
    store.close()


@pytest.mark.heavy
def test_a_read_only_directory() -> None:
    with tempfile.TemporaryDirectory() as path, contextlib.closing(DiskStore(path)) as store:
        store.set("key", "value", ttl=60)
        store.close()
        places = [Path(path), database(Path(path)).parent, database(Path(path))]
        if (child := os.fork()) == 0:  # a child, to become a user whom rights apply to: root may do everything
            status = 1
            try:
                for place in reversed(places):
                    place.chmod(0o500)
                    if os.geteuid() == 0:
                        os.chown(place, 65534, -1)
                if os.geteuid() == 0:
                    os.setuid(65534)
                reasons = [reason(lambda: store.get("key")), reason(lambda: store.set("key", 1, ttl=60))]
                status = not all(said.startswith(("readonly", "cantopen")) for said in reasons)
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        for place in places:
            place.chmod(0o700)


FULL = """
import resource, sys
from modelrouter.store import DiskStore, StoreError

store = DiskStore(sys.argv[1])
store.set("before", "value", ttl=60)
# Writing beyond this size fails from here on, as on a disk that is full.
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
reasons = set()
for number in range(100):
    try:
        store.set(f"key-{number}", "x" * 5000, ttl=60)
    except StoreError as error:
        reasons.add(error.reason)
    assert store.get("before") == "value"
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.set("after", "value", ttl=60)
assert store.get("after") == "value"
print(*reasons)
"""


@pytest.mark.heavy
def test_a_full_disk(directory: Path) -> None:
    ended = run(FULL, directory)
    assert ended.returncode == 0, ended.stderr
    assert set(ended.stdout.split()) <= {"full", "ioerr_write", "ioerr"}
    assert ended.stdout.split()


def test_a_directory_that_is_taken_away(store: DiskStore, directory: Path, no_rest: None) -> None:
    store.set("key", "value", ttl=60)
    home = database(directory).parent
    for file in home.iterdir():
        file.unlink()
    home.rmdir()
    directory.rmdir()
    for _ in range(2):
        with contextlib.suppress(StoreError):
            store.set("key", "new", ttl=60)
    assert store.get("key") == "new"


# -- many at once


def test_many_threads(store: DiskStore) -> None:
    wrong: list[object] = []

    def work(name: str) -> None:
        try:
            for number in range(50):
                store.set(f"{name}-{number}", [name, number], ttl=60)
                if (found := store.get(f"{name}-{number}")) != [name, number]:
                    wrong.append(found)
        except StoreError as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert store.stats().entries == 400


@pytest.mark.heavy
def test_every_child_of_a_fork_can_write(directory: Path) -> None:
    fork_while_writing(directory, children=16)


@pytest.mark.heavy
def test_writers_that_are_killed_leave_whole_values(directory: Path) -> None:
    kill_writers(directory, KILLS)
