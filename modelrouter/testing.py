"""Test your own fallbacks without a network: models that answer, fail, hang and break off as a script says.

::

    from modelrouter.testing import Answer, Error, ScriptedProvider

    with ScriptedProvider({"claude-sonnet": 529, "gpt-6.1-sol": "71"}) as provider:
        answer = modelrouter.complete("Score this offer: ...", module="scorer")
    assert answer.fallback
    assert provider.requests[-1].model == "gpt-6.1-sol"

Only the providers are played. Catalog, chains, retries, time limits, metering and errors are the real ones, for every
router, thread and event loop of the process. The fixtures for pytest are in ``modelrouter.pytest_plugin``.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, replace
from http.client import responses
from typing import Any, Self, TypeAlias

from .backend import current as backends
from .backend.abilities import denied
from .backend.failures import classify
from .catalog.prices import own_price
from .catalog.target import Target
from .completion import Kind, ToolCall, Usage
from .hints import hinting, nearest
from .planning import health
from .planning.exchange import Failure, Obstacle, Piece, Reply, Request
from .router import default

__all__ = [
    "Answer",
    "Error",
    "Kind",
    "Script",
    "ScriptedProvider",
    "SentRequest",
    "ToolCall",
    "UnexpectedCall",
    "Usage",
    "no_real_calls",
]


class UnexpectedCall(AssertionError):
    """A call was about to reach a model that the test has nothing planned for.

    It is no failure of a provider's, so no fallback hides it, and none of modelrouter's errors. Where the code under
    test has swallowed it, it is raised again at the end of the ``with`` block or of the fixture.
    """

    reported = False
    """The test has failed with it, so that it is not raised again."""


@dataclass(frozen=True, slots=True)
class Error:
    """A request that fails.

    `what` is an HTTP status from 400 to 599, which means what it means from a real provider (the message counts too:
    400 with "does not support tools" is `unsupported`), or a kind of the README's table: ``Error("timeout")``.
    """

    what: int | str
    message: str | None = None
    """What the provider says."""
    _: KW_ONLY
    retry_after: float | None = None
    """Seconds that the provider asks to wait."""
    delay: float = 0.0
    """Seconds before it comes."""

    def __post_init__(self) -> None:
        if isinstance(self.what, int):
            if not 400 <= self.what < 600:
                raise ValueError(f"Error({self.what}): a status from 400 to 599 is an error.")
        elif self.what not in (kinds := [kind for kind in Kind if kind is not Kind.CANCELLED]):
            raise ValueError(f"Error({self.what!r}): neither a status nor a kind of error. Kinds: {', '.join(kinds)}.")

    def failure(self, target: Target) -> Failure:
        """What comes of it when it is this model's."""
        if isinstance(self.what, int):
            return replace(classify(_Raised(self.what, self), target, ()), raised=None)
        if self.what == Kind.CONNECTION and self.message is None:
            return replace(classify(ConnectionError("connection refused"), target, ()), raised=None)
        kind = Kind(self.what)
        return Failure(kind, self.message or f"a scripted {kind}", retry_after=self.retry_after)


class _Raised(Exception):
    """As much of LiteLLM's exceptions as is looked at to classify them."""

    def __init__(self, status: int, error: Error) -> None:
        super().__init__(error.message or responses.get(status, "Overloaded"))
        self.status_code = status
        self.litellm_response_headers = {"retry-after": error.retry_after}


@dataclass(frozen=True, slots=True)
class Answer:
    """A request that is answered."""

    text: str = ""
    _: KW_ONLY
    pieces: Sequence[str] = ()
    """The text as a stream has it, in place of `text`, which is streamed word by word."""
    tool_calls: Sequence[ToolCall] = ()
    usage: Usage | None = None
    """None: a token for each word of the messages and of the answer."""
    finish_reason: str | None = None
    """None: ``tool_calls`` when there are any, else ``stop``."""
    delay: float = 0.0
    """Seconds before the answer, or before a stream's first piece."""
    gap: float = 0.0
    """Seconds between two pieces of a stream."""
    cut_after: int | None = None
    """So many pieces of a stream come, then `cut`. An answer that is not streamed is `cut` as a whole."""
    cut: Error = Error(Kind.CONNECTION, "server disconnected")

    def __post_init__(self) -> None:
        if self.pieces and self.text:
            raise ValueError("Answer: the text is given as text or as pieces, not as both.")
        if isinstance(self.pieces, str):
            raise TypeError("Answer: pieces= takes a list of strings.")


Entry: TypeAlias = Answer | Error | Kind | str | int
Script: TypeAlias = Entry | Sequence[Entry]
"""A text is an `Answer`, a number (a status) and a `Kind` are an `Error`. A single entry is for every request; a list
has one for each, retries included, and a request beyond its end is an `UnexpectedCall`."""


def _entry(entry: Entry) -> Answer | Error:
    if isinstance(entry, Answer | Error):
        return entry
    # A Kind is a string as well.
    return Error(entry) if isinstance(entry, Kind | int) else Answer(entry)


@dataclass(frozen=True, slots=True)
class SentRequest:
    """A request that reached a model."""

    model: str
    """The catalog's name."""
    litellm_model: str
    messages: tuple[Mapping[str, Any], ...]
    params: Mapping[str, Any]
    """LiteLLM's parameters: the call's, the model's and the module's."""
    stream: bool


class ScriptedProvider:
    """Plays all providers within a ``with`` block, in synchronous and asynchronous code.

    Args:
        scripts: By model: the catalog's name (not an alias), else LiteLLM's string, else that without its provider;
            ``"*"`` is for all others. A model without a script is an `UnexpectedCall`.
        missing_keys: Variables that count as not set, such as ``{"OPENAI_API_KEY"}``: their models are skipped. All
            others count as set, whatever the environment says.
        cache: Whether answers are remembered and looked for, in the router's own store.

    LiteLLM is not loaded: what a model can do and costs is what the catalog says, and ``answer.response`` is None.
    Delays take their time, the pauses between two tries of a model do not. No model is set aside when the block begins,
    nor when it ends, and `modelrouter.configure` holds no longer than the block.
    """

    @hinting
    def __init__(
        self, scripts: Mapping[str, Script] | None = None, *, missing_keys: Iterable[str] = (), cache: bool = False
    ) -> None:
        self.requests: list[SentRequest] = []
        """All that were sent, in order."""
        self.missing_keys = set(missing_keys)
        self.remembers = cache
        self._lock = threading.Lock()
        self._scripts: dict[str, Iterator[Answer | Error]] = {}
        self._unexpected: list[UnexpectedCall] = []
        for model, script in (scripts or {}).items():
            self.script(model, script)

    def script(self, model: str, script: Script) -> None:
        """Give a model a script, in place of the one that it has."""
        if isinstance(script, Answer | Error | str | int):
            entries: Iterator[Answer | Error] = itertools.repeat(_entry(script))
        else:
            entries = iter([_entry(entry) for entry in script])
        with self._lock:
            self._scripts[model] = entries

    def __enter__(self) -> Self:
        self._before = backends.use(self), default._default
        health.forget()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        made = default._default
        backend, default._default = self._before
        backends.use(backend)
        health.forget()
        if made is not None and made is not default._default:
            made.close()
        swallowed = [unexpected for unexpected in self._unexpected if not unexpected.reported]
        if error is None and swallowed:
            raise swallowed[0]

    # It is a `Backend`
    waits = False
    alone = staticmethod(bool)  # of any target

    def ready(self) -> bool:
        """Whether a request can be sent at once."""
        return True

    def load(self) -> None:
        """There is nothing to load."""

    async def warm(self) -> None:
        """There is nothing to warm up."""

    def obstacle(self, target: Target, request: Request) -> Obstacle | None:
        """The key that is played to be missing, where the model needs it; what the catalog says that it has not."""
        if target.key_required and target.key_env in self.missing_keys:
            return Obstacle(Kind.MISSING_KEY, f"{target.key_env} is not set", target.key_env)
        return Obstacle(Kind.UNSUPPORTED, why) if (why := denied(target, request)) is not None else None

    price = staticmethod(own_price)

    def takes(self, target: Target, name: str, value: Any) -> bool:
        """Whether the catalog does not say that the model cannot."""
        return denied(target, Request((), {name: value})) is None

    def able(self, target: Target, ability: str) -> bool:
        """Whether the catalog says that the model can do it."""
        return target.supports.get(ability, False)

    def context_window(self, target: Target) -> int | None:
        """The catalog's."""
        return target.context_window

    async def send(self, target: Target, request: Request, *, within: float) -> Reply | Failure:
        """Answer as the script says."""
        entry = await self._take(target, request, within, stream=False)
        if isinstance(entry, Failure):
            return entry
        return _Stream(target, request, entry).whole() if entry.cut_after is None else entry.cut.failure(target)

    async def open(
        self, target: Target, request: Request, *, within: float, thinking: bool = False
    ) -> Piece | Reply | Failure:
        """Begin a stream as the script says."""
        del thinking  # there is no reasoning in it
        entry = await self._take(target, request, within, stream=True)
        if isinstance(entry, Failure):
            return entry
        return await _Stream(target, request, entry).next(within - entry.delay)

    async def _take(self, target: Target, request: Request, within: float, *, stream: bool) -> Answer | Failure:
        messages = copy.deepcopy(request.messages)
        with self._lock:
            self.requests.append(SentRequest(target.name, target.litellm_model, messages, dict(request.params), stream))
            names = (target.name, target.litellm_model, target.label, "*")
            name = next((name for name in names if name in self._scripts), None)
            entry = None if name is None else next(self._scripts[name], None)
            if entry is None:
                self._unexpected.append(UnexpectedCall(self._why(target, name)))
                raise self._unexpected[-1]
        if (late := await _pass(entry.delay, within)) is not None:
            return late
        return entry.failure(target) if isinstance(entry, Error) else entry

    def _why(self, target: Target, name: str | None) -> str:
        model = f"{target.name!r} ({target.litellm_model})"
        if name is not None:
            return (
                f"the script of {name!r} is used up, and one more request came for {model}.\n"
                "  A list has one entry for each request, retries included; a single entry is for all of them."
            )
        if not self._scripts:
            return (
                f"a call would have reached {model}, and no real calls are allowed here.\n"
                f"  Script it: with ScriptedProvider({{{target.name!r}: 'its answer'}}), from modelrouter.testing."
            )
        match = nearest(target.name, self._scripts)
        return (
            f"a call would have reached {model}, which has no script.{f' Did you mean {match!r}?' if match else ''}\n"
            f"  Scripted: {', '.join(self._scripts)}. A script goes by the catalog's name, not by an alias."
        )


class _Stream:
    """An answer that is being streamed: as the one of LiteLLM's. Nothing of it comes in one go."""

    at_once = staticmethod(lambda: None)

    def __init__(self, target: Target, request: Request, answer: Answer) -> None:
        self._target = target
        self._answer = answer
        self._pieces = answer.pieces or re.findall(r"\S+\s*|\s+", answer.text)
        self._taken = 0
        words = sum(len(str(message.get("content") or "").split()) for message in request.messages)
        self._usage = answer.usage or Usage(words, len("".join(self._pieces).split()))

    async def next(self, within: float) -> Piece | Reply | Failure:
        """The next piece, the whole answer after the last one, or what breaks it."""
        broken = await _pass(self._answer.gap if self._taken else 0, within)
        if broken is None and self._taken == self._answer.cut_after:
            broken = self._answer.cut.failure(self._target)
        if broken is not None:
            return replace(broken, usage=self.used(), estimated=True) if self._taken else broken
        if self._taken == len(self._pieces):
            return self.whole()
        self._taken += 1
        return Piece(self._pieces[self._taken - 1], self)

    async def close(self) -> None:
        """There is no connection to close."""

    def used(self) -> Usage:
        """Of the output, as large a part as of the pieces has come."""
        output = self._usage.output_tokens * self._taken // len(self._pieces)
        return replace(self._usage, output_tokens=output, reasoning_tokens=min(output, self._usage.reasoning_tokens))

    def whole(self) -> Reply:
        """All of it."""
        text, calls = "".join(self._pieces), tuple(self._answer.tool_calls)
        return Reply(text, self._usage, self._answer.finish_reason or ("tool_calls" if calls else "stop"), calls)


async def _pass(seconds: float, within: float) -> Failure | None:
    """Let so many seconds pass; the failure of whoever has fewer."""
    await asyncio.sleep(min(seconds, within))
    return Failure.timeout(within) if seconds > within else None


@contextmanager
def no_real_calls() -> Iterator[None]:
    """Have every call that would reach a provider raise `UnexpectedCall`, with a key set or not. A `ScriptedProvider`
    within goes before it."""
    with ScriptedProvider():
        yield
