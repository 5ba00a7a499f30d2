"""Whom to call: every module's chain and settings, and every model by its names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType

from modelrouter.errors import InvalidRequest, UnknownModule

from .names import Names
from .target import Resolved


class Catalog:
    """What models.yaml and the environment say, together. It never changes.

    Nothing is worked out anew for a call: to look a module up costs the same among ten models as among ten thousand.
    """

    def __init__(self, names: Names, modules: Mapping[str, Resolved], warnings: Sequence[str]) -> None:
        self.path = names.path
        """Where it is from, as messages show it."""
        self.modules = tuple(modules)
        """The names of the modules, in the order of the file."""
        self.models = names.models
        """Name -> model."""
        self.aliases = names.aliases
        """Alias -> the name of a model, or a LiteLLM string."""
        self.warnings = tuple(warnings)
        """What an operator should know, each a whole sentence."""
        self._names = names
        self._modules = modules
        self._pinned = lru_cache(maxsize=1024)(self._pin)

    def resolve(self, module: str | None = None, model: str | Sequence[str] | None = None) -> Resolved:
        """The chain and the settings of `module`, by default ``default``; with `model`, that chain in its place.

        Raises UnknownModule, UnknownModel, and InvalidRequest when `model` is neither a name nor a list of names.
        """
        name = "default" if module is None else str(module)
        resolved = self._modules.get(name)
        if resolved is None:
            raise UnknownModule(name, self.path, self.modules)
        if model is None:
            return resolved
        wanted: tuple[object, ...] = (model,) if isinstance(model, str) else tuple(model)
        if not wanted or not all(isinstance(each, str) and each for each in wanted):
            raise InvalidRequest(f"model: expected a name, or a list of at least one name, got {model!r}.")
        return self._pinned(name, wanted)

    def _pin(self, module: str, wanted: tuple[str, ...]) -> Resolved:
        chain = {target.name: target for target in map(self._names.get, wanted)}
        resolved = self._modules[module]
        sources = MappingProxyType({**resolved.sources, "chain": "call"})
        return replace(resolved, chain=tuple(chain.values()), split=(), sources=sources)

    def provider_model(self, provider: str | None, model: str | None) -> str:
        """The name, for ``resolve(model=...)``, of what the two mean together, or either alone.

        Raises UnknownModel, and InvalidRequest when both are None, or one of them no text.
        """
        if not provider and not model:
            raise InvalidRequest("name a provider, a model or both.")
        for what, name in (("provider", provider), ("model", model)):
            if not isinstance(name, str | None):
                raise InvalidRequest(f"the {what} is named by a string, not by {type(name).__name__}.")
        return self._names.pair(provider or None, model or None).name
