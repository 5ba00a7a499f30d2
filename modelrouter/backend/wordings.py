"""The words in which providers and servers refuse a request, and what they come to.

Found in their documentation and sources, in LiteLLM's ``exception_mapping_utils.py``, in ``overflow.ts`` of
https://github.com/badlogic/pi-mono, and in the issues of those who met them. tests/backend/test_wordings.py has each in
its envelope, with where it was found.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from modelrouter.completion import Kind

from .refusals import Refusal

Statuses = tuple[int | None, ...]

_LIMITED: Statuses = (413, 429, None)
_UNPAID: Statuses = (400, 402, 403, 429, None)
_TOO_LONG: Statuses = (400, 413, 422, 500, None)  # 500: llama.cpp's
_FILTERED: Statuses = (400, 403, 422, 451, 500, None)  # 500: MiniMax's
_BAD: Statuses = (400, None)
_BEYOND: Statuses = (400, 422, 500, None)  # 500: llama.cpp's
"""Under which statuses it is said; None: in a stream, or in an answer of status 200, without one."""

_PROMPT = r"\b(prompt|inputs?|context|conversation|messages?|requests?|text)\b(?![.\[])"
_MOST = "limit|maximum|max|allowed"
_STOPPED = r"(blocked|rejected|flagged|filtered|refused|violat\w+)"
_EVIL = "(sensitive|inappropriate|harmful|prohibited|unsafe|nsfw)"
_LIMIT = r"max_(new_|output_|completion_)?tokens[`'\"]*"

_ROWS: Sequence[tuple[Kind, Statuses, str, str]] = (
    # Groq says 413 for a prompt that is more than a minute's tokens; Gemini calls its limit per minute a quota; Bedrock
    (Kind.RATE_LIMIT, _LIMITED, r"rate limit reached|(tokens|requests) per (min|minute|day)", r"\brate_limit_exceeded"),
    (Kind.RATE_LIMIT, _LIMITED, r"please (retry|try again) in", ""),
    (Kind.RATE_LIMIT, _BAD, "", r"throttlingexception"),
    # -- The caller's to mend: a function of whatever name, and limits that are not the model's. But messages are.
    (Kind.BAD_REQUEST, _BAD, r"^\W*invalid (schema|mime type)", r"invalid_function_parameters"),
    (Kind.CONTEXT_WINDOW, _BAD, r"invalid 'messages\S* (string|array) too long|\bmessages'? is too long", ""),
    (Kind.BAD_REQUEST, _BAD, r"^\W*(invalid '\S+ (string|array) too long|(unknown|unrecognized) )", ""),
    # -- Not paid: OpenAI; Anthropic; xAI; Zhipu and DeepSeek; Volcengine, Zhipu and DashScope; Moonshot and OpenAI
    (Kind.QUOTA, _UNPAID, r"exceeded your current quota|billing hard limit", r"insufficient_quota|billing_hard_limit"),
    (Kind.QUOTA, _UNPAID, r"credit balance is too low|api usage limits", r"billing_error"),
    (Kind.QUOTA, _UNPAID, r"used all available credits", ""),
    (Kind.QUOTA, _UNPAID, r"insufficient (account )?(balance|credits|funds)", ""),
    (Kind.QUOTA, _UNPAID, r"overdue balance|in arrears|account is in good standing", r"arrearage"),
    (Kind.QUOTA, _UNPAID, "", r"exceeded_current_quota|credit_balance_exhausted|spend_limit"),
    # -- Too long: OpenAI, vLLM, SGLang, DeepSeek, OpenRouter, Mistral; xAI; vLLM; Ollama, Poolside, Anyscale
    (Kind.CONTEXT_WINDOW, _TOO_LONG, r"maximum (context|prompt|model) length", r"context_(length|window)_exceeded"),
    (Kind.CONTEXT_WINDOW, _TOO_LONG, r"max(imum)? (allowed )?(context|input)( token)? (length|size|limit)", ""),
    # llama.cpp; Copilot; GitHub Models, UCloud; Volcengine; Anthropic
    (Kind.CONTEXT_WINDOW, _TOO_LONG, r"physical batch size|configured context size", r"exceed_context_size"),
    (Kind.CONTEXT_WINDOW, _TOO_LONG, "", r"max_prompt_tokens_exceeded|tokens_(limit_reached|too_long)|outofcontext"),
    (Kind.CONTEXT_WINDOW, _TOO_LONG, "", r"request_too_large"),
    # TGI; DashScope; MiniMax; Cerebras; LM Studio; Nova; Zhipu
    (Kind.CONTEXT_WINDOW, _TOO_LONG, r"`inputs` (tokens \+ `max_new_tokens` must be|must have less than)", ""),
    (Kind.CONTEXT_WINDOW, _TOO_LONG, r"range of input length|context window exceeds|length is \d+ while limit is", ""),
    (Kind.CONTEXT_WINDOW, _TOO_LONG, r"context length of only", ""),
    # TensorRT-LLM; Bedrock; LM Studio; Zhipu, in Chinese
    (Kind.CONTEXT_WINDOW, _TOO_LONG, r"less than max_seq_len|exceed max_num_tokens|expected maxlength: \d", ""),
    (Kind.CONTEXT_WINDOW, _TOO_LONG, r"context( \w+)? overflows|prompt 超长|超过.{0,8}最大.{0,8}长度|过长", ""),
    # Groq, OpenAI; Gemini; Cohere, and Anthropic in bytes. Bedrock says it of a rate, with 429.
    (Kind.CONTEXT_WINDOW, _TOO_LONG, r"reduce (the length of the |the |your )(messages|input|prompt)", ""),
    (Kind.CONTEXT_WINDOW, (400, 413, 422, None), r"too many (input |prompt )?tokens\b|too many total text bytes", ""),
    # Anthropic, Bedrock, Ollama, Zhipu, Moonshot, llama.cpp
    (Kind.CONTEXT_WINDOW, _TOO_LONG, rf"{_PROMPT}( \w+){{0,3}}( \([^)]*\))?( is| are| was)? too (long|large)\b", ""),
    # OpenAI, Anthropic, llama.cpp, LM Studio, Ollama, Together, SGLang
    (Kind.CONTEXT_WINDOW, _TOO_LONG, r"(exceed(s|ed)?|(longer|greater) than) ([\w']+ ){0,3}context\b", ""),
    (Kind.CONTEXT_WINDOW, _TOO_LONG, r"context (size|length|window) (has been )?exceeded", ""),
    # Of the answer, not of the prompt: Bedrock; OpenAI; Anthropic; Groq, TGI; DashScope, DeepSeek; Gemini
    (Kind.UNSUPPORTED, _BEYOND, r"maximum tokens you requested exceeds|supports at most \d+ completion", ""),
    (Kind.UNSUPPORTED, _BEYOND, r"maximum allowed number of output", ""),
    (Kind.UNSUPPORTED, _BEYOND, rf"{_LIMIT} must be (<=|less than)|range of {_LIMIT}|{_LIMIT} exceeds?", ""),
    (Kind.UNSUPPORTED, _BEYOND, r"maxoutputtokens value of \d+ but the supported range", ""),
    # Gemini; OpenAI, Copilot; Moonshot; Volcengine; Nova
    (Kind.CONTEXT_WINDOW, _TOO_LONG, rf"({_PROMPT}|\btokens?)\b.{{0,40}}\bexceed(s|ed)?\b.{{0,30}}\b({_MOST})\b", ""),
    (Kind.CONTEXT_WINDOW, _TOO_LONG, r"token limit exceeded|supports (at most|up to) \d+ (input|prompt) tokens", ""),
    # -- Filtered: OpenAI, Azure, Anthropic, Bedrock; xAI, Cohere; OpenAI; DeepSeek, OpenRouter, Moonshot; DashScope
    (Kind.CONTENT_POLICY, _FILTERED, r"content (management )?polic|content filter", r"content_policy|\bcontent_filter"),
    (Kind.CONTENT_POLICY, _FILTERED, r"\buse policy|usage (polic|guidelines)", r"moderation_blocked|cyber_policy"),
    (Kind.CONTENT_POLICY, _FILTERED, r"safety (system|reasons|polic)|produced invalid content", r"responsibleaipolicy"),
    (Kind.CONTENT_POLICY, _FILTERED, r"content exists risk|requires moderation|considered high risk", ""),
    (Kind.CONTENT_POLICY, _FILTERED, r"data_?inspection_?failed", r"data_?inspection_?failed"),
    # OpenRouter, Databricks
    (Kind.CONTENT_POLICY, _FILTERED, rf"\b{_STOPPED}\b.{{0,60}}\b(moderation|safety|guardrail|polic)", r"guardrail"),
    (Kind.CONTENT_POLICY, _FILTERED, r"\bflagged (for|as)\b", r"risk_?detection"),
    # DashScope, Zhipu, Volcengine, Vertex, UCloud; in Chinese; MiniMax; StepFun; Gemini
    (Kind.CONTENT_POLICY, _FILTERED, rf"\b{_EVIL}[ _](content|information|words|chat)", r"sensitivecontent"),
    (Kind.CONTENT_POLICY, _FILTERED, r"敏感|内容安全|违规", r"prohibited_content"),
    (Kind.CONTENT_POLICY, _FILTERED, r"new_sensitive|machine outputted is blocked", r"censorship_blocked"),
    (Kind.CONTENT_POLICY, _FILTERED, r"finish_?reason: (safety|prohibited_content)|\bguardrail intervened", ""),
    # -- Keys: Gemini, xAI; Bedrock; OpenAI, Anthropic
    (
        Kind.AUTH,
        _BAD,
        r"api key (not valid|expired)|(incorrect|invalid) api key|locate credentials",
        r"invalid_api_key",
    ),
    (Kind.PERMISSION, _BAD, r"organization (has been disabled|must be verified)", ""),
    # -- No such model: OpenAI, Zhipu, SiliconFlow; OpenRouter; Mistral; Bedrock; LiteLLM; DeepSeek; xAI
    (Kind.NOT_FOUND, _BAD, r"model .{0,80}does not exist|not a valid model|invalid model\b", r"invalid_model\b"),
    (Kind.NOT_FOUND, _BAD, r"model identifier is invalid|llm provider not provided", r"model_?not_?found"),
    (Kind.NOT_FOUND, _BAD, r"model not (exist|found)", ""),
    # -- Groq: the model has not kept to the form
    (Kind.EMPTY_RESPONSE, _BAD, r"failed_generation", r"tool_use_failed|json_validate_failed"),
    # -- Beyond this model: another may well answer.
    (Kind.UNSUPPORTED, _BEYOND, r"does(n.{1,3}t| not) support|(is|are)(n.{1,3}t| not) supported", ""),
    (Kind.UNSUPPORTED, _BEYOND, r"unsupported (value|param|model)", r"unsupported_(value|param|model)"),
    (Kind.UNSUPPORTED, _BEYOND, r"does not have access to model|may only be set to", ""),
    # DeepSeek; vLLM; DeepSeek; vLLM; LM Studio; Gemma
    (Kind.UNSUPPORTED, _BEYOND, r"unknown variant `image_url`|at most \d+ (image|audio|video)", ""),
    (Kind.UNSUPPORTED, _BEYOND, r"response_format type is unavailable|tool choice requires --", ""),
    (Kind.UNSUPPORTED, _BEYOND, r"response_format\.type' must be|is not enabled for", ""),
    (Kind.UNSUPPORTED, _BEYOND, r"decommissioned|(has been|is) deprecated|no longer available|not yet available", ""),
)
"""What it comes to, under which statuses, by which words or codes; in the order in which it is looked for."""


def _compiled(pattern: str) -> re.Pattern[str] | None:
    return re.compile(pattern, re.IGNORECASE) if pattern else None


_LOOKED_FOR = [(kind, statuses, _compiled(words), _compiled(codes)) for kind, statuses, words, codes in _ROWS]


def kind_of(status: int | None, said: Refusal) -> Kind | None:
    """What a refusal comes to by what it says; None: that leaves it open."""
    for kind, statuses, words, codes in _LOOKED_FOR:
        if status in statuses and ((words and words.search(said.words)) or (codes and codes.search(said.codes))):
            return kind
    return None
