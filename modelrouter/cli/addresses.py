"""Questions that ``modelrouter check`` asks of servers, of the addresses in the catalog and of nobody else."""

from __future__ import annotations

import urllib.request

PATIENCE = 2.0
"""Seconds for an answer that the other side has at hand: a list of models."""


class _Staying(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


opener = urllib.request.build_opener(_Staying)
"""Follows no redirect."""
