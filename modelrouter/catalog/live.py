"""The catalog of the moment: read at first use, read again when its file changes, kept when the new one is broken."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from modelrouter import environment
from modelrouter.errors import InvalidCatalog, ModelRouterError, Problem
from modelrouter.process import files
from modelrouter.process.forks import Lock, process_lock

from .binding import load
from .catalog import Catalog
from .overrides import Environment
from .yaml_lines import LARGEST

logger = logging.getLogger("modelrouter")

EVERY = 1.0
"""Seconds between two looks at the file's stat."""
_PATIENCE = 30.0
"""Seconds for a catalog that another program writes into a pipe."""


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
            if isinstance(self.file, Path):
                return files.read(self.file, LARGEST + 1, within=_PATIENCE)
            with self.file.open("rb") as file:
                return file.read(LARGEST + 1)
        except OSError as error:
            why = f"cannot be read: {error.strerror}"
            if isinstance(error, FileNotFoundError):
                why = "there is no such file"
                if self.shown.startswith("~"):
                    why += ", as there is no home directory for '~': set HOME, or write the path in full"
            raise InvalidCatalog(self.shown, [Problem(self.named_by, why)]) from None

    def stamp(self) -> tuple[int, ...]:
        """Differs after the file was changed; empty inside an archive, where nobody edits it."""
        return files.stamp(self.file) if isinstance(self.file, Path) else ()


def find(explicit: Path | str | None, configured: Path | None) -> CatalogSource:
    """The catalog that counts: `explicit`, `configured` (MODELROUTER_CONFIG), config/models.yaml, the packaged one.

    A path that is given counts even when nothing is there; reading it says so.
    """
    if explicit is not None:
        return _at(Path(explicit), "catalog")
    if configured is not None:
        return _at(configured, "MODELROUTER_CONFIG")
    here = Path("config/models.yaml")
    if _is_there(here):
        return _at(here, "file")
    packaged = resources.files("modelrouter") / "models.yaml"
    if packaged.is_file():
        return CatalogSource(packaged, "modelrouter/models.yaml")
    return _at(Path(__file__).parents[2] / here, "file")  # an editable install


def _is_there(path: Path) -> bool:
    try:
        return path.exists() and not path.is_dir()
    except OSError:  # nobody may look there; reading it says so
        return True


def _at(path: Path, named_by: str) -> CatalogSource:
    path = environment.expanded(path)
    return CatalogSource(files.absolute(path), str(path), named_by)  # the same file after a change of directory


@dataclass(eq=False)
class LiveCatalog:
    """The catalog and the environment that belongs to it, reloaded when the file changes."""

    path: Path | str | None
    settings: Environment | None
    loaded: Callable[[Catalog], None]
    """Called with each new catalog, the first one included."""
    reloaded: Callable[[bool], None]
    """Called after each edit, with whether it could be used."""
    _lock: Lock = field(default_factory=process_lock, init=False)
    _catalog: Catalog | None = field(default=None, init=False)
    _look_again: float = field(default=0.0, init=False)

    def current(self) -> Catalog:
        """The last good catalog. Raises InvalidCatalog or InvalidEnvironment while there has been no good one yet."""
        if (catalog := self._catalog) is not None and time.monotonic() < self._look_again:
            return catalog
        with self._lock:
            if (catalog := self._catalog) is None:
                environment.settle()
                self._source = find(self.path, environment.config_path())
                self._stamp = self._source.stamp()
                catalog = self._use(self._read())
            elif time.monotonic() >= self._look_again:
                catalog = self._reload(catalog)
            self._look_again = time.monotonic() + EVERY
            return catalog

    async def begun(self) -> None:
        """Have the first reading done off the event loop where it may have to wait for what comes out of a pipe."""
        if self._catalog is None and (
            files.is_special(Path(".env")) or files.is_special(find(self.path, environment.config_path()).file)
        ):
            await asyncio.to_thread(self.current)

    def _reload(self, catalog: Catalog) -> Catalog:
        stamp = self._source.stamp()
        if stamp == self._stamp:
            return catalog
        self._stamp = stamp
        try:
            edited = self._read()
        except (ModelRouterError, OSError) as error:
            logger.error(  # noqa: TRY400 - a mistake in a file needs its line, not a traceback
                "catalog_reload_failed path=%s: the last good catalog stays in use. %s", self._source.shown, error
            )
            self.reloaded(False)
            return catalog
        logger.info("catalog_reloaded path=%s", self._source.shown)
        self.reloaded(True)
        return self._use(edited)

    def _read(self) -> Catalog:
        return load(self._source.read(), shown=self._source.shown, environment=self.settings)

    def _use(self, catalog: Catalog) -> Catalog:
        known = self._catalog.warnings if self._catalog is not None else ()
        for warning in catalog.warnings:
            if warning not in known:
                logger.warning("%s", warning)
        self.loaded(catalog)
        self._catalog = catalog
        return catalog
