"""Files that are put, and JSON that is posted, to where a job says."""

import pytest

from shared.errors import DeliveryFailed, InvalidInput
from shared.media.fetch import Fetcher
from tests.shared.media.fetching import fetcher_for
from tests.shared.media.loopback import hang_up, in_turn, loopback, redirect, reply


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
