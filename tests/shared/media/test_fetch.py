import gzip
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shared.errors import DeliveryFailed, InvalidInput, JobError, MediaTooLarge
from shared.media.fetch import MAX_REDIRECTS, Fetcher
from tests.shared.media.loopback import (
    Loopback,
    Route,
    cut_short,
    drip_body,
    drip_body_of_no_length,
    drip_headers,
    endless,
    hang_up,
    in_turn,
    loopback,
    redirect,
    reply,
)

PUBLIC = "93.184.215.14"


class Names:
    """A resolver that answers from a table: a list is answered one after the other, the last one for ever."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self._answers = {name.replace("_", "."): list(turns) for name, turns in answers.items()}
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        turns = self._answers[host]
        return turns.pop(0) if len(turns) > 1 else turns[0]


class Internet:
    """Dials a loopback server in place of PUBLIC, and nothing else; keeps the addresses that were dialled."""

    def __init__(self, server: Loopback) -> None:
        self._server = server
        self.dialled: list[tuple[str, int]] = []

    def __call__(self, address: tuple[str, int], timeout_s: float) -> socket.socket:
        self.dialled.append(address)
        if address[0] != PUBLIC:
            raise ConnectionRefusedError(address)
        return socket.create_connection(("127.0.0.1", self._server.port), timeout_s)


def fetcher_for(server: Loopback, max_bytes: int = 100_000, timeout_s: float = 20) -> Fetcher:
    return Fetcher(max_bytes, timeout_s, server.netloc, backoff_s=0)


def complaint(fetcher: Fetcher, url: str, error: type[JobError] = InvalidInput) -> str:
    with pytest.raises(error) as caught:
        fetcher.get(url)
    return caught.value.message


def test_gets_a_file() -> None:
    with loopback({"/cat.png": reply(200, b"meow")}) as server:
        assert fetcher_for(server).get(server.url("/cat.png?size=1")) == b"meow"
        assert server.seen[0].query == "size=1"
        assert server.seen[0].headers["Host"] == server.netloc
        assert server.seen[0].headers["Accept-Encoding"] == "identity"


def test_a_private_address_is_not_contacted() -> None:
    with loopback({"/": reply(200, b"inside")}) as server:
        message = complaint(Fetcher(100, 5), server.url("/?token=secret"))
        assert "127.0.0.1 points to a private address" in message
        assert "secret" not in message
        assert server.seen == []


@pytest.mark.parametrize(
    "host",
    [
        "10.0.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "2130706433",
        "0x7f.1",
        "017700000001",
        "127.1",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "0",
    ],
)
def test_refuses_closed_addresses_in_every_spelling(host: str) -> None:
    assert "private address" in complaint(Fetcher(100, 5), f"http://{host}:8080/latest/meta-data")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.com/x", "http:///x"])
def test_refuses_what_is_not_http(url: str) -> None:
    complaint(Fetcher(100, 5), url)


def test_refuses_credentials_in_a_url_without_repeating_them() -> None:
    message = complaint(Fetcher(100, 5), "https://user:hunter2@example.com/x")

    assert "credentials" in message
    assert "hunter2" not in message


def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    names = Names(mixed_example=[[PUBLIC, "10.0.0.1"]])

    assert "private address" in complaint(Fetcher(100, 5, resolver=names), "http://mixed.example/")


def test_a_host_that_is_not_known_is_the_requests_fault() -> None:
    def nowhere(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    assert "host no.example is not known" in complaint(Fetcher(100, 5, resolver=nowhere), "http://no.example/")


def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    with loopback({"/x": reply(200, b"ok")}) as server:
        names, internet = Names(media_example=[[PUBLIC]]), Internet(server)
        fetcher = Fetcher(100, 5, resolver=names, dial=internet)

        assert fetcher.get("http://media.example:8080/x") == b"ok"
        assert internet.dialled == [(PUBLIC, 8080)]
        assert server.seen[0].headers["Host"] == "media.example:8080"


def test_a_name_that_changes_its_address_after_the_check_gains_nothing() -> None:
    with loopback({"/x": reply(200, b"ok")}) as public, loopback({"/x": reply(200, b"inside")}) as inside:
        names, internet = Names(rebind_example=[[PUBLIC], ["127.0.0.1"]]), Internet(public)
        fetcher = Fetcher(100, 5, resolver=names, dial=internet)
        url = f"http://rebind.example:{inside.port}/x"

        assert fetcher.get(url) == b"ok"
        assert names.asked == ["rebind.example"]
        assert internet.dialled == [(PUBLIC, inside.port)]
        assert "private address" in complaint(fetcher, url)
        assert inside.seen == []


def test_a_redirect_resolves_and_checks_its_name_anew() -> None:
    with loopback({"/x": reply(200, b"inside")}) as inside:
        hop = redirect(f"http://rebind.example:{inside.port}/x")
        with loopback({"/x": hop}) as public:
            names, internet = Names(rebind_example=[[PUBLIC], ["127.0.0.1"]]), Internet(public)
            fetcher = Fetcher(100, 5, resolver=names, dial=internet)

            assert "private address" in complaint(fetcher, "http://rebind.example/x")
            assert internet.dialled == [(PUBLIC, 80)]
            assert inside.seen == []


def test_the_next_address_is_tried_where_one_does_not_answer() -> None:
    with loopback({"/x": reply(200, b"ok")}) as server:
        names, internet = Names(two_example=[["2606:4700::1111", PUBLIC]]), Internet(server)

        assert Fetcher(100, 5, resolver=names, dial=internet).get("http://two.example/x") == b"ok"
        assert [address for address, _ in internet.dialled] == ["2606:4700::1111", PUBLIC]


def test_follows_redirects_between_places_that_may_be_read() -> None:
    with loopback({"/a": redirect("/b?x=1", 301), "/b": redirect("c", 307), "/c": reply(200, b"there")}) as server:
        assert fetcher_for(server).get(server.url("/a")) == b"there"
        assert [seen.path for seen in server.seen] == ["/a", "/b", "/c"]


@pytest.mark.parametrize("location", ["http://127.0.0.1:{port}/x", "//localhost:{port}/x", "http://[::1]:{port}/x"])
def test_a_redirect_to_a_private_address_is_not_followed(location: str) -> None:
    with loopback({"/x": reply(200, b"inside")}) as inside:
        with loopback({"/a": redirect(location.format(port=inside.port))}) as server:
            assert "private address" in complaint(fetcher_for(server), server.url("/a"))
        assert inside.seen == []


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://user:pw@example.com/", "http://[::1", "gopher:x"])
def test_a_redirect_is_held_to_the_same_rules(location: str) -> None:
    with loopback({"/a": redirect(location)}) as server:
        complaint(fetcher_for(server), server.url("/a"))


def test_a_redirect_without_a_place_is_refused() -> None:
    with loopback({"/a": reply(302)}) as server:
        assert "redirects to nowhere" in complaint(fetcher_for(server), server.url("/a"))


def test_stops_after_too_many_redirects() -> None:
    with loopback({"/a": redirect("/a")}) as server:
        assert "more than 5 times" in complaint(fetcher_for(server), server.url("/a"))
        assert len(server.seen) == MAX_REDIRECTS + 1


def test_an_announced_size_over_the_limit_is_refused() -> None:
    with loopback({"/big": reply(200, b"x" * 2000)}) as server:
        message = complaint(fetcher_for(server, max_bytes=1000), server.url("/big"), MediaTooLarge)
    assert message == "the file at 127.0.0.1 is 2 kB; the limit is 1 kB (MAX_MEDIA_BYTES)"


def test_a_file_of_exactly_the_limit_is_read() -> None:
    with loopback({"/fits": reply(200, b"x" * 1000)}) as server:
        assert len(fetcher_for(server, max_bytes=1000).get(server.url("/fits"))) == 1000


def test_an_endless_body_is_left_at_the_limit() -> None:
    with loopback({"/endless": endless}) as server:
        assert "MAX_MEDIA_BYTES" in complaint(fetcher_for(server), server.url("/endless"), MediaTooLarge)


@pytest.mark.parametrize("route", [drip_body, drip_body_of_no_length, drip_headers])
def test_a_slow_drip_is_cut_at_the_deadline(route: Route) -> None:
    with loopback({"/slow": route}) as server:
        message = complaint(fetcher_for(server, timeout_s=0.3), server.url("/slow"))
    assert message == "127.0.0.1 took longer than 0.3 s (FETCH_TIMEOUT_S)"


def test_a_peer_that_never_finishes_the_tls_handshake_is_cut_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        netloc = f"127.0.0.1:{silent.getsockname()[1]}"
        message = complaint(Fetcher(100, 0.3, netloc), f"https://{netloc}/")
    assert "took longer than 0.3 s" in message


def test_a_body_that_ends_too_soon_is_not_taken_for_the_file() -> None:
    with loopback({"/cut": cut_short}) as server:
        assert "broke off" in complaint(fetcher_for(server), server.url("/cut"))


def test_an_encoded_answer_is_refused() -> None:
    bomb = gzip.compress(bytes(10_000_000))
    with loopback({"/z": reply(200, bomb, {"Content-Encoding": "gzip"})}) as server:
        assert "encoded as 'gzip'" in complaint(fetcher_for(server), server.url("/z"))


@pytest.mark.parametrize("status", [204, 206, 304, 401, 403, 404, 500])
def test_any_answer_but_200_is_named_with_its_host_and_without_its_query(status: int) -> None:
    with loopback({"/x": reply(status)}) as server:
        message = complaint(fetcher_for(server), server.url("/x?X-Amz-Signature=secret"))
    assert f"127.0.0.1 answered {status}" in message
    assert "secret" not in message


def test_a_closed_port_says_that_the_host_cannot_be_reached() -> None:
    with loopback({}) as server:
        fetcher, url = fetcher_for(server), server.url("/x?sig=secret")
    message = complaint(fetcher, url)
    assert "127.0.0.1 cannot be reached" in message
    assert "secret" not in message


def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    with loopback({"/x": reply(200, b"direct")}) as server, loopback({}) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://{proxy.netloc}")

        assert fetcher_for(server).get(server.url("/x")) == b"direct"
        assert proxy.seen == []


def test_an_exempt_host_is_exempt_on_its_port_only() -> None:
    with loopback({"/x": reply(200)}) as server, loopback({"/x": reply(200)}) as other:
        assert "private address" in complaint(fetcher_for(server), other.url("/x"))


def test_check_judges_without_contact() -> None:
    with loopback({}) as server:
        fetcher_for(server).check(server.url("/"))
        Fetcher(100, 5).check(server.url("/"), trusted=True)
        with pytest.raises(InvalidInput, match="private address"):
            Fetcher(100, 5).check(server.url("/"))
        assert server.seen == []


def test_puts_a_file_with_its_headers_and_answers_the_body() -> None:
    with loopback({"/out": reply(201, b"stored")}) as server:
        answer = fetcher_for(server).put(server.url("/out?sig=1"), b"png", {"Content-Type": "image/png"})

        seen = server.seen[0]
        assert answer == b"stored"
        assert (seen.method, seen.path, seen.query, seen.body) == ("PUT", "/out", "sig=1", b"png")
        assert seen.headers["Content-Type"] == "image/png"


def test_a_put_to_a_private_address_needs_trust() -> None:
    with loopback({"/out": reply(200)}) as server:
        with pytest.raises(InvalidInput, match="private address"):
            Fetcher(100, 5).put(server.url("/out"), b"x")
        assert server.seen == []
        Fetcher(100, 5).put(server.url("/out"), b"x", trusted=True)
        assert len(server.seen) == 1


def test_a_put_is_repeated_after_server_errors_and_lost_connections() -> None:
    with loopback({"/out": in_turn(reply(503), hang_up, reply(200))}) as server:
        fetcher_for(server).put(server.url("/out"), b"x")
        assert [seen.body for seen in server.seen] == [b"x"] * 3


def test_a_put_that_goes_on_failing_fails_the_delivery() -> None:
    with loopback({"/out": reply(500)}) as server:
        with pytest.raises(DeliveryFailed, match=r"127\.0\.0\.1 answered 500") as caught:
            fetcher_for(server).put(server.url("/out?sig=secret"), b"x")
        assert len(server.seen) == 3
        assert "secret" not in str(caught.value)


def test_a_refused_put_is_not_repeated() -> None:
    with loopback({"/out": reply(403)}) as server:
        with pytest.raises(DeliveryFailed, match="403"):
            fetcher_for(server).put(server.url("/out"), b"x")
        assert len(server.seen) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_put_follows_no_redirect(status: int) -> None:
    with loopback({"/out": redirect("/other", status), "/other": reply(200)}) as server:
        with pytest.raises(DeliveryFailed, match="not followed"):
            fetcher_for(server).put(server.url("/out"), b"x")
        assert [seen.path for seen in server.seen] == ["/out"]


def test_a_put_refuses_headers_that_are_not_a_jobs_to_set() -> None:
    with loopback({"/out": reply(200)}) as server:
        with pytest.raises(InvalidInput, match="Host"):
            fetcher_for(server).put(server.url("/out"), b"x", {"Host": "inside"})
        assert server.seen == []


def test_posts_json_once_and_answers_the_status() -> None:
    with loopback({"/hook": reply(500), "/moved": redirect("/hook")}) as server:
        fetcher = fetcher_for(server)

        assert fetcher.post_json(server.url("/hook"), b'{"id": 1}', {"X-Job": "7"}) == 500
        assert fetcher.post_json(server.url("/moved"), b"{}") == 302
        assert [(seen.method, seen.path, seen.body) for seen in server.seen] == [
            ("POST", "/hook", b'{"id": 1}'),
            ("POST", "/moved", b"{}"),
        ]
        assert server.seen[0].headers["Content-Type"] == "application/json"


def test_a_post_that_nobody_answers_fails_the_delivery() -> None:
    with loopback({"/hook": hang_up}) as server:
        with pytest.raises(DeliveryFailed):
            fetcher_for(server).post_json(server.url("/hook"), b"{}")
        with pytest.raises(InvalidInput, match="private address"):
            Fetcher(100, 5).post_json(server.url("/hook"), b"{}")


def test_fetches_from_several_threads_at_once() -> None:
    with loopback({f"/{n}": reply(200, str(n).encode()) for n in range(8)}) as server:
        fetcher, got = fetcher_for(server), dict[int, bytes]()

        def fetch(n: int) -> None:
            got[n] = fetcher.get(server.url(f"/{n}"))

        threads = [threading.Thread(target=fetch, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert got == {n: str(n).encode() for n in range(8)}


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
