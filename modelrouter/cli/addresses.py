"""Questions that ``modelrouter check`` asks of servers, of the addresses in the catalog and of nobody else."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any

from modelrouter.redaction import without_password

PATIENCE = 2.0
"""Seconds for an answer that the other side has at hand: a list of models."""
_LARGEST = 4 * 2**20
"""Bytes of it."""


class NoJSON(Exception):
    """What has answered is not what was asked for."""


class _Staying(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


_opener = urllib.request.build_opener(_Staying)


def ask(url: str, headers: Mapping[str, str] | None = None) -> Any:
    """The JSON that is there. No redirect is followed. Raises `urllib.error.HTTPError`, closed, OSError, and NoJSON."""
    address, password = without_password(url)
    own = {} if password is None else {"Authorization": f"Basic {b64encode(password.encode()).decode()}"}
    until, said = time.monotonic() + PATIENCE, b""
    try:
        asking = urllib.request.Request(address, headers={**(headers or {}), **own})  # noqa: S310 - http, https alone
        with _opener.open(asking, timeout=PATIENCE) as answer:
            while part := answer.read1(2**16):
                said += part
                if time.monotonic() > until:
                    raise TimeoutError
                if len(said) > _LARGEST:
                    raise NoJSON
        return json.loads(said)
    except urllib.error.HTTPError as error:
        error.close()
        raise
    except OSError:  # some are an HTTPException, too
        raise
    except (HTTPException, ValueError, RecursionError):
        raise NoJSON from None
