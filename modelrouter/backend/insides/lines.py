"""Streams, line by line as their formats define lines.

LiteLLM has httpx split what comes, which does so wherever `str.splitlines` would: at U+2028 and others that JSON allows
in a string. Versions that split by themselves know no byte order mark, and none knows data of several lines.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import httpx

_BREAKS = re.compile(rb"\xe2\x80[\xa8\xa9]|\xc2\x85|[\x0b\x0c\x1c-\x1e]")
"""In UTF-8, where `str.splitlines` ends a line and the formats do not. Both carry JSON, which may escape them."""
_MARK = b"\xef\xbb\xbf"
_EVENTS = re.compile(rb"\s*(data|event|id|retry)?:")
_ENOUGH = 16
"""Bytes, from which it is seen whether they are events."""


class Response(httpx.Response):
    """A response whose stream comes as whole lines that end at LF, without what any reader would take for an end."""

    async def aiter_bytes(self, chunk_size: int | None = None) -> AsyncGenerator[bytes, None]:
        begun, lines = b"", None
        async with contextlib.aclosing(super().aiter_bytes(chunk_size)) as chunks:  # type: ignore[type-var] # they are
            async for chunk in chunks:
                ready = chunk
                if lines is None:
                    begun += chunk
                    if len(begun) < _ENOUGH and b"\n" not in begun:
                        continue
                    lines, ready = self._lines(begun)
                if said := b"".join(lines.take(ready)):
                    yield said
        lines, ready = (lines, b"") if lines is not None else self._lines(begun)
        if said := b"".join([*lines.take(ready), *lines.rest()]):
            yield said

    def _lines(self, begun: bytes) -> tuple[_Lines, bytes]:
        """What reads the stream, which has begun so, and that without its mark."""
        begun = begun.removeprefix(_MARK)
        typed = "event-stream" in self.headers.get("content-type", "") and begun.lstrip()[:1] not in (b"{", b"[")
        return _Events() if typed or _EVENTS.match(begun) else _Lines(), begun


async def mend(response: httpx.Response) -> None:
    """Have a stream come so: a hook of httpx's clients."""
    if response.is_success and type(response) is httpx.Response:
        response.encoding = "utf-8"  # which is the formats' own, whatever the headers say
        response.__class__ = Response


class _Lines:
    """Lines of JSON, which end at LF alone."""

    def __init__(self) -> None:
        self._begun: list[bytes] = []
        """Of the line that has not ended."""

    def take(self, chunk: bytes) -> Iterator[bytes]:
        """What is ready to be handed on."""
        *lines, begun = chunk.split(b"\n")
        if lines:
            lines[0] = b"".join([*self._begun, lines[0]])
            self._begun = []
        self._begun.append(begun)
        yield from (_escaped(line.replace(b"\r", b" ")) + b"\n" for line in lines)

    def rest(self) -> Iterator[bytes]:
        """What is left when the stream ends."""
        yield _escaped(b"".join(self._begun).replace(b"\r", b" "))


class _Events(_Lines):
    """Server-sent events, handed on as one line of data each: nobody reads another of their fields.

    https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
    """

    def __init__(self) -> None:
        super().__init__()
        self._after_cr = False
        self._data: list[bytes] = []

    def take(self, chunk: bytes) -> Iterator[bytes]:
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        for line in chunk.splitlines(keepends=True):  # bytes end a line at CR, LF and CRLF alone
            self._begun.append(line)
            if line.endswith((b"\r", b"\n")):
                self._after_cr = line.endswith(b"\r")
                whole, self._begun = b"".join(self._begun), []
                yield from self._line(whole.rstrip(b"\r\n"))

    def _line(self, line: bytes) -> Iterator[bytes]:
        if not line:
            yield from self._event()
        elif line.startswith(b"data:"):
            if self._data and _is_whole(self._joined):  # of servers that leave no empty line between events
                yield from self._event()
            self._data.append(_escaped(line[5:].removeprefix(b" ")))

    @property
    def _joined(self) -> bytes:
        return b" ".join(self._data)  # JSON, to which a line's end is a space

    def _event(self) -> Iterator[bytes]:
        if self._data:
            yield b"data: " + self._joined + b"\n\n"
            self._data = []

    def rest(self) -> Iterator[bytes]:
        """The last event, if only the end of its line is missing."""
        yield from self._line(b"".join(self._begun))
        if self._data and _is_whole(self._joined):
            yield from self._event()


def _is_whole(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return data == b"[DONE]"
    return True


def _escaped(line: bytes) -> bytes:
    return _BREAKS.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), line)


def probe() -> None:
    """Look at whether a response can be mended. Raises what is not as it was."""
    response: Any = httpx.Response(200)
    response.encoding = "utf-8"
    response.__class__ = Response
