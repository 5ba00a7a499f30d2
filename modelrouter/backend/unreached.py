"""Why a request did not come to its provider, and the mend: the name, the network, a proxy, TLS, the server itself."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections import ChainMap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modelrouter.catalog.known_providers import Provider


@dataclass(frozen=True, slots=True)
class Unreached:
    """What is wrong between here and an address."""

    message: str
    lasting: bool = False
    """It will not pass by itself."""


_NAMES = (62, 64)
"""OpenSSL's codes of certificates for another host name or IP address, and those for another time:
https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/."""
_TIMES = (9, 10)
_NO_TLS = ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST", "UNKNOWN_PROTOCOL")
_NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL)
_PROXIES = ("ClientProxyConnectionError", "ClientHttpProxyError", "ProxyError")  # aiohttp's, httpx's

_REFUSED = re.compile(r"connection refused|connect call failed|all connection attempts failed", re.IGNORECASE)
_WANTS_TLS = re.compile(
    r"plain http request was sent to https port|sent an http request to an https server|"
    r"speaking plain http to an ssl-enabled|\bb['\"]\\+x15\\+x03",
    re.IGNORECASE,
)
"""What nginx, Go's and Apache's servers answer, and the first bytes of an alert of TLS."""


def unreached(chain: Sequence[BaseException], address: str, provider: Provider) -> Unreached | None:
    """What kept a request from an `address`, out of what was raised, its causes last; None: nothing that is known."""
    if any(type(link).__name__ in _PROXIES for link in chain):
        return _proxy(chain, address)
    for link in chain:
        # aiohttp's are of these classes, too, and know nothing of it.
        if isinstance(link, ssl.SSLCertVerificationError) and hasattr(link, "verify_message"):
            return Unreached(_certificate(link, address), lasting=True)
        reason = getattr(link, "reason", None)
        if isinstance(link, ssl.SSLError) and isinstance(reason, str) and not isinstance(link, ssl.SSLEOFError):
            mend = "it does not speak TLS; write http:// in place of https://"
            said = mend if reason in _NO_TLS else reason.lower().replace("_", " ")
            return Unreached(f"no TLS connection can be made to {address}: {said}", lasting=True)
        if isinstance(link, socket.gaierror):
            said = f"the name in {address} is not known ({link.strerror}); correct it, or look at this machine's DNS"
            return Unreached(said)
        if isinstance(link, ConnectionRefusedError) or _REFUSED.search(str(link)):
            # A hosted provider's may pass; a server of one's own that is not running will not start by itself.
            return Unreached(provider.silent(address), lasting=provider.start is not None)
        if isinstance(link, OSError) and link.errno in _NO_WAY:
            return Unreached(f"there is no way from this machine to {address}: {link.strerror}")
        if (said_so := wants_tls(str(link), address)) is not None:
            return said_so
    return None


def wants_tls(said: str, address: str) -> Unreached | None:
    """Of a server that answers in words to a request that should have been encrypted."""
    if _WANTS_TLS.search(said) is None:
        return None
    return Unreached(f"{address} speaks TLS alone; write https:// in place of http://", lasting=True)


def wants_password(address: str) -> Unreached:
    """Of a proxy that answers 407."""
    message = f"the proxy before {address} wants a user and a password; give them in HTTP_PROXY and HTTPS_PROXY"
    return Unreached(message, lasting=True)


def _certificate(error: ssl.SSLCertVerificationError, address: str) -> str:
    said = error.verify_message.rstrip(".")
    if error.verify_code in _NAMES:
        return f"the certificate of {address} is for another name: {said}; correct the address"
    if error.verify_code in _TIMES:
        return f"the certificate of {address} is out of date: {said}; it must be renewed there, or this clock be set"
    mend = "set SSL_CERT_FILE to a file of certificates with its issuer's among them"
    return f"the certificate of {address} is not trusted: {said}; {mend}"


def _proxy(chain: Sequence[BaseException], address: str) -> Unreached:
    facts = ChainMap(*(vars(link) for link in chain))
    if (status := facts.get("status")) == 407:
        return wants_password(address)
    if status is not None:
        return Unreached(f"the proxy makes no connection to {address}: it answers {status}")
    asked: Any = facts.get("_conn_key")
    where = f" at {asked.host}:{asked.port}" if hasattr(asked, "host") else ""
    return Unreached(f"the proxy{where} before {address} does not answer; look at HTTP_PROXY and HTTPS_PROXY")
