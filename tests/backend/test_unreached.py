"""What keeps a request from its provider is named for what it is, with its mend, on each wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from conftest import CANARY, WriteCatalog
from servers.tls import Authority, Handler, closes, listening, resets, says, talks_tls

from modelrouter import AllModelsFailed, Attempt, Router
from modelrouter.backend.current import LITELLM
from modelrouter.backend.insides import way
from modelrouter.completion import Kind

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("keys", "quick_backoff", "litellms_litter")]

WIRES = ("openai/x", "anthropic/x", "ollama/x", "gemini/x")
HOWS = ("complete", "acomplete", "stream", "astream")
Failed = Callable[..., list[Attempt]]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def failed(catalog: WriteCatalog, router: Router, monkeypatch: pytest.MonkeyPatch) -> Failed:
    """The attempts of a call of a model at an address, which fails."""
    monkeypatch.setenv("GEMINI_API_KEY", CANARY)

    def call(address: str, wire: str = "openai/x", how: str = "acomplete") -> list[Attempt]:
        catalog({"a": {"model": wire, "api_base": address}}, retries=1)
        with pytest.raises(AllModelsFailed) as failure:
            answer(router, how)
        return list(failure.value.attempts)

    return call


def answer(router: Router, how: str) -> Any:
    async def streamed() -> Any:
        async with router.astream("hi") as pieces:
            return [piece async for piece in pieces]

    if how == "stream":
        return list(router.stream("hi"))
    if how == "complete":
        return router.complete("hi")
    return asyncio.run(streamed() if how == "astream" else router.acomplete("hi"))


def told(attempts: list[Attempt], tries: int) -> str:
    assert [each.error_kind for each in attempts] == [Kind.CONNECTION] * tries
    assert attempts[0].status is None
    said = attempts[0].error or ""
    assert "ollama serve" not in said or said.startswith("nothing answers")
    return said


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("wire", WIRES)
def test_a_certificate_that_is_not_trusted(wire: str, how: str, failed: Failed, authority: Authority) -> None:
    with listening(talks_tls(authority.server())) as port:
        said = told(failed(f"https://127.0.0.1:{port}", wire, how), tries=1)
    assert said.startswith(f"the certificate of https://127.0.0.1:{port} is not trusted: unable to get local issuer")
    assert "set SSL_CERT_FILE to a file of certificates with its issuer's among them" in said


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    ("name", "days", "words"),
    [
        ("other.example", 2, "is for another name: IP address mismatch, certificate is not valid for '127.0.0.1'"),
        ("127.0.0.1", -1, "is out of date: certificate has expired; it must be renewed there"),
    ],
    ids=["name", "time"],
)
def test_a_certificate_of_somebody_or_some_time_else(
    name: str, days: int, words: str, wire: str, failed: Failed, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with listening(talks_tls(authority.server(name, days=days))) as port:
        assert words in told(failed(f"https://127.0.0.1:{port}", wire), tries=1)


def test_the_mend_mends(
    router: Router, catalog: WriteCatalog, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    choice = {"index": 0, "message": {"role": "assistant", "content": "so"}, "finish_reason": "stop"}
    body = json.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": "x", "choices": [choice]})
    whole = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    with listening(talks_tls(authority.server(), whole)) as port:
        catalog({"a": {"model": "openai/x", "api_base": f"https://127.0.0.1:{port}"}}, retries=0)
        assert answer(router, "acomplete").text == "so"


def html(words: str) -> bytes:
    return f"HTTP/1.1 400 Bad Request\r\nContent-Length: {len(words)}\r\nConnection: close\r\n\r\n{words}".encode()


HTTP_TO_TLS = {
    "nginx": html("<title>400 The plain HTTP request was sent to HTTPS port</title>"),
    "Go": b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
    "Apache": html("Reason: You're speaking plain HTTP to an SSL-enabled server port."),
    "an alert": b"\x15\x03\x01\x00\x02\x02\x46",
}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("server", HTTP_TO_TLS)
def test_http_where_tls_is_spoken(server: str, wire: str, failed: Failed) -> None:
    with listening(says(HTTP_TO_TLS[server])) as port:
        said = told(failed(f"http://127.0.0.1:{port}", wire), tries=1)
    assert said == f"http://127.0.0.1:{port} speaks TLS alone; write https:// in place of http://"


@pytest.mark.parametrize("wire", WIRES)
def test_tls_where_http_is_spoken(wire: str, failed: Failed) -> None:
    with listening(says(html("no"))) as port:
        said = told(failed(f"https://127.0.0.1:{port}", wire), tries=1)
    assert said.endswith("it does not speak TLS; write http:// in place of https://")


def test_a_tls_of_ciphers_that_nobody_uses_any_more(failed: Failed, authority: Authority) -> None:
    with listening(talks_tls(authority.server(ciphers="ECDHE-ECDSA-AES128-SHA"))) as port:
        said = told(failed(f"https://127.0.0.1:{port}"), tries=1)
    assert said.startswith(f"no TLS connection can be made to https://127.0.0.1:{port}: ")
    assert said.endswith("handshake failure")


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("handler", [resets, closes])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_connection_that_is_lost(scheme: str, handler: Handler, wire: str, failed: Failed) -> None:
    with listening(handler) as port:
        said = told(failed(f"{scheme}://127.0.0.1:{port}", wire), tries=2)
    assert said.startswith(f"the connection to {scheme}://127.0.0.1:{port} was lost: ")
    assert not said.endswith("Connection error.")


@pytest.mark.parametrize("wire", WIRES)
def test_a_name_that_is_not_known(wire: str, failed: Failed) -> None:
    said = told(failed("http://no-such-host.invalid:11434", wire), tries=2)
    assert said.startswith("the name in http://no-such-host.invalid:11434 is not known (")


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_refuses(
    scheme: str, wire: str, failed: Failed, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv(f"{scheme.upper()}_PROXY", refused)
    proxy = refused.removeprefix("http://")
    said = told(failed(f"{scheme}://somewhere.invalid", wire), tries=2)
    assert said.startswith(f"the proxy at {proxy} before {scheme}://somewhere.invalid does not answer; look at HTTP_PR")


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_a_password(scheme: str, wire: str, failed: Failed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    answered = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
    with listening(says(answered)) as port:
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", f"http://me:{CANARY}@127.0.0.1:{port}")
        said = told(failed(f"{scheme}://somewhere.invalid", wire), tries=1)
    assert said.startswith(f"the proxy before {scheme}://somewhere.invalid wants a user and a password")
    assert CANARY not in said


@pytest.mark.parametrize("wire", WIRES)
def test_a_server_behind_a_proxy_that_is_refused_is_the_servers_trouble(wire: str, failed: Failed) -> None:
    words = "upstream connect error or disconnect/reset before headers. reset reason: connection refused"
    with listening(says(html(words).replace(b"400 Bad Request", b"503 Service Unavailable"))) as port:
        attempts = failed(f"http://127.0.0.1:{port}", wire)
    assert [(each.error_kind, each.status) for each in attempts] == [(Kind.SERVER, 503)] * 2


def test_it_is_named_for_what_it_is_the_plain_way_too(
    failed: Failed, authority: Authority, monkeypatch: pytest.MonkeyPatch, refused: str, eager_catalog: None
) -> None:
    monkeypatch.setenv("MODELROUTER_LITELLM", "plain")
    LITELLM.load()
    way.choose()
    try:
        with listening(talks_tls(authority.server())) as port:
            for wire in WIRES:
                assert "is not trusted" in told(failed(f"https://127.0.0.1:{port}", wire), tries=1)
        for wire in WIRES:
            told(failed(refused, wire), tries=1 if wire == "ollama/x" else 2)
    finally:
        monkeypatch.undo()
        way.choose()
