"""Which addresses a job may name, also by a redirect."""

import socket

import pytest

from shared.errors import InvalidInput
from shared.media.fetch import MAX_REDIRECTS, Fetcher
from tests.shared.media.fetching import PUBLIC, Internet, Names, complaint, fetcher_for
from tests.shared.media.loopback import loopback, redirect, reply


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
