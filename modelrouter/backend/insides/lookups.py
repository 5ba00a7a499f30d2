"""What LiteLLM looks up in the middle of a call.

It asks other servers how large a model is, what its template is, at addresses of its own (this machine's, the hub's)
with another client than the call's, which nothing times and nobody can cancel. In our calls it goes without: only the
address in the catalog is asked. What the caller names by its address it may fetch, but not where all else would stand
still. In its own tables it looks a model up anew for each request, which is a tenth of a call to Claude; in ours, once.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable
from importlib import import_module
from operator import attrgetter
from typing import Any

from . import connections

_TEMPLATES = "litellm.litellm_core_utils.prompt_templates.huggingface_template_handler"
_LOOKUPS = (
    ("litellm.llms.ollama.common_utils", "OllamaModelInfo.get_model_info"),
    ("litellm.llms.lemonade.chat.transformation", "LemonadeChatConfig.get_model_info"),
    ("litellm.utils", "_get_max_position_embeddings"),
    (_TEMPLATES, "get_tokenizer_config"),
    (_TEMPLATES, "get_chat_template_file"),
    (_TEMPLATES, "aget_tokenizer_config"),
    (_TEMPLATES, "aget_chat_template_file"),
)
"""Whose failure LiteLLM expects, and has an answer for: the model is in no table, its template is the usual one."""
_FETCH = ("litellm.litellm_core_utils.prompt_templates.image_handling", "safe_get")
"""Waits for a picture or a file on the thread that it is called on."""
_TABLE = ("litellm.utils", "supports_factory")
"""Whether a model can do something; a function of three strings, as long as nobody registers the model anew."""


def leave_out() -> None:
    """Have them fail in calls of ours; other code's calls keep them."""
    for lookup in (*_LOOKUPS, _FETCH):
        with contextlib.suppress(AttributeError, ImportError):  # `probe` says so
            owner, name = _found(*lookup)
            setattr(owner, name, _unless(_refuse if lookup is _FETCH else _unknown, getattr(owner, name)))
    with contextlib.suppress(AttributeError, ImportError):
        owner, name = _found(*_TABLE)
        setattr(owner, name, _once(getattr(owner, name)))


def _unless(refuse: Callable[[], None], asked: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(asked)
    def looked_up(*args: Any, **kwargs: Any) -> Any:
        if connections.watched():
            refuse()
        return asked(*args, **kwargs)

    return looked_up


def _once(asked: Callable[..., Any]) -> Callable[..., Any]:
    remembered = functools.lru_cache(maxsize=1024)(asked)

    @functools.wraps(asked)
    def looked_up(*args: Any, **kwargs: Any) -> Any:
        return (remembered if connections.watched() else asked)(*args, **kwargs)

    return looked_up


def _unknown() -> None:
    raise LookupError("a call of modelrouter's asks nobody but its model")


def _refuse() -> None:
    from litellm.exceptions import ImageFetchError

    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop()
        raise ImageFetchError("it would have to fetch a file by its address; pass it as a data: URL")


def _found(module: str, path: str) -> tuple[Any, str]:
    """What holds a name, and the name."""
    holder, _, name = path.rpartition(".")
    owner = import_module(module)
    return (attrgetter(holder)(owner) if holder else owner), name


def probe() -> None:
    """Look whether they are all there. Raises what is not as it was."""
    for lookup in (*_LOOKUPS, _FETCH, _TABLE):
        getattr(*_found(*lookup))
