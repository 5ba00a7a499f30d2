"""What a provider is, one row each. One that has no row is reached through LiteLLM all the same, by its string."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from modelrouter.hints import nearest


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Provider:
    """A provider, as far as it is not like any other."""

    name: str
    prefix: str = ""
    """What LiteLLM's strings for its chats begin with, where that is not its name: ``ollama_chat``."""
    other_names: tuple[str, ...] = ()
    """LiteLLM's other names for it."""

    default_model: str | None = None
    """What is called when the environment names the provider alone. With one it is built in: it needs no entry."""
    api_base: str | None = None
    """Where it is, as the catalog writes addresses; None: LiteLLM knows."""
    moved_by: tuple[str, ...] = ()
    """Variables that say where it is, the first before the second, as for LiteLLM."""
    host: str | None = None
    """Its own, where others offer its interface too, often at other prices."""
    key_envs: tuple[str, ...] = ()
    """The variables of its one key: the first that is set. Without any it has ways of its own (roles, files), which
    LiteLLM knows."""
    key_env: str | None = None
    """The one that the catalog names instead: it is needed wherever the provider is called."""
    on_this_machine: bool = False
    """One's own server: it costs nothing, and one that does not run will not start by itself."""
    start: str | None = None
    """The command that starts it."""
    pull: str | None = None
    """The command, before the name of a model, that has its server load one."""
    tags: str | None = None
    """Where its server lists the models that it has."""

    abilities: Mapping[str, bool] = field(default_factory=dict)
    """What its models can all do, where LiteLLM's tables have none of them."""
    takes: frozenset[str] = frozenset({"json_object", "picture_by_address", "tool_choice"})
    """What LiteLLM sends on; what is missing here it says that it does, and leaves out."""
    most_tokens: int | None = None
    """The limit of an answer that is sent where nobody says one, because it demands one."""
    wants_key: bool = False
    """LiteLLM's client does not start without a key, which a server of one's own may not want."""
    client: Literal["handler", "openai"] | None = None
    """How LiteLLM reaches it: with a handler or a client of ours, or None: with its own alone."""
    reads_parts: bool = False
    """LiteLLM reads a text that is a list of parts, with the signatures of the reasoning in it."""
    proven: bool = False
    """The tests hold what is sent and read below LiteLLM's front to what goes through it."""

    @property
    def string(self) -> str:
        """What LiteLLM's strings for its chats begin with."""
        return self.prefix or self.name

    def silent(self, address: str) -> str:
        """That nothing answers, and the mend."""
        return f"nothing answers at {address}" + (f"; start it with {self.start!r}" if self.start else "")


_ROWS = (
    Provider(
        name="openai",
        other_names=("text-completion-openai",),
        default_model="gpt-6.1-sol",
        moved_by=("OPENAI_BASE_URL", "OPENAI_API_BASE"),
        host="api.openai.com",
        key_envs=("OPENAI_API_KEY",),
        wants_key=True,
        client="openai",
        proven=True,
    ),
    Provider(
        name="anthropic",
        default_model="claude-sonnet-5-5",
        moved_by=("ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL"),
        host="api.anthropic.com",
        key_envs=("ANTHROPIC_API_KEY",),
        takes=frozenset({"picture_by_address", "tool_choice"}),  # only a schema can be asked of it
        most_tokens=4096,  # LiteLLM sends 128,000 for a model that it does not know
        wants_key=True,
        client="handler",
        proven=True,
    ),
    Provider(
        name="gemini",
        default_model="gemini-3.8-flash",
        host="generativelanguage.googleapis.com",
        key_envs=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        moved_by=("GEMINI_API_BASE",),
        wants_key=True,
        client="handler",
    ),
    Provider(
        name="ollama",
        prefix="ollama_chat",  # LiteLLM's ollama/ flattens the messages into one prompt
        default_model="llama2",
        api_base="${OLLAMA_URL:-http://localhost:11434}",
        on_this_machine=True,
        start="ollama serve",
        pull="ollama pull",
        tags="/api/tags",
        takes=frozenset({"json_object"}),
        client="handler",
        proven=True,
    ),
    Provider(
        name="embedded",
        default_model="smollm2",
        on_this_machine=True,
        abilities={"response_format": True},  # llama.cpp holds any model to a schema
    ),
    Provider(
        name="litellm_proxy",
        moved_by=("LITELLM_PROXY_API_BASE",),
        key_envs=("LITELLM_PROXY_API_KEY",),
        wants_key=True,
        client="openai",
        proven=True,
    ),
    Provider(name="azure_ai", client="handler"),
    Provider(name="databricks", reads_parts=True, client="handler"),
    Provider(name="hosted_vllm", client="handler"),
    *(
        Provider(name=name, host=host, moved_by=(variable,), client="handler")
        for name, host, variable in (
            ("deepseek", "api.deepseek.com", "DEEPSEEK_API_BASE"),
            ("fireworks_ai", "api.fireworks.ai", "FIREWORKS_API_BASE"),
            ("groq", "api.groq.com", "GROQ_API_BASE"),
            ("mistral", "api.mistral.ai", "MISTRAL_AZURE_API_BASE"),
            ("openrouter", "openrouter.ai", "OPENROUTER_API_BASE"),
            ("together_ai", "api.together.ai", "TOGETHER_AI_API_BASE"),
            ("xai", "api.x.ai", "XAI_API_BASE"),
        )
    ),
)

BUILT_IN: Mapping[str, Provider] = {row.name: row for row in _ROWS if row.default_model is not None}
"""The providers that need no entry: what an entry in the file leaves out is taken from here."""

_KNOWN = {name: row for row in _ROWS for name in (row.name, row.string, *row.other_names)}


@lru_cache(maxsize=256)
def known(name: str) -> Provider:
    """The provider of this name, or of another one of LiteLLM's for it; one that has no row is like any other."""
    return _KNOWN.get(name) or Provider(name=name)


def of_string(litellm_model: str) -> Provider:
    """The provider of a LiteLLM string."""
    return known(litellm_model.partition("/")[0])


def litellm_string(name: str) -> str | None:
    """The name as LiteLLM is given it, when it is ``provider/model``; else None."""
    match = re.fullmatch(r"([a-z][a-z0-9_-]*)/(\S+)", name)
    if match is None:
        return None
    row = known(match[1])
    return f"{row.prefix}/{match[2]}" if row.prefix and match[1] == row.name else name


def mistyped(provider: str) -> str | None:
    """The provider that was probably meant. LiteLLM knows over a hundred: only what is nearly one of ours counts."""
    return None if provider in _KNOWN else nearest(provider, BUILT_IN, cutoff=0.8)
