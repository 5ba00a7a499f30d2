"""A server without a wire format: every path is answered with what the test says, byte for byte."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Self

__all__ = ["RawServer"]


class RawServer:
    """Connections are kept alive, and the open ones are counted: those that a client has left behind show here."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        """What each request sent, parsed, in the order of arrival."""
        self.headers: list[Mapping[str, str]] = []
        """Of each request; names in lower case."""
        self._changed = threading.Condition()
        self._open = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"raw": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.says({})

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def says(self, body: Any, status: int = 200, *, cut: bool = False, **headers: str) -> None:
        """From now on every request is answered so, and what came before is forgotten. `body`: text as it is, anything
        else as JSON; `cut`: more is announced, and the connection is closed instead; `headers`: ``retry_after="2"`` is
        ``Retry-After: 2``."""
        self.bodies.clear()
        self.headers.clear()
        text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
        self.answer = status, text.encode(), {name.replace("_", "-"): value for name, value in headers.items()}
        self.missing = int(cut)

    def wait_until_left(self, timeout: float = 5.0) -> int:
        """How many connections are still open once all are closed, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._open == 0, timeout)
            return self._open

    def changed(self, by: int) -> None:
        with self._changed:
            self._open += by
            self._changed.notify_all()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    raw: ClassVar[RawServer]
    protocol_version = "HTTP/1.1"  # keeps the connection
    disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement

    def setup(self) -> None:
        self.raw.changed(1)
        super().setup()

    def finish(self) -> None:
        super().finish()
        self.raw.changed(-1)

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.raw.bodies.append(json.loads(sent) if sent else None)
        self.raw.headers.append({name.lower(): value for name, value in self.headers.items()})
        status, body, headers = self.raw.answer
        self.send_response(status)
        size = str(len(body) + self.raw.missing)
        for name, value in ({"Content-Type": "application/json", "Content-Length": size} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.close_connection or bool(self.raw.missing)

    do_GET = do_POST  # noqa: N815 - the standard library's name

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
        """Nothing on stderr."""
