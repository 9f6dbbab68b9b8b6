"""Videos over the platform's limit: into a real S3 server, or refused before they are made; never lost."""

import hashlib
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from shared.errors import ResultTooLarge
from shared.media.video_file import VideoFile, VideoLimits
from tests.platforms.lab import Lab
from tests.shared.media.bucket_server import BUCKET, KEYS, bucket_server

FILM = {"pipeline": "film-noise", "crf": 0, "width": 1280, "height": 720, "num_frames": 16}
MB = 1_000_000


@pytest.fixture(scope="module")
def bucket_url() -> Iterator[str]:
    with bucket_server() as url:
        yield url


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, bucket_url: str) -> Iterator[Lab]:
    """Loses what RunPod loses, and has no place of its own."""
    env = {"ALLOW_PRIVATE_HOSTS": bucket_url.removeprefix("http://")}
    with Lab(tmp_path_factory.mktemp("lab"), env=env, strict=True) as lab:
        yield lab


def downloaded(result: dict[str, Any]) -> bytes:
    """The video from its URL, which anyone may open."""
    (video,) = result["videos"]
    with urllib.request.urlopen(video["url"]) as answer:
        data: bytes = answer.read()
    assert [hashlib.sha256(data).hexdigest()] == [o["sha256"] for o in result["receipt"]["outputs"]]
    assert video["frames"] == frames_of(data)
    assert video["fps"] == 24.0
    return data


def frames_of(data: bytes) -> int:
    return sum(1 for _ in VideoFile(data, VideoLimits(10**7, 1000, 100)).frames())


def s3_config(bucket_url: str) -> dict[str, str]:
    return {
        "accessId": KEYS["aws_access_key_id"],
        "accessSecret": KEYS["aws_secret_access_key"],
        "bucketName": BUCKET,
        "endpointUrl": bucket_url,
    }


def test_a_large_video_goes_to_the_jobs_bucket(lab: Lab, bucket_url: str) -> None:
    job_id = lab.client.submit(FILM, s3_config=s3_config(bucket_url))
    result = lab.client.wait(job_id)
    assert len(downloaded(result)) > 20 * MB
    assert result["videos"][0]["frames"] == FILM["num_frames"]


def test_a_large_video_goes_to_the_operators_bucket(
    tmp_path_factory: pytest.TempPathFactory, bucket_url: str
) -> None:
    env = {
        "BUCKET_ENDPOINT_URL": f"{bucket_url}/{BUCKET}",
        "BUCKET_ACCESS_KEY_ID": KEYS["aws_access_key_id"],
        "BUCKET_SECRET_ACCESS_KEY": KEYS["aws_secret_access_key"],
    }
    with Lab(tmp_path_factory.mktemp("operator"), env=env, strict=True) as lab:
        result = lab.client.run({**FILM, "num_frames": 8})
        assert result["videos"][0]["url"].startswith(f"{bucket_url}/{BUCKET}/")
        assert len(downloaded(result)) > 10 * MB


def test_a_video_that_nobody_can_carry_ends_while_it_is_made(lab: Lab) -> None:
    job_id = lab.client.submit({**FILM, "num_frames": 900})
    steps: list[int] = []
    with pytest.raises(ResultTooLarge, match=r"delivery\.put|s3Config|BUCKET_ENDPOINT_URL"):
        lab.client.wait(job_id, on_progress=lambda body: steps.append((body.get("output") or {}).get("step", 0)))
    assert max(steps, default=0) < 100


def test_a_video_that_is_foretold_to_be_too_large_is_refused_before_it_is_begun(lab: Lab, bucket_url: str) -> None:
    small = {**FILM, "num_frames": 2, "width": 64, "height": 64, "foretold": 60 * MB}
    seen: list[dict[str, Any]] = []
    job_id = lab.client.submit(small)
    with pytest.raises(ResultTooLarge, match="about 60 MB"):
        lab.client.wait(job_id, on_progress=seen.append)
    assert not any("running" in str(body) for body in seen)
    with_a_place = lab.client.wait(lab.client.submit(small, s3_config=s3_config(bucket_url)))
    assert with_a_place["videos"][0]["frames"] == 2
    almost = lab.client.run({**small, "foretold": 10 * MB})  # within the error of what is foretold
    assert almost["videos"][0]["url"].startswith("data:video/mp4;base64,")
