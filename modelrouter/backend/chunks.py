"""The chunks of a stream, as LiteLLM's wrapper gives them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from .insides import connections, listening
from .said import Said

_NO_END = "Stream ended before a finish_reason"
"""LiteLLM's words, from 1.108.7 on; we say it in ours."""


class Chunks(Protocol):
    """Where the chunks come from, in OpenAI's form."""

    async def next(self) -> Any:
        """The next one. Raises StopAsyncIteration after the last, and else LiteLLM's exceptions."""

    def at_once(self) -> Any | None:
        """The next one, if it has come already."""

    async def aclose(self) -> None:
        """End what reads them; the connection is not theirs."""

    def finish(self) -> str | None:
        """Why the answer ended, in OpenAI's words as far as it has them; empty: nobody said; None: it has not."""

    def said(self) -> Iterable[Any]:
        """The chunks in which the provider may have counted tokens."""

    def whole(self) -> Any:
        """LiteLLM's ``ModelResponse``."""


def is_cut(error: BaseException | None) -> bool:
    """Whether the connection was lost, in httpx's words below those of LiteLLM and OpenAI's client. After the end of an
    answer that does not matter."""
    import httpx

    while error is not None and not isinstance(error, httpx.ReadError | httpx.RemoteProtocolError):
        error = error.__cause__ or error.__context__
    return error is not None


class Wrapped:
    """The chunks of LiteLLM's wrapper, which puts its own estimate of the tokens at the end of a stream without, and
    works out what it cost."""

    def __init__(self, wrapper: Any, said: Said) -> None:
        self._wrapper = wrapper
        self._said_itself = said
        self._kept: list[Any] = []
        self._source: Any = None

    async def next(self) -> Any:
        self._source = getattr(self._wrapper, "completion_stream", None) or self._source  # it lets go of it at the end
        try:
            with connections.watch():
                self._kept.append(chunk := await anext(self._wrapper))
        except Exception as error:
            if _NO_END in str(error) or (is_cut(error) and self.finish() is not None):
                raise StopAsyncIteration from None
            raise
        return chunk

    def at_once(self) -> None:
        return None

    async def aclose(self) -> None:
        await listening.close(self._source)

    def finish(self) -> str | None:
        return self._said_itself.ended(self._finish())

    def _finish(self) -> str | None:
        for name in ("received_finish_reason", "intermittent_finish_reason"):
            if finish := getattr(self._wrapper, name, None):
                return str(finish)
        if hasattr(self._wrapper, "received_finish_reason"):
            return None
        # Not as it was: what the last chunk says may be LiteLLM's own word for an answer that broke off.
        return next((chunk.choices[0].finish_reason for chunk in self._kept[-1:] if chunk.choices), None)

    def said(self) -> Iterable[Any]:
        chunks: list[Any] = getattr(self._wrapper, "chunks", self._kept)
        return chunks

    def whole(self) -> Any:
        import litellm

        with connections.watch():
            return litellm.stream_chunk_builder(self._kept)
