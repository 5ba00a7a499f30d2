"""What the parameters of a call are, one row each, with what is true of them:

- litellm: LiteLLM's completion takes it. A misspelt one reaches the wire and is ignored there. Written down because
  looking them up loads LiteLLM, which a cached answer does not need; a test compares them with the installed version.
- droppable: it may be left out for a model that does not take it, being sampling, or a hint that changes no answer.
  (Limits and LiteLLM's own arguments are among them because it translates them for every model.) All else is a
  requirement.
- dspy: DSPy's canonical request can carry it. The others that LiteLLM knows go past it.
- label: a provider only keeps books by it. A gateway of one's own may well answer by it, so it does not matter only at
  the provider's own address.
- unkeyed: it does not change an answer, wherever that is made.
- limit: it bounds an answer, or the reasoning before it; tokens: an answer's tokens.
- each: it is decided for each call, and cannot be among the ``params`` of a model in the catalog.
- model: it is a key of a model there, beside its ``params``.
- meant: what is nearly its name is a slip of it, though a call does not take it.

Behind the bar is what to do instead of passing it to a call, which does not take it.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from functools import cache

_TABLE = """
additional_drop_params             litellm droppable
allowed_openai_params              litellm droppable
api_version                        litellm droppable
audio                              litellm
context_management                 litellm
extra_body                         litellm droppable
extra_headers                      litellm droppable
frequency_penalty                  litellm droppable dspy
function_call                      litellm dspy
functions                          litellm dspy
include_server_side_tool_invocations litellm
logit_bias                         litellm dspy
logprobs                           litellm dspy
max_completion_tokens              litellm droppable dspy limit tokens
max_tokens                         litellm droppable dspy limit tokens model
metadata                           litellm droppable dspy label
modalities                         litellm
n                                  litellm each
parallel_tool_calls                litellm droppable dspy
prediction                         litellm dspy
presence_penalty                   litellm droppable dspy
prompt_cache_key                   litellm droppable dspy label
prompt_cache_retention             litellm droppable dspy label
reasoning_effort                   litellm dspy limit
response_format                    litellm dspy
safety_identifier                  litellm droppable label
seed                               litellm droppable dspy
service_tier                       litellm droppable dspy
stop                               litellm dspy
store                              litellm droppable dspy label
temperature                        litellm droppable dspy
thinking                           litellm limit
tool_choice                        litellm dspy
tools                              litellm dspy
top_logprobs                       litellm dspy
top_p                              litellm droppable dspy
user                               litellm droppable dspy label
verbosity                          litellm dspy
web_search_options                 litellm

min_p                              droppable
top_k                              droppable dspy

acompletion                        | LiteLLM needs it for itself
api_base                           model meant | set 'api_base' of the model or of its provider in the catalog
api_key                            unkeyed meant | keys come from the environment; 'api_key_env' in the catalog names another variable
base_url                           model meant | set 'api_base' of the model or of its provider in the catalog
caching                            meant | use cache=
client                             | LiteLLM needs it for itself
context_window_fallbacks           | list the models in the module's chain, or pass model=[...]
custom_llm_provider                | name the provider in the model string, such as 'openai/gpt-4'
drop_params                        litellm | what a model does not take of sampling is dropped, and a model that cannot do the rest skipped
fallbacks                          each meant | list the models in the module's chain, or pass model=[...]
litellm_call_id                    | LiteLLM needs it for itself
litellm_logging_obj                | LiteLLM needs it for itself
max_retries                        unkeyed each meant | use retries=
num_retries                        each meant | use retries=
request_timeout                    unkeyed meant | use timeout= for one attempt, deadline= for the whole call
shared_session                     | LiteLLM needs it for itself
stream                             litellm unkeyed each meant | use modelrouter.stream(...) or modelrouter.astream(...)
stream_options                     litellm unkeyed meant | usage always comes with a stream
timeout                            unkeyed model
messages                           each
model                              each
"""  # noqa: E501 - a table

_WORDS = """
use cache=: cache_enabled cacheable disable_cache enable_cache force_refresh no_cache refresh refresh_cache skip_cache use_cache
set 'cache: {ttl: ...}' of the module: cache_ttl ttl
use retries=: attempts max_attempts max_tries retry retry_attempts retry_on retry_count retry_policy retry_strategy tries
use timeout= for one attempt, deadline= for the whole call: deadline_ms deadline_seconds max_time max_wait timeout_ms timeout_seconds total_timeout
use model=, such as 'openai/gpt-4': deployment engine llm llm_provider model_name model_provider provider provider_name provider_type
list the models in the module's chain, or pass model=[...]: backup chain fallback_model fallback_models model_list
use module=: module_name
the prompt is the first argument: content input inputs query question text user_input user_message user_prompt
use messages=: chat conversation history msgs
use system=: sys systemPrompt sys_prompt system_message
use response_format=: json_mode output_model output_schema output_type response_model
use temperature=: temp
pass each parameter by its own name: kwargs llm_kwargs model_kwargs params
keys come from the environment: api_key_env anthropic_api_key openai_api_key
"""  # noqa: E501 - a table

OTHER_WORDS: Mapping[str, str] = {
    name: why for line in _WORDS.split("\n") for why, _, names in [line.rpartition(": ")] for name in names.split()
}
"""What other libraries, and this one's catalog, call an argument of a call; and what to do instead."""

MAPPINGS = frozenset(("provider", "text"))
"""Of these, what a provider takes when it is a mapping: OpenRouter, OpenAI."""

OTHERS = frozenset(
    """
    min_p top_k best_of cache_control keep_alive max_new_tokens maxTokens min_tokens mirostat models num_ctx num_gpu
    num_predict extra_query reasoning reasoning_format repeat_penalty repetition_penalty safety_settings search_options
    serviceTier speed stop_sequences system_prompt think top_a topP typical_p
    options parse_tool_calls preset_cache_key prompt_cache_options prompt_id sequence_penalty temperature_last
    anthropic_version mode model_id
    """.split()
)
"""Parameters of single providers that look like a slip of one of LiteLLM's, or of a call's own, and are none."""

_ROWS = {
    name: (flags.split(), why.strip())
    for name, _, rest in (line.partition(" ") for line in _TABLE.split("\n") if line)
    for flags, _, why in [rest.partition("|")]
}

REFUSED: Mapping[str, str] = {name: why for name, (_, why) in _ROWS.items() if why}
"""What a call does not take, and what to do instead."""


@cache
def having(flag: str) -> frozenset[str]:
    """The parameters of which this is true."""
    return frozenset(name for name, (flags, _) in _ROWS.items() if flag in flags)


# -- what is sent as a header of HTTP

HEADERS = frozenset(("extra_headers", "headers"))
"""The parameters that are."""
_ODD = (
    (r"[\n\r\v\f\x85\u2028\u2029]", "a line break"),
    (r"[\x00-\x08\x0e-\x1f\x7f-\x9f]", "a control character"),
    (r"[\u2018-\u201f\u00ab\u00bb]", "a typographic quotation mark"),
    (r"[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]", "an invisible character"),
    (r"[^\x00-\x7f]", "a character that is not ASCII"),
)


def odd(text: str) -> str | None:
    """What a text has in it that no header can hold (RFC 9110, 5.5: outside of ASCII nobody knows what it means)."""
    if text.isascii() and text.isprintable():
        return None
    for pattern, what in _ODD:
        if (found := re.search(pattern, text)) is not None:
            return what if what == _ODD[0][1] else f"{what} (U+{ord(found[0]):04X})"
    return None


def header_flaw(headers: object) -> str | None:
    """Why headers cannot be sent. Their values may be secrets, and are not shown."""
    try:
        pairs = dict(headers).items()  # type: ignore[call-overload]
    except (TypeError, ValueError):
        return None  # no headers at all: LiteLLM says so
    for name, value in pairs:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
            return f"{reprlib.repr(name)} is no name for one"
        if not isinstance(value, str):
            return f"the value of {name} is no text but {type(value).__name__}"
        if (what := odd(value)) is not None:
            return f"the value of {name} has {what} in it"
    return None
