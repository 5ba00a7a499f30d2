"""Metrics over HTTP: as an ASGI application to mount, and as a small server of its own.

Both are prometheus_client's (gzip, OpenMetrics, ``name[]``), which answer at every path.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from prometheus_client import REGISTRY, CollectorRegistry, make_asgi_app, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from modelrouter.errors import CannotListen, MetricsUnavailable

from .metrics import Metrics, multiprocess

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

METRICS_PATH = "/api/v1/metrics"
"""Where the guide has them."""

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
ASGIApp: TypeAlias = Callable[[Message, Receive, Callable[[Message], Awaitable[None]]], Awaitable[None]]


def metrics_app(*, registry: CollectorRegistry | None = None) -> ASGIApp:
    """An ASGI application with the metrics: ``app.mount("/metrics", metrics_app())`` in FastAPI or Starlette.

    It shows them at every path. In multiprocess mode it shows all processes' series together. `registry`: the one that
    was given to `Router`.

    Raises `MetricsUnavailable` as `Metrics.of` does, and when the directory of multiprocess mode is not there.
    """
    return make_asgi_app(_source(registry))


def start_metrics_server(
    port: int = 8000, host: str = "127.0.0.1", *, registry: CollectorRegistry | None = None
) -> MetricsServer:
    """Serve the metrics from a daemon thread until `close()` is called or the process ends.

    The address is reachable from this machine alone unless `host` says otherwise (``0.0.0.0``: from every network that
    the machine is on, with no password). Port 0 takes a free one: see `url`.

    Raises `CannotListen`, which is an `OSError`, and `MetricsUnavailable` as `metrics_app` does.
    """
    source = _source(registry)
    try:
        server, thread = start_http_server(port, addr=host, registry=source)
    except (OSError, OverflowError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise CannotListen(host=host, port=port, reason=reason, taken=taken) from error
    return MetricsServer(server, thread.join, host)


def mark_worker_dead(pid: int | None = None) -> None:
    """In multiprocess mode, forget what holds only while a worker lives: the models that it had set aside. What it
    counted stays. None: every worker that no longer runs on this machine. Without multiprocess mode: nothing.

    Gunicorn tells when a worker ends; in its gunicorn.conf.py::

        def child_exit(server, worker):
            modelrouter.mark_worker_dead(worker.pid)

    Uvicorn's ``--workers`` and most others do not. There each worker calls ``modelrouter.mark_worker_dead()`` when it
    starts, so that a replacement clears up after its predecessor. Not where processes share the directory across
    containers: each container sees its own processes alone, and would take the others for dead.
    """
    if (variable := multiprocess()) is None:
        return
    files = Path(os.environ[variable]).glob("gauge_live*_*.db")
    known = {int(name) for file in files if (name := file.stem.rpartition("_")[2]).isdecimal()}
    for dead in (other for other in known if not _runs(other)) if pid is None else (pid,):
        mark_process_dead(dead)  # type: ignore[no-untyped-call]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)  # it is somebody else's
    return True


class MetricsServer:
    """A running server of metrics. As a context manager it is closed at the end."""

    def __init__(self, server: WSGIServer, join: Callable[[], None], host: str) -> None:
        self._server = server
        self._join = join
        self.host = host
        self.port = server.server_port

    @property
    def url(self) -> str:
        """Where the metrics are: ``http://127.0.0.1:8000/api/v1/metrics``."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}{METRICS_PATH}"

    def close(self) -> None:
        """Stop serving and give the port back; again: nothing."""
        self._server.shutdown()
        self._join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<MetricsServer {self.url}>"


def _source(registry: CollectorRegistry | None) -> CollectorRegistry:
    """The registry to show."""
    Metrics.of(registry)  # so that the names are there before the first call
    if (variable := multiprocess()) is None:
        return REGISTRY if registry is None else registry
    collected = CollectorRegistry()
    try:
        MultiProcessCollector(collected)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise MetricsUnavailable(
            f"{variable} is {os.environ[variable]!r}, which is not a directory.",
            "Create it, empty, before the processes start, or unset the variable.",
        ) from error
    return collected
