"""Fetching what a job names: sizes, deadlines, and answers that are not the file."""

import gzip
import threading

import pytest

from shared.errors import MediaTooLarge
from tests.shared.media.fetching import complaint, fetcher_for
from tests.shared.media.loopback import (
    Route,
    cut_short,
    drip_body,
    drip_body_of_no_length,
    drip_headers,
    endless,
    loopback,
    reply,
)


def test_gets_a_file() -> None:
    with loopback({"/cat.png": reply(200, b"meow")}) as server:
        assert fetcher_for(server).get(server.url("/cat.png?size=1")) == b"meow"
        assert server.seen[0].query == "size=1"
        assert server.seen[0].headers["Host"] == server.netloc
        assert server.seen[0].headers["Accept-Encoding"] == "identity"


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
