"""Free ports, and addresses where nobody answers, or where what answers makes no sense."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

__all__ = ["babbler", "free_port", "never_accepts", "refused_port"]


def free_port() -> int:
    """A loopback port that nobody has at the moment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def refused_port() -> Iterator[int]:
    """A loopback port that refuses connections: bound, so that nobody else gets it, but never listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextmanager
def never_accepts() -> Iterator[int]:
    """A loopback port whose queue of connections is full: the next one neither succeeds nor fails."""
    with ExitStack() as sockets:
        listening = sockets.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port = listening.getsockname()[1]
        for _ in range(64):
            filler = sockets.enter_context(socket.socket())
            filler.setblocking(False)
            if not _connects(filler, port):
                break
        else:
            raise RuntimeError("this system took 64 connections into a queue of none")
        yield port


def _connects(filler: socket.socket, port: int, patience: float = 0.05) -> bool:
    """Whether the connection is made within `patience` seconds; on loopback one that can be made is made at once."""
    until = time.monotonic() + patience
    while True:
        code = filler.connect_ex(("127.0.0.1", port))
        if code in (0, errno.EISCONN):
            return True
        if time.monotonic() > until:
            return False
        time.sleep(0.01)


@contextmanager
def babbler(says: bytes | None, port: int = 0) -> Iterator[int]:
    """Answers whatever is asked with this; with None, for ever. Gives its port."""

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while connection.recv(65536):
                connection.sendall(says or b"")
                while says is None:
                    connection.sendall(b"\0" * 65536)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", port)) as listening:
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        accepting.join()
