"""The catalog of the moment: read at first use, read again when its file changes, kept when the new one is broken."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from modelrouter import environment
from modelrouter.errors import ModelRouterError
from modelrouter.process.forks import ProcessLock
from modelrouter.types import Environment

from . import catalog as catalogs
from .catalog import Catalog

__all__ = ["LiveCatalog"]

logger = logging.getLogger("modelrouter")

EVERY = 1.0
"""Seconds between two looks at the file's stat."""


class LiveCatalog:
    """The catalog and the environment that belongs to it, reloaded when the file changes.

    `loaded` is called with each new catalog, the first one included; `reloaded` after each edit, with whether it could
    be used.
    """

    def __init__(
        self,
        path: Path | str | None,
        environment: Environment | None,
        *,
        loaded: Callable[[Catalog], None],
        reloaded: Callable[[bool], None],
    ) -> None:
        self._path = path
        self._environment = environment
        self._loaded = loaded
        self._reloaded = reloaded
        self._lock = ProcessLock()
        self._catalog: Catalog | None = None
        self._look_again = 0.0

    def current(self) -> Catalog:
        """The last good catalog.

        Raises:
            InvalidCatalog, InvalidEnvironment: only while there has been no good one yet.
        """
        if (catalog := self._catalog) is not None and time.monotonic() < self._look_again:
            return catalog
        with self._lock:
            if (catalog := self._catalog) is None:
                self._source = catalogs.find(self._path, environment.config_path())
                self._stamp = self._source.stamp()
                catalog = self._use(self._read())
            elif time.monotonic() >= self._look_again:
                catalog = self._reload(catalog)
            self._look_again = time.monotonic() + EVERY
            return catalog

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
            self._reloaded(False)
            return catalog
        logger.info("catalog_reloaded path=%s", self._source.shown)
        self._reloaded(True)
        return self._use(edited)

    def _read(self) -> Catalog:
        draft = catalogs.parse(self._source.read(), shown=self._source.shown)
        return draft.bind(self._environment or environment.read(draft.prefixes.values()))

    def _use(self, catalog: Catalog) -> Catalog:
        known = self._catalog.warnings if self._catalog is not None else ()
        for warning in catalog.warnings:
            if warning not in known:
                logger.warning("%s", warning)
        self._loaded(catalog)
        self._catalog = catalog
        return catalog
