"""The environment, by the names of its variables: the process's, then those of a .env file in the working directory.
Empty means unset.

Keys are kept nowhere: `secret` reads one when it is needed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values
from platformdirs import user_cache_path
from pydantic import SecretStr

from .errors import InvalidEnvironment, Problem
from .redaction import is_secret

_DOTENV = Path(".env")
_SHORTEST_SECRET = 8
"""Characters. A shorter one would blacken ordinary words, and no provider gives out such keys."""
_GENERAL = frozenset(("CACHE_ENABLED", "CACHE_TTL", "OLLAMA_MODEL"))

_exported: dict[str, str] = {}
"""What `export_dotenv` added to the process: .env, not the process, is still where these come from."""
_asked: set[str] = set()
"""The names of all secrets that were ever asked for, whatever they are called."""


def value(name: str) -> str | None:
    """What a variable says, or None."""
    own = os.environ.get(name)
    return own if own and own != _exported.get(name) else dotenv().get(name)


def names() -> set[str]:
    """The variables that are set."""
    return {name for name, said in os.environ.items() if said} | dotenv().keys()


def level_of(name: str) -> tuple[str | None, str]:
    """``SCORER_LLM_MODEL`` -> (``SCORER``, ``MODEL``); ``LLM_MODEL`` -> ("", ``MODEL``); other names -> (None, "")."""
    match = re.fullmatch(r"(?:(.+)_)?LLM_([A-Z_]+)", name)
    return (match[1] or "", match[2]) if match else (None, "")


# -- .env


def dotenv() -> Mapping[str, str]:
    """The variables of the .env file that are not empty, parsed again only when its stat has changed.

    Raises InvalidEnvironment when there is a file and it is no text.
    """
    path = _DOTENV.absolute()
    return _parsed(path, stamp(path))


def stamp(path: Path) -> tuple[int, ...]:
    """Differs after the file was changed: its time in nanoseconds, size and inode; empty when it is not there."""
    try:
        stat = path.stat()
    except OSError:
        return ()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


@lru_cache(maxsize=1)
def _parsed(path: Path, stamp: tuple[int, ...]) -> Mapping[str, str]:
    if not stamp or path.is_dir():  # some keep a virtual environment there
        return {}
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors on Windows write a byte order mark
    except UnicodeDecodeError:
        text = "\0"
    except OSError as error:
        raise InvalidEnvironment([Problem(path.name, f"cannot be read: {error.strerror}")]) from None
    if "\0" in text:
        raise InvalidEnvironment([Problem(path.name, "is not a text file in UTF-8; save it as one")])
    return {name: said for name, said in dotenv_values(stream=StringIO(text)).items() if said}


def export_dotenv() -> None:
    """Puts .env's variables that are not set into the process's environment, where LiteLLM looks: AWS, Azure ...

    modelrouter's own stay out of it: they are read from the file, and so a change there is seen.
    """
    for name, said in dotenv().items():
        if not os.environ.get(name) and name not in _GENERAL and level_of(name)[0] is None:
            os.environ[name] = _exported[name] = said


# -- keys


def secret(name: str) -> SecretStr | None:
    """The key in the variable `name`, as it is now; None when it is not set or empty."""
    _asked.add(name)
    key = (value(name) or "").strip()  # a line break at the end, as files of secrets have it, breaks the header
    return SecretStr(key) if key else None


def secret_values() -> list[str]:
    """The values of all variables that hold secrets, the longest first: to be taken out of what is shown."""
    sources: tuple[Mapping[str, str], ...] = (os.environ, dotenv())
    values = {said.strip() for source in sources for name, said in source.items() if name in _asked or is_secret(name)}
    return sorted((said for said in values if len(said) >= _SHORTEST_SECRET), key=len, reverse=True)


# -- paths


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
    said = value(name)
    return Path(said).expanduser() if said else None
