"""A Redis as the store: what is in it, who shares it, and all that can happen to it. What every store does is tested in
``test_store.py`` and ``test_ledger.py``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import sqlite3
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import CANARY, WriteCatalog
from faults import run
from prometheus_client import CollectorRegistry
from servers import RedisServer, Reply, ScriptedServer, babbler, never_accepts

import modelrouter.store.redis
from modelrouter import InvalidEnvironment, Router, environment
from modelrouter.cli import app as cli
from modelrouter.metering import spend
from modelrouter.redaction import one_line
from modelrouter.store import Balance, DiskStore, RedisStore, StoreError, connections
from modelrouter.store.default import default_store
from modelrouter.store.store import SPENT

PASSWORD = "pass-canary/0123?456"
SENT = "pass-canary%2F0123%3F456"


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[RedisStore]:
    with contextlib.closing(RedisStore(redis_server.url)) as store:
        yield store


@pytest.fixture
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is tried again at once."""
    monkeypatch.setattr(modelrouter.store.redis, "REST", 0.0)
    monkeypatch.setattr(modelrouter.store.redis, "TRY", 0.0)


@pytest.fixture
def impatient(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time limits as they are, but for a busy machine's sake in the server's fixture."""
    monkeypatch.setattr(connections, "LIMIT", 0.2)


@pytest.fixture
def with_password(redis_server: RedisServer) -> Iterator[str]:
    """The address for a user with a password, who may do what a store does and no more."""
    allowed = ["~modelrouter:*", "+@read", "+@write", "+@scripting", "+@connection", "+time"]
    redis_server.ask("ACL", "SETUSER", "teller", "on", f">{PASSWORD}", *allowed)
    yield redis_server.url.replace("//", f"//teller:{SENT}@")
    redis_server.ask("ACL", "DELUSER", "teller")


def reason(operation: Callable[[], object]) -> str:
    with pytest.raises(StoreError) as caught:
        operation()
    return caught.value.reason


# -- where it is


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("redis://", "redis:"),
        ("redis://cache.example:6380/3", "redis://cache.example:6380/3"),
        (f"rediss://teller:{SENT}@cache.example?ssl_cert_reqs=none", "rediss://***@cache.example"),
        (f"redis://[::1]:6379/0?max_connections=7&password={SENT}", "redis://[::1]:6379/0"),
        (f"unix:///run/redis.sock?db=2&password={SENT}", "/run/redis.sock"),
    ],
)
def test_an_address_is_shown_without_what_is_secret(address: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELROUTER_STORE", address)
    store = default_store()
    assert isinstance(store, RedisStore)
    assert shown in str(store)
    assert "canary" not in f"{store} {store!r}"


@pytest.mark.parametrize(
    "address",
    [
        "http://cache.example",
        "redis",
        "cache.example:6379",
        "redis://cache.example:port",
        "redis://cache.example/db",
        "redis://cache.example?colour=green",
        "redis://:canary/canary@cache.example",
        "redis://:12/canary@cache.example",
        "redis://:12?canary@cache.example",
        "redis://:12#canary@cache.example",
        "redis://[canary",
    ],
)
def test_an_address_that_is_none_is_named_by_its_variable_and_not_shown(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODELROUTER_STORE", address)
    with pytest.raises(InvalidEnvironment, match="MODELROUTER_STORE: the store's address is none of a Redis") as caught:
        Router().catalog  # noqa: B018
    assert cli.main(["cache", "stats"]) != 0
    said = "".join(traceback.format_exception(caught.value)) + str(capsys.readouterr())
    assert "MODELROUTER_STORE" in said
    assert "Traceback" not in said.partition("CaptureResult")[2]
    assert "canary" not in said


def test_unset_it_is_the_disk(surroundings: Path, tmp_path: Path) -> None:
    assert str(default_store()) == str(tmp_path / "state" / "cache")
    (surroundings / ".env").write_text("MODELROUTER_STORE=redis://cache.example\n")
    assert str(default_store()) == "redis://cache.example"


def test_without_the_extra_the_line_that_installs_it_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODELROUTER_STORE", "redis://")
    monkeypatch.delitem(sys.modules, "modelrouter.store.connections")
    monkeypatch.delattr("modelrouter.store.connections")
    for name in [name for name in sys.modules if name.partition(".")[0] == "redis"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    assert cli.main(["cache", "stats"]) != 0
    said = capsys.readouterr().err
    assert "MODELROUTER_STORE: a store in a Redis needs redis-py: pip install 'modelrouter[redis]'" in said
    assert "Traceback" not in said


@pytest.mark.heavy
def test_redis_py_is_loaded_by_nobody_else() -> None:
    ended = run("import sys, modelrouter.store as s; s.DiskStore('x'); s.RedisStore; assert 'redis' not in sys.modules")
    assert ended.returncode == 0, ended.stderr


# -- what is in it


def test_a_socket_file_and_a_database_of_its_own(redis_server: RedisServer, store: RedisStore) -> None:
    with contextlib.closing(RedisStore(f"unix://{redis_server.file}?db=1")) as other:
        other.set("key", "of 1", ttl=60)
        assert (store.get("key"), other.get("key")) == (None, "of 1")


def test_values_are_as_on_disk_and_names_say_nothing(
    redis_server: RedisServer, store: RedisStore, catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    catalog({"first": server.openai("first")}, modules={"scorer": {"temperature": 0}})
    server.script("first", Reply("answer-canary"))
    kept: list[bytes] = []
    with contextlib.closing(DiskStore("disk")) as disk:
        for each in (store, disk):
            with Router(store=each) as router:
                assert [router.complete("prompt-canary", module="scorer").cached for _ in range(2)] == [False, True]
        found = redis_server.keys()
        (name,) = (name for name in found if b":value:" in name)
        key = name.rpartition(b":")[2].decode()
        disk.set(key, store.get(key), ttl=60)
        (file,) = Path("disk").glob("db-*/cache.db")
        with contextlib.closing(sqlite3.connect(file)) as database:
            kept = [value.encode() for (value,) in database.execute("SELECT value FROM Cache WHERE key = ?", (key,))]
    assert kept == [found[name]]
    assert all(name.startswith(b"modelrouter:{1}:") for name in found)
    assert b"canary" not in b"".join(found)
    assert CANARY.encode() not in repr(found).encode()
    assert b"prompt-canary" not in repr(found).encode()


class Trap:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("sprung",)


@pytest.mark.parametrize(
    ("planted", "why"),
    [
        (("SET", pickle.dumps(Trap())), "refused_value"),
        (("SET", b"\xff" * 20), "refused_value"),
        (("SET", b'00000000"somebody else\'s"'), "damaged_value"),
        (("SET", b""), "damaged_value"),
        (("RPUSH", b"a list"), "refused_value"),
    ],
)
def test_a_planted_value_is_refused_and_overwritten(
    redis_server: RedisServer, store: RedisStore, planted: tuple[str, bytes], why: str
) -> None:
    redis_server.ask(planted[0], "modelrouter:{1}:value:key", planted[1])
    with pytest.raises(StoreError) as caught:
        store.get("key")
    assert caught.value.reason == why
    assert caught.value.__context__ is None, "which may quote it"
    store.set("key", "value", ttl=60)
    assert store.get("key") == "value"
    assert not Path("sprung").exists()


def test_a_value_under_another_key_is_none_of_it(redis_server: RedisServer, store: RedisStore) -> None:
    store.set("one", "value", ttl=60)
    redis_server.ask("RENAME", "modelrouter:{1}:value:one", "modelrouter:{1}:value:two")
    assert reason(lambda: store.get("two")) == "damaged_value"


def test_planted_books_are_refused(redis_server: RedisServer, store: RedisStore) -> None:
    redis_server.ask("HSET", "modelrouter:{1}:book:b", "spent", "a lot")
    redis_server.ask("SET", "modelrouter:{1}:book:c", "text")
    assert reason(lambda: store.counts(["b"])) == reason(lambda: store.counts(["a", "c"])) == "refused_value"
    assert reason(lambda: store.count({"a": {"x": 1}, "c": {"x": 1}}, once="1", ttl=60)) == "refused_value"
    assert store.counts(["a"])["a"].get("x", 0) == 0
    with pytest.raises(StoreError):
        store.reserve("one", 1, {"b": 5}, ttl=60)


# -- who shares it


def test_another_process_is_given_the_answer_and_adds_to_the_same_books(
    redis_server: RedisServer,
    catalog: WriteCatalog,
    server: ScriptedServer,
    keys: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    catalog({"first": server.openai("first")}, modules={"scorer": {"temperature": 0}})
    monkeypatch.setenv("MODELROUTER_STORE", redis_server.url)
    with Router() as router:
        assert not router.complete("France?", module="scorer").cached
    ended = run("import modelrouter; assert modelrouter.complete('France?', module='scorer').cached")
    assert ended.returncode == 0, ended.stderr
    with contextlib.closing(default_store()) as store:
        (both,) = spend.by(spend.lines(store, spend.last(2)), lambda line: line.module).values()
    assert (both.requests, both.misses, both.hits) == (1, 1, 1)
    assert cli.main(["cache", "stats", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["store"], shown["entries"], shown["modules"]["scorer"]["hits"]) == (redis_server.url, 1, 1)
    assert cli.main(["cache", "clear", "--module", "scorer", "--yes"]) == 0
    assert capsys.readouterr().err == "1 deleted.\n"


def test_threads_and_forks_each_have_connections_of_their_own(redis_server: RedisServer) -> None:
    ended = run(FORKS, redis_server.url)
    assert ended.returncode == 0, ended.stderr


FORKS = """
import os, sys, threading
from modelrouter.store import RedisStore, connections
connections.LIMIT = 10.0

store, done = RedisStore(sys.argv[1]), threading.Event()
wrong = []

def work(name, rounds):
    for number in range(rounds):
        if done.is_set():
            break
        store.set(f"{name} {number % 7}", [name, number], ttl=60)
        if store.get(f"{name} {number % 7}") != [name, number]:
            wrong.append(name)

threads = [threading.Thread(target=work, args=(name, 10**9)) for name in "abcd"]
for thread in threads:
    thread.start()
children = []
for number in range(6):
    if (child := os.fork()) == 0:
        try:
            work(f"child {number}", 50)
            os._exit(bool(wrong))
        finally:
            os._exit(1)
    children.append(child)
failed = [os.waitpid(child, 0)[1] for child in children]
done.set()
for thread in threads:
    thread.join()
sys.exit(f"{failed} {wrong}" if any(failed) or wrong else 0)
"""


def test_an_interrupted_operation_leaves_no_reply_for_the_next(store: RedisStore) -> None:
    store.set("one", 1, ttl=60)
    store.set("two", 2, ttl=60)

    def interrupted(redis: Any) -> None:
        redis.send_command("GET", "modelrouter:{1}:value:one")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store._use(interrupted)
    assert store.get("two") == 2


def test_on_a_cluster_all_of_it_is_on_one_node(needs_program: Callable[[str], str], tmp_path: Path) -> None:
    node = RedisServer(needs_program("redis-server"), tmp_path, cluster=True)
    with node, contextlib.closing(RedisStore(node.url)) as store:
        store.set("key", "value", ttl=60, tag="m")
        store.count({"a": {SPENT: 5}, "b": {"x": 1}}, once="1", ttl=60)
        assert store.reserve("one", 3, {"a": 10, "b": 9}, ttl=60) == {"a": Balance(5), "b": Balance()}
        store.renew(["one"], ttl=60)
        store.count({"a": {SPENT: 1}}, once="2", ttl=60, release=["one"])
        assert store.counts(["a", "b"]) == {"a": {SPENT: 6}, "b": {"x": 1}}
        assert (store.get("key"), store.stats(tag="m").entries, store.clear(tag="m")) == ("value", 1, 1)
        node.ask("CLUSTER", "DELSLOTS", node.ask("CLUSTER", "KEYSLOT", modelrouter.store.redis.PREFIX))
        assert reason(lambda: store.get("key")) == "cluster_down"


# -- what can happen to it


@pytest.mark.parametrize(
    ("setting", "why", "can_read"),
    [
        (["CONFIG", "SET", "maxmemory", 1], "out_of_memory", True),
        (["REPLICAOF", "127.0.0.1", 1], "read_only", True),
        (["ACL", "SETUSER", "poor", "on", ">pw", "~modelrouter:*", "+@read"], "no_permission", True),
        (["ACL", "SETUSER", "poor", "on", ">pw", "~theirs:*", "+@all"], "no_permission", False),
        (["ACL", "SETUSER", "poor", "on", ">another"], "refused_login", False),
        (["ACL", "SETUSER", "poor", "off", ">pw"], "refused_login", False),
    ],
    ids=str,
)
def test_what_the_server_refuses(
    redis_server: RedisServer, store: RedisStore, no_rest: None, setting: list[object], why: str, can_read: bool
) -> None:
    store.set("key", "value", ttl=60)
    redis_server.ask(*setting)
    asking = store if setting[0] != "ACL" else RedisStore(redis_server.url.replace("//", "//poor:pw@"))
    try:
        assert reason(lambda: asking.set("key", "new", ttl=60)) == why
        assert reason(lambda: asking.count({"a": {"x": 1}}, once="1", ttl=60, release=["r"])) == why
        assert reason(lambda: asking.reserve("one", 1, {"a": 1}, ttl=60)) == why
        if can_read:
            assert asking.get("key") == "value", "what is wrong with writing is nothing to reading"
        else:
            assert reason(lambda: asking.get("key")) == why
    finally:
        asking.close()
        redis_server.ask("ACL", "DELUSER", "poor")
        redis_server.reset()
    store.count({"a": {"x": 1}}, once="1", ttl=60)
    assert store.counts(["a"]) == {"a": {"x": 1}}


NONSENSE = {
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "always yes": b"+OK\r\n",
    "a number that is none": b":many\r\n",
    "a list in a list in a list": b"*1\r\n" * 5000,
    "a value that never comes": b"$100\r\n",
    "no end": None,
    "the login": b"-ERR unknown command, with args beginning with: `%s`\r\n" % PASSWORD.encode(),
}


@pytest.mark.heavy
@pytest.mark.parametrize("login", ["", f"teller:{SENT}@"], ids=["no login", "login"])
@pytest.mark.parametrize("says", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_an_error_within_the_limits(
    says: bytes | None, login: str, no_rest: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What has no end is given up for its length, where there is time.
    monkeypatch.setattr(connections, "PATIENCE", 3600.0 if says is None else 0.2)
    monkeypatch.setattr(connections, "MOST", 2**24)
    with babbler(says) as port, contextlib.closing(RedisStore(f"redis://{login}127.0.0.1:{port}/2")) as store:
        operations: list[Callable[[], object]] = [
            lambda: store.get("key"),
            lambda: store.set("key", 1, ttl=60),
            lambda: store.count({"a": {"x": 1}}, once="1", ttl=60),
            lambda: store.counts(["a"]),
            lambda: store.reserve("one", 1, {"a": 1}, ttl=60),
            store.stats,
            store.clear,
        ]
        for operation in operations:
            with pytest.raises(StoreError) as caught:
                operation()
            assert caught.value.__context__ is caught.value.__cause__ is None
            assert "canary" not in str(caught.value)


@pytest.mark.heavy
def test_where_nobody_accepts_it_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modelrouter.store.redis, "REST", 3600.0)
    with never_accepts() as port, contextlib.closing(RedisStore(f"redis://127.0.0.1:{port}")) as store:
        assert reason(lambda: store.get("key")) == "timeout"
        monkeypatch.setattr(connections, "LIMIT", 3600.0)
        assert reason(lambda: store.get("key")) == reason(lambda: store.counts(["b"])) == "timeout", "it waited again"


def test_after_a_rest_one_call_tries_and_the_others_go_on_without(
    redis_server: RedisServer, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.set("key", "value", ttl=60)
    monkeypatch.setattr(modelrouter.store.redis, "REST", 0.0)
    monkeypatch.setattr(modelrouter.store.redis, "TRY", 3600.0)
    redis_server.stop()
    assert reason(lambda: store.get("key")) == "unreachable"
    redis_server.start()
    redis_server.hang()
    with ThreadPoolExecutor(1) as pool:
        trying = pool.submit(store.get, "key")
        while store._rest is not None and store._rest[0] <= time.monotonic():
            time.sleep(0.001)
        assert reason(lambda: store.get("key")) == "unreachable", "it did not wait for the other"
        redis_server.go_on()
        assert trying.result() is None
    store.set("key", "again", ttl=60)
    assert store.get("key") == "again"


def test_a_server_that_was_restarted_meanwhile_is_asked_anew(redis_server: RedisServer, store: RedisStore) -> None:
    store.set("key", "value", ttl=60)
    redis_server.stop()
    redis_server.start()
    assert store.get("key") is None
    assert store.reserve("one", 1, {"b": 1}, ttl=60) == {"b": Balance()}


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "it never came about"
        time.sleep(0.01)


@contextlib.contextmanager
def load(router: Router, how: str) -> Iterator[list[str]]:
    """Eight callers, who ask nine questions again and again; what they were answered."""
    done = threading.Event()
    answers: list[str] = []

    def ask() -> None:
        while not done.is_set():
            answers.append(router.complete(f"question {len(answers) % 9}").text)

    async def ask_too() -> None:
        while not done.is_set():
            answers.append((await router.acomplete(f"question {len(answers) % 9}")).text)

    async def ask_all() -> None:
        await asyncio.gather(*(ask_too() for _ in range(8)))

    with ThreadPoolExecutor(8) as pool:
        callers = [pool.submit(ask) for _ in range(8)] if how == "threads" else [pool.submit(asyncio.run, ask_all())]
        try:
            yield answers
        finally:
            done.set()
        for caller in callers:
            caller.result()


@pytest.mark.parametrize("how", ["threads", "tasks"])
@pytest.mark.parametrize(
    ("kind", "reasons"),
    [
        ("stopped", {"unreachable"}),
        ("hung", {"timeout"}),
        ("restarted", {"unreachable"}),
        ("nonsense", {"unreachable", "nonsense"}),
    ],
)
def test_no_call_fails_whatever_happens_to_it_in_the_middle_of_a_load(
    kind: str,
    reasons: set[str],
    how: str,
    redis_server: RedisServer,
    impatient: None,
    catalog: WriteCatalog,
    server: ScriptedServer,
    registry: CollectorRegistry,
    keys: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    catalog({"first": server.openai("first")})
    monkeypatch.setattr(modelrouter.store.redis, "REST", 1.0)
    met: list[Exception] = []
    failed = RedisStore._failed
    monkeypatch.setattr(RedisStore, "_failed", lambda self, error: (met.append(error), failed(self, error))[1])
    with Router(store=RedisStore(redis_server.url), registry=registry) as router:
        with load(router, how) as answers:
            wait_for(lambda: len(answers) > 50)
            began = time.monotonic()
            with redis_server.trouble(kind):
                before = len(answers)
                wait_for(lambda: len(answers) > before + 50)
            rests = time.monotonic() - began
            redis_server.ask("FLUSHALL")
            wait_for(lambda: any(b":value:" in name for name in redis_server.ask("KEYS", "*")))
        assert set(answers) == {"ok"}
        with Router(store=RedisStore(redis_server.url)) as other:
            assert any(other.complete(f"question {number}").cached for number in range(9)), "it is not shared again"
    counted = registry.get_sample_value("llm_cache_requests_total", {"module": "default", "result": "error"}) or 0
    logged = [r.getMessage() for r in caplog.records if "cache_failed" in r.getMessage()]
    assert {line.partition("reason=")[2].partition(":")[0] for line in logged} <= reasons
    assert len(set(logged)) == len(logged), "each is logged once"
    if kind != "restarted":  # which may be over before anybody has noticed
        assert logged
        assert counted > 0
    # Those who were under way with it, and the one that writes the books; then one at a time.
    assert len(met) <= 9 + 2 * (rests + 2)


def test_a_hanging_server_blocks_no_event_loop(
    redis_server: RedisServer, store: RedisStore, catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    catalog({"first": server.openai("first")})

    async def main() -> bool:
        async with Router(store=store) as router:
            await router.acomplete("?")
            redis_server.hang()
            asking = asyncio.create_task(router.acomplete("?"))
            for _ in range(100):
                await asyncio.sleep(0)
            redis_server.go_on()  # which a blocked loop would come to when the time limit is over
            return (await asking).cached

    assert asyncio.run(main())


# -- nothing secret


def test_the_password_is_nowhere(
    redis_server: RedisServer,
    with_password: str,
    no_rest: None,
    catalog: WriteCatalog,
    server: ScriptedServer,
    keys: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    catalog({"first": server.openai("first")})
    said: list[object] = []
    for address in (with_password, with_password.replace("teller", "nobody")):
        monkeypatch.setenv("MODELROUTER_STORE", address)
        with Router() as router:
            said += [router.complete("?"), router, router.performer, vars(router.performer._cache.store)["_rest"]]
        said += [cli.main(["cache", "stats"]), cli.main(["cache", "clear", "--yes"]), cli.main(["check"])]
        with contextlib.closing(default_store()) as store:
            try:
                store.get("key")
            except StoreError as error:
                shown = traceback.TracebackException.from_exception(error, capture_locals=True)
                frames = traceback.StackSummary.from_list(shown.stack[1:])  # without this test's own
                said += [error, *frames.format()]
    redis_server.ask("ACL", "SETUSER", "nobody", "on", f">{PASSWORD}", "~*", "+@all")
    router.close()  # what could not be counted is, now
    redis_server.ask("ACL", "DELUSER", "nobody")
    said += [capsys.readouterr(), caplog.text, redis_server.keys()]
    assert "refused_login" in str(said)
    assert "canary" not in str(said).replace(CANARY, "")
    assert one_line(f"they said {PASSWORD} and {SENT}", environment.secret_values()) == "they said *** and ***"
