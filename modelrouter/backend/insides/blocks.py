"""The chunks of a stream that was opened without LiteLLM's front: what has come in one go is read without waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any

from modelrouter.backend.said import Said

from .below import Kept
from .listening import hearing, kinds


class _Dry(Exception):
    """No line is left of what has arrived."""


class _Lines:
    """Lines for an iterator of LiteLLM's, which awaits each; none of them is waited for."""

    def __init__(self) -> None:
        self.left: deque[bytes] = deque()
        self.over = False
        self.hear: Callable[[str], str | None] = str

    def __aiter__(self) -> _Lines:
        return self

    async def __anext__(self) -> str:
        while self.left:
            if (heard := self.hear(self.left.popleft().decode(errors="replace"))) is not None:
                return heard
        raise StopAsyncIteration if self.over else _Dry


class Blocks(Kept):
    """The chunks of a response, by LiteLLM's own iterator over its lines, which `read` makes."""

    def __init__(self, response: Any, litellm_model: str, said: Said, read: Callable[[Any], Any]) -> None:
        super().__init__(litellm_model, said)
        self._blocks: AsyncGenerator[bytes, None] = response.aiter_bytes()
        self._lines = _Lines()
        iterator = read(self._lines)
        self._lines.hear = hearing(iterator, said).hear
        self._iterator = aiter(iterator)
        self._begun = b""
        self._failed: Exception | None = None
        self._ended = False

    def at_once(self) -> Any | None:
        while self._failed is None and not self._ended:
            try:
                anext(self._iterator).send(None)
            except StopIteration as got:
                if (chunk := got.value) is not None and not isinstance(chunk, dict):  # else a line that says nothing
                    return self.keep(chunk)
            except StopAsyncIteration:
                self._ended = True
            except _Dry:
                return None
            except Exception as error:  # noqa: BLE001 - it is for `next` to raise
                self._failed = error
        return None

    async def next(self) -> Any:
        while (chunk := self.at_once()) is None:
            if self._failed is not None:
                raise self.failed(self._failed) from self._failed
            if self._ended:
                raise StopAsyncIteration
            await self._more()
        return chunk

    async def aclose(self) -> None:
        await self._blocks.aclose()

    async def _more(self) -> None:
        try:
            block = await anext(self._blocks)
        except StopAsyncIteration:
            block, self._lines.over = b"\n" if self._begun else b"", True
        except Exception as error:  # noqa: BLE001 - httpx's; `next` raises it
            self._ended = self.over(error)
            self._failed = None if self._ended else error
            return
        *lines, self._begun = (self._begun + block).split(b"\n")
        self._lines.left.extend(lines)


def iterator(config: Any, lines: Any) -> Any:
    """LiteLLM's iterator over the lines of a stream."""
    chunks = config.get_model_response_iterator(streaming_response=lines, sync_stream=False, json_mode=False)
    if chunks is None and isinstance(config, _claudes()):  # LiteLLM reads these in a handler
        claudes, _ = kinds()
        chunks = claudes(streaming_response=lines, sync_stream=False, json_mode=False)
    return chunks


def _claudes() -> type[Any]:
    from litellm import AnthropicConfig

    return AnthropicConfig
