"""What real providers say when they refuse, each in its own words and envelope: the kind that it must come to.

The messages are the providers' own, over a real socket and through LiteLLM's client for each; a text that begins to be
taken for something else shows here.
"""

from __future__ import annotations

import asyncio
import base64
import email.utils
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from conftest import CANARY
from hypothesis import example, given, settings
from hypothesis import strategies as st
from servers.raw import RawServer

from modelrouter.backend.current import LITELLM
from modelrouter.backend.failures import classify
from modelrouter.catalog.target import Target
from modelrouter.completion import Kind
from modelrouter.planning.exchange import Failure, Reply, Request

pytestmark = pytest.mark.heavy

HELLO = Request(({"role": "user", "content": "hi"},))
MODELS = {
    "anthropic": "anthropic/claude-x",
    "azure": "azure/deployment",
    "bedrock": "bedrock/anthropic.claude-3-haiku-20240307-v1:0",
    "deepseek": "deepseek/deepseek-chat",
    "gemini": "gemini/gemini-x",
    "groq": "groq/llama-x",
    "mistral": "mistral/m-x",
    "openai": "openai/gpt-x",
    "openrouter": "openrouter/a/b",
    "xai": "xai/grok-x",
}
UNVERSIONED = {"anthropic", "azure", "bedrock", "gemini"}
"""Those whose addresses do not end in /v1."""

Ask = Callable[[str], Failure]


@pytest.fixture(scope="module")
def raw() -> Iterator[RawServer]:
    with RawServer() as server:
        yield server


@pytest.fixture
def ask(raw: RawServer, keys: str, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Sends one request to a provider, and is given a failure."""
    for provider in MODELS.keys() - {"openai", "anthropic", "bedrock"}:
        monkeypatch.setenv(f"{provider.upper()}_API_KEY", CANARY)
    monkeypatch.setenv("AZURE_API_VERSION", "2024-06-01")
    for name, value in {"ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": CANARY, "REGION_NAME": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    LITELLM.load()

    def send(provider: str) -> Failure:
        base = raw.base + ("" if provider in UNVERSIONED else "/v1")
        target = Target("a", MODELS[provider], provider, api_base=base, own_address=False)
        if provider in ("openai", "anthropic"):
            target = replace(target, key_env=f"{provider.upper()}_API_KEY")
        failure = asyncio.run(LITELLM.send(target, HELLO, within=20))
        assert isinstance(failure, Failure)
        return failure

    return send


def openai(message: str, code: str | None = None, kind: str = "invalid_request_error") -> Any:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic(message: str, kind: str = "invalid_request_error") -> Any:
    return {"type": "error", "error": {"type": kind, "message": message}}


def gemini(code: int, status: str, message: str, *details: Mapping[str, Any]) -> Any:
    return {"error": {"code": code, "message": message, "status": status, **({"details": details} if details else {})}}


def mistral(message: str, kind: str, code: str) -> Any:
    return {"object": "error", "message": message, "type": kind, "code": code}


AZURE_FILTER = {"code": "content_filter", "status": 400, "innererror": {"code": "ResponsibleAIPolicyViolation"}}

SAID: list[tuple[Kind, str, int, Any]] = [
    # Too much in too short a time: it may pass, whatever else the words are about.
    (
        Kind.RATE_LIMIT,
        "openai",
        429,
        openai(
            "Rate limit reached for gpt-4 in organization org-x on requests per min (RPM): Limit 3, Used 3, Requested "
            "1. Please try again in 20s. Visit https://platform.openai.com/account/rate-limits to learn more. You can "
            "increase your rate limit by adding a payment method to your account at "
            "https://platform.openai.com/account/billing.",
            "rate_limit_exceeded",
            "requests",
        ),
    ),
    (
        Kind.RATE_LIMIT,
        "openai",
        429,
        openai(
            "Request too large for gpt-4 in organization org-x on tokens per min (TPM): Limit 10000, Requested 12000. "
            "The input or output tokens must be reduced in order to run successfully.",
            "rate_limit_exceeded",
            "tokens",
        ),
    ),
    (
        Kind.RATE_LIMIT,
        "anthropic",
        429,
        anthropic(
            "This request would exceed your organization's rate limit of 50,000 input tokens per minute (org: x, "
            "model: claude). For details, refer to: https://docs.anthropic.com/en/api/rate-limits. Please reduce the "
            "prompt length or the maximum tokens requested, or try again later.",
            "rate_limit_error",
        ),
    ),
    (
        Kind.RATE_LIMIT,
        "anthropic",
        429,
        anthropic("Extra usage is required for long context requests.", "rate_limit_error"),
    ),
    (
        Kind.RATE_LIMIT,
        "groq",
        413,
        openai(
            "Request too large for model `llama-x` in organization `org_x` service tier `on_demand` on tokens per "
            "minute (TPM): Limit 6000, Requested 7000, please reduce your message size and try again. Need more "
            "tokens? Upgrade to Dev Tier today at https://console.groq.com/settings/billing",
            "rate_limit_exceeded",
            "tokens",
        ),
    ),
    (
        Kind.RATE_LIMIT,
        "groq",
        429,
        openai(
            "Rate limit reached for model `llama-x` in organization `org_x` service tier `on_demand` on tokens per day "
            "(TPD): Limit 100000, Used 99000, Requested 2000. Please try again in 14m24s. Need more tokens? Upgrade to "
            "Dev Tier today at https://console.groq.com/settings/billing",
            "rate_limit_exceeded",
            "tokens",
        ),
    ),
    (
        Kind.RATE_LIMIT,
        "gemini",
        429,
        gemini(
            429,
            "RESOURCE_EXHAUSTED",
            "You exceeded your current quota, please check your plan and billing details. For more information on this "
            "error, head to: https://ai.google.dev/gemini-api/docs/rate-limits. \n* Quota exceeded for metric: "
            "generativelanguage.googleapis.com/generate_content_free_tier_requests, limit: 10\n"
            "Please retry in 12.5s.",
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12s"},
        ),
    ),
    (
        Kind.RATE_LIMIT,
        "azure",
        429,
        openai(
            "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-06-01 have exceeded "
            "token rate limit of your current OpenAI S0 pricing tier. Please retry after 8 seconds. Please go here: "
            "https://aka.ms/oai/quotaincrease if you would like to further increase the default rate limit.",
            "429",
        ),
    ),
    (Kind.RATE_LIMIT, "bedrock", 429, {"message": "Too many tokens, please wait before trying again."}),
    # Their trouble.
    (
        Kind.SERVER,
        "openai",
        500,
        openai(
            "The server had an error while processing your request. Sorry about that!", "server_error", "server_error"
        ),
    ),
    (
        Kind.SERVER,
        "gemini",
        503,
        gemini(503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    ),
    (
        Kind.SERVER,
        "bedrock",
        424,
        {"message": "The system encountered an unexpected error during processing. Try your request again."},
    ),
    # Money.
    (
        Kind.QUOTA,
        "openai",
        429,
        openai(
            "You exceeded your current quota, please check your plan and billing details.",
            "insufficient_quota",
            "insufficient_quota",
        ),
    ),
    (Kind.QUOTA, "openai", 400, openai("Billing hard limit has been reached", "billing_hard_limit_reached")),
    (
        Kind.QUOTA,
        "anthropic",
        400,
        anthropic(
            "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."
        ),
    ),
    (Kind.QUOTA, "deepseek", 402, openai("Insufficient Balance", "invalid_request_error", "unknown_error")),
    (
        Kind.QUOTA,
        "openrouter",
        402,
        {
            "error": {
                "message": "This request requires more credits, or fewer max_tokens. You requested up to 4096 tokens, "
                "but can only afford 100.",
                "code": 402,
            }
        },
    ),
    # Keys, and what they may.
    (Kind.AUTH, "gemini", 400, gemini(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.")),
    (Kind.AUTH, "gemini", 400, gemini(400, "INVALID_ARGUMENT", "API key expired. Please renew the API key.")),
    (
        Kind.AUTH,
        "xai",
        400,
        {
            "code": "Client specified an invalid argument",
            "error": "Incorrect API key provided: xa***AI. You can obtain an API key from https://console.x.ai.",
        },
    ),
    (
        Kind.PERMISSION,
        "openai",
        400,
        openai(
            "Your organization must be verified to stream this model. Please go to: "
            "https://platform.openai.com/settings/organization/general",
            "unsupported_value",
        ),
    ),
    (
        Kind.PERMISSION,
        "openai",
        403,
        openai(
            "Country, region, or territory not supported", "unsupported_country_region_territory", "request_forbidden"
        ),
    ),
    (
        Kind.PERMISSION,
        "openai",
        403,
        openai("Project `proj_x` does not have access to model `gpt-4`", "model_not_found"),
    ),
    (Kind.PERMISSION, "anthropic", 400, anthropic("This organization has been disabled.")),
    (
        Kind.PERMISSION,
        "gemini",
        403,
        gemini(403, "PERMISSION_DENIED", "Your API key was reported as leaked. Please use another API key."),
    ),
    (Kind.PERMISSION, "bedrock", 403, {"message": "The security token included in the request is invalid."}),
    # No such model.
    (Kind.NOT_FOUND, "openai", 400, openai("The requested model 'gpt-9' does not exist.", "model_not_found")),
    (
        Kind.NOT_FOUND,
        "azure",
        404,
        openai("The API deployment for this resource does not exist.", "DeploymentNotFound"),
    ),
    (Kind.NOT_FOUND, "mistral", 400, mistral("Invalid model: m-x", "invalid_model", "1500")),
    (Kind.NOT_FOUND, "openrouter", 400, {"error": {"message": "a/b is not a valid model ID", "code": 400}}),
    (Kind.NOT_FOUND, "bedrock", 400, {"message": "The provided model identifier is invalid."}),
    # Beyond this model: the next may well take it.
    (
        Kind.UNSUPPORTED,
        "openai",
        400,
        openai(
            "max_tokens is too large: 100000. This model supports at most 4096 completion tokens, whereas you provided "
            "100000.",
            "invalid_value",
        ),
    ),
    (
        Kind.UNSUPPORTED,
        "openai",
        400,
        openai(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
            "instead.",
            "unsupported_parameter",
        ),
    ),
    (
        Kind.UNSUPPORTED,
        "anthropic",
        400,
        anthropic(
            "max_tokens: 128000 > 8192, which is the maximum allowed number of output tokens for "
            "claude-3-5-sonnet-20240620"
        ),
    ),
    (
        Kind.UNSUPPORTED,
        "anthropic",
        400,
        anthropic("`temperature` may only be set to 1 when thinking is enabled."),
    ),
    (
        Kind.UNSUPPORTED,
        "anthropic",
        400,
        anthropic("The long context beta is not yet available for this subscription."),
    ),
    (
        Kind.UNSUPPORTED,
        "groq",
        400,
        openai("The model `llama-x` has been decommissioned and is no longer supported.", "model_decommissioned"),
    ),
    (
        Kind.UNSUPPORTED,
        "gemini",
        400,
        gemini(400, "FAILED_PRECONDITION", "User location is not supported for the API use."),
    ),
    (
        Kind.UNSUPPORTED,
        "bedrock",
        400,
        {
            "message": "Invocation of model ID anthropic.claude-x with on-demand throughput isn\u2019t supported. "
            "Retry your request with the ID or ARN of an inference profile that contains this model."
        },
    ),
    # The model's own failure to keep to the form.
    (
        Kind.EMPTY_RESPONSE,
        "groq",
        400,
        openai(
            "Failed to call a function. Please adjust your prompt. See 'failed_generation' for more details.",
            "tool_use_failed",
        ),
    ),
    (
        Kind.EMPTY_RESPONSE,
        "groq",
        400,
        openai(
            "Failed to generate JSON. Please adjust your prompt. See 'failed_generation' for more details.",
            "json_validate_failed",
        ),
    ),
    # Too long for it.
    (
        Kind.CONTEXT_WINDOW,
        "anthropic",
        400,
        anthropic(
            "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, decrease input length or "
            "`max_tokens` and try again"
        ),
    ),
    (Kind.CONTEXT_WINDOW, "anthropic", 413, anthropic("Request exceeds the maximum size", "request_too_large")),
    (
        Kind.CONTEXT_WINDOW,
        "groq",
        400,
        openai("Please reduce the length of the messages or completion.", "context_length_exceeded"),
    ),
    (
        Kind.CONTEXT_WINDOW,
        "gemini",
        400,
        gemini(
            400,
            "INVALID_ARGUMENT",
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        ),
    ),
    (
        Kind.CONTEXT_WINDOW,
        "mistral",
        400,
        mistral(
            "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
            "invalid_request_error",
            "3051",
        ),
    ),
    (
        Kind.CONTEXT_WINDOW,
        "openrouter",
        400,
        {
            "error": {
                "message": "This endpoint's maximum context length is 8192 tokens. However, you requested about 9000 "
                "tokens.",
                "code": 400,
            }
        },
    ),
    (Kind.CONTEXT_WINDOW, "bedrock", 400, {"message": "Input is too long for requested model."}),
    # Filtered.
    (
        Kind.CONTENT_POLICY,
        "openai",
        400,
        openai(
            "Invalid prompt: your prompt was flagged as potentially violating our usage policy. Please try again with "
            "a different prompt.",
            "invalid_prompt",
        ),
    ),
    (
        Kind.CONTENT_POLICY,
        "azure",
        400,
        {
            "error": {
                "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management "
                "policy.",
                **AZURE_FILTER,
            }
        },
    ),
    # The caller's to mend: no words in it may send the request on to the next model.
    (Kind.BAD_REQUEST, "openai", 400, openai("Invalid value for 'content': expected a string, got null.")),
    (
        Kind.BAD_REQUEST,
        "openai",
        400,
        openai(
            "Invalid schema for function 'get_billing_address': None is not of type 'object'.",
            "invalid_function_parameters",
        ),
    ),
    (
        Kind.BAD_REQUEST,
        "openai",
        400,
        openai(
            "Invalid schema for function 'set_context_window': None is not of type 'object'.",
            "invalid_function_parameters",
        ),
    ),
    (
        Kind.BAD_REQUEST,
        "openai",
        400,
        openai(
            "Invalid schema for response_format 'X': In context=('properties','a'), 'oneOf' is not permitted. 'format' "
            "is not supported."
        ),
    ),
    (
        Kind.BAD_REQUEST,
        "openai",
        400,
        openai(
            "Invalid MIME type. Only image types are supported. image/tiff is not supported.", "invalid_image_format"
        ),
    ),
    (Kind.BAD_REQUEST, "anthropic", 400, anthropic("messages: text content blocks must be non-empty")),
    (
        Kind.BAD_REQUEST,
        "anthropic",
        400,
        anthropic("max_tokens must be greater than thinking.budget_tokens"),
    ),
]


def message_of(body: Any) -> str:
    error = body.get("error", body)
    return str(error if isinstance(error, str) else error["message"])


@pytest.mark.parametrize(
    ("kind", "provider", "status", "body"),
    SAID,
    ids=[f"{row[1]} {row[2]} {message_of(row[3])[:40]}".replace("[", "(") for row in SAID],
)
def test_what_a_provider_says_comes_to_its_kind(
    kind: Kind, provider: str, status: int, body: Any, ask: Ask, raw: RawServer
) -> None:
    raw.says(body, status)
    failure = ask(provider)
    assert (failure.kind, failure.status) == (kind, status)
    words = " ".join(message_of(body).split())[:60]
    assert words in failure.message  # told in the provider's own words, and out of its envelope
    assert len(raw.bodies) == 1  # no retries below ours


def test_an_apostrophe_that_comes_escaped_reads_the_same(ask: Ask, raw: RawServer) -> None:
    raw.says(r'{"message": "Invocation with on-demand throughput isn\u2019t supported."}', 400)
    assert ask("bedrock").kind is Kind.UNSUPPORTED


# How long to wait


def in_ten_seconds() -> str:
    return email.utils.formatdate(time.time() + 10, usegmt=True)


@pytest.mark.parametrize(
    ("headers", "message", "seconds"),
    [
        ({"retry_after": "2.5"}, "slow", 2.5),
        ({"retry_after_ms": "1500", "retry_after": "2"}, "slow", 1.5),
        ({}, "Please try again in 20s.", 20),
        ({}, "Please try again in 1.5 s.", 1.5),
        ({}, "Please try again in 200ms.", 0.2),
        ({}, "Please try again in 14m24.5s.", 864.5),
        ({}, "Please try again in 1h2m3s.", 3723),
        ({}, "Please try again in 6m0s.", 360),
        ({}, "slow", None),
        # What no clock can make out is as good as nothing said.
        ({}, "Please try again in 5 minutes.", 300.0),
        ({}, "Please try again in a few minutes.", None),
        *(({"retry_after": odd}, "slow", None) for odd in ("-5", "nan", "inf", "1e400", "soon", "")),
        *(({"retry_after": f"Fri, 31 Dec {year} 23:59:59 GMT"}, "slow", None) for year in (99999, 999999999999)),
    ],
)
def test_how_long_to_wait_is_read_from_the_headers_or_the_words(
    headers: dict[str, str], message: str, seconds: float | None, ask: Ask, raw: RawServer
) -> None:
    raw.says(openai(message, "rate_limit_exceeded"), 429, **headers)
    failure = ask("openai")
    assert (failure.kind, failure.retry_after) == (Kind.RATE_LIMIT, seconds)


def test_how_long_to_wait_may_be_a_date(ask: Ask, raw: RawServer) -> None:
    raw.says(openai("slow"), 429, retry_after=in_ten_seconds())
    waited = ask("openai").retry_after
    assert waited is not None
    assert 0 < waited <= 10


# Whatever comes


@pytest.mark.parametrize(
    "body",
    ['{"error":' * 20_000, '{"error":' * 20_000 + "1" + "}" * 20_000, "", "null", "[]", '"no"', "\x00"],
    ids=["cut deep", "deep", "empty", "null", "list", "string", "zero"],
)
def test_a_body_that_nobody_can_read_is_a_refusal_all_the_same(body: str, ask: Ask, raw: RawServer) -> None:
    raw.says(body, 400)
    failure = ask("openai")
    assert (failure.kind, failure.status) == (Kind.BAD_REQUEST, 400)
    assert len(failure.message) < 400


class Raised(Exception):
    """As LiteLLM's: a message, a status, headers."""

    def __init__(self, message: str, status_code: object, header: object) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.litellm_response_headers = {"retry-after": header, "retry-after-ms": None}


@settings(deadline=None, max_examples=200)
@given(
    message=st.text() | st.recursive(st.text(), lambda inner: st.builds('{{"error": {}}}'.format, inner)),
    status=st.none() | st.integers(0, 999) | st.text(max_size=3),
    header=st.none() | st.text(max_size=12) | st.floats() | st.dates().map(str),
)
@example(message='{"error":' * 5_000, status=400, header=None)
@example(message="please try again in s", status=429, header="Fri, 31 Dec 99999 23:59:59 GMT")
def test_any_error_at_all_comes_to_a_failure_of_one_line(message: str, status: object, header: object) -> None:
    target = Target("a", "openai/a", "openai")
    failure = classify(Raised(f"{message} {CANARY}", status, header), target, [CANARY])
    assert CANARY not in failure.message
    assert len(failure.message.splitlines()) == 1
    assert len(failure.message) < 400
    assert failure.retry_after is None or 0 <= failure.retry_after < float("inf")


def test_a_password_in_an_address_is_not_told(keys: str, refused: str) -> None:
    LITELLM.load()
    base = refused.replace("//", "//user:s3cret@") + "/v1?key=s3cret"
    target = Target("a", "openai/a", "openai", api_base=base, own_address=False, key_env="OPENAI_API_KEY")
    failure = asyncio.run(LITELLM.send(target, HELLO, within=20))
    assert not isinstance(failure, Reply)
    assert failure.kind is Kind.CONNECTION
    assert "s3cret" not in failure.message


@pytest.mark.parametrize("wire", ["openai/a", "anthropic/a", "ollama_chat/a"])
def test_a_password_in_an_address_is_sent_as_a_header(wire: str, raw: RawServer, keys: str) -> None:
    LITELLM.load()
    raw.says({"error": {"message": "no"}}, 401)
    base = raw.base.replace("//", "//user:s3c%2Fret@")
    provider = wire.partition("/")[0].removesuffix("_chat")
    target = Target("a", wire, provider, api_base=base, own_address=False, key_env="OPENAI_API_KEY")
    failure = asyncio.run(LITELLM.send(target, HELLO, within=20))
    assert isinstance(failure, Failure)
    assert failure.kind is Kind.AUTH
    assert raw.headers[0]["authorization"] == f"Basic {base64.b64encode(b'user:s3c/ret').decode()}"


def test_a_package_that_litellm_lacks_is_named_and_the_next_model_is_asked() -> None:
    target = Target("a", "openai/a", "openai")
    failure = classify(ModuleNotFoundError("No module named 'mcp'"), target, [])
    assert failure.kind is Kind.UNSUPPORTED
    assert "pip install mcp" in failure.message


class Odd(Exception):
    """One that cannot even be looked at."""

    @property
    def message(self) -> str:
        raise RuntimeError("no")


def test_an_error_that_cannot_be_looked_at_is_a_failure_too() -> None:
    failure = classify(Odd(), Target("a", "openai/a", "openai"), [])
    assert (failure.kind, failure.raised) == (Kind.SERVER, "Odd")
