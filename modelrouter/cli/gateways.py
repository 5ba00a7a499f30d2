"""What ``modelrouter check`` finds out about the gateways that models are asked through. No model is asked."""

from __future__ import annotations

import re
import urllib.error
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from modelrouter import environment
from modelrouter.catalog.target import Gateway, Target, missing_key
from modelrouter.redaction import shown_address

from .addresses import NoJSON, ask

_TELLS_CUTS = (1, 110)
"""LiteLLM's version from which its proxy tells a client that a stream was cut off. Before, it ends it as a whole one,
with a usage that it makes up (seen with 1.108.7 and 1.110.2)."""


def unusable(targets: Mapping[str, Target]) -> tuple[dict[str, str], list[str]]:
    """What keeps models that are asked through a gateway from answering, by their names; and what else an operator
    should know of the gateways."""
    why: dict[str, str] = {}
    warnings: list[str] = []
    for gateway in dict.fromkeys(target.gateway for target in targets.values() if target.gateway is not None):
        mine = {name: target for name, target in targets.items() if target.gateway == gateway}
        found = _models(gateway)
        if isinstance(found, frozenset):
            missing = f"the gateway at {shown_address(gateway.url)} has no model"
            why |= {n: f"{missing} {target.served_as!r}" for n, target in mine.items() if target.served_as not in found}
            warnings += _of_version(gateway)
            continue
        lost = {name: found for name, target in mine.items() if not (gateway.direct and _has_key(target))}
        why |= lost
        if direct := [name for name in mine if name not in lost]:
            warnings.append(f"{found}; asked at their own addresses: {', '.join(direct)}")
    return why, warnings


def _has_key(target: Target) -> bool:
    return missing_key(replace(target, gateway=None)) is None


def _models(gateway: Gateway) -> frozenset[str] | str:
    """The names of the models that it has for this key, or what is wrong with it."""
    shown, path = shown_address(gateway.url), "/health/liveliness"
    try:
        _ask(gateway, path)
        path = "/v1/models"
        return frozenset(each["id"] for each in _ask(gateway, path)["data"])
    except urllib.error.HTTPError as error:
        if error.code in (400, 401, 403) and path == "/v1/models":
            return f"the gateway at {shown} does not take the key in {gateway.key_env} (status {error.code})"
        return f"what answers at {shown} is no gateway of LiteLLM's, or not well: status {error.code} to GET {path}"
    except OSError as error:
        reason = getattr(error, "reason", None) or error
        return f"no gateway answers at {shown}: {getattr(reason, 'strerror', None) or reason or 'it takes too long'}"
    except (NoJSON, KeyError, TypeError):
        return f"what answers at {shown} is no gateway of LiteLLM's"


def _of_version(gateway: Gateway) -> Iterator[str]:
    shown = shown_address(gateway.url)
    try:
        said = str(_ask(gateway, "/health/readiness/details")["litellm_version"])
        version = tuple(map(int, re.findall(r"\d+", said)[:2]))
    except (OSError, NoJSON, KeyError, TypeError):
        yield f"the gateway at {shown} does not say its version: before 1.110, streams that were cut off look whole"
        return
    if version < _TELLS_CUTS:
        yield f"the gateway at {shown} is LiteLLM {said}, where streams that were cut off look whole; 1.110 tells them"


def _ask(gateway: Gateway, path: str) -> Any:
    key = environment.secret(gateway.key_env) if gateway.key_env is not None else None
    # By this name, too, for a password in the address takes the place of the other.
    names = ("Authorization", "x-litellm-api-key")
    headers = {name: f"Bearer {key.get_secret_value()}" for name in names} if key is not None else {}
    return ask(gateway.url.removesuffix("/v1") + path, headers)
