"""The backend that the routers of this process ask."""

from __future__ import annotations

from .litellm import LiteLLM
from .protocol import Backend

LITELLM = LiteLLM()
_current: Backend = LITELLM


def current() -> Backend:
    """The one of the moment."""
    return _current


def use(backend: Backend) -> Backend:
    """Put a backend in the place of the one of before, which is returned."""
    global _current
    before, _current = _current, backend
    return before
