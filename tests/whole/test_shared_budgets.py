"""A budget under attack: many processes, threads and tasks that share a store, and some that are killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal

import pytest
from conftest import WriteCatalog
from servers import Hang, Reply, ScriptedServer

from modelrouter.metering import budgets
from modelrouter.metering.money import dollars
from modelrouter.store.default import default_store

PRICE = {"input": 1, "output": 1000}
ANSWER = Reply("fine", input_tokens=10, output_tokens=10)
COST = Decimal("0.01001")
"""Of such an answer; its highest price is a little more, for a prompt of a few dozen bytes."""
ANSWERS = 20
BUDGET = {"usd": 0.202, "per": "month"}
"""For so many answers, and not for one more."""

ATTACK = """
import asyncio, sys
from concurrent.futures import ThreadPoolExecutor
import modelrouter.store.connections
from modelrouter import BudgetExceeded, Router

modelrouter.store.connections.LIMIT = 10.0  # on a busy machine a Redis that is well may take longer than its usual time
router, how, number = Router(), sys.argv[1], int(sys.argv[2])

def call(_):
    try:
        return router.complete("hi", cache=False).model
    except BudgetExceeded:
        return "refused"

async def calls():
    async def call():
        try:
            return (await router.acomplete("hi", cache=False)).model
        except BudgetExceeded:
            return "refused"
    return await asyncio.gather(*(call() for _ in range(number)))

router.warm_up()
print("ready", flush=True)
sys.stdin.readline()
if how == "threads":
    with ThreadPoolExecutor(number) as pool:
        got = list(pool.map(call, range(number)))
else:
    got = asyncio.run(calls())
router.close()
print(*got, flush=True)
"""


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a process that attacks, and waits until it is ready to."""
    with ExitStack() as stack:

        def start(how: str, number: int = 16) -> subprocess.Popen[str]:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", ATTACK, how, str(number)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            return process

        yield start


def attack(processes: list[subprocess.Popen[str]]) -> list[str]:
    """The models that have answered, or "refused"."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [word for process in processes for word in process.communicate(timeout=120)[0].split()]


pytestmark = pytest.mark.usefixtures("shared_store")


@pytest.mark.parametrize("how", ["threads", "tasks"])
def test_the_server_never_sees_more_than_the_budget_and_calls_that_wait_get_the_rest(
    server: ScriptedServer, catalog: WriteCatalog, start: Start, how: str
) -> None:
    catalog({"a": server.openai("a", price=PRICE)}, max_tokens=10, budget=BUDGET)
    server.script("a", ANSWER)
    got = attack([start(how) for _ in range(4)])
    assert len(got) == 64
    answers = got.count("a")
    assert answers == len(server.ledger)
    assert ANSWERS - 1 <= answers <= ANSWERS


def test_with_a_free_model_at_the_end_of_the_chain_every_call_is_answered(
    server: ScriptedServer, catalog: WriteCatalog, start: Start
) -> None:
    models = {"a": server.openai("a", price=PRICE), "free": server.ollama("free", price="free")}
    catalog(models, max_tokens=10, budget=BUDGET)
    server.script("a", ANSWER)
    got = attack([start("threads"), start("tasks"), start("threads"), start("tasks")])
    assert set(got) == {"a", "free"}
    assert ANSWERS - 1 <= got.count("a") <= ANSWERS
    assert sum(request.model == "a" for request in server.ledger) == got.count("a")


def test_what_a_killed_process_held_is_free_again_and_what_it_spent_is_not(
    server: ScriptedServer, catalog: WriteCatalog, start: Start, shared_store: Callable[[float], None]
) -> None:
    catalog({"a": server.openai("a", price=PRICE)}, max_tokens=10, budget=BUDGET)
    server.script("a", ANSWER, ANSWER, Hang())
    process = start("threads", 5)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go\n")
    process.stdin.flush()
    store = default_store()
    book = budgets._name("default", "month", budgets.window("month", time.time())[0])

    def standing() -> tuple[Decimal, Decimal]:
        balance = store.reserve("", 0, {book: 0}, ttl=0)[book]
        return dollars(balance.spent), dollars(balance.reserved)

    until = time.monotonic() + 60
    while (standing()[0] != 2 * COST or not standing()[1] > 3 * COST) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    spent, reserved = standing()
    assert spent == 2 * COST
    assert reserved > 3 * COST
    shared_store(budgets.LEASE)
    assert standing() == (2 * COST, 0)
    assert budgets.LEASE < 60
    store.close()
