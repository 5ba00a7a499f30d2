"""config/models.yaml: found, checked, and bound to the environment into a `Catalog`, which says whom a module calls.

`find` -> `CatalogSource.read` -> `parse` -> `Draft.bind` -> `Catalog.resolve`. What is wrong in the file is found by
`parse`, all of it at once; what is wrong in the environment, by `bind`. After that nothing is worked out anew: a
module's chain and settings are looked up, at the same cost in a catalog of ten models or of ten thousand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType
from typing import Any

from modelrouter.errors import InvalidCatalog, InvalidEnvironment, InvalidRequest, UnknownModel, UnknownModule
from modelrouter.types import Environment, ModuleSettings, Overrides, Problem, Resolved, Target

from .mistakes import check, prefix_of
from .names import Names
from .schema import CacheEntry, CatalogFile
from .yaml_lines import LARGEST, Document

__all__ = ["Catalog", "CatalogSource", "Draft", "find", "parse"]

_SOON = timedelta(days=30)
"""How long before a model's retirement one is warned."""


# -- where it is


@dataclass(frozen=True, slots=True)
class CatalogSource:
    """A file with a catalog."""

    file: Traversable
    shown: str
    """The path as messages show it."""
    named_by: str = "file"
    """Who said that it is there."""

    def read(self) -> bytes:
        """The file's bytes, one more than may be at most. Raises InvalidCatalog when it cannot be read."""
        try:
            with self.file.open("rb") as file:
                return file.read(LARGEST + 1)
        except OSError as error:
            why = (
                "there is no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
            )
            raise InvalidCatalog(self.shown, [Problem(self.named_by, why)]) from None

    def stamp(self) -> tuple[int, ...]:
        """Differs after the file was changed: its time in nanoseconds, size and inode; empty when it is not there."""
        if not isinstance(self.file, Path):  # inside an archive, where nobody edits it
            return ()
        try:
            stat = self.file.stat()
        except OSError:
            return ()
        return stat.st_mtime_ns, stat.st_size, stat.st_ino


def find(explicit: Path | str | None, configured: Path | None) -> CatalogSource:
    """The catalog that counts: `explicit`, `configured` (MODELROUTER_CONFIG), config/models.yaml, the packaged one.

    A path that is given counts even when nothing is there; reading it says so.
    """
    if explicit is not None:
        return _at(Path(explicit), "catalog")
    if configured is not None:
        return _at(configured, "MODELROUTER_CONFIG")
    here = Path("config/models.yaml")
    if here.is_file():
        return _at(here, "file")
    packaged = resources.files("modelrouter") / "models.yaml"
    if packaged.is_file():
        return CatalogSource(packaged, "modelrouter/models.yaml")
    return _at(Path(__file__).parents[2] / here, "file")  # an editable install


def _at(path: Path, named_by: str) -> CatalogSource:
    path = path.expanduser()
    return CatalogSource(path.absolute(), str(path), named_by)  # the same file after a change of directory


# -- what it means, here and now


def parse(data: bytes, *, shown: str) -> Draft:
    """The catalog in `data`, checked as far as it can be without the environment.

    Raises InvalidCatalog with every problem there is; `shown` is the path as messages show it.
    """
    return Draft(*check(data, shown), shown)


class Draft:
    """A catalog without fault that does not know the environment yet."""

    def __init__(self, file: CatalogFile, document: Document, shown: str) -> None:
        self._file = file
        self._document = document
        self._shown = shown

    @property
    def prefixes(self) -> Mapping[str, str]:
        """Module -> what its variables begin with: ``response_generator`` -> ``RESPONSE``."""
        return {name: prefix_of(entry.env_prefix or name) for name, entry in self._file.modules.items()}

    def bind(self, environment: Environment) -> Catalog:
        """The catalog in this environment. Raises InvalidEnvironment with all variables that name what is not there."""
        return _Binding(self._file, self._document, self._shown, environment, self.prefixes).catalog()


@dataclass(frozen=True, slots=True)
class _Chain:
    targets: tuple[Target, ...]
    source: str

    def then(self, more: Sequence[Target], source: str) -> _Chain:
        """The same with `more` behind it; a model that is in it already is not asked twice."""
        if not more:
            return self
        chain = {target.name: target for target in (*self.targets, *more)}
        return _Chain(tuple(chain.values()), f"{self.source}, {source}")


class _Binding:
    """One file and one environment, put together."""

    def __init__(
        self,
        file: CatalogFile,
        document: Document,
        shown: str,
        environment: Environment,
        prefixes: Mapping[str, str],
    ) -> None:
        self._file, self._document, self._shown, self._environment = file, document, shown, environment
        self._general = environment.default
        self._own = {
            name: environment.modules.get(prefix, Overrides(f"{prefix}_LLM_")) for name, prefix in prefixes.items()
        }
        self._names, self._problems = Names.of(file, shown, environment)

    def catalog(self) -> Catalog:
        fallbacks = self._fallbacks(self._general)
        pinned = self._pin_of_all()
        modules = {
            name: Resolved(name, chain.targets, *self._settings(name, chain.source))
            for name in self._file.modules
            if (chain := self._chain(name, pinned, fallbacks)) is not None
        }
        if self._problems:
            raise InvalidEnvironment(sorted(set(self._problems), key=lambda problem: problem.where))
        warnings = (*self._shadowed(pinned, modules), *_retired(modules.values()), *self._environment.warnings)
        return Catalog(self._names, modules, warnings, self._document)

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
            holder = name if self._file.modules[name].chain else "default"
            chain = pinned or self._chain_in_file(holder, inherited=holder != name)
            if pinned or holder == "default":
                chain = chain.then(fallbacks, "LLM_FALLBACKS")
        return chain.then(self._fallbacks(own), f"{own.prefix}FALLBACKS")

    def _chain_in_file(self, holder: str, *, inherited: bool) -> _Chain:
        targets = {target.name: target for target in map(self._names.get, self._file.modules[holder].chain or ())}
        return _Chain(tuple(targets.values()), self._at("modules", holder, "chain", inherited=inherited))

    # -- how

    def _settings(self, name: str, chain_source: str) -> tuple[ModuleSettings, Mapping[str, str]]:
        found = {each.name: next(self._said(name, each.name)) for each in fields(ModuleSettings)}
        sources = {"chain": chain_source} | {key: source for key, (_, source) in found.items()}
        return ModuleSettings(**{key: value for key, (value, _) in found.items()}), MappingProxyType(sources)

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
        value = getattr(entry, key)
        # A written null means: whatever the model's own is. There is no such thing for a time or a number of tries.
        if value is not None or (key in entry.model_fields_set and key in ("max_tokens", "temperature")):
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
            if entry.chain and not (self._own[name].provider or self._own[name].model)
        ]
        if not shadowed:
            return
        lines = ", ".join(f"{self._at('modules', name, 'chain')} ({name})" for name in shadowed)
        alone = [name for name in shadowed if len(modules[name].chain) == 1]
        if alone:
            remains = "no fallback remains" + ("" if alone == shadowed else f" for {', '.join(alone)}")
        else:
            remains = "the only fallbacks that remain are those of LLM_FALLBACKS"
        yield (
            f"{pinned.source} ({pinned.targets[0].name}) replaces the chains at {lines}: {remains}. "
            f"LLM_FALLBACKS adds fallbacks; without {pinned.source} the file rules."
        )


def _retired(modules: Iterable[Resolved]) -> Iterator[str]:
    """A sentence for each model in a chain that its provider no longer serves, or soon will not."""
    users: dict[str, tuple[Target, list[str]]] = {}
    for module in modules:
        for target in module.chain:
            if target.retired is not None:
                users.setdefault(target.name, (target, []))[1].append(module.module)
    today = datetime.now(UTC).date()
    for target, names in users.values():
        day = date.fromisoformat(target.retired or "")
        if day > today + _SOON:
            continue
        move = f"; move to {target.successor!r}" if target.successor else ""
        when = "was retired on" if day <= today else "will be retired on"
        yield f"{target.name!r}, in the chain of {', '.join(names)}, {when} {day} by its provider{move}."


class Catalog:
    """Whom to call: every module's chain and settings, and every model by its names. It never changes."""

    def __init__(
        self, names: Names, modules: Mapping[str, Resolved], warnings: Sequence[str], document: Document
    ) -> None:
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
        self._document = document
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
        return replace(resolved, chain=tuple(chain.values()), sources=sources)

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

    def line_of(self, *path: str) -> int:
        """The line where ``("modules", "scorer", "timeout")`` stands in the file, or what surrounds it."""
        return self._document.line(path)
