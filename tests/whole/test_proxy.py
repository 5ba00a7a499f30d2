"""LiteLLM's proxy, as other tests start it."""

from __future__ import annotations

import httpx
import pytest
import yaml
from conftest import CANARY, StartProxy
from servers import ProxyServer, ScriptedServer


@pytest.fixture(scope="module")
def proxy(litellm_proxy: StartProxy, _scripted_server: ScriptedServer) -> ProxyServer:
    model = {"model": "openai/gpt-x", "api_base": _scripted_server.openai_base, "api_key": "os.environ/THE_KEY"}
    config = {
        "model_list": [{"model_name": "a", "litellm_params": model}],
        "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
    }
    return litellm_proxy(yaml.safe_dump(config), {"THE_KEY": CANARY})


def _ask(proxy: ProxyServer) -> httpx.Response:
    body = {"model": "a", "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"Authorization": f"Bearer {proxy.key}"}
    return httpx.post(f"{proxy.openai_base}/chat/completions", json=body, headers=headers, timeout=60)


@pytest.mark.slow
def test_it_answers_also_after_it_was_started_again(proxy: ProxyServer, server: ScriptedServer) -> None:
    assert _ask(proxy).json()["choices"][0]["message"]["content"] == "ok"
    proxy.stop()
    assert not proxy.lives()
    proxy.start()
    assert _ask(proxy).status_code == 200
    assert [request.headers["authorization"] for request in server.requests("gpt-x")] == [f"Bearer {CANARY}"] * 2
