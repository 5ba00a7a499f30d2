"""What a name means: a model or an alias of the catalog, a LiteLLM string, or a provider and a model of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from modelrouter.errors import Problem, UnknownModel, UnknownPair
from modelrouter.redaction import shown as quoted

from .known_providers import BUILT_IN, Provider, known, litellm_string, mistyped, of_string
from .overrides import Environment
from .prices import FREE
from .schema import VARIABLE, CatalogFile, GatewayEntry, ModelEntry, Prices, ProviderEntry, address_flaw
from .target import Gateway, Price, PriceTier, Target


@dataclass(frozen=True, slots=True)
class Names:
    """Every name of a catalog, with what the environment adds: addresses, and Ollama's default model."""

    path: str
    """The catalog's, as messages show it."""
    models: Mapping[str, Target]
    aliases: Mapping[str, str]
    """Each with the name of the model, or the LiteLLM string, that it ends in."""
    _strings: Mapping[str, Target]
    """LiteLLM string -> the listed model that is called by it at its provider's address."""
    _provider: Callable[[str], Provider] = field(repr=False)
    """A provider as the file and the environment have it; with an ``api_base``, it is not called at its own address."""
    _routed: Callable[[Target], Target] = field(repr=False)
    """The model with the gateway that it is asked through."""

    @classmethod
    def of(cls, file: CatalogFile, path: str, environment: Environment) -> tuple[Names, list[Problem]]:
        """The names, and what is wrong with the addresses in them."""
        problems: list[Problem] = []

        def address(template: str | None, at: str) -> str | None:
            """The address with its variables filled in."""
            if template is None:
                return None
            variables = [(match[1], environment.values(match[1]) or match[2]) for match in VARIABLE.finditer(template)]
            unset = [Problem(name, f"is not set, and {at} needs it") for name, value in variables if value is None]
            problems.extend(unset)
            filled = dict(variables)
            # LiteLLM adds a path to it, and a server may answer "//" with a redirect, which turns a POST into a GET.
            url = VARIABLE.sub(lambda match: filled[match[1]] or "", template).strip().rstrip("/")
            if not unset and (flaw := address_flaw(url)) is not None:
                said = f"expected an address {flaw} for {at}, got {quoted(url)}"
                problems.append(Problem(variables[0][0] if variables else at, said))
            return url

        def provider(name: str) -> Provider:
            given, row = file.providers.get(name, ProviderEntry()), known(name)
            base = address(given.api_base or row.api_base, f"providers.{name}.api_base")
            moved = next((f"${{{each}}}" for each in row.moved_by if environment.values(each)), None)
            return replace(
                row,
                api_base=base or address(moved, name),
                key_envs=(*filter(environment.values, row.key_envs), *row.key_envs),
                key_env=given.api_key_env,
                default_model=(environment.ollama_model if name == "ollama" else None)
                or given.default_model
                or row.default_model,
            )

        providers = {name: provider(name) for name in {**BUILT_IN, **file.providers}}

        def provider_of(name: str) -> Provider:
            return providers.get(name) or provider(name)

        aliases = dict(file.aliases)
        for alias in file.aliases:
            while (end := aliases[alias]) in aliases:  # `check` has made sure that there is an end
                aliases[alias] = aliases[end]
        models: dict[str, Target] = {}
        strings: dict[str, Target] = {}
        for name, entry in file.models.items():
            base = address(entry.api_base, f"models.{name}.api_base")
            models[name] = _target(name, entry, provider_of(of_string(entry.model).name), base)
            if base is None:  # a string names the provider, never somebody's server of the same interface
                strings.setdefault(entry.model, models[name])
        found = cls(path, MappingProxyType(models), MappingProxyType(aliases), strings, provider_of, lambda each: each)
        return found._through(_gateway(file.gateway, environment, address), file), problems

    def _through(self, gateway: Gateway | None, file: CatalogFile) -> Names:
        """The same with the models that are asked through it."""
        named = "all" if file.gateway is None else file.gateway.models
        through = None if named == "all" else {self.get(name).name for name in named}
        taken = {*file.models, *file.aliases, *file.modules}

        def routed(target: Target) -> Target:
            asked = target.provider != "embedded" and (through is None or target.name in through)
            served_as = target.name
            if target.name in file.modules:  # whose chain the proxy has by that name
                served_as = f"model/{target.name}"
                while served_as in taken:
                    served_as += "_"
            return replace(target, gateway=gateway if asked else None, served_as=served_as)

        models = {name: routed(target) for name, target in self.models.items()}
        strings = {string: models[target.name] for string, target in self._strings.items()}
        return replace(self, models=MappingProxyType(models), _strings=strings, _routed=routed)

    def find(self, name: str) -> Target | None:
        """The model that a chain or ``model=`` means by `name`: a model, an alias, or any LiteLLM string."""
        name = self.aliases.get(name, name)
        if name in self.models:
            return self.models[name]
        string = litellm_string(name)
        if string is None or mistyped(string.partition("/")[0]):
            return None
        return self._strings.get(string) or self._unlisted(string)

    def get(self, name: str) -> Target:
        """As `find`. Raises UnknownModel."""
        if (target := self.find(name)) is not None:
            return target
        provider = name.partition("/")[0]
        meant = mistyped(provider) if "/" in name else None
        raise self._unknown(name, f"There is no provider {provider!r}. Did you mean {meant!r}?" if meant else None)

    def pair(self, provider: str | None, model: str | None, *, near: str | None = None) -> Target:
        """What a provider and a model name together, or either alone.

        A provider alone means its default model. A model alone is looked up, then taken to be one of provider `near`.
        Raises UnknownModel.
        """
        if provider is None:
            if (target := self.find(model or "")) is not None:
                return target
            if near is None:
                raise self._unknown(model or "", "Name a model or an alias of the catalog, or its provider as well.")
            provider = near
        provider = known(provider.lower()).name
        if meant := mistyped(provider):
            raise UnknownPair(provider, self.path, f"no provider {provider!r}. Did you mean {meant!r}?")
        found = self._provider(provider)
        model = model or found.default_model
        if model is None:
            why = f"provider {provider!r} has no default model: name a model too, or give it one in {self.path}."
            raise UnknownPair(provider, self.path, why)
        return self._of_provider(found, model)

    def _of_provider(self, provider: Provider, model: str) -> Target:
        """`model` as a name for one of the provider's models; any name will do, listed or not."""
        named = self.models.get(self.aliases.get(model, model))
        if named is not None and named.provider == provider.name:
            return named
        start = f"{provider.string}/"
        string = start + model.removeprefix(start).removeprefix(f"{provider.name}/")
        if string in self._strings:
            return self._strings[string]
        other = named or self._strings.get(model)
        if other is not None and provider.key_envs and provider.api_base is None:
            # Nobody else's models are there; a gateway (openrouter, azure, a server of one's own) may well have them.
            raise UnknownPair(model, self.path, f"{model!r} is a model of {other.provider}, not of {provider.name}.")
        return self._unlisted(string)

    def _unlisted(self, string: str) -> Target:
        return self._routed(
            _target(string, ModelEntry(model=string), self._provider(of_string(string).name), listed=False)
        )

    def _unknown(self, name: str, hint: str | None) -> UnknownModel:
        name = name if quoted(name) == repr(name) else quoted(name)  # a key that landed in LLM_MODEL
        return UnknownModel(name, self.path, {*self.models, *self.aliases}, hint)


def _gateway(
    entry: GatewayEntry | None, environment: Environment, address: Callable[[str | None, str], str | None]
) -> Gateway | None:
    """The gateway of the file, or of GATEWAY_URL alone, which counts before the file's address."""
    at, url = "gateway.url", entry.url if entry is not None else None
    if environment.values("GATEWAY_URL"):
        at, url = "the gateway", "${GATEWAY_URL}"
    if url is None or _is_empty(url, environment):
        return None
    named = entry.api_key_env if entry is not None else None
    direct = entry is not None and entry.otherwise == "direct"
    return Gateway(address(url, at) or "", named or "GATEWAY_API_KEY", key_required=named is not None, direct=direct)


def _is_empty(url: str, environment: Environment) -> bool:
    """Of ``${VAR:-}``, without the variable."""
    variable = VARIABLE.fullmatch(url)
    return variable is not None and variable[2] == "" and not environment.values(variable[1])


def _target(
    name: str, entry: ModelEntry, provider: Provider, api_base: str | None = None, *, listed: bool = True
) -> Target:
    api_base = api_base or provider.api_base
    named = entry.api_key_env or provider.key_env
    return Target(
        name,
        entry.model,
        provider.name,
        listed=listed,
        api_base=api_base,
        own_address=api_base is None,
        key_env=named or next(iter(provider.key_envs), None),
        # A server of the same interface elsewhere, on this machine perhaps, may well want no key at all.
        key_required=bool(named or (provider.key_envs and api_base is None)),
        timeout=entry.timeout,
        max_tokens=entry.max_tokens,
        params=MappingProxyType(entry.params or {}),
        price=_price(entry.price),
        context_window=entry.context_window,
        retired=entry.retired.isoformat() if entry.retired else None,
        successor=entry.successor,
        supports=MappingProxyType(
            {**provider.abilities, **(entry.supports.model_dump(exclude_none=True) if entry.supports else {})}
        ),
    )


def _price(entry: Prices | str | None) -> Price | None:
    if not isinstance(entry, Prices):
        return FREE if entry else None
    return Price(**dict(entry) | {"above": PriceTier(**dict(entry.above)) if entry.above else None})
