"""Errors of this process, which are nobody's answer: with another provider they would come again, or hand the prompt on
for a reason that has nothing to do with the first."""

from __future__ import annotations

import errno
import re

from .failures import links

_RESOURCES = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT))
"""No file descriptors, memory or room on the disk: no server's doing, and no network's."""
_MACHINERY = re.compile(
    r"cannot schedule new futures|can't (start|create) new thread|interpreter shutdown|Python is likely shutting down|"
    r"event loop is closed|attached to a different loop|no running event loop|client has been closed|session is closed",
    re.IGNORECASE,
)
"""What Python's executors, threads and loops say, and the clients whose loop has ended."""


def own(error: BaseException, *, unsent: bool) -> str | None:
    """What went wrong in this process so that nothing came of a request; None: it is the provider's. Unsent: before a
    request was sent; later, an answer may be what is too deep."""
    for link in links(error):
        if (
            isinstance(link, MemoryError)
            or (isinstance(link, OSError) and link.errno in _RESOURCES)
            or (isinstance(link, RuntimeError | ImportError) and _MACHINERY.search(str(link)))
            or (unsent and isinstance(link, RecursionError))
        ):
            return f"{type(link).__name__}: {link}"
    return None
