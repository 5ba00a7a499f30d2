"""How an answer ended: the words of the providers, and what each of them means.

Only a word that is known to mean a whole answer counts as one. One that is not known, or is not said, leaves an answer
that is given to the caller, in the provider's own word, and not remembered.
"""

from __future__ import annotations

import re

COMPLETE = frozenset(("stop", "tool_calls", "function_call"))
"""OpenAI's words for answers that are worth remembering: one that was cut off at max_tokens is not."""

_BROKE = "broke"

_MEANINGS = {
    "stop": "stop end_turn stop_sequence complete eos eos_token",
    "tool_calls": "tool_calls tool_call tool_use",
    "function_call": "function_call",
    "length": "length max_tokens max_output_tokens model_length token_limit model_context_window_exceeded",
    "content_filter": (
        "content_filter content_filtered refusal safety recitation language other blocklist prohibited_content spii "
        "image_safety image_prohibited_content image_recitation image_other no_image escalation sensitive "
        "guardrail_intervened error_toxic"
    ),
    _BROKE: (
        "error abort aborted cancelled user_cancel error_limit timeout time_limit network_error "
        "insufficient_system_resource malformed_function_call malformed_response unexpected_tool_call "
        "too_many_tool_calls missing_thought_signature malformed_model_output malformed_tool_use"
    ),
}
"""In small letters, out of what the providers document: OpenAI (chat completion object), Anthropic (handling stop
reasons), Google (Candidate.FinishReason), Bedrock (Converse, stopReason), Cohere (chat, finish_reason), Mistral,
DeepSeek and Zhipu (chat completion, finish_reason), watsonx (text chat), OpenRouter (finish_reason ``error``); and out
of the source of vLLM (v1/engine, FinishReason), SGLang and text-generation-inference. For Gemini's OTHER, LANGUAGE and
NO_IMAGE, as LiteLLM has it."""

_OPENAIS = {word: meaning for meaning, words in _MEANINGS.items() for word in words.split()}
_BREAKS = re.compile(r"error|fail|abort|cancel|interrupt|terminated|time_?out|malformed")
"""In words that are not known: gateways have their own for an answer that broke off."""


def _meaning(word: str | None) -> str | None:
    plain = (word or "").lower().replace("-", "_")
    return _OPENAIS.get(plain) or (_BROKE if _BREAKS.search(plain) else None)


def in_openais(word: str | None) -> str | None:
    """OpenAI's word for the provider's; the provider's own, where OpenAI has none."""
    meaning = _meaning(word)
    return word or None if meaning in (None, _BROKE) else meaning


def broke(word: str | None) -> bool:
    """The provider says that its answer broke off, or that the model has made no answer."""
    return _meaning(word) == _BROKE
