"""The environment: the process's variables, then those of a .env file in the working directory. Empty means unset.

`read` makes one record of everything that decides how modules call (``LLM_MODEL``, ``SCORER_LLM_TIMEOUT`` ...) when the
catalog is loaded. Keys are in no record: `secret` reads one when it is needed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from io import StringIO
from pathlib import Path
from stat import S_ISDIR
from typing import Annotated, Any

from dotenv import dotenv_values
from platformdirs import user_cache_path
from pydantic import BeforeValidator, Field, SecretStr, ValidationError, create_model
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from .catalog.wording import what_is_wrong
from .errors import InvalidEnvironment, nearest
from .types import LONGEST, Environment, Overrides, Problem, Target

__all__ = [
    "DOTENV",
    "config_path",
    "export_dotenv",
    "gguf",
    "missing_key",
    "read",
    "secret",
    "secret_values",
    "state_dir",
]

DOTENV = Path(".env")


def _split(value: object) -> object:
    """``a, b`` -> (a, b)."""
    return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value


_Word = Annotated[str, Field(pattern=r"^\S+$")]
"""No comment that somebody's reader of .env files has left behind the value."""
_Seconds = Annotated[float, Field(gt=0, le=LONGEST, allow_inf_nan=False)]
_LEVEL: Mapping[str, Any] = {
    "PROVIDER": _Word,
    "MODEL": _Word,
    "FALLBACKS": Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)],
    "MAX_TOKENS": Annotated[int, Field(gt=0)],
    "TEMPERATURE": Annotated[float, Field(ge=0, allow_inf_nan=False)],
    "TIMEOUT": _Seconds,
}
"""What follows ``LLM_`` and ``ANALYZER_LLM_``."""

_GENERAL: Mapping[str, Any] = {"OLLAMA_MODEL": _Word, "CACHE_ENABLED": bool, "CACHE_TTL": _Seconds}

_SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)(_ID|_?\d+)?$", re.IGNORECASE)
_SHORTEST_SECRET = 8
"""Characters. A shorter one would blacken ordinary words, and no provider gives out such keys."""


# -- .env


_parsed: dict[Path, tuple[object, Mapping[str, str]]] = {}
"""By absolute path: the file's stat, and what it says."""
_exported: dict[str, str] = {}
"""What `export_dotenv` added to the process: .env, not the process, is still where these come from."""
_asked: set[str] = set()
"""The names of all secrets that were ever asked for, whatever they are called."""


def _dotenv(path: Path | None) -> Mapping[str, str]:
    """The variables of a .env file that are not empty, parsed again only when its stat has changed.

    Raises InvalidEnvironment when there is a file and it is no text.
    """
    if path is None:
        return {}
    path = path.absolute()
    try:
        stat = path.stat()
    except OSError:
        return {}
    if S_ISDIR(stat.st_mode):  # some keep a virtual environment there
        return {}
    stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    known = _parsed.get(path)
    if known is not None and known[0] == stamp:
        return known[1]
    values = {name: value for name, value in dotenv_values(stream=StringIO(_text(path))).items() if value}
    _parsed[path] = (stamp, values)
    return values


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors on Windows write a byte order mark
    except UnicodeDecodeError:
        text = "\0"
    except OSError as error:
        raise InvalidEnvironment([Problem(path.name, f"cannot be read: {error.strerror}")]) from None
    if "\0" in text:
        raise InvalidEnvironment([Problem(path.name, "is not a text file in UTF-8; save it as one")])
    return text


def _value(name: str, dotenv: Path | None = DOTENV) -> str | None:
    own = os.environ.get(name)
    return own if own and own != _exported.get(name) else _dotenv(dotenv).get(name)


def _names(dotenv: Path | None) -> set[str]:
    return {name for name, value in os.environ.items() if value} | _dotenv(dotenv).keys()


def export_dotenv(*, dotenv: Path | None = DOTENV) -> None:
    """Puts .env's variables that are not set into the process's environment, where LiteLLM looks: AWS, Azure ...

    modelrouter's own stay out of it: they are read from the file, and so a change there is seen.
    """
    for name, value in _dotenv(dotenv).items():
        if not os.environ.get(name) and name not in _GENERAL and _parts(name)[0] is None:
            os.environ[name] = _exported[name] = value


# -- what decides how modules call


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


def read(prefixes: Collection[str], *, dotenv: Path | None = DOTENV) -> Environment:
    """Reads every variable that decides how modules call; `prefixes` are those of the catalog's modules (``ANALYZER``).

    Raises InvalidEnvironment with all that is wrong: each variable of the wrong type, a .env that is no text.
    """
    present = _names(dotenv)
    starts = {prefix: f"{prefix}_LLM_" for prefix in sorted(prefixes)}
    kinds: dict[str, Any] = {start + end: kind for start in ("LLM_", *starts.values()) for end, kind in _LEVEL.items()}
    kinds |= _GENERAL
    names = [name for name in kinds if name in present]
    fields: dict[str, Any] = {f"v{i}": (kinds[name], Field(validation_alias=name)) for i, name in enumerate(names)}
    try:
        found = create_model("Settings", __base__=_Settings, **fields)(
            **{name: value for name, value in _dotenv(dotenv).items() if name in names}
        )
    except ValidationError as error:
        raise InvalidEnvironment(
            [Problem(str(each["loc"][0]), what_is_wrong(each)) for each in error.errors()]
        ) from None
    values = dict(zip(names, found.model_dump().values(), strict=True))

    def level(start: str) -> Overrides:
        return Overrides(start, **{end.lower(): values[start + end] for end in _LEVEL if start + end in values})

    return Environment(
        default=level("LLM_"),
        modules={prefix: level(start) for prefix, start in starts.items()},
        ollama_model=values.get("OLLAMA_MODEL"),
        cache_enabled=values.get("CACHE_ENABLED"),
        cache_ttl=values.get("CACHE_TTL"),
        values=lambda name: _value(name, dotenv),
        warnings=tuple(_unmatched(present, prefixes)),
    )


def _unmatched(present: Collection[str], prefixes: Collection[str]) -> Iterator[str]:
    """A sentence for each variable that looks like one of ours and decides nothing."""
    for name in sorted(present):
        prefix, ending = _parts(name)
        if prefix is None:
            continue
        if ending in _LEVEL and prefix and prefix not in prefixes:
            match = nearest(prefix, prefixes)
            meant = f"Did you mean {match}_LLM_{ending}?" if match else f"Prefixes: {', '.join(sorted(prefixes))}."
            yield f"{name} matches no module and decides nothing. {meant}"
        elif ending not in _LEVEL and (not prefix or prefix in prefixes) and (match := nearest(ending, _LEVEL)):
            yield f"{name} decides nothing. Did you mean {name.removesuffix(ending)}{match}?"


def _parts(name: str) -> tuple[str | None, str]:
    """``SCORER_LLM_MODEL`` -> (``SCORER``, ``MODEL``); ``LLM_MODEL`` -> ("", ``MODEL``); other names -> (None, "")."""
    match = re.fullmatch(r"(?:(.+)_)?LLM_([A-Z_]+)", name)
    return (match[1] or "", match[2]) if match else (None, "")


# -- read when needed


def secret(name: str) -> SecretStr | None:
    """The key in the variable `name`, as it is now; None when it is not set or empty."""
    _asked.add(name)
    value = (_value(name) or "").strip()  # a line break at the end, as files of secrets have it, breaks the header
    return SecretStr(value) if value else None


def missing_key(target: Target) -> str | None:
    """The variable of the key without which the model is not called, when it is not set."""
    if target.key_required and target.key_env is not None and secret(target.key_env) is None:
        return target.key_env
    return None


def secret_values() -> list[str]:
    """The values of all variables that hold secrets, the longest first: to be taken out of what is shown."""
    sources: tuple[Mapping[str, str], ...] = (os.environ, _dotenv(DOTENV))
    values = {
        value.strip() for source in sources for name, value in source.items() if name in _asked or _SECRET.search(name)
    }
    return sorted((value for value in values if len(value) >= _SHORTEST_SECRET), key=len, reverse=True)


def config_path() -> Path | None:
    """MODELROUTER_CONFIG: the catalog."""
    return _path("MODELROUTER_CONFIG")


def state_dir() -> Path:
    """MODELROUTER_STATE_DIR, else the user's cache directory: where the cache lives. It is not created."""
    return _path("MODELROUTER_STATE_DIR") or user_cache_path("modelrouter", appauthor=False)


def gguf() -> Path | None:
    """MODELROUTER_GGUF: the weights of the embedded model."""
    return _path("MODELROUTER_GGUF")


def _path(name: str) -> Path | None:
    value = _value(name)
    return Path(value).expanduser() if value else None
