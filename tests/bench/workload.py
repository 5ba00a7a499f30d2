"""``python -m tests.bench.workload``: what remembering answers saves, by the kind of traffic.

Streams of prompts are sent to a local server, through the cache and past it. What repeats in each stream is stated with
it; how long an answer takes does not matter here, and the prices are 1 and 4 dollars per million tokens. It is the same
at every run.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from itertools import accumulate
from pathlib import Path
from random import Random

from modelrouter.catalog.overrides import Environment, Overrides
from modelrouter.cli.screen import Screen, usd
from tests.bench.measure import local_server

CALLS = 1000
"""Of each stream."""

_CATALOG = """
models:
  bench: {{model: openai/bench, api_base: "{address}/v1", price: {{input: 1, output: 4}}}}
modules:
  default: {{chain: [bench], retries: 0}}
"""


@dataclass(frozen=True)
class Stream:
    """Prompts in the order in which an application sends them."""

    name: str
    law: str
    """What repeats in it."""
    prompts: Sequence[str]


def streams(random: Random) -> list[Stream]:
    """Four kinds of traffic."""
    examples = [f"example {number}" for number in range(CALLS // 4)]
    return [
        Stream(
            "evaluation",
            f"a set of {len(examples)} examples is run 4 times; in each further run 1 example in 10 was edited",
            [_edited(random, prompt, run) for run in range(4) for prompt in examples],
        ),
        Stream(
            "batch work",
            "a batch ends in an error at 4 tenths and is begun anew; 1 document in 10 is there twice",
            _restarted(random, int(CALLS / 1.4)),
        ),
        Stream(
            "popular inputs",
            f"{CALLS} different inputs by Zipf's law: the n-th most frequent one comes with weight 1/n",
            _zipf(random, CALLS, range(CALLS)),
        ),
        Stream(
            "live user text",
            "people write in their own words: 1 message in 25 is one of 20 that many write, by Zipf's law",
            _live(random),
        ),
    ]


def _edited(random: Random, prompt: str, run: int) -> str:
    return f"{prompt}, as of run {run}" if run and random.random() < 0.1 else prompt


def _restarted(random: Random, size: int) -> list[str]:
    documents = (random.randrange(number + 1) if random.random() < 0.1 else number for number in range(size))
    batch = [f"document {number}" for number in documents]
    return batch[: CALLS - size] + batch


def _zipf(random: Random, count: int, of: range) -> list[str]:
    weights = list(accumulate(1 / (rank + 1) for rank in range(len(of))))
    return [f"input {number}" for number in random.choices(of, cum_weights=weights, k=count)]


def _live(random: Random) -> list[str]:
    common = iter(_zipf(random, CALLS, range(20)))
    return [next(common) if random.random() < 0.04 else f"message {number}" for number in range(CALLS)]


@dataclass(frozen=True)
class Bill:
    """What a stream came to."""

    sent: int
    """Requests that reached the model."""
    cost: Decimal


def run(ask: Callable[[str], tuple[bool, Decimal]], prompts: Sequence[str]) -> Bill:
    """Ask all of them, one after the other."""
    answers = [ask(prompt) for prompt in prompts]
    return Bill(sum(not cached for cached, _ in answers), sum((cost for _, cost in answers), Decimal(0)))


@contextlib.contextmanager
def asking(address: str, folder: Path) -> Iterator[Callable[..., tuple[bool, Decimal]]]:
    """A router's `complete`: whether the answer was a remembered one, and what it cost."""
    import modelrouter
    from modelrouter.store.disk import DiskStore

    catalog = folder / "models.yaml"
    catalog.write_text(_CATALOG.format(address=address))
    alone = Environment(Overrides("LLM_"))
    with modelrouter.Router(catalog, settings=alone, store=DiskStore(folder / "cache")) as router:

        def ask(prompt: str, cache: bool) -> tuple[bool, Decimal]:
            answer = router.complete(prompt, cache=cache)
            assert answer.cost_usd is not None
            return answer.cached, answer.cost_usd

        yield ask


def main() -> int:
    os.environ["OPENAI_API_KEY"] = "none"
    screen, rows = Screen(), []
    found = streams(Random(4))
    with local_server() as address:
        for stream in found:
            with tempfile.TemporaryDirectory() as folder, asking(address, Path(folder)) as ask:
                without = run(partial(ask, cache=False), stream.prompts)
                with_it = run(partial(ask, cache=True), stream.prompts)
            rate = f"{1 - with_it.sent / len(stream.prompts):.0%}"
            rows.append(
                (stream.name, f"{without.sent:,}", f"{with_it.sent:,}", rate, usd(without.cost), usd(with_it.cost))
            )
    headings = ("TRAFFIC", "SENT", "WITH THE CACHE", "HIT RATE", "COST", "WITH IT")
    screen.table(headings, rows, right=headings[1:])
    screen.say("\n".join(["", *(f"{stream.name}: {stream.law}" for stream in found)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
