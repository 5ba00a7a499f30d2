"""What the environment says about how modules call (``LLM_MODEL``, ``SCORER_LLM_TIMEOUT`` ...), as one record.

It is read with the catalog, and not for each call: that would cost a fifth of one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, create_model
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from modelrouter import environment
from modelrouter.errors import InvalidEnvironment, Problem
from modelrouter.hints import nearest

from .schema import Seconds, Temperature, Tokens
from .target import nothing
from .wording import what_is_wrong


@dataclass(frozen=True, slots=True)
class Overrides:
    """What one level of the environment says: ``LLM_*``, or a module's ``ANALYZER_LLM_*``. ``None``: not set."""

    prefix: str
    """``LLM_``, ``ANALYZER_LLM_`` ..."""
    provider: str | None = None
    model: str | None = None
    fallbacks: tuple[str, ...] | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Environment:
    """The environment as it was when the catalog was loaded; secrets are not in it and are read when needed."""

    default: Overrides
    modules: Mapping[str, Overrides] = field(default_factory=nothing)
    """By prefix: ``ANALYZER`` -> what ``ANALYZER_LLM_*`` say."""
    ollama_model: str | None = None
    cache_enabled: bool | None = None
    cache_ttl: float | None = None
    values: Callable[[str], str | None] = field(default=lambda _: None, repr=False)
    """Any variable by its name, as `environment.value`. For ``${VAR:-default}`` in the catalog."""
    warnings: tuple[str, ...] = ()


def _split(value: object) -> object:
    """``a, b`` -> (a, b)."""
    return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value


_Word = Annotated[str, Field(pattern=r"^\S+$")]
"""No comment that somebody's reader of .env files has left behind the value."""

_LEVEL: Mapping[str, Any] = {
    "PROVIDER": _Word,
    "MODEL": _Word,
    "FALLBACKS": Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)],
    "MAX_TOKENS": Tokens,
    "TEMPERATURE": Temperature,
    "TIMEOUT": Seconds,
}
"""What follows ``LLM_`` and ``ANALYZER_LLM_``."""

_GENERAL: Mapping[str, Any] = {"OLLAMA_MODEL": _Word, "CACHE_ENABLED": bool, "CACHE_TTL": Seconds}


class _Settings(BaseSettings):
    """The base of a class that has one field for each variable that is set."""

    model_config = SettingsConfigDict(case_sensitive=True, env_ignore_empty=True, str_strip_whitespace=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  pydantic-settings passes all five by name
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings  # .env comes in as arguments, so that it is parsed once for all purposes


def read(prefixes: Collection[str]) -> Environment:
    """Reads every variable that decides how modules call; `prefixes` are those of the catalog's modules (``ANALYZER``).

    Raises InvalidEnvironment with all that is wrong: each variable of the wrong type, a .env that is no text.
    """
    present = environment.names()
    starts = {prefix: f"{prefix}_LLM_" for prefix in sorted(prefixes)}
    kinds: dict[str, Any] = {start + end: kind for start in ("LLM_", *starts.values()) for end, kind in _LEVEL.items()}
    kinds |= _GENERAL
    names = [name for name in kinds if name in present]
    fields: dict[str, Any] = {f"v{i}": (kinds[name], Field(validation_alias=name)) for i, name in enumerate(names)}
    try:
        found = create_model("Settings", __base__=_Settings, **fields)(
            **{name: value for name, value in environment.dotenv().items() if name in names}
        )
    except ValidationError as error:
        problems = [Problem(str(each["loc"][0]), what_is_wrong(each)) for each in error.errors()]
        raise InvalidEnvironment(problems) from None
    values = dict(zip(names, found.model_dump().values(), strict=True))

    def level(start: str) -> Overrides:
        return Overrides(start, **{end.lower(): values[start + end] for end in _LEVEL if start + end in values})

    return Environment(
        default=level("LLM_"),
        modules={prefix: level(start) for prefix, start in starts.items()},
        ollama_model=values.get("OLLAMA_MODEL"),
        cache_enabled=values.get("CACHE_ENABLED"),
        cache_ttl=values.get("CACHE_TTL"),
        values=environment.value,
        warnings=tuple(_unmatched(present, prefixes)),
    )


def _unmatched(present: Collection[str], prefixes: Collection[str]) -> Iterator[str]:
    """A sentence for each variable that looks like one of ours and decides nothing."""
    for name in sorted(present):
        prefix, ending = environment.level_of(name)
        if prefix is None:
            continue
        if ending in _LEVEL and prefix and prefix not in prefixes:
            match = nearest(prefix, prefixes)
            meant = f"Did you mean {match}_LLM_{ending}?" if match else f"Prefixes: {', '.join(sorted(prefixes))}."
            yield f"{name} matches no module and decides nothing. {meant}"
        elif ending not in _LEVEL and (not prefix or prefix in prefixes) and (match := nearest(ending, _LEVEL)):
            yield f"{name} decides nothing. Did you mean {name.removesuffix(ending)}{match}?"
