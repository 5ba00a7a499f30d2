"""Connections to a Redis, through redis-py: how an address is read, how long one is waited for, what went wrong.

redis-py's own pool is not used: it hands on a connection that was interrupted between a command and its reply.
"""

from __future__ import annotations

import contextlib
import encodings.idna  # noqa: F401 - the first look-up of a host imports it: not in one thread while another one forks
import re
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, InvalidStateError
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from redis import exceptions
from redis.backoff import NoBackoff
from redis.connection import Connection, parse_url
from redis.retry import Retry

from modelrouter.process.forks import at_fork
from modelrouter.redaction import shown_address

LIMIT = 0.2
"""Seconds to make a connection, login and all, and then for all replies to an operation: a call is waiting."""
PATIENCE = 10.0
"""Seconds for all replies to an operation that no call waits for."""
MOST = 2**28
"""Bytes of all replies to an operation: what is longer has no end."""
IDLE = 32
"""Connections that are kept open for later."""

_OURS: dict[str, Any] = {
    "health_check_interval": 0,
    "retry": Retry(NoBackoff(), 0),
    "retry_on_timeout": False,
    "retry_on_error": [],
    "protocol": 2,
    "decode_responses": False,
    "encoding": "utf-8",
    "encoding_errors": "surrogatepass",
}
"""Whatever the address says."""
_OF_POOLS = ("max_connections", "timeout")

_MEANINGS = {
    r"AuthenticationError|\bNOAUTH\b|\bWRONGPASS\b": ("refused_login", "refuses the login: look at user and password"),
    r"NoPermissionError|\bNOPERM\b": ("no_permission", "does not allow this user the store's commands or keys"),
    r"BusyLoadingError|\bLOADING\b": ("loading", "is still loading its data"),
    r"OutOfMemoryError|\bOOM\b": ("out_of_memory", "has no memory left"),
    r"ReadOnlyError|\bREADONLY\b": ("read_only", "is a replica, which takes no changes"),
    r"MovedError|AskError|\bMOVED\b": ("moved", "has the keys on another node of its cluster: name that one"),
    r"ClusterDownError|\bCLUSTERDOWN\b": ("cluster_down", "is in a cluster of which no node serves the keys now"),
    r"\bMISCONF\b": ("cannot_save", "cannot save its data, and takes no changes until it can"),
    r"\bBUSY\b": ("busy", "is busy with somebody's script"),
    r"\bWRONGTYPE\b|not an integer": ("refused_value", "holds a value that modelrouter has not written"),
    r"": ("refused", "refuses what it is asked"),
}
"""Of errors that a server answers with, by redis-py's exception or by the word that stands in front; that of an error
in a script is inside. The server's own words are not shown: some quote the command that was sent, a login, too."""

_all: weakref.WeakSet[Connections] = weakref.WeakSet()


def _forget_all() -> None:
    for connections in _all:
        connections.forget()


at_fork(in_child=_forget_all)


class Connections:
    """Connections to one address, each for one thread at a time, none over a fork. `str` is the address without user
    and password. Nothing is connected before the first use. Raises ValueError for an address that is none."""

    def __init__(self, address: str) -> None:
        self._make, self._arguments = _read(address)
        self._shown = str(shown_address(address))
        self._free: deque[Any] = deque()
        _all.add(self)

    def __str__(self) -> str:
        return self._shown

    @contextlib.contextmanager
    def one(self, *, patient: bool = False) -> Iterator[Any]:
        """A connection of redis-py's, for `send_command` and `read_response`. Whatever goes wrong meanwhile closes it:
        the next reply might be another command's."""
        connection = self._take()
        connection.limit(PATIENCE if patient else LIMIT)
        try:
            yield connection
        except BaseException:
            connection.disconnect()
            raise
        if len(self._free) < IDLE:
            self._free.append(connection)
        else:
            connection.disconnect()

    def _take(self) -> Any:
        while (connection := self._idle()) is not None:
            connection.limit(LIMIT)
            with contextlib.suppress(exceptions.RedisError):
                if not connection.can_read():  # what could be read now is its end, or nothing that was asked for
                    return connection
            connection.disconnect()
        return self._open()

    def _idle(self) -> Any:
        try:
            return self._free.pop()
        except IndexError:
            return None

    def _open(self) -> Any:
        """A new connection. A thread makes it: asking for names has no time limit of its own, and each of several
        addresses has one."""
        connection = self._make(**self._arguments)
        made: Future[None] = Future()

        def connect() -> None:
            try:
                connection.limit(LIMIT)
                connection.connect()
                made.set_result(None)
            except InvalidStateError:  # nobody waits any more
                connection.disconnect()
            except BaseException as error:  # noqa: BLE001 - it is for who waits
                with contextlib.suppress(InvalidStateError):
                    made.set_exception(error)

        try:
            threading.Thread(target=connect, name="modelrouter-redis", daemon=True).start()
        except RuntimeError:  # the interpreter is at its end
            connect()
        try:
            made.result(LIMIT)
        except TimeoutError:
            if not made.cancel():  # it was done at the last moment
                connection.disconnect()
            raise exceptions.TimeoutError from None
        except BaseException:
            made.cancel()
            connection.disconnect()
            raise
        return connection

    def forget(self) -> None:
        """Let go of them: they are the parent's."""
        self._free.clear()

    def close(self) -> None:
        """Close those that nobody uses."""
        while (connection := self._idle()) is not None:
            connection.disconnect()


def _read(address: str) -> tuple[Any, dict[str, Any]]:
    """What makes a connection to an address, with its arguments."""
    with contextlib.suppress(Exception):  # whatever redis-py makes of it; what it says may quote a password
        parts = urlsplit(address)
        # Of a password with a special character in it, a part would be a port, a path or an option.
        if not parts.fragment and (parts.scheme == "unix" or re.fullmatch(r"/?\d*", parts.path)):
            parse_qsl(parts.query, strict_parsing=bool(parts.query))
            arguments: dict[str, Any] = parse_url(address)  # type: ignore[no-untyped-call]
            kind = arguments.pop("connection_class", Connection)
            arguments = {name: said for name, said in arguments.items() if name not in _OF_POOLS} | _OURS
            arguments |= dict.fromkeys(("socket_timeout", "socket_connect_timeout"), LIMIT)
            make = type("Limited", (_Limited, kind), {})
            make(**arguments)
            return make, arguments
    raise ValueError(
        "is none of a Redis: write redis://user:password@host:6379/0, rediss://... or unix:///path?db=0, "
        "with %40 for @ in a password and so on"
    )


class _Limited:
    """A connection whose replies have to be there in time as a whole: redis-py begins anew with every byte."""

    _sock: Any
    _until = 0.0

    def limit(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        if self._sock is not None:
            self._sock.until, self._sock.left = self._until, MOST
            self._sock.settimeout(seconds)

    def _connect(self) -> Any:
        return _Socket(super()._connect(), self._until)  # type: ignore[misc]  # of the class that this is mixed into


class _Socket:
    """A socket that is read until a certain time, and no more than so many bytes."""

    def __init__(self, socket: Any, until: float) -> None:
        self._socket = socket
        self.until = until
        self.left = MOST

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def recv(self, *arguments: Any) -> Any:
        self._check()
        received = self._socket.recv(*arguments)
        self.left -= len(received)
        return received

    def recv_into(self, *arguments: Any) -> Any:  # hiredis's way
        self._check()
        received = self._socket.recv_into(*arguments)
        self.left -= received
        return received

    def _check(self) -> None:
        if time.monotonic() > self.until or self.left < 0:
            raise TimeoutError


def meaning(error: Exception) -> tuple[str, str]:
    """A short name of what went wrong, and what the server does."""
    if isinstance(error, exceptions.ResponseError | exceptions.AuthenticationError | exceptions.BusyLoadingError):
        said = f"{type(error).__name__} {error}"
        return next(what for pattern, what in _MEANINGS.items() if re.search(pattern, said))
    if isinstance(error, exceptions.TimeoutError):
        return "timeout", "does not answer in time"
    if isinstance(error, exceptions.ConnectionError):
        why = error.__context__
        said = f" ({why.strerror})" if isinstance(why, OSError) and why.strerror else ""
        return "unreachable", f"cannot be reached{said}"
    return "nonsense", "gives replies that are none of a Redis"
