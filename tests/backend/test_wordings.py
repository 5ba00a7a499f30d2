"""The words in which servers and providers refuse a request, each with where it was found: the kind that it comes to,
whole and as a stream, before the answer and in the middle of one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from conftest import CANARY
from servers.raw import RawServer

from modelrouter.backend.current import LITELLM
from modelrouter.backend.insides import way
from modelrouter.catalog.target import Target
from modelrouter.completion import Kind
from modelrouter.planning.exchange import Failure, Piece, Request

pytestmark = pytest.mark.heavy

HELLO = Request(({"role": "user", "content": "hi"},))
MODELS = {
    "anthropic": "anthropic/claude-x",
    "bedrock": "bedrock/anthropic.claude-3-haiku-20240307-v1:0",
    "cohere": "cohere_chat/command-x",
    "gemini": "gemini/gemini-x",
    "ollama": "ollama_chat/m",
    "openai": "openai/gpt-x",
    "openrouter": "openrouter/a/b",
    "xai": "xai/grok-x",
}
VERSIONED = {"openai", "openrouter", "xai"}
"""Those whose addresses end in /v1."""

Ask = Callable[..., Failure]


@pytest.fixture(scope="module")
def raw() -> Iterator[RawServer]:
    with RawServer() as server:
        yield server


@pytest.fixture
def ask(raw: RawServer, keys: str, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Sends one request to a provider, and is given a failure."""
    for provider in ("COHERE", "GEMINI", "OPENROUTER", "XAI"):
        monkeypatch.setenv(f"{provider}_API_KEY", CANARY)
    for name, value in {"ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": CANARY, "REGION_NAME": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    LITELLM.load()

    def send(provider: str, *, stream: bool = False) -> Failure:
        base = raw.base + ("/v1" if provider in VERSIONED else "")
        target = Target("a", MODELS[provider], provider, api_base=base, own_address=False)
        if provider in ("openai", "anthropic"):
            target = replace(target, key_env=f"{provider.upper()}_API_KEY")
        failure = asyncio.run(streamed(target) if stream else LITELLM.send(target, HELLO, within=20))
        assert isinstance(failure, Failure)
        return failure

    return send


async def streamed(target: Target) -> Any:
    """What comes after the pieces."""
    came: Any = await LITELLM.open(target, HELLO, within=20, thinking=False)
    while isinstance(came, Piece):
        came = await came.stream.next(20)
    return came


def openai(message: str, code: str | int | None = None, kind: str = "invalid_request_error") -> Any:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def vllm(message: str) -> Any:
    return {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}


def anthropic(message: str, kind: str = "invalid_request_error") -> Any:
    return {"type": "error", "error": {"type": kind, "message": message}}


def gemini(code: int, status: str, message: str) -> Any:
    return {"error": {"code": code, "message": message, "status": status}}


def xai(code: str, error: str) -> Any:
    return {"code": code, "error": error}


def passed_on(code: int, raw: str, provider: str) -> Any:
    """As OpenRouter passes on what a provider said: https://openrouter.ai/docs/api-reference/errors."""
    metadata = {"raw": raw, "provider_name": provider}
    return {"error": {"message": "Provider returned error", "code": code, "metadata": metadata}}


QUOTES = "The prompt is too long. It exceeds the context window, and violates the content policy."
"""A user's text, which a refusal of another kind repeats."""

TOO_LONG: list[tuple[str, int, Any, str]] = [
    (
        "openai",
        400,
        vllm(
            "The decoder prompt (length 5951) is longer than the maximum model length of 4096. Make sure that "
            "`max_model_len` is no smaller than the number of text tokens."
        ),
        "vLLM, vllm/v1/engine/processor.py",
    ),
    (
        "openai",
        400,
        vllm(
            "The prompt (total length 25938) is too long to fit into the model (context length 4096). Make sure that "
            "`max_model_len` is no smaller than the number of text tokens plus multimodal tokens."
        ),
        "https://github.com/vllm-project/vllm/issues/12165",
    ),
    (
        "openai",
        400,
        vllm(
            "'max_tokens' or 'max_completion_tokens' is too large: 4096. This model's maximum context length is 8192 "
            "tokens and your request has 6000 input tokens (4096 > 8192 - 6000)."
        ),
        "vLLM, vllm/entrypoints/openai/serving_engine.py",
    ),
    (
        "openai",
        400,
        openai(
            "This model's maximum context length is 32768 tokens. However, you requested 1000 output tokens and your "
            "prompt contains at least 40000 input tokens, for a total of at least 41000 tokens. Please reduce the "
            "length of the input prompt or the number of requested output tokens.",
            400,
            "BadRequestError",
        ),
        "vLLM, vllm/renderers/params.py",
    ),
    (
        "openai",
        400,
        openai(
            "request (9412 tokens) exceeds the available context size (8192 tokens), try increasing it",
            400,
            "exceed_context_size_error",
        ),
        "llama.cpp, tools/server/server-context.cpp",
    ),
    (
        "openai",
        500,
        openai(
            "input (949 tokens) is too large to process. increase the physical batch size (current batch size: 512)",
            500,
            "server_error",
        ),
        "llama.cpp, tools/server/server-context.cpp",
    ),
    (
        "openai",
        400,
        {
            "error": "The number of tokens to keep from the initial prompt is greater than the context length (n_keep: "
            "5228>= n_ctx: 4096). Try to load the model with a larger context length, or provide a shorter input."
        },
        "https://github.com/lmstudio-ai/lmstudio-bug-tracker/issues/237",
    ),
    (
        "openai",
        400,
        openai(
            "Trying to keep the first 6000 tokens when context the overflows. However, the model is loaded with "
            "context length of only 4096 tokens, which is not enough."
        ),
        "https://github.com/lmstudio-ai/lmstudio-bug-tracker/issues/237",
    ),
    (
        "openai",
        400,
        vllm("The input (516368 tokens) is longer than the model's context length (262144 tokens)."),
        "SGLang, python/sglang/srt/managers/tokenizer_manager.py; Together",
    ),
    (
        "openai",
        400,
        vllm(
            "Requested token count exceeds the model's maximum context length of 65536 tokens. You requested a total "
            "of 67298 tokens: 50914 tokens from the input messages and 16384 tokens for the completion."
        ),
        "SGLang, python/sglang/srt/managers/tokenizer_manager.py",
    ),
    (
        "openai",
        422,
        {
            "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000 `inputs` "
            "tokens and 512 `max_new_tokens`",
            "error_type": "validation",
        },
        "TGI, router/src/validation.rs",
    ),
    (
        "openai",
        422,
        {
            "error": "Input validation error: `inputs` must have less than 4096 tokens. Given: 5000",
            "error_type": "validation",
        },
        "TGI, router/src/validation.rs",
    ),
    (
        "openai",
        400,
        vllm("The sum of prompt length (72417.0), query length (0) should not exceed max_num_tokens (69632)"),
        "TensorRT-LLM, tensorrt_llm/llmapi/llm.py",
    ),
    ("ollama", 400, {"error": "the input length exceeds the context length"}, "Ollama, server/routes.go"),
    (
        "ollama",
        400,
        {"error": "prompt too long; exceeded max context length by 4 tokens"},
        "Ollama's cloud: https://github.com/ollama/ollama/issues",
    ),
    (
        "openai",
        400,
        openai("The prompt is too long: 221782, model maximum context length: 202752"),
        "Ollama's cloud: https://github.com/ollama/ollama/issues",
    ),
    (
        "openai",
        400,
        openai("Your input exceeds the context window of this model. Please adjust your input and try again."),
        "https://platform.openai.com/docs/guides/error-codes",
    ),
    (
        "openai",
        400,
        openai(
            "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 305127 tokens. "
            "Please reduce the length of the messages."
        ),
        "LiteLLM, litellm_core_utils/exception_mapping_utils.py",
    ),
    (
        "openai",
        400,
        openai(
            "Invalid 'messages[0].content': string too long. Expected a string with maximum length 1048576, but got a "
            "string with length 1540820 instead.",
            "string_above_max_length",
        ),
        "https://community.openai.com/t/string-above-max-length",
    ),
    (
        "openai",
        400,
        openai(
            "Invalid 'messages': array too long. Expected an array with maximum length 2048, but got an array with "
            "length 2049 instead.",
            "array_above_max_length",
        ),
        "https://community.openai.com/t/array-too-long-2048",
    ),
    (
        "openai",
        413,
        openai("Request body too large for gpt-x model. Max size: 8000 tokens.", "tokens_limit_reached"),
        "GitHub Models",
    ),
    (
        "openai",
        400,
        openai("prompt token count of 51808 exceeds the limit of 12288", "model_max_prompt_tokens_exceeded"),
        "GitHub Copilot",
    ),
    (
        "xai",
        400,
        xai(
            "Client specified an invalid argument",
            "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
        ),
        "xAI; https://github.com/badlogic/pi-mono, packages/ai/src/utils/overflow.ts",
    ),
    (
        "openai",
        400,
        openai(
            "This model's maximum context length is 65536 tokens. However, you requested 73149 tokens (65149 in the "
            "messages, 8000 in the completion).",
            "invalid_request_error",
        ),
        "https://api-docs.deepseek.com",
    ),
    (
        "openai",
        400,
        openai(
            "Please reduce the length of the messages or completion. Current length is 9000 while limit is 8192",
            "context_length_exceeded",
        ),
        "Cerebras; LiteLLM's exception_mapping_utils.py",
    ),
    (
        "openai",
        400,
        openai("Current length is 9000 while limit is 8192"),
        "Cerebras; LiteLLM's exception_mapping_utils.py",
    ),
    (
        "openai",
        400,
        openai("Invalid request: Your request exceeded model token limit: 262144 (requested: 300000)"),
        "Moonshot: https://platform.moonshot.ai/docs/api/errors",
    ),
    (
        "openai",
        400,
        openai("Invalid request: Input token length too long"),
        "Moonshot: https://platform.moonshot.ai/docs/api/errors",
    ),
    ("openai", 400, openai("Prompt too long", "1261"), "Zhipu: https://docs.z.ai/api-reference/api-code"),
    ("openai", 400, openai("Prompt exceeds max length", "1261"), "Zhipu: https://docs.z.ai/api-reference/api-code"),
    ("openai", 400, openai("Prompt 超长", "1261"), "Zhipu: https://docs.bigmodel.cn/cn/api/api-code"),
    (
        "openai",
        400,
        openai(
            "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 129024]",
            "invalid_parameter_error",
        ),
        "DashScope: https://help.aliyun.com/zh/model-studio/error-code",
    ),
    (
        "openai",
        400,
        openai("invalid params, context window exceeds limit (2013)", "2013", "bad_request_error"),
        "MiniMax: https://platform.minimax.io/docs/api-reference/errorcode",
    ),
    (
        "openai",
        400,
        openai(
            "Total tokens of image and text exceed max message tokens. Request id: 02",
            "OutofContextError",
            "BadRequest",
        ),
        "Volcengine Ark: https://www.volcengine.com/docs/82379/1299023",
    ),
    (
        "openai",
        400,
        openai("Input length 131393 exceeds the maximum allowed input length of 131040 tokens."),
        "Poolside; https://github.com/badlogic/pi-mono, packages/ai/src/utils/overflow.ts",
    ),
    (
        "openai",
        400,
        openai("Prompt has 256468 tokens, but the configured context size is 256000 tokens"),
        "https://github.com/badlogic/pi-mono, packages/ai/src/utils/overflow.ts",
    ),
    (
        "openai",
        400,
        {
            "error": {
                "code": "input_length_error",
                "message": "Input too long. Received 7226 tokens, but the maximum input length is 4096 tokens.",
            }
        },
        "https://portkey.ai/error-library/input-length-error-10000",
    ),
    (
        "openrouter",
        400,
        passed_on(
            400,
            json.dumps(vllm("The decoder prompt (length 5951) is longer than the maximum model length of 4096.")),
            "Chutes",
        ),
        "https://openrouter.ai/docs/api-reference/errors",
    ),
    (
        "openai",
        400,
        openai(
            'litellm.BadRequestError: XaiException - {"code":"Client specified an invalid argument","error":"This '
            "model's maximum prompt length is 131072 but the request contains 537812 tokens.\"}. Received Model "
            "Group=grok-x",
            "400",
        ),
        "https://docs.litellm.ai/docs/proxy/error_diagnosis",
    ),
    (
        "cohere",
        400,
        {
            "message": "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 4292. Try "
            "using a shorter prompt, or enabling prompt truncating."
        },
        "https://docs.cohere.com/reference/errors",
    ),
    (
        "bedrock",
        400,
        {"message": "Input is too long for requested model."},
        "https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html",
    ),
    (
        "bedrock",
        400,
        {
            "message": "Input Tokens Exceeded: Number of input tokens exceeds maximum length. Please update "
            "the input to try again."
        },
        "https://repost.aws: Nova",
    ),
    (
        "bedrock",
        400,
        {"message": "This model's maximum context length is 131072 tokens. Please reduce the length of the prompt"},
        "Llama on Bedrock",
    ),
    (
        "anthropic",
        400,
        anthropic("prompt is too long: 213462 tokens > 200000 maximum"),
        "https://docs.anthropic.com/en/api/errors",
    ),
    (
        "anthropic",
        400,
        anthropic("messages: too many total text bytes: 9300000 > 9000000"),
        "https://docs.anthropic.com/en/api/errors",
    ),
    (
        "gemini",
        400,
        gemini(
            400,
            "INVALID_ARGUMENT",
            "The input token count (1196265) exceeds the maximum number of tokens allowed (1048575).",
        ),
        "https://ai.google.dev/gemini-api/docs/troubleshooting",
    ),
    (
        "gemini",
        400,
        gemini(400, "INVALID_ARGUMENT", "The input token count exceeds the maximum number of tokens allowed 1048576."),
        "https://ai.google.dev/gemini-api/docs/troubleshooting",
    ),
    (
        "gemini",
        400,
        gemini(
            400,
            "INVALID_ARGUMENT",
            "Unable to submit request because the input token count is 40000 but model only supports up to 32768. "
            "Reduce the input token count and try again.",
        ),
        "https://cloud.google.com/vertex-ai/generative-ai/docs/learn/prompts",
    ),
]

FILTERED: list[tuple[str, int, Any, str]] = [
    (
        "openai",
        400,
        openai("Content Exists Risk", "invalid_request_error"),
        "DeepSeek: https://github.com/deepseek-ai/awesome-deepseek-integration/issues/13",
    ),
    ("openai", 400, {"detail": "Content Exists Risk"}, "https://github.com/deepseek-ai/DeepSeek-V2/issues/30"),
    (
        "openai",
        400,
        openai("Input data may contain inappropriate content.", "data_inspection_failed", "data_inspection_failed"),
        "DashScope: https://help.aliyun.com/zh/model-studio/error-code",
    ),
    (
        "openai",
        400,
        openai("<400> InternalError.Algo.DataInspectionFailed: Output data may contain inappropriate content."),
        "DashScope: https://help.aliyun.com/zh/model-studio/error-code",
    ),
    (
        "openai",
        400,
        openai("The request was rejected because it was considered high risk", None, "content_filter"),
        "Moonshot: https://platform.moonshot.ai/docs/api/errors",
    ),
    (
        "openai",
        400,
        {
            "contentFilter": [{"level": 1, "role": "user"}],
            "error": {
                "code": "1301",
                "message": "System detected potentially unsafe or sensitive content in input or generation. Please "
                "avoid using prompts that may generate sensitive content. Thank you for your cooperation.",
            },
        },
        "Zhipu: https://docs.z.ai/api-reference/api-code",
    ),
    (
        "openai",
        400,
        openai(
            "系统检测到输入或生成内容可能包含不安全或敏感内容",
            "1301",
        ),
        "Zhipu: https://docs.bigmodel.cn/cn/api/api-code",
    ),
    (
        "openai",
        422,
        openai("input new_sensitive (1026)", "1026"),
        "MiniMax: https://platform.minimax.io/docs/api-reference/errorcode",
    ),
    (
        "openai",
        500,
        openai("output new_sensitive (1027)", "1027"),
        "MiniMax: https://platform.minimax.io/docs/api-reference/errorcode",
    ),
    (
        "openai",
        400,
        openai(
            "The request failed because the input text may contain sensitive information. Request id: 02",
            "InputTextSensitiveContentDetected",
            "BadRequest",
        ),
        "Volcengine Ark: https://www.volcengine.com/docs/82379/1299023",
    ),
    (
        "openai",
        451,
        openai("The content you provided or machine outputted is blocked.", None, "censorship_blocked"),
        "StepFun: https://platform.stepfun.com/docs/api-reference/error-code",
    ),
    (
        "openai",
        400,
        openai("Sensitive chat messages", "invalid_messages"),
        "https://github.com/UCloudDoc-Team/modelverse",
    ),
    (
        "openai",
        400,
        openai(
            "Your request was rejected as a result of our safety system. It may contain text that is not allowed.",
            "moderation_blocked",
        ),
        "https://platform.openai.com/docs/guides/error-codes",
    ),
    (
        "openai",
        400,
        openai("This content was flagged for possible cybersecurity risk.", "cyber_policy"),
        "https://platform.openai.com/docs/guides/safety-checks",
    ),
    (
        "openai",
        400,
        openai(
            "Invalid prompt: we've limited access to this content for safety reasons. This type of information may be "
            "used to benefit or to harm people.",
            "invalid_prompt",
        ),
        "https://community.openai.com/t/invalid-prompt-limited-access",
    ),
    (
        "openai",
        400,
        openai("This request has been blocked by our content filters.", "content_policy_violation"),
        "https://learn.microsoft.com/azure/ai-services/openai/concepts/content-filter",
    ),
    (
        "openai",
        400,
        {
            "error": {
                "message": "The request was refused.",
                "code": "bad_request",
                "innererror": {"code": "ResponsibleAIPolicyViolation"},
            }
        },
        "https://learn.microsoft.com/azure/ai-services/openai/concepts/content-filter",
    ),
    (
        "xai",
        403,
        xai(
            "The caller does not have permission to execute the specified operation",
            "Content violates usage guidelines. Team: x, API key ID: y, Model: grok-x, Failed check: "
            "SAFETY_CHECK_TYPE_BIO",
        ),
        "https://github.com/QuantumNous/new-api, service/violation_fee.go",
    ),
    (
        "openrouter",
        403,
        {
            "error": {
                "message": 'a/b requires moderation on OpenInference. Your input was flagged for "violence/graphic". '
                "No credits were charged.",
                "code": 403,
                "metadata": {"reasons": ["violence"], "flagged_input": QUOTES, "provider_name": "OpenInference"},
            }
        },
        "https://openrouter.ai/docs/api-reference/errors",
    ),
    (
        "openrouter",
        403,
        {
            "error": {
                "message": "Input flagged by moderation",
                "code": 403,
                "metadata": {"reasons": ["violence"], "flagged_input": QUOTES},
            }
        },
        "https://openrouter.ai/docs/api-reference/errors",
    ),
    (
        "openrouter",
        400,
        passed_on(400, json.dumps(openai("Content Exists Risk", "invalid_request_error")), "DeepSeek"),
        "https://openrouter.ai/docs/api-reference/errors",
    ),
    (
        "openrouter",
        451,
        passed_on(451, '{"error":{"message":"The content you provided or machine outputted is blocked."}}', "StepFun"),
        "https://openrouter.ai/docs/api-reference/errors",
    ),
    (
        "bedrock",
        400,
        {"message": "This request has been blocked by our content filters."},
        "https://docs.aws.amazon.com/bedrock/latest/userguide/abuse-detection.html",
    ),
    (
        "anthropic",
        400,
        anthropic("Output blocked by content filtering policy"),
        "https://docs.anthropic.com/en/api/errors",
    ),
    (
        "gemini",
        400,
        gemini(
            400,
            "INVALID_ARGUMENT",
            "The prompt could not be submitted. This prompt contains sensitive words that violate Google's "
            "Responsible AI practices.",
        ),
        "https://cloud.google.com/vertex-ai/generative-ai/docs/image/responsible-ai-imagen",
    ),
    ("gemini", 400, gemini(400, "INVALID_ARGUMENT", "输入的提示可能包含敏感内容"), "the same, in Chinese"),
    (
        "cohere",
        422,
        {
            "message": "blocked input: please adjust your prompt and try again, and ensure that the prompt "
            "follows our usage policy"
        },
        "https://docs.cohere.com/reference/errors",
    ),
    (
        "openai",
        400,
        openai("Input validation error: the input was blocked by the guardrail 'safety'.", "guardrail_violation"),
        "https://docs.databricks.com/en/ai-gateway",
    ),
]

OTHERS: list[tuple[Kind, str, int, Any, str]] = [
    # Money.
    (
        Kind.QUOTA,
        "openai",
        429,
        openai("Insufficient balance or no resource package. Please recharge.", "1113"),
        "Zhipu: https://docs.z.ai/api-reference/api-code",
    ),
    (
        Kind.QUOTA,
        "openai",
        429,
        openai(
            "Your account org-x is suspended, please check your plan and billing details",
            None,
            "exceeded_current_quota_error",
        ),
        "Moonshot: https://platform.moonshot.ai/docs/api/errors",
    ),
    (
        Kind.QUOTA,
        "openai",
        400,
        openai("Access denied, please make sure your account is in good standing.", "Arrearage", "Arrearage"),
        "DashScope: https://help.aliyun.com/zh/model-studio/error-code",
    ),
    (
        Kind.QUOTA,
        "xai",
        403,
        xai(
            "The caller does not have permission to execute the specified operation",
            "Your team x has either used all available credits or reached its monthly spending limit. To continue "
            "making API requests, please purchase more credits or raise your spending limit.",
        ),
        "https://docs.x.ai",
    ),
    (
        Kind.QUOTA,
        "xai",
        429,
        xai(
            "Some resource has been exhausted",
            "Your team x has either used all available credits or reached its monthly spending limit.",
        ),
        "https://docs.x.ai",
    ),
    (
        Kind.QUOTA,
        "openai",
        403,
        openai("The request failed because your account has an overdue balance.", "AccountOverdueError", "Forbidden"),
        "Volcengine Ark: https://www.volcengine.com/docs/82379/1299023",
    ),
    # No such model.
    (Kind.NOT_FOUND, "openai", 400, openai("Model Not Exist"), "https://api-docs.deepseek.com"),
    (
        Kind.NOT_FOUND,
        "xai",
        400,
        xai("Client specified an invalid argument", "Model not found: grok-x"),
        "https://docs.x.ai",
    ),
    (
        Kind.NOT_FOUND,
        "openai",
        400,
        openai("Model does not exist, please check the model code", "1211"),
        "Zhipu: https://docs.z.ai/api-reference/api-code",
    ),
    (
        Kind.NOT_FOUND,
        "openai",
        400,
        {"code": 20012, "message": "Model does not exist. Please check it carefully.", "data": None},
        "SiliconFlow: https://docs.siliconflow.com/en/faqs/error-code",
    ),
    # Beyond this model.
    (
        Kind.UNSUPPORTED,
        "openai",
        400,
        openai(
            "`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens` is less than the "
            "`context_window` for this model"
        ),
        "https://console.groq.com/docs/errors",
    ),
    (
        Kind.UNSUPPORTED,
        "openai",
        400,
        openai("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]"),
        "https://api-docs.deepseek.com",
    ),
    (
        Kind.UNSUPPORTED,
        "openai",
        400,
        openai("<400> InternalError.Algo.InvalidParameter: Range of max_tokens should be [1, 8192]"),
        "DashScope: https://help.aliyun.com/zh/model-studio/error-code",
    ),
    (
        Kind.UNSUPPORTED,
        "gemini",
        400,
        gemini(
            400,
            "INVALID_ARGUMENT",
            "Unable to submit request because it has a maxOutputTokens value of 100000 but the supported range is "
            "from 1 (inclusive) to 8193 (exclusive). Update the value and try again.",
        ),
        "https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference",
    ),
    (
        Kind.UNSUPPORTED,
        "bedrock",
        400,
        {
            "message": "The maximum tokens you requested exceeds the model limit of 8192. Try again with a maximum "
            "tokens value that is lower than 8192."
        },
        "https://repost.aws",
    ),
    (
        Kind.UNSUPPORTED,
        "openai",
        422,
        {"error": "Input validation error: `max_new_tokens` must be <= 512. Given: 600", "error_type": "validation"},
        "TGI, router/src/validation.rs",
    ),
    (
        Kind.UNSUPPORTED,
        "openai",
        400,
        openai(
            "Failed to deserialize the JSON body into the target type: messages[0]: unknown variant `image_url`, "
            "expected `text` at line 1 column 80"
        ),
        "https://api-docs.deepseek.com",
    ),
    (
        Kind.UNSUPPORTED,
        "openai",
        400,
        vllm('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
        "vLLM, entrypoints/openai/serving_chat.py",
    ),
    (
        Kind.UNSUPPORTED,
        "openai",
        400,
        vllm("At most 0 image(s) may be provided in one prompt."),
        "vLLM, vllm/multimodal",
    ),
    (
        Kind.UNSUPPORTED,
        "openai",
        500,
        openai(
            "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
            500,
            "server_error",
        ),
        "llama.cpp, tools/server/server-common.cpp",
    ),
    (
        Kind.UNSUPPORTED,
        "gemini",
        400,
        gemini(400, "INVALID_ARGUMENT", "Function calling is not enabled for models/gemma-3-27b-it"),
        "https://ai.google.dev/gemma/docs",
    ),
    (
        Kind.UNSUPPORTED,
        "openai",
        400,
        {"error": "'response_format.type' must be 'json_schema' or 'text'"},
        "LM Studio: https://github.com/lmstudio-ai/lmstudio-bug-tracker",
    ),
    (
        Kind.UNSUPPORTED,
        "openai",
        400,
        openai("This response_format type is unavailable now"),
        "https://api-docs.deepseek.com",
    ),
    # The caller's to mend, whatever it is called and whatever it repeats.
    *(
        (Kind.BAD_REQUEST, wire, status, body, "")
        for wire, status, body in (
            ("openai", 400, openai("Unrecognized request argument supplied: context_window")),
            ("openai", 400, openai("Unknown parameter: 'content_filter'.", "unknown_parameter")),
            ("openai", 400, openai("Unknown parameter: 'maximum_context_length'.", "unknown_parameter")),
            ("openai", 400, openai("Missing parameter 'tool_call_id': get_context_length was called.")),
            (
                "openai",
                400,
                openai(
                    "Invalid 'user': string too long. Expected a string with maximum length 64, but got "
                    "a string with length 70 instead.",
                    "string_above_max_length",
                ),
            ),
            (
                "openai",
                400,
                openai(
                    "Invalid 'tools[0].function.name': string too long. Expected a string with maximum "
                    "length 64, but got a string with length 70 instead.",
                    "string_above_max_length",
                ),
            ),
            ("openai", 400, openai(f"Invalid value: '{QUOTES}'. Supported values are: 'system' and 'user'.")),
            ("openai", 400, openai(f'Invalid type for "name": "{QUOTES}" is no number.')),
            ("openai", 400, openai("Invalid value: 'it's over the maximum context length'. Expected a number.")),
            (
                "openai",
                400,
                vllm(
                    f"[{{'type': 'missing', 'loc': ('body', 'messages', 0, 'role'), 'msg': 'Field "
                    f"required', 'input': {{'content': '{QUOTES}'}}}}]"
                ),
            ),
            (
                "openai",
                422,
                {
                    "detail": [
                        {
                            "type": "missing",
                            "loc": ["body", "role"],
                            "msg": "Field required",
                            "input": {"content": QUOTES},
                        }
                    ]
                },
            ),
            ("openai", 400, openai("max_tokens must be at least 1, got 0")),
            (
                "openai",
                400,
                openai(
                    "Invalid 'max_tokens': integer below minimum value. Expected a value >= 1, but got 0 instead.",
                    "integer_below_min_value",
                ),
            ),
            ("anthropic", 400, anthropic(f"messages.0.role: Input should be 'user' or 'assistant', not '{QUOTES}'")),
            ("anthropic", 400, anthropic("tools.0.custom.name: String should have at most 128 characters")),
            ("gemini", 400, gemini(400, "INVALID_ARGUMENT", f'Invalid value at "contents[0].role": "{QUOTES}"')),
            ("ollama", 400, {"error": f'invalid role: "{QUOTES}"'}),
        )
    ),
]

ROWS = [
    *((Kind.CONTEXT_WINDOW, *row) for row in TOO_LONG),
    *((Kind.CONTENT_POLICY, *row) for row in FILTERED),
    *OTHERS,
]


def words_of(body: Any) -> str:
    error = body.get("error", body.get("detail", body))
    said = error if isinstance(error, str) else str(error.get("message", "")) if isinstance(error, dict) else "list"
    return said[:44].replace("[", "(").replace("::", ":")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("kind", "wire", "status", "body"),
    [row[:4] for row in ROWS],
    ids=[f"{row[1]} {row[2]} {words_of(row[3])}" for row in ROWS],
)
def test_the_words_of_a_refusal_come_to_its_kind(
    kind: Kind, wire: str, status: int, body: Any, stream: bool, ask: Ask, raw: RawServer
) -> None:
    raw.says(body, status)
    failure = ask(wire, stream=stream)
    assert (failure.kind, failure.status) == (kind, status)
    assert len(raw.bodies) == 1


# In the middle of an answer whose status was 200

PIECE = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
PIECE |= {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "so"}, "finish_reason": None}]}
STREAMED: list[tuple[Kind, str, Any]] = [
    (Kind.CONTEXT_WINDOW, "openai", openai("longer than the maximum model length of 4096", 400)),
    (Kind.CONTEXT_WINDOW, "openai", openai("It is too much.", "context_length_exceeded")),
    (Kind.CONTENT_POLICY, "openai", openai("Content Exists Risk", "invalid_request_error")),
    (Kind.CONTENT_POLICY, "openai", {"error": "Content Exists Risk"}),
    (Kind.CONTENT_POLICY, "openrouter", passed_on(400, json.dumps(openai("Content Exists Risk")), "DeepSeek")),
    (Kind.QUOTA, "openai", openai("You exceeded your current quota", "insufficient_quota", "insufficient_quota")),
    (Kind.RATE_LIMIT, "openai", openai("slow down", 429)),
    (Kind.SERVER, "openai", openai("The operation was cancelled.", 499)),
    (Kind.SERVER, "openai", openai("Overloaded", "503")),
    (Kind.SERVER, "openai", openai("The server had an error", None, "server_error")),
    (Kind.BAD_REQUEST, "openai", openai("messages are odd")),
    (Kind.CONTEXT_WINDOW, "anthropic", anthropic("prompt is too long: 213462 tokens > 200000 maximum")),
    (Kind.CONTENT_POLICY, "anthropic", anthropic("Output blocked by content filtering policy")),
    (Kind.SERVER, "anthropic", anthropic("Overloaded", "overloaded_error")),
    (Kind.CONTEXT_WINDOW, "ollama", {"error": "the input length exceeds the context length"}),
    (Kind.SERVER, "ollama", {"error": "unexpected EOF"}),
    (Kind.SERVER, "gemini", gemini(499, "CANCELLED", "The operation was cancelled.")),
    (
        Kind.CONTEXT_WINDOW,
        "gemini",
        gemini(400, "INVALID_ARGUMENT", "The input token count exceeds the maximum number of tokens allowed 1048576."),
    ),
]


@pytest.fixture(params=["quick", "plain"])
def way_of(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, litellms_litter: None) -> Iterator[None]:
    """Both ways of calling LiteLLM."""
    if request.param == "plain":
        monkeypatch.setenv("MODELROUTER_LITELLM", "plain")
    LITELLM.load()
    way.choose()
    yield
    monkeypatch.undo()
    way.choose()


@pytest.mark.parametrize("begun", [False, True], ids=["first", "after a piece"])
@pytest.mark.parametrize(("kind", "wire", "body"), STREAMED, ids=[f"{row[1]} {words_of(row[2])}" for row in STREAMED])
def test_an_error_in_a_stream_comes_to_its_kind(
    kind: Kind, wire: str, body: Any, begun: bool, way_of: None, ask: Ask, raw: RawServer
) -> None:
    begun = begun and wire in ("openai", "openrouter")
    lines = [json.dumps(each) for each in ([PIECE] if begun else []) + [body]]
    if wire == "ollama":
        raw.says("\n".join(lines) + "\n", content_type="application/x-ndjson")
    else:
        event = "event: error\n" if wire == "anthropic" else ""
        raw.says("".join(f"{event}data: {line}\n\n" for line in lines), content_type="text/event-stream")
    assert ask(wire, stream=True).kind is kind


# Without words


@pytest.mark.parametrize("wire", ["openai", "anthropic", "gemini", "ollama"])
@pytest.mark.parametrize(
    ("kind", "statuses"),
    [
        (Kind.SERVER, (409, 421, 423, 424, 425, 444, 449, 460, 498, 499, 520, 522, 524, 525, 526, 529, 530, 599)),
        (Kind.AUTH, (401, 419, 440)),
        (Kind.RATE_LIMIT, (420, 429)),
        (Kind.NOT_FOUND, (404, 410)),
        (Kind.CONTENT_POLICY, (451,)),
        (Kind.BAD_REQUEST, (400, 405, 415, 418, 431)),
    ],
)
def test_a_status_alone_comes_to_its_kind(
    kind: Kind, statuses: tuple[int, ...], wire: str, ask: Ask, raw: RawServer
) -> None:
    for status in statuses:
        for stream in (False, True):
            raw.says({"error": "it is so"}, status)
            failure = ask(wire, stream=stream)
            assert (failure.kind, failure.status) == (kind, status)
