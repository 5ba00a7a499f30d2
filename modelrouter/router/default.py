"""The guide's own names, as thin handles on the router: what ``from app.llm import get_llm_provider`` was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelrouter.types import Completion

from .performer import announce
from .router import get_router
from .streams import AsyncStream

__all__ = ["Provider", "get_llm_provider", "get_module_provider"]


@dataclass(frozen=True)
class Provider:
    """A module, or a pinned model, to ask again and again. Asynchronous, as in the guide."""

    module: str | None = None
    model: str | None = None

    async def complete(self, prompt: str | None = None, **arguments: Any) -> Completion:
        """`Router.acomplete` with this module and model; the arguments of the call go before them."""
        return await get_router().acomplete(prompt, **self._with(arguments))

    def stream(self, prompt: str | None = None, **arguments: Any) -> AsyncStream:
        """`Router.astream` with this module and model."""
        return get_router().astream(prompt, **self._with(arguments))

    def _with(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"module": self.module, "model": self.model} | arguments


def get_llm_provider(provider_type: str | None = None, model: str | None = None) -> Provider:
    """The default chain; or one provider and model: ``("openai", "gpt-4")``, ``("ollama", "mymodel")``,
    ``("openai",)``.

    Raises:
        UnknownModel: no such provider, or no model can be made out.
    """
    catalog = get_router().catalog
    pinned = catalog.provider_model(provider_type, model) if provider_type or model else None
    announce(catalog.resolve(None, pinned).chain[0])
    return Provider(model=pinned)


def get_module_provider(module: str) -> Provider:
    """What ``complete(module=...)`` calls, as a handle. Raises `UnknownModule` here, not at the first call."""
    announce(get_router().catalog.resolve(module).chain[0])
    return Provider(module=module)
