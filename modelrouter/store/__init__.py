"""JSON values and counters that outlive a process."""

from __future__ import annotations

from modelrouter.errors import StoreError

from .disk import DiskStore
from .store import NullStore, Stats, Store

__all__ = ["DiskStore", "NullStore", "Stats", "Store", "StoreError"]
