"""Servers that cannot be reached as they are asked: certificates that nobody trusts, TLS where none is, resets."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Authority", "closes", "listening", "resets", "says", "talks_tls"]

Handler = Callable[[socket.socket], None]


class Authority:
    """Issues certificates that hold for 127.0.0.1, into files of a directory. `file` is its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority of the tests")])
        self.file = directory / "authority.pem"
        self.file.write_bytes(self._signed(self._name, self._key, authority=True, days=2))

    def server(self, name: str = "127.0.0.1", *, days: int = 2, ciphers: str | None = None) -> ssl.SSLContext:
        """The context of a server with a certificate for this IP address or host name, which ends after so many
        days."""
        key = ec.generate_private_key(ec.SECP256R1())
        path = self._directory / f"{name}{days}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(private + self._signed(x509.Name([]), key, name=name, days=days))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if ciphers is not None:
            context.set_ciphers(ciphers)
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(path)
        return context

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *,
        name: str | None = None,
        authority: bool = False,
        days: int,
    ) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=30))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if name is not None:
            named: x509.GeneralName = x509.DNSName(name)
            with suppress(ValueError):
                named = x509.IPAddress(ipaddress.ip_address(name))
            builder = builder.add_extension(x509.SubjectAlternativeName([named]), critical=name is not None)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@contextmanager
def listening(handler: Handler) -> Iterator[int]:
    """A loopback port, each of whose connections is given to the handler, and closed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = threading.Event()

        def serve() -> None:
            while not closed.is_set():
                with suppress(OSError):
                    connection, _ = server.accept()
                    with connection:
                        connection.settimeout(5)
                        handler(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = server.getsockname()[1]
        try:
            yield port
        finally:
            closed.set()
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
            thread.join()


def talks_tls(context: ssl.SSLContext, answer: bytes = b"") -> Handler:
    """Speaks TLS alone, and gives this answer."""

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as encrypted:
            request = b""
            while answer and b"\r\n\r\n" not in request:
                request += encrypted.recv(65536)
            encrypted.sendall(answer)

    return handle


def says(answer: bytes) -> Handler:
    """Answers whatever comes so, in plain bytes."""

    def handle(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)

    return handle


def resets(connection: socket.socket) -> None:
    """Cuts the connection off once something has come."""
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def closes(connection: socket.socket) -> None:
    """Hangs up once something has come."""
    connection.recv(65536)
