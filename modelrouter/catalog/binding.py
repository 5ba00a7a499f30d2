"""One file and one environment, put together: whom each module calls, how, and which line or variable says so."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Any

from modelrouter.errors import InvalidCatalog, InvalidEnvironment, Problem, UnknownModel

from . import budgeting
from .catalog import Catalog
from .mistakes import check, prefixes_of
from .names import Names
from .overrides import Environment, Overrides, read
from .schema import BudgetEntry, CacheEntry
from .target import Budget, ModuleSettings, Resolved, Target
from .yaml_lines import dotted

_SOON = timedelta(days=30)
"""How long before a model's retirement one is warned."""
_NONE = ("max_tokens", "temperature", "budget", "baseline", "accept")
"""Settings of which a module can have none, whatever default has."""


def load(data: bytes, *, shown: str, environment: Environment | None = None) -> Catalog:
    """The catalog in `data`, in this environment; None: in the process's. `shown` is its path as messages show it.

    Raises InvalidCatalog with every problem that the file has, and InvalidEnvironment with all variables that are
    wrong, or name what is not there.
    """
    return _Binding(data, shown, environment).catalog()


@dataclass(frozen=True, slots=True)
class _Chain:
    targets: tuple[Target, ...]
    source: str
    split: tuple[float, ...] = ()
    """Weights of the first of them."""

    def then(self, more: Sequence[Target], source: str) -> _Chain:
        """The same with `more` behind it; a model that is in it already is not asked twice."""
        if not more:
            return self
        chain = {target.name: target for target in (*self.targets, *more)}
        return replace(self, targets=tuple(chain.values()), source=f"{self.source}, {source}")


class _Binding:
    """One file and one environment, put together."""

    def __init__(self, data: bytes, shown: str, environment: Environment | None) -> None:
        self._file, self._document = check(data, shown)
        self._shown = shown
        prefixes = prefixes_of(self._file)
        self._environment = environment or read(prefixes.values())
        levels = self._environment.modules
        self._general = self._environment.default
        self._own = {name: levels.get(prefix, Overrides(f"{prefix}_LLM_")) for name, prefix in prefixes.items()}
        self._names, self._problems = Names.of(self._file, shown, self._environment)

    def catalog(self) -> Catalog:
        fallbacks = self._fallbacks(self._general)
        pinned = self._pin_of_all()
        modules = {
            name: self._resolved(name, chain)
            for name in self._file.modules
            if (chain := self._chain(name, pinned, fallbacks)) is not None
        }
        if self._problems:
            raise InvalidEnvironment(sorted(dict.fromkeys(self._problems), key=lambda problem: problem.where))
        if unbounded := dict.fromkeys(each for resolved in modules.values() for each in budgeting.unbounded(resolved)):
            raise InvalidCatalog(self._shown, [self._misfit(*each) for each in unbounded])
        warnings = (*self._shadowed(pinned, modules), *_retired(modules.values()), *self._environment.warnings)
        return Catalog(self._names, modules, warnings)

    # -- whom to call

    def _pin_of_all(self) -> _Chain | None:
        """What LLM_PROVIDER and LLM_MODEL put in every chain's place, or OLLAMA_MODEL where nothing else names any."""
        if pinned := self._pin(self._general):
            return pinned
        named = any(level.provider or level.model for level in (self._general, *self._own.values()))
        if self._environment.ollama_model is None or named:
            return None
        return _Chain((self._names.pair("ollama", None),), "OLLAMA_MODEL")

    def _pin(self, level: Overrides, near: str | None = None) -> _Chain | None:
        if level.provider is None and level.model is None:
            return None
        variable = level.prefix + ("MODEL" if level.model else "PROVIDER")
        try:
            return _Chain((self._names.pair(level.provider, level.model, near=near),), variable)
        except UnknownModel as error:
            self._problem(variable, error)
            return None

    def _fallbacks(self, level: Overrides) -> list[Target]:
        found = []
        for name in level.fallbacks or ():
            try:
                found.append(self._names.get(name))
            except UnknownModel as error:
                self._problem(f"{level.prefix}FALLBACKS", error)
        return found

    def _problem(self, variable: str, error: Exception) -> None:
        self._problems.append(Problem(variable, " ".join(str(error).split())))

    def _chain(self, name: str, pinned: _Chain | None, fallbacks: Sequence[Target]) -> _Chain | None:
        own = self._own[name]
        chain = self._pin(own, self._general.provider)
        if chain is None and (own.provider or own.model):
            return None  # it names what is not there
        if chain is None:
            chain = pinned or self._chain_in_file(name)
            if pinned or name == "default" or not self._file.modules[name].chain:
                chain = chain.then(fallbacks, "LLM_FALLBACKS")
        return chain.then(self._fallbacks(own), f"{own.prefix}FALLBACKS")

    def _chain_in_file(self, name: str) -> _Chain:
        entry = self._file.modules[name]
        holder = name if entry.chain or name == "default" else "default"
        # Whoever has a chain of its own is not split as default is.
        splitting = name if entry.chain or "split" in entry.model_fields_set else "default"
        targets: dict[str, Target] = {}
        weights: dict[str, float] = {}
        source = self._at("modules", holder, "chain", inherited=holder != name)
        if (split := self._file.modules[splitting].split) is not None:
            source = f"{self._at('modules', splitting, 'split', inherited=splitting != name)}, {source}"
            for target, weight in zip(map(self._names.get, split), split.values(), strict=True):
                targets[target.name] = target
                weights[target.name] = weights.get(target.name, 0.0) + weight
        for target in map(self._names.get, self._file.modules[holder].chain or ()):
            targets.setdefault(target.name, target)
        return _Chain(tuple(targets.values()), source, tuple(weights.values()))

    # -- how

    def _resolved(self, name: str, chain: _Chain) -> Resolved:
        found = {each.name: next(self._said(name, each.name)) for each in fields(ModuleSettings)}
        sources = MappingProxyType({"chain": chain.source} | {key: source for key, (_, source) in found.items()})
        settings = ModuleSettings(**{key: value for key, (value, _) in found.items()})
        if settings.budget is not None:
            settings = replace(settings, budget=replace(settings.budget, module=name, source=sources["budget"]))
        budgets = tuple(each for each in (settings.budget, self._budget(self._file.budget)) if each is not None)
        return Resolved(name, chain.targets, settings, chain.split, budgets, sources)

    def _misfit(self, budget: Budget, what: str) -> Problem:
        name = budget.module
        path: tuple[str, ...] = ("budget",)
        if name is not None:
            holder = name if "budget" in self._file.modules[name].model_fields_set else "default"
            path = ("modules", holder, "budget")
        return Problem(f"line {self._document.line(path)}", f"{dotted(path)}: {what}")

    def _budget(self, entry: BudgetEntry | None) -> Budget | None:
        if entry is None:
            return None
        return Budget(entry.usd, entry.per, hard=entry.hard, source=self._at("budget"))

    def _said(self, name: str, key: str) -> Iterator[tuple[Any, str]]:
        """What is said about one setting of a module, and where; what counts most comes first."""
        own = self._own[name]
        general, variable = {
            "cache": (self._environment.cache_enabled, "CACHE_ENABLED"),
            "cache_ttl": (self._environment.cache_ttl, "CACHE_TTL"),
        }.get(key, (getattr(self._general, key, None), f"LLM_{key.upper()}"))
        if general is False:  # an operator who turns the cache off means all modules
            yield False, variable
        if getattr(own, key, None) is not None:
            yield getattr(own, key), f"{own.prefix}{key.upper()}"
        if name != "default":
            yield from self._written(name, key)
        if general is not None:
            yield general, variable
        yield from self._written("default", key, inherited=name != "default")
        yield getattr(ModuleSettings(), key), "built in"

    def _written(self, holder: str, key: str, *, inherited: bool = False) -> Iterator[tuple[Any, str]]:
        """What the file says about a setting of `holder` itself."""
        entry = self._file.modules[holder]
        if key in ("cache", "cache_ttl"):
            cache = entry.cache
            if key == "cache" and cache is not None:
                yield cache is not False, self._at("modules", holder, "cache", inherited=inherited)
            elif key == "cache_ttl" and isinstance(cache, CacheEntry):
                yield cache.ttl, self._at("modules", holder, "cache", "ttl", inherited=inherited)
            return
        value = self._budget(entry.budget) if key == "budget" else getattr(entry, key)
        # A written null means: whatever the model's own is, or none.
        if value is not None or (key in entry.model_fields_set and key in _NONE):
            yield value, self._at("modules", holder, key, inherited=inherited)

    def _at(self, *path: str, inherited: bool = False) -> str:
        return f"{self._shown}:{self._document.line(path)}" + (" (default)" if inherited else "")

    # -- what to say about it

    def _shadowed(self, pinned: _Chain | None, modules: Mapping[str, Resolved]) -> Iterator[str]:
        """One sentence with every line of the file that LLM_PROVIDER, LLM_MODEL or OLLAMA_MODEL overrules."""
        if pinned is None:
            return
        shadowed = [
            name
            for name, entry in self._file.modules.items()
            if (entry.chain or entry.split) and not (self._own[name].provider or self._own[name].model)
        ]
        if not shadowed:
            return
        lines = ", ".join(f"{self._at('modules', name, 'chain')} ({name})" for name in shadowed)
        remains = "the only fallbacks that remain are those of LLM_FALLBACKS"
        if alone := [name for name in shadowed if len(modules[name].chain) == 1]:
            remains = "no fallback remains" + ("" if alone == shadowed else f" for {', '.join(alone)}")
        yield (
            f"{pinned.source} ({pinned.targets[0].name}) replaces the chains at {lines}: {remains}. "
            f"LLM_FALLBACKS adds fallbacks; without {pinned.source} the file rules."
        )


def _retired(modules: Collection[Resolved]) -> Iterator[str]:
    """A sentence for each model in a chain that its provider no longer serves, or soon will not."""
    today = datetime.now(UTC).date()
    for target in {target.name: target for module in modules for target in module.chain}.values():
        if target.retired is None or (day := date.fromisoformat(target.retired)) > today + _SOON:
            continue
        names = ", ".join(module.module for module in modules if target in module.chain)
        move = f"; move to {target.successor!r}" if target.successor else ""
        when = "was retired on" if day <= today else "will be retired on"
        yield f"{target.name!r}, in the chain of {names}, {when} {day} by its provider{move}."
