"""LiteLLM, imported once, quietly: nothing fetched, nothing printed, no file of the project read behind our back.

That takes seconds, so nothing does it before `load`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from modelrouter import environment
from modelrouter.process import garbage
from modelrouter.process.forks import held_lock

from .insides import lookups, redirects, way

_BEFORE_IMPORT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "true",
    "LITELLM_OFFLINE_MODE": "true",
    "LITELLM_MODE": "PRODUCTION",
}

_lock = held_lock()  # a child that is forked in the middle of the import could never load LiteLLM
_loaded: bool = False
_rows: Mapping[str, Mapping[str, Any]] = {}


def loaded() -> bool:
    """Whether LiteLLM is imported, and ready."""
    return _loaded


def load() -> None:
    """Import LiteLLM, once. Takes seconds the first time."""
    global _loaded, _rows
    if _loaded:
        return
    with _lock:
        if loaded():  # meanwhile
            return
        environment.export_dotenv()
        for name, value in _BEFORE_IMPORT.items():
            os.environ.setdefault(name, value)
        with garbage.spared():
            import litellm

        litellm.suppress_debug_info = True  # its banner goes to stdout
        litellm.disable_hf_tokenizer_download = True
        if "LITELLM_LOG" not in os.environ:
            # Failures of our calls are told once, by us.
            for noisy in ("LiteLLM", "LiteLLM Router"):
                logging.getLogger(noisy).setLevel(logging.ERROR)
        # As shipped: what is registered later is about deployments, and not LiteLLM's knowledge of models.
        _rows = {name: dict(row) for name, row in litellm.model_cost.items()}
        lookups.leave_out()
        redirects.refuse()
        way.choose()
        _loaded = True


def rows() -> Mapping[str, Mapping[str, Any]]:
    """LiteLLM's bundled map of prices and abilities, as shipped; empty until `load`."""
    return _rows


def rebuild(response: dict[str, Any]) -> Any:
    """LiteLLM's ``ModelResponse`` out of what was kept of one."""
    load()
    import litellm

    return litellm.ModelResponse(**response)
