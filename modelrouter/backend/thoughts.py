"""Reasoning that a model writes into its text, between tags, told apart from the text: in whole answers and in streams
by one rule, which is Ollama's own.

What stands between such tags before the text begins is reasoning, and white space around it is nothing. Anywhere else,
tags are words of the text; so is one that closes what nothing has opened, since by then what comes before it has been
handed on. A block that is never closed was cut off in it.
"""

from __future__ import annotations

_TAGS = {
    "<think>": "</think>",  # DeepSeek R1, Qwen 3, GLM and most others
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",  # EXAONE Deep's, and Gemini's in OpenAI's form
    "<budget:thinking>": "</budget:thinking>",  # these three are reasoning to LiteLLM, too, in whole answers
    "<seed:think>": "</seed:think>",  # ByteDance's Seed-OSS
    "[THINK]": "[/THINK]",  # Mistral's Magistral
    "◁think▷": "◁/think▷",  # Kimi
}
"""What opens it, and what closes it: https://github.com/vllm-project/vllm/tree/main/vllm/reasoning and
https://github.com/sgl-project/sglang/blob/main/python/sglang/srt/parser/reasoning_parser.py."""


class Thoughts:
    """Takes a text apart, piece by piece."""

    def __init__(self, *, found: bool = False) -> None:
        self.found = found
        """There is reasoning before the text, between tags or beside it."""
        self._held = ""
        """What may become a tag."""
        self._closing: str | None = None
        """What ends the reasoning that has begun."""
        self._over = False
        """The text has begun."""

    def take(self, piece: str) -> tuple[str, str]:
        """What is known by now to be reasoning, and to be text."""
        said, self._held, thought = self._held + piece, "", ""
        while not self._over:
            if self._closing is not None:
                more, closed, said = said.partition(self._closing)
                if not closed:
                    self._held = _tail(more, self._closing)
                    return thought + more.removesuffix(self._held), ""
                thought, self._closing = thought + more, None
                continue
            begun = said.lstrip()
            if (tag := next(filter(begun.startswith, _TAGS), None)) is not None:
                said, self._closing, self.found = begun.removeprefix(tag), _TAGS[tag], True
            elif any(tag.startswith(begun) for tag in _TAGS):
                self._held = said
                return thought, ""
            else:
                said, self._over = begun if self.found else said, True
        return thought, said

    def rest(self) -> tuple[str, str]:
        """What was held back, at the end."""
        held, self._held = self._held, ""
        if self._closing is not None:
            return held, ""
        return "", held.lstrip() if self.found else held


def _tail(said: str, tag: str) -> str:
    """The end of what was said, as far as the tag may have begun there."""
    sizes = range(min(len(tag) - 1, len(said)), 0, -1)
    return next((said[-size:] for size in sizes if tag.startswith(said[-size:])), "")


def told_apart(text: str, *, found: bool) -> tuple[str, str]:
    """The reasoning in a whole text, and the text without it. Found: there is reasoning beside it."""
    thoughts = Thoughts(found=found)
    (thought, said), (more, held) = thoughts.take(text), thoughts.rest()
    return thought + more, said + held
