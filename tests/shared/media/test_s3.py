from urllib.parse import parse_qs, urlsplit

import pytest

from shared.errors import InvalidInput
from shared.media.s3 import Bucket, bucket_at, presign, region_of


@pytest.mark.parametrize(
    ("endpoint", "name", "found_endpoint", "found_name"),
    [
        ("https://s3.example.com", "pictures", "https://s3.example.com", "pictures"),
        ("https://s3.example.com/", "pictures", "https://s3.example.com", "pictures"),
        ("https://s3.example.com/pictures", None, "https://s3.example.com", "pictures"),
        ("https://s3.example.com/pictures/", "pictures", "https://s3.example.com", "pictures"),
        ("https://example.com/minio/pictures", None, "https://example.com/minio", "pictures"),
        ("https://example.com/minio", "pictures", "https://example.com/minio", "pictures"),
        ("https://pictures.s3.eu-west-1.amazonaws.com", None, "https://s3.eu-west-1.amazonaws.com", "pictures"),
        ("http://127.0.0.1:9000/pictures", None, "http://127.0.0.1:9000", "pictures"),
    ],
)
def test_finds_the_bucket_where_people_write_it(
    endpoint: str, name: str | None, found_endpoint: str, found_name: str
) -> None:
    assert bucket_at(endpoint, name, "id", "secret") == Bucket(found_endpoint, found_name, "id", "secret")


def test_a_bucket_without_a_name_is_refused() -> None:
    with pytest.raises(InvalidInput, match="BUCKET_NAME"):
        bucket_at("https://s3.example.com", None, "id", "secret")


def test_keys_do_not_show() -> None:
    shown = repr(bucket_at("https://s3.example.com", "pictures", "AKIDKEY", "hunter2"))

    assert "hunter2" not in shown
    assert "AKIDKEY" not in shown


@pytest.mark.parametrize(
    ("endpoint", "region"),
    [
        ("https://s3.amazonaws.com", "us-east-1"),
        ("https://s3.eu-central-1.amazonaws.com", "eu-central-1"),
        ("https://s3-us-west-2.amazonaws.com", "us-west-2"),
        ("https://s3.dualstack.eu-west-1.amazonaws.com", "eu-west-1"),
        ("https://s3.us-west-004.backblazeb2.com", "us-west-004"),
        ("https://s3.fr-par.scw.cloud", "fr-par"),
        ("https://nyc3.digitaloceanspaces.com", "nyc3"),
        ("https://account.r2.cloudflarestorage.com", "us-east-1"),
        ("https://s3.my-company.com", "us-east-1"),
        ("http://127.0.0.1:9000", "us-east-1"),
    ],
)
def test_reads_the_region_from_the_host(endpoint: str, region: str) -> None:
    assert region_of(endpoint) == region


def test_presigns_path_style_with_version_four() -> None:
    bucket = Bucket("https://s3.eu-central-1.amazonaws.com", "pictures", "AKID", "secret", prefix="out/")

    url = urlsplit(presign(bucket, "GET", "job 1/0.png", 600))
    query = parse_qs(url.query)

    assert (url.netloc, url.path) == ("s3.eu-central-1.amazonaws.com", "/pictures/out/job%201/0.png")
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-Expires"] == ["600"]
    assert query["X-Amz-Credential"][0].startswith("AKID/")
    assert query["X-Amz-Credential"][0].endswith("/eu-central-1/s3/aws4_request")
    assert len(query["X-Amz-Signature"][0]) == 64
