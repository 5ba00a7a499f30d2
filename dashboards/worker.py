"""A worker with no HTTP of its own, which serves its metrics: it works through the demonstration's tasks for ever."""

from __future__ import annotations

import itertools
import logging
import os
import time

import modelrouter
from modelrouter.demo import TASKS

log = logging.getLogger("worker")


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000"))
    pause = float(os.environ.get("PAUSE", "15"))  # seconds
    model = None
    with modelrouter.start_metrics_server(port, host) as server:
        log.info("metrics at %s", server.url)
        for number in itertools.count():
            for task in TASKS:
                # Every second round is answered by the cache, so that there is something to see of it.
                cache = "refresh" if number % 2 == 0 else None
                try:
                    modelrouter.complete(task.prompt, system=task.system, module=task.module, model=model, cache=cache)
                except modelrouter.CallFailed as error:
                    log.warning("%s", error)
                    if all(attempt.outcome == "skipped" or attempt.provider == "ollama" for attempt in error.attempts):
                        log.warning("no key is set: the small model on this machine answers from now on")
                        model = "smollm2"
            time.sleep(pause)


if __name__ == "__main__":
    main()
