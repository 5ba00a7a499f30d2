"""JSON values, and books of counters, that outlive a process."""

from __future__ import annotations

from modelrouter.errors import StoreError

from .disk import DiskStore
from .memory import MemoryLedger, NullStore
from .redis import RedisStore
from .store import Balance, Ledger, Stats, Store

__all__ = [
    "Balance",
    "DiskStore",
    "Ledger",
    "MemoryLedger",
    "NullStore",
    "RedisStore",
    "Stats",
    "Store",
    "StoreError",
]
