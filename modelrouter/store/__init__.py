"""JSON values and counters that outlive a process."""

from __future__ import annotations

from .disk import DiskStore, NullStore, Stats, Store, StoreError

__all__ = ["DiskStore", "NullStore", "Stats", "Store", "StoreError"]
