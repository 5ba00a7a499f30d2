"""What an import of hundreds of thousands of objects costs the garbage collector: while it lasts, whenever all is
looked through, and four times as the process ends, where that takes a second."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_MANY = 300_000
"""Objects, from which on telling them apart takes about as long as it saves."""
_FROZEN = 1000
"""Objects; Python 3.12 itself freezes some hundreds."""
_NEVER = 2**30


@contextmanager
def spared() -> Iterator[None]:
    """In the block garbage is looked for among what is new alone; what the block leaves, an import, is never looked
    through again. What was there before is collected as ever, and so is what comes later, at the process's end too.

    Beside other threads, whose objects could not be told from the block's, and in a process with very many of its own,
    what is left is in the oldest generation, and is looked through as it would be else.
    """
    thresholds, frozen = gc.get_threshold(), gc.get_freeze_count()
    others = gc.get_objects() if threading.active_count() == 1 else None
    gc.set_threshold(*thresholds[:2], _NEVER)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        told_apart = others is not None and len(others) < _MANY and threading.active_count() == 1
        if told_apart or frozen < _FROZEN:  # else an application has frozen what is its own
            gc.freeze()
            thawed = False
            try:
                thawed = told_apart and _thawed(others or [])
            finally:
                if not thawed:
                    gc.unfreeze()


def _thawed(objects: list[Any]) -> bool:
    """Have the collector look at these again, which freezes all or nothing by itself: each leaves its lists, and comes
    to them as a new one. False: this interpreter has other lists."""
    import ctypes

    try:
        untrack, track = ctypes.pythonapi.PyObject_GC_UnTrack, ctypes.pythonapi.PyObject_GC_Track
    except AttributeError:
        return False
    # By its address: ctypes would ask an object what it is, which runs code of its class.
    untrack.argtypes = track.argtypes = [ctypes.c_void_p]
    untrack.restype = track.restype = None
    collecting = gc.isenabled()
    gc.disable()
    try:
        addresses = [id(each) for each in objects if gc.is_tracked(each)]
        for address in addresses:
            untrack(address)
            track(address)
        return len(gc.get_objects(generation=0)) >= len(addresses)
    finally:
        if collecting:
            gc.enable()
