"""The environment, by the names of its variables: the process's, then those of a .env file. Empty means unset.

The file is the one of the working directory in which a catalog is first read (`settle`); a change of directory changes
nothing. What is edited in it is seen; while it is broken, or gone, what was read last holds. Keys are kept nowhere
else: `secret` reads one when it is needed.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values
from platformdirs import user_cache_path
from pydantic import SecretStr

from .errors import InvalidEnvironment, Problem
from .parameters import odd
from .process import files
from .process.forks import process_lock
from .redaction import is_secret, passwords

logger = logging.getLogger("modelrouter")

_LARGEST = 2**20
"""Bytes of a .env file."""
_PATIENCE = 2.0
"""Seconds for one that is a pipe: an event loop may be waiting."""
_REST = 1.0
"""Seconds for which one that could not be read at first is not tried again."""
_NO_TEXT = "is not a text file in UTF-8; save it as one"
_SHORTEST_SECRET = 8
"""Characters. A shorter one would blacken ordinary words, and no provider gives out such keys."""
STORE = "MODELROUTER_STORE"
"""The variable with the address of the store; a password may be in it."""
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


@dataclass(slots=True)
class _File:
    """A .env file. What was read of it last holds while it cannot be read, or is gone."""

    path: Path
    stamp: tuple[int, ...] = ()
    variables: Mapping[str, str] | None = None
    """None: it was not read yet."""
    refused: tuple[float, tuple[int, ...], Problem] | None = None
    """At its first reading: until when (monotonic) it is not tried again, its stamp, and what is wrong with it."""

    def read(self) -> Mapping[str, str]:
        """The variables, read again only when the file's stamp has changed. Raises InvalidEnvironment as long as the
        file was no good yet."""
        stamp = files.stamp(self.path)
        if self.variables is None or stamp != self.stamp:
            with _lock:
                self._look(stamp)
        return self.variables or {}

    def _look(self, stamp: tuple[int, ...]) -> None:
        if self.variables is not None and (stamp == self.stamp or _emptied(stamp)):  # meanwhile
            return
        if not stamp or self.path.is_dir():  # some keep a virtual environment there
            if self.variables:
                logger.warning("dotenv_gone path=%s: what it said before stays in use.", self.path)
            self.variables = self.variables or {}
        elif isinstance(found := self._found(stamp), Problem):
            if self.variables is None:
                raise InvalidEnvironment([found])
            logger.error("dotenv_reload_failed path=%s: what it said before stays in use. It %s", self.path, found.what)
        else:
            self.variables = found
        self.stamp = stamp

    def _found(self, stamp: tuple[int, ...]) -> Mapping[str, str] | Problem:
        if self.refused is not None and self.refused[1] == stamp and time.monotonic() < self.refused[0]:
            return self.refused[2]
        try:
            content = files.read(self.path, _LARGEST + 1, within=_PATIENCE)
            text = content.decode("utf-8-sig")  # editors on Windows write a byte order mark
            what = "is larger than 1 MiB" if len(content) > _LARGEST else _NO_TEXT if "\0" in text else None
        except UnicodeDecodeError:
            what = _NO_TEXT
        except OSError as error:
            what = f"cannot be read: {error.strerror}"
        if what is None:
            return {name: said for name, said in dotenv_values(stream=StringIO(text)).items() if said}
        self.refused = time.monotonic() + _REST, stamp, Problem(self.path.name, what)
        return self.refused[2]


_lock = process_lock()
_file: _File | None = None


def settle() -> None:
    """Take the .env of the working directory of now, and keep to it wherever the process goes afterwards. Raises
    InvalidEnvironment, after which the one of before stays."""
    global _file
    try:
        path = Path.cwd() / ".env"
    except OSError:  # the directory has been removed
        return
    with _lock:
        if _file is None or _file.path != path:
            found = _File(path)
            if _file is not None:
                found.read()
            _file = found


def dotenv() -> Mapping[str, str]:
    """The variables of the .env file that are not empty. Raises InvalidEnvironment when there is a file, no good one
    was read before, and it is no text or cannot be read."""
    if _file is None:
        settle()
    return _file.read() if _file is not None else {}


def _emptied(stamp: tuple[int, ...]) -> bool:
    """Whether the file was made empty within the last second: whoever did that is about to fill it."""
    return stamp[1:2] == (0,) and time.time() - stamp[0] / 1e9 < 1


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


_FLAWS = (
    # A base64 key may well end with "=".
    (r"(export\s+)?[A-Z][A-Z0-9_]*(KEY|TOKEN|SECRET)\s*=", "begins with the name of a variable"),
    (r"(?i)(authorization|x-api-key)\s*:|(bearer|basic|token)\s", "begins with the name of a header or scheme"),
    (r"[\"'`]|.*[\"'`]$", "has quotation marks around it"),
    (r".*\s", "has a space in it"),
    (r".*\\[nrt]", "has a line break written out in it"),
)
"""How a key that can be sent looks when it was not copied alone."""


def flaw(name: str) -> str | None:
    """What is wrong with the key in the variable `name`, and the mend; None: nothing, or there is none. Nothing of it
    is shown."""
    key = secret(name)
    if key is None or re.fullmatch(r"[\w.~+/:@|-]+=*", said := key.get_secret_value(), re.ASCII):
        return None
    what = next((what for pattern, what in _FLAWS if re.match(pattern, said)), None)
    if (found := odd(said)) is not None:
        what = f"has {found} in it"
    return what and f"{name} {what}; paste the key again, alone and on one line"


_IN_HEADERS = re.compile(r"_(ORG|ORGANIZATION|PROJECT)(_ID)?$")


def unsendable() -> dict[str, str]:
    """The variables that LiteLLM may have put into a header, which no header can hold: name -> what each has in it."""
    sent = (name for name in sorted(names()) if name in _asked or is_secret(name) or _IN_HEADERS.search(name))
    found = ((name, odd(value(name) or "")) for name in sent)
    return {name: what for name, what in found if what is not None}


def secret_values() -> list[str]:
    """The values of all variables that hold secrets, the longest first: to be taken out of what is shown.

    It is asked for on the path of every failure, so of .env it takes what was read last."""
    sources: tuple[Mapping[str, str], ...] = (os.environ, (_file and _file.variables) or {})
    found = {said.strip() for source in sources for name, said in source.items() if name in _asked or is_secret(name)}
    values = found.union(*map(passwords, found))
    return sorted((said for said in values if len(said) >= _SHORTEST_SECRET), key=len, reverse=True)


# -- paths


def config_path() -> Path | None:
    """MODELROUTER_CONFIG: the catalog."""
    return _path("MODELROUTER_CONFIG")


def state_dir() -> Path | None:
    """MODELROUTER_STATE_DIR, else the user's cache directory: where the cache lives. It is not created. None: there is
    neither, in a container perhaps whose user has no home directory."""
    try:
        path = _path("MODELROUTER_STATE_DIR") or user_cache_path("modelrouter", appauthor=False)
    except RuntimeError:
        return None
    return None if path.parts[0].startswith("~") else path


def gguf() -> Path | None:
    """MODELROUTER_GGUF: the weights of the embedded model. The same file after a change of directory."""
    path = _path("MODELROUTER_GGUF")
    return path and (_file.path.parent / path if _file is not None else path)


def _path(name: str) -> Path | None:
    said = value(name)
    return expanded(said) if said else None


def expanded(path: Path | str) -> Path:
    """The path with the home directory in the place of ``~``, which stays where there is none."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - pathlib's raises RuntimeError there
