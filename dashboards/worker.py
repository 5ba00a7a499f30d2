"""A worker with no HTTP of its own, which serves its metrics: it works through the demonstration's message for ever."""

from __future__ import annotations

import itertools
import logging
import os
import time

import dspy
from dspy.utils.exceptions import AdapterParseError

import modelrouter
from modelrouter.cli.demo import MESSAGE, PROFILE, RECRUITER, SMALL
from modelrouter.dspy.pipeline import get_pipeline

log = logging.getLogger("worker")


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000"))
    pause = float(os.environ.get("PAUSE", "15"))  # seconds
    overrides = {}
    with modelrouter.start_metrics_server(port, host) as server:
        log.info("metrics at %s", server.url)
        for number in itertools.count():
            # Every second round is answered by the cache, so that there is something to see of it.
            pipeline = get_pipeline(cache="refresh" if number % 2 == 0 else True, **overrides)
            with modelrouter.track() as spent:
                try:
                    fit = pipeline(message=MESSAGE, recruiter_name=RECRUITER, profile=PROFILE).fit
                    log.info("%d of 100: %s, for %s US dollars", fit.score, fit.verdict, spent.total.cost_usd)
                except AdapterParseError as error:
                    log.warning("an answer has not the form that was asked for: %s", error)
                except dspy.LMError as error:
                    log.warning("%s", error)
                    if all(tried.outcome == "skipped" or tried.provider == "ollama" for tried in error.attempts):
                        log.warning("no key is set: the small model on this machine answers from now on")
                        overrides = {"model": "smollm2", **SMALL}
            time.sleep(pause)


if __name__ == "__main__":
    main()
