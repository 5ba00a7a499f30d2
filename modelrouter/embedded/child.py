"""The child process of ``server.py``: llama.cpp's server on a loopback port, while standard input stays open.

A script rather than a module of the package, of which it imports nothing. It reads one line of JSON from standard
input (``gguf``, ``api_key``) and, once it answers requests, writes one line to standard output: its address. From then
on it prints nothing. When it cannot start, the reason is on standard error and the exit status is 1.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any


def _end_with_parent() -> None:
    """The pipe breaks when the parent closes it, and just as well when the parent is killed."""
    while os.read(0, 4096):
        pass
    os._exit(0)  # also out of the middle of an answer, which llama.cpp's own exit would wait for


def _serve(gguf: str, api_key: str) -> Any:
    """llama.cpp's server, which answers on threads of its own. Raises RuntimeError when the weights do not load."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = gguf
    params.model_alias = {Path(gguf).stem}  # else answers carry the whole path
    params.api_keys = [api_key]
    params.hostnames = ["127.0.0.1"]
    params.port = 0  # any that is free
    # Tokens of prompt and answer together: what SmolLM2 was trained with. llama.cpp itself keeps to less where weights
    # can do less.
    params.n_ctx = 8192
    # One answer at a time, with the whole context: with several at once each may find the context full half-way.
    params.n_parallel = 1
    # Leave one processor free: llama.cpp's threads wait for each other at every step, and with a thread for each of two
    # processors a second busy process brought 150 tokens a second down to 1 or 2; with one thread 120 became 50.
    # Four at most: memory limits the speed before many help, and a container's share of a large host is not seen here.
    threads = max(1, min((os.cpu_count() or 1) - 1, 4))
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.cache_ram_mib = 0  # not up to 8 GiB of prompts that were answered
    params.warmup = False  # a third of the start, and the first answer warms up as well
    params.offline = True
    params.ui = False
    params.endpoint_slots = False
    params.verbosity = 1  # errors
    return xllamacpp.Server(params)


def main() -> None:
    """Serves until standard input ends."""
    order = json.loads(sys.stdin.buffer.readline())
    watch = threading.Thread(target=_end_with_parent, daemon=True)
    watch.start()
    report = os.dup(1)
    os.dup2(2, 1)  # llama.cpp prints to both
    try:
        server = _serve(order["gguf"], order["api_key"])
    except Exception as error:  # noqa: BLE001 - whatever it is, it is for the parent to tell
        sys.exit(f"{type(error).__name__}: {error}")
    discard = os.open(os.devnull, os.O_WRONLY)
    os.dup2(discard, 1)
    os.dup2(discard, 2)
    os.write(report, f"{server.listening_address}\n".encode())
    os.close(report)
    watch.join()


if __name__ == "__main__":
    main()
