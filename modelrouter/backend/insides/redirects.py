"""Redirects: httpx takes the prompt, and a key in a header of the provider's own, wherever a server points, and makes
a GET of some POSTs. In our calls they go to no other server."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

from . import connections

_Origin: TypeAlias = tuple[str, str, int | None]
_PORTS = {"http": 80, "https": 443}


class Redirected(Exception):
    """The server points to another address, where the request does not go."""

    def __init__(self, status: int, where: str) -> None:
        self.status = status
        self.where = where
        """Without user, password and query."""
        super().__init__(f"{status}, to {where}")


def refuse() -> None:
    """Have httpx, through which LiteLLM reaches nearly all, refuse them in calls of ours; other code's follow them."""
    with contextlib.suppress(AttributeError, ImportError):  # `probe` says so
        client = _client()
        client._build_redirect_request = _staying(client._build_redirect_request)


def _staying(build: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(build)
    def stayed(self: Any, request: Any, response: Any) -> Any:
        following = build(self, request, response)
        stays = following.method == request.method and _near(_origin(request.url), _origin(following.url))
        if stays or request.method == "GET" or not connections.watched():  # a GET may fetch a picture
            return following
        where = following.url.copy_with(username=None, password=None, query=None, fragment=None)
        raise Redirected(response.status_code, str(where))

    return stayed


def _origin(url: Any) -> _Origin:
    return url.scheme, url.host, url.port or _PORTS.get(url.scheme)


def _near(here: _Origin, there: _Origin) -> bool:
    """The same server, by the same way or, from http, by the safe one: proxies in front of a server send there."""
    return here == there or (here[1] == there[1] and here[::2] == ("http", 80) and there[::2] == ("https", 443))


def _client() -> Any:
    """What httpx's clients have in common."""
    import httpx

    return httpx.AsyncClient.__base__


def probe() -> None:
    """Look whether redirects are made there. Raises what is not as it was."""
    inspect.signature(_client()._build_redirect_request).bind(None, request=None, response=None)
