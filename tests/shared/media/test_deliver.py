import base64
import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest

from shared.errors import DeliveryFailed, InvalidInput, ResultTooLarge
from shared.media.deliver import Deliverer, inline_size
from shared.media.fetch import Fetcher
from shared.media.s3 import bucket_at
from shared.settings import Settings
from tests.shared.media.loopback import Loopback, loopback, reply


@dataclass(frozen=True)
class File:
    data: bytes
    media_type: str = "image/png"
    extension: str = "png"


SMALL = [File(b"abc"), File(b"defg", "image/webp", "webp")]
LARGE = [File(bytes(900)), File(bytes(600), "image/webp", "webp")]
LIMIT = 1000
SECRET = "a-secret-of-forty-characters"


def fetcher_for(server: Loopback) -> Fetcher:
    return Fetcher(10_000, 20, server.netloc, backoff_s=0)


def s3_config(server: Loopback, **changes: Any) -> dict[str, Any]:
    return {
        "accessId": "AKID",
        "accessSecret": SECRET,
        "bucketName": "pictures",
        "endpointUrl": server.url(""),
        **changes,
    }


def puts_at(server: Loopback, *paths: str, **more: Any) -> dict[str, Any]:
    return {"put": [{"url": server.url(f"{path}?sig=secret"), **more} for path in paths]}


def signature(method: str, netloc: str, path: str, query: str, secret: str) -> str:
    """What AWS signature version 4 in the query should be (docs.aws.amazon.com, "Authenticating requests")."""
    given = dict(parse_qsl(query))
    del given["X-Amz-Signature"]
    fields = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in sorted(given.items()))
    canonical = f"{method}\n{path}\n{fields}\nhost:{netloc}\n\nhost\nUNSIGNED-PAYLOAD"
    scope = given["X-Amz-Credential"].partition("/")[2]
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    to_sign = f"AWS4-HMAC-SHA256\n{given['X-Amz-Date']}\n{scope}\n{digest}"
    return hmac.digest(key, to_sign.encode(), "sha256").hex()


def store(request: BaseHTTPRequestHandler) -> None:
    """Takes an object as S3 does: only with a signature that is right for this request."""
    path, _, query = request.path.partition("?")
    expected = signature(request.command, request.headers["Host"], path, query, SECRET)
    reply(200 if dict(parse_qsl(query))["X-Amz-Signature"] == expected else 403)(request)


def test_small_results_go_inline() -> None:
    urls = Deliverer(Fetcher(1, 1)).deliver("job-1", SMALL, None, None, LIMIT)

    assert urls == [
        f"data:image/png;base64,{base64.b64encode(b'abc').decode()}",
        f"data:image/webp;base64,{base64.b64encode(b'defg').decode()}",
    ]
    assert inline_size(SMALL) == sum(map(len, urls))


def test_the_limit_counts_the_text_that_is_sent() -> None:
    deliverer, size = Deliverer(Fetcher(1, 1)), inline_size(SMALL)

    assert deliverer.deliver("job-1", SMALL, None, None, size)
    with pytest.raises(ResultTooLarge):
        deliverer.deliver("job-1", SMALL, None, None, size - 1)


def test_without_a_limit_everything_goes_inline() -> None:
    assert Deliverer(Fetcher(1, 1)).deliver("job-1", LARGE, None, None, None)[0].startswith("data:image/png")


def test_a_result_with_nowhere_to_go_says_the_sizes_and_the_ways_out() -> None:
    with pytest.raises(ResultTooLarge) as caught:
        Deliverer(Fetcher(1, 1)).deliver("job-1", LARGE, None, None, LIMIT)
    for part in ("2.04 kB", "1 kB", "delivery.put", "s3Config", "BUCKET_ENDPOINT_URL"):
        assert part in caught.value.message


@pytest.mark.parametrize("outputs", [SMALL, LARGE])
def test_a_jobs_put_urls_always_get_its_files(outputs: list[File]) -> None:
    with loopback({"/a": reply(200), "/b": reply(200)}) as server:
        delivery = puts_at(server, "/a", "/b", headers={"x-ms-blob-type": "BlockBlob"})
        deliverer = Deliverer(fetcher_for(server))
        deliverer.check(delivery, None, 2)
        assert server.seen == []

        urls = deliverer.deliver("job-1", outputs, delivery, s3_config(server), LIMIT)

        assert urls == [server.url("/a"), server.url("/b")]
        assert [(seen.method, seen.body) for seen in server.seen] == [("PUT", file.data) for file in outputs]
        assert [seen.headers["Content-Type"] for seen in server.seen] == ["image/png", "image/webp"]
        assert server.seen[0].headers["x-ms-blob-type"] == "BlockBlob"
        assert server.seen[0].query == "sig=secret"


def test_a_jobs_own_content_type_stands() -> None:
    with loopback({"/a": reply(200)}) as server:
        delivery = puts_at(server, "/a", headers={"content-type": "application/octet-stream"})
        Deliverer(fetcher_for(server)).deliver("job-1", SMALL[:1], delivery, None, LIMIT)

        assert server.seen[0].headers.get_all("Content-Type") == ["application/octet-stream"]


def test_a_place_that_refuses_a_file_fails_the_delivery() -> None:
    with loopback({"/a": reply(403)}) as server:
        with pytest.raises(DeliveryFailed) as caught:
            Deliverer(fetcher_for(server)).deliver("job-1", SMALL[:1], puts_at(server, "/a"), None, LIMIT)
        assert "secret" not in str(caught.value)


def test_too_few_put_urls_are_found_before_the_run() -> None:
    with loopback({}) as server:
        deliverer, delivery = Deliverer(fetcher_for(server)), puts_at(server, "/a")
        with pytest.raises(InvalidInput, match=r"delivery\.put has 1 URLs for 2 outputs"):
            deliverer.check(delivery, None, 2)
        with pytest.raises(InvalidInput, match=r"delivery\.put has 1 URLs for 2 outputs"):
            deliverer.deliver("job-1", SMALL, delivery, None, LIMIT)
        assert server.seen == []


@pytest.mark.parametrize(
    ("delivery", "problem"),
    [
        ({"puts": []}, r"delivery\.puts: Extra inputs"),
        ({"put": ["https://example.com"]}, r"delivery\.put\.0"),
        ({"put": [{"url": "https://example.com", "method": "POST"}]}, r"delivery\.put\.0\.method"),
        ({"put": [{"url": "file:///etc/cron.d/x"}]}, "'file' URLs are not read"),
        ({"put": [{"url": "http://127.0.0.1/x?sig=secret"}]}, "private address"),
        ({"put": [{"url": "http://user:secret@example.com/x"}]}, "credentials"),
        ({"put": [{"url": "http://8.8.8.8/x", "headers": {"Host": "secret"}}]}, "Host"),
    ],
)
def test_a_bad_delivery_is_found_before_the_run(delivery: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem) as caught:
        Deliverer(Fetcher(1, 5)).check(delivery, None, 1)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"accessSecret": None}, r"s3Config\.accessSecret"),
        ({"accessId": ""}, r"s3Config\.accessId"),
        ({"endpointUrl": None}, r"s3Config\.endpointUrl"),
        ({"endpointUrl": "s3.example.com"}, "URLs are not read"),
        ({"bucketName": None}, "bucketName"),
    ],
)
def test_a_bad_s3_config_is_found_before_the_run_and_shows_no_keys(changes: dict[str, Any], problem: str) -> None:
    with loopback({}) as server, pytest.raises(InvalidInput, match=problem) as caught:
        Deliverer(fetcher_for(server)).check(None, s3_config(server, **changes), 1)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_bucket_at_a_private_address_is_found_before_the_run() -> None:
    with loopback({}) as server:
        with pytest.raises(InvalidInput, match="private address"):
            Deliverer(Fetcher(1, 5)).check(None, s3_config(server), 1)
        with pytest.raises(InvalidInput, match="private address"):
            Deliverer(Fetcher(1, 5)).deliver("job-1", LARGE, None, s3_config(server), LIMIT)
        assert server.seen == []


def test_a_large_result_goes_to_the_jobs_bucket_with_links_for_seven_days() -> None:
    with loopback({"/pictures/job-1/0.png": store, "/pictures/job-1/1.webp": store}) as server:
        operators = bucket_at(server.url("/operators"), None, "OTHER", "other", trusted=True)
        deliverer = Deliverer(fetcher_for(server), operators)
        deliverer.check(None, s3_config(server), 2)

        urls = deliverer.deliver("job-1", LARGE, None, s3_config(server), LIMIT)

        assert [seen.body for seen in server.seen] == [file.data for file in LARGE]
        assert [seen.headers["Content-Type"] for seen in server.seen] == ["image/png", "image/webp"]
        link = urlsplit(urls[0])
        assert (link.netloc, link.path) == (server.netloc, "/pictures/job-1/0.png")
        fields = dict(parse_qsl(link.query))
        assert fields["X-Amz-Expires"] == "604800"
        assert fields["X-Amz-Signature"] == signature("GET", link.netloc, link.path, link.query, SECRET)
        assert SECRET not in "".join(urls)


def test_a_bucket_that_refuses_the_keys_fails_the_delivery() -> None:
    with loopback({"/pictures/job-1/0.png": store}) as server:
        wrong = s3_config(server, accessSecret="wrong")
        with pytest.raises(DeliveryFailed, match="403"):
            Deliverer(fetcher_for(server)).deliver("job-1", LARGE, None, wrong, LIMIT)


def test_the_operators_bucket_may_lie_at_a_private_address() -> None:
    with loopback({"/pictures/job-1/0.png": store, "/pictures/job-1/1.webp": store}) as server:
        settings = Settings(
            bucket_endpoint_url=server.url("/pictures"),
            bucket_access_key_id="AKID",
            bucket_secret_access_key=SECRET,
        )
        deliverer = Deliverer.from_settings(settings, Fetcher(1, 5))

        urls = deliverer.deliver("job-1", LARGE, None, None, LIMIT)

        assert [urlsplit(url).path for url in urls] == ["/pictures/job-1/0.png", "/pictures/job-1/1.webp"]
        assert len(server.seen) == 2


def test_an_operators_bucket_without_keys_is_refused_at_the_start() -> None:
    with pytest.raises(InvalidInput, match="BUCKET_ACCESS_KEY_ID"):
        Deliverer.from_settings(Settings(bucket_endpoint_url="https://s3.example.com/b"), Fetcher(1, 5))


def test_the_local_endpoint_takes_large_results_as_files() -> None:
    there = "https://example.com/v2/media/files/job-1/0.png"
    routes = {
        "/files/job%2F1/0.png": reply(200, json.dumps({"url": there}).encode()),
        "/files/job%2F1/1.webp": reply(200, b"ok"),
    }
    with loopback(routes) as server:
        settings = Settings(files_url=server.url("/files/"), files_token="worker-token")
        deliverer = Deliverer.from_settings(settings, Fetcher(1, 5))

        urls = deliverer.deliver("job/1", LARGE, None, None, LIMIT)

        assert urls == [there, server.url("/files/job%2F1/1.webp")]
        assert [seen.headers["Authorization"] for seen in server.seen] == ["worker-token"] * 2
        assert [seen.body for seen in server.seen] == [file.data for file in LARGE]
        assert not re.search("worker-token", repr(deliverer))


def test_s3_config_of_a_small_result_is_checked_and_not_used() -> None:
    with loopback({}) as server:
        deliverer = Deliverer(fetcher_for(server))
        deliverer.check(None, s3_config(server), 2)

        assert deliverer.deliver("job-1", SMALL, None, s3_config(server), LIMIT)[0].startswith("data:")
        assert server.seen == []
