"""Certificates, and handshakes that never end."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shared.media.fetch import Fetcher
from tests.shared.media.fetching import PUBLIC, Internet, Names, complaint
from tests.shared.media.loopback import Loopback, Route, loopback, reply


def test_a_peer_that_never_finishes_the_tls_handshake_is_cut_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        netloc = f"127.0.0.1:{silent.getsockname()[1]}"
        message = complaint(Fetcher(100, 0.3, netloc), f"https://{netloc}/")
    assert "took longer than 0.3 s" in message


@contextmanager
def tls_server(
    name: str, folder: Path, routes: dict[str, Route]
) -> Iterator[tuple[Loopback, ssl.SSLContext, list[str]]]:
    """A server with a certificate for one name, the context that trusts it, and the names that clients asked for."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.pem").write_bytes(pem + private)
    context, asked = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), list[str]()
    context.load_cert_chain(folder / "server.pem")
    context.sni_callback = lambda sock, asked_name, ctx: asked.append(asked_name)
    with loopback(routes, context) as server:
        yield server, ssl.create_default_context(cadata=pem.decode()), asked


def test_the_certificate_is_checked_for_the_name_though_the_address_is_dialled(tmp_path: Path) -> None:
    with tls_server("media.example", tmp_path, {"/x": reply(200, b"ok")}) as (server, trust, asked):
        names = Names(media_example=[[PUBLIC]], other_example=[[PUBLIC]])
        fetcher = Fetcher(100, 5, resolver=names, dial=Internet(server), tls=trust)

        assert fetcher.get("https://media.example/x") == b"ok"
        assert asked == ["media.example"]
        assert server.seen[0].headers["Host"] == "media.example"
        assert "no certificate that is valid" in complaint(fetcher, "https://other.example/x")
        assert len(server.seen) == 1


def test_an_unknown_issuer_is_refused_by_default(tmp_path: Path) -> None:
    with tls_server("localhost", tmp_path, {"/x": reply(200, b"ok")}) as (server, _, _):
        fetcher = Fetcher(100, 5, f"localhost:{server.port}")

        assert "no certificate that is valid" in complaint(fetcher, f"https://localhost:{server.port}/x")
        assert server.seen == []
