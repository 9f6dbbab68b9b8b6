"""Results over the platform's limit: delivered where there is a place for them, and never lost in silence."""

import hashlib
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from shared.errors import JobError, ResultTooLarge
from tests.platforms.lab import Lab
from tests.shared.media.loopback import Loopback, reply

SMALL = {"pipeline": "noise", "side": 64}
LARGE = {"pipeline": "noise", "side": 1700}  # 8.7 MB of noise, 11.6 MB in base64


@pytest.fixture(scope="module")
def places() -> Iterator[Loopback]:
    """Somewhere to PUT to: anything but /full."""
    routes = {path: reply(200) for path in ("/a.png", "/b.png", "/bucket/results")} | {"/full": reply(507)}
    with Loopback(routes) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, places: Loopback) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab"), env={"ALLOW_PRIVATE_HOSTS": places.netloc}) as lab:
        yield lab


@pytest.fixture(scope="module")
def strict_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("strict"), strict=True) as lab:
        yield lab


def sizes(lab: Lab, result: dict[str, Any]) -> list[tuple[int, int]]:
    files = [lab.client.download(image["url"]) for image in result["images"]]
    hashes = [output["sha256"] for output in result["receipt"]["outputs"]]
    assert [hashlib.sha256(file).hexdigest() for file in files] == hashes
    return [Image.open(io.BytesIO(file)).size for file in files]


def test_a_small_result_is_inline(lab: Lab) -> None:
    result = lab.client.run(SMALL)
    assert result["images"][0]["url"].startswith("data:image/png;base64,")
    assert sizes(lab, result) == [(64, 64)]


def test_a_large_result_becomes_files_of_the_local_endpoint(lab: Lab) -> None:
    result = lab.client.run({**LARGE, "num_images_per_prompt": 2})
    assert all(image["url"].startswith(f"{lab.endpoint.url}/media/files/") for image in result["images"])
    assert sizes(lab, result) == [(1700, 1700)] * 2


def test_a_large_result_without_a_place_fails_and_says_what_to_do(strict_lab: Lab) -> None:
    with pytest.raises(ResultTooLarge, match=r"delivery\.put.*s3Config.*BUCKET_ENDPOINT_URL"):
        strict_lab.client.run(LARGE)
    assert sizes(strict_lab, strict_lab.client.run(SMALL)) == [(64, 64)]


def test_files_go_to_the_jobs_own_urls(lab: Lab, places: Loopback) -> None:
    places.seen.clear()
    puts = [
        {"url": places.url("/a.png?secret=1"), "headers": {"x-amz-acl": "private"}},
        {"url": places.url("/b.png")},
    ]
    result = lab.client.run({**SMALL, "num_images_per_prompt": 2, "delivery": {"put": puts}})
    assert [image["url"] for image in result["images"]] == [places.url("/a.png"), places.url("/b.png")]
    assert [(seen.method, seen.path, seen.query) for seen in places.seen] == [
        ("PUT", "/a.png", "secret=1"),
        ("PUT", "/b.png", ""),
    ]
    assert places.seen[0].headers["x-amz-acl"] == "private"
    assert Image.open(io.BytesIO(places.seen[1].body)).size == (64, 64)
    assert "secret" not in str(result)


def test_a_place_that_refuses_the_file_fails_the_job(lab: Lab, places: Loopback) -> None:
    with pytest.raises(JobError, match="delivery_failed"):
        lab.client.run({**SMALL, "delivery": {"put": [{"url": places.url("/full")}]}})


def test_a_place_at_a_private_address_is_refused_before_the_run(strict_lab: Lab, places: Loopback) -> None:
    with pytest.raises(JobError, match=r"invalid_input: .*private"):
        strict_lab.client.run({**SMALL, "delivery": {"put": [{"url": places.url("/a.png")}]}})


def test_a_worker_that_cannot_start_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('[{"pipeline": "text-to-image", "model_id": "/no/such/folder", "pinned": false, "warm": true}]')
    with pytest.raises(JobError, match=r"(?s)insufficient_capacity: .*before its first job.*not here"):
        Lab(tmp_path, env={"MODELS": str(broken)}).endpoint.start()
