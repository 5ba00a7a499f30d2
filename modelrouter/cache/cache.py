"""Remembered answers: under which key one is kept, what is kept of it, and how it comes back.

What a store does, or has, never fails a call: the result says ``error``, and each kind of failure is logged once.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, TypeVar

from modelrouter import environment
from modelrouter.catalog.target import Target
from modelrouter.completion import ToolCall, Usage
from modelrouter.errors import StoreError
from modelrouter.parameters import having
from modelrouter.planning.exchange import Remembered, Reply, Request
from modelrouter.store.default import default_store
from modelrouter.store.memory import NullStore
from modelrouter.store.store import Store

logger = logging.getLogger("modelrouter")

T = TypeVar("T")

VERSION = 1
"""Of keys and of values: what another version has kept is not looked at."""

# -- keys


def key(target: Target, request: Request, *, extra: str | None = None) -> str | None:
    """Under which key this model's answer to this request is kept: 64 characters, the same in every process. None: the
    request has something in it that has no JSON form, so no answer to it is kept.

    `request` is what is sent, the model's own parameters included (`Call.request_to`); `extra` is the caller's own. In
    it are the model, its address, the messages and all parameters but those that cannot change the answer, each level's
    names in any order; not the address of a gateway, through which a model is the same. Headers are in it, as some
    change the answer: one that differs from call to call, such as a trace's, makes every call a miss. It is a digest,
    so no header can be read from it; API keys are not in it at all.
    """
    if target.api_base is None and not target.own_address:
        return None  # elsewhere, and only LiteLLM knows where
    if target.provider == "embedded":
        extra = f"{environment.gguf()} {extra}"  # other weights, other answers
    labelled = target.own_address and target.gateway is None
    ignored = having("unkeyed") | having("label") if labelled else having("unkeyed")
    asked = [
        VERSION,
        target.litellm_model,
        target.api_base,
        request.messages,
        {name: value for name, value in request.params.items() if value is not None and name not in ignored},
        extra,
    ]
    try:
        text = _canonical.encode(asked)
    except Exception:  # noqa: BLE001 - whatever is wrong with an object of the caller's, the provider will say it
        return None
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """A JSON form for what is sent as JSON and is none yet."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, type):
        return {"schema of": _schema(value)}
    return value.model_dump(mode="json")


@functools.lru_cache(maxsize=256)
def _schema(model: Any) -> Any:
    return model.model_json_schema()


# ASCII, because a lone half of a surrogate pair has no other form.
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain)


# -- values


def encode(reply: Reply, cost: Decimal | None, *, module: str, now: float) -> dict[str, Any]:
    """A complete answer as a JSON value. `now` is the wall-clock time.

    Raises whatever the response raises when it has no JSON form.
    """
    usage = reply.usage
    response = reply.response() if callable(reply.response) else reply.response
    if response is not None:
        # As text within: a hit has no need to parse it before somebody asks for the response.
        response = json.dumps(response.model_dump(warnings=False), allow_nan=False, separators=(",", ":"))
    return {
        "version": VERSION,
        "text": reply.text,
        # A version that does not know of the last reads the others.
        "usage": usage and [*usage.counts, *filter(None, [usage.cache_write_long_tokens])],
        "finish_reason": reply.finish_reason,
        "tool_calls": [[call.id, call.name, call.arguments] for call in reply.tool_calls],
        "other": reply.other,
        "estimated": reply.estimated,
        "cost_usd": None if cost is None else str(cost),
        "stored_at": now,
        "module": module,
        "response": response,
    }


def decode(value: Any, *, rebuild: Callable[[dict[str, Any]], Any]) -> Remembered:
    """The answer in a value that `encode` has made. `rebuild` makes LiteLLM's response of its JSON form, when asked.

    Raises StoreError for anything else: another version's, or not an answer at all.
    """
    match value:
        case {
            "version": int(version),
            "text": str(text),
            "usage": None | [int(), int(), int(), int(), int()] | [int(), int(), int(), int(), int(), int()] as usage,
            "finish_reason": None | str() as finish_reason,
            "tool_calls": list(calls),
            "other": bool(other),
            "estimated": bool(estimated),
            "cost_usd": None | str() as cost,
            "stored_at": int() | float() as stored_at,
            "module": str(module),
            "response": None | str() as response,
        } if version == VERSION and math.isfinite(stored_at):
            reply = Reply(
                text=text,
                usage=None if usage is None else Usage(*usage),
                finish_reason=finish_reason,
                tool_calls=tuple(map(_tool_call, calls)),
                other=other,
                estimated=estimated,
                response=None if response is None else _Kept(rebuild, response),
            )
            return Remembered(reply, _cost(cost), float(stored_at), module)
    raise StoreError("unreadable_answer", "a value in the store is no answer that this version of modelrouter knows.")


class _Kept:
    """A kept response: called, it is LiteLLM's again; its ``body`` needs no LiteLLM."""

    def __init__(self, rebuild: Callable[[dict[str, Any]], Any], text: str) -> None:
        self._rebuild = rebuild
        self._text = text

    def __call__(self) -> Any:
        return self._rebuild(self.body)

    @property
    def body(self) -> Any:
        return json.loads(self._text)


def _tool_call(value: Any) -> ToolCall:
    match value:
        case [str(id_), str(name), str(arguments)]:
            return ToolCall(id_, name, arguments)
    raise StoreError("unreadable_answer", "an answer in the store has a tool call that is none.")


def _cost(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        if (cost := Decimal(text)) >= 0 and cost.is_finite():
            return cost
    except ArithmeticError:
        pass
    raise StoreError("unreadable_answer", "an answer in the store has a cost that is none.")


# -- the store, which may fail


@dataclass(frozen=True, slots=True)
class Found:
    """What looking for an answer gave."""

    result: Literal["hit", "miss", "error"]
    answer: Remembered | None = None
    """With a hit."""


class Cache:
    """Answers in a store. No failure of the store's is raised; each kind is logged once."""

    def __init__(self, store: Store | None, *, rebuild: Callable[[dict[str, Any]], Any]) -> None:
        self._given = store
        self._rebuild = rebuild
        self._logged: set[str] = set()

    @functools.cached_property
    def store(self) -> Store:
        """That which was given, or the process's own, which is made when it is first used: where it is stands in the
        environment. Raises InvalidEnvironment when that is wrong."""
        if self._given is not None:
            return self._given
        try:
            return default_store()
        except StoreError as error:
            self._fails(error)
            return NullStore()

    def close(self) -> None:
        """Close the store. It opens again when it is used."""
        if "store" in vars(self):
            self.store.close()

    def read(self, key: str, *, ttl: float, now: float) -> Found:
        """Look for an answer that is less than `ttl` seconds old. `now` is the wall-clock time.

        One from the future, after the clock was set back, is not taken: nobody knows its age.
        """
        found = self._try(
            lambda: None if (value := self.store.get(key)) is None else decode(value, rebuild=self._rebuild)
        )
        if found is None:
            return Found("error")
        (answer,) = found
        return Found("hit", answer) if answer is not None and 0 <= now - answer.stored_at < ttl else Found("miss")

    def write(self, key: str, reply: Reply, cost: Decimal | None, *, ttl: float, module: str, now: float) -> bool:
        """Keep a complete answer for `ttl` seconds; its tag in the store is the module. False: there was an error."""
        kept = self._try(lambda: self.store.set(key, encode(reply, cost, module=module, now=now), ttl=ttl, tag=module))
        return kept is not None

    def count(
        self, changes: Mapping[str, Mapping[str, int]], *, once: str, ttl: float, release: Collection[str]
    ) -> bool:
        """Add to the store's books, as `Ledger.count`. False: there was an error."""
        return self._try(lambda: self.store.count(changes, once=once, ttl=ttl, release=release)) is not None

    def _try(self, operation: Callable[[], T]) -> tuple[T] | None:
        """What it gives, alone in a tuple; None when it fails, which is logged."""
        try:
            return (operation(),)
        except Exception as error:  # noqa: BLE001 - a store must not fail a call
            self._fails(error)
        return None

    def _fails(self, error: Exception) -> None:
        if isinstance(error, StoreError):
            # Only our own messages are known to be without secrets: a server's address may have its password in it.
            reason, said = error.reason, f" {error}"
        else:
            reason, said = type(error).__name__, ""
        if reason not in self._logged:
            self._logged.add(reason)
            logger.warning("cache_failed reason=%s: calls go on without it.%s", reason, said)
