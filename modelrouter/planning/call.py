"""One call: whom it may ask, for what, within which limits; and what it may ask about the world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, Protocol

from modelrouter.catalog.target import Budget, ModuleSettings, Target
from modelrouter.completion import Completion, Kind, Usage
from modelrouter.parameters import having

from .exchange import Obstacle, Request


class Facts(Protocol):
    """What a plan asks about the world. Synchronous and quick; nothing here sends a request."""

    def obstacle(self, target: Target, request: Request) -> Obstacle | None:
        """Why this model cannot answer this request, or None."""

    def set_aside(self, target: Target, now: float) -> Kind | None:
        """Why it keeps failing, so that it is asked after the others; None: it is asked now, maybe to find out whether
        it answers again."""

    def context_window(self, target: Target) -> int | None:
        """Tokens; None when it is not known."""

    def capped(self) -> bool:
        """Whether the code around the call has set it a limit of what may be spent."""

    def cost(self, target: Target, usage: Usage | None) -> Decimal | None:
        """US dollars; None when it is not known."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a plan is made for."""

    module: str
    chain: tuple[Target, ...]
    request: Request
    settings: ModuleSettings
    timeout: float | None = None
    """Seconds for one attempt, said by the call itself: before the model's own and the module's."""
    stream: bool = False
    thinking: bool = False
    """Whether a stream hands on the model's reasoning too, as `Thinking`, and what is remembered as `Recalled`."""
    budgets: tuple[Budget, ...] = ()
    """What each of its requests has to fit into."""
    gate: Callable[[Completion[Any]], Any] | None = None
    """What an answer has to pass."""
    cache: Literal["use", "refresh", "off"] = "off"
    cache_extra: str | None = None
    """The caller's own part of the key of a remembered answer."""

    def gate_with(self, others: int) -> Callable[[Completion[Any]], Any] | None:
        """What an answer has to pass, when so many `others` can be asked after the model."""
        return None if self.settings.accept_last and not others else self.gate

    def timeout_of(self, target: Target) -> float:
        return self.timeout or self.usual_timeout_of(target)

    def usual_timeout_of(self, target: Target) -> float:
        """Without what the call itself says."""
        return target.timeout or self.settings.timeout

    def request_to(self, target: Target) -> Request:
        """The request with what module, model and call say, the later before the earlier. A model's own max_tokens is a
        cap."""
        params: dict[str, Any] = {}
        if self.settings.temperature is not None:
            params["temperature"] = self.settings.temperature
        limits = [limit for limit in (self.settings.max_tokens, target.max_tokens) if limit is not None]
        params |= target.params
        own = self.request.optional & target.params.keys()
        params |= {name: value for name, value in self.request.params.items() if name not in own}
        if limits and not params.keys() & having("tokens"):
            params["max_tokens"] = min(limits)
        settled = frozenset(params.keys() - self.request.params.keys() | own)
        given = self.request
        return Request(
            given.messages, params, given.parse, optional=given.optional - own, mends=given.mends, settled=settled
        )


class Candidate:
    """A model of the chain in a call: what is worked out about the two together, once."""

    key: str | None = None
    """Of its remembered answer, once that was looked for and not found."""
    highest: dict[bool, Decimal | None]
    """Price of a request, as `Reserve` has it."""
    _request: Request | None = None
    checked = False
    """Its obstacle has been looked up. False again: more may be known of the model now."""
    _obstacle: Obstacle | None = None

    def __init__(self, call: Call, target: Target) -> None:
        self.call = call
        self.target = target
        self.highest = {}

    @property
    def request(self) -> Request:
        """What the model is sent."""
        if self._request is None:
            self._request = self.call.request_to(self.target)
        return self._request

    def obstacle(self, facts: Facts) -> Obstacle | None:
        """What keeps the model from answering, looked up once."""
        if not self.checked:
            self._obstacle = facts.obstacle(self.target, self.request)
            self.checked = True
        return self._obstacle
