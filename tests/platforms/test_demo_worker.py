"""The whole way with the demo model: client, queue, real RunPod worker, and a picture of what was asked."""

import base64
import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from shared import receipts
from shared.errors import Cancelled
from templates.demo_models import judge
from tests.platforms.harness import until
from tests.shared.runners import CHANGE, make, run
from tests.studio import Studio, demo_models

PROMPT = "a large yellow square on a purple background"
DRAW = {"pipeline": "text-to-image", "prompt": PROMPT, "seed": 3}


def picture(studio: Studio, result: dict[str, Any], n: int = 0) -> Image.Image:
    return Image.open(io.BytesIO(studio.client.download(result["images"][n]["url"])))


def test_the_official_client_gets_a_picture_of_what_the_prompt_says(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    import runpod

    monkeypatch.setattr(runpod, "endpoint_url_base", studio.endpoint.url)
    endpoint: Any = runpod.Endpoint("media", api_key=studio.endpoint.key)
    job = endpoint.run(DRAW)
    result = job.output(timeout=60)
    assert job.status() == "COMPLETED"
    assert judge.matches(picture(studio, result), PROMPT)
    assert result["images"][0]["seed"] == 3
    assert endpoint.run_sync(DRAW, timeout=60)["images"] == result["images"]
    assert endpoint.health()["workers"]["idle"] == 1


def test_plain_requests_get_the_same(studio: Studio) -> None:
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {studio.endpoint.key}"
    url = f"{studio.endpoint.url}/media"
    job_id = session.post(f"{url}/run", json={"input": DRAW}, timeout=30).json()["id"]
    body = until(
        lambda: (b := session.get(f"{url}/status/{job_id}", timeout=30).json())["status"] == "COMPLETED" and b, 60
    )
    encoded = body["output"]["images"][0]["url"].removeprefix("data:image/png;base64,")
    assert judge.matches(Image.open(io.BytesIO(base64.b64decode(encoded))), PROMPT)
    session.close()


def test_the_same_request_is_the_same_file_in_another_process(studio: Studio, tmp_path: Path) -> None:
    import torch

    torch.set_num_threads(1)  # as the worker has
    ours = make(demo_models(tmp_path))
    for asked in (DRAW, CHANGE):
        assert studio.client.run(asked)["images"] == run(ours, asked)["images"]


def test_several_images_count_their_seeds_up(studio: Studio) -> None:
    result = studio.client.run({**DRAW, "num_images_per_prompt": 3})
    assert [image["seed"] for image in result["images"]] == [3, 4, 5]
    assert all(judge.matches(picture(studio, result, n), PROMPT) for n in range(3))


def test_image_to_image_follows_the_prompt(studio: Studio) -> None:
    drawn = studio.client.run(DRAW)["images"][0]["url"]
    prompt = "a large red circle on a white background"
    result = studio.client.run(
        {"pipeline": "image-to-image", "prompt": prompt, "image": drawn, "strength": 1, "seed": 1}
    )
    assert judge.matches(picture(studio, result), prompt)


def test_the_receipt_is_signed_and_names_the_bytes_that_came(studio: Studio) -> None:
    result = studio.client.run(DRAW)
    receipt = result["receipt"]
    assert receipts.verify(receipt, receipt["public_key"])
    file = studio.client.download(result["images"][0]["url"])
    assert receipt["outputs"][0]["sha256"] == hashlib.sha256(file).hexdigest()
    assert receipt["model"]["id"] == "demo/text-to-image"
    assert (receipt["seed"], receipt["params"]["prompt"]) == (3, PROMPT)
    assert receipt["worker"].startswith("media-")


def test_progress_brings_small_previews_when_asked(studio: Studio) -> None:
    job = studio.client.submit({**DRAW, "num_inference_steps": 100, "preview": True})

    def seen() -> str | None:
        where = studio.client.status(job).get("output")
        preview: str | None = where.get("preview") if isinstance(where, dict) else None
        return preview

    preview = until(lambda: seen() or studio.client.status(job)["status"] == "COMPLETED")
    studio.client.wait(job)
    assert isinstance(preview, str), "the job ended without a preview"
    assert len(preview) <= 64_000
    assert preview.startswith("data:image/jpeg;base64,")


def test_cancel_in_mid_sampling_frees_the_device(studio: Studio) -> None:
    job = studio.client.submit({**DRAW, "num_inference_steps": 150, "num_images_per_prompt": 8})
    until(lambda: isinstance(studio.client.status(job).get("output"), dict), 60)
    studio.client.cancel(job)
    assert judge.matches(picture(studio, studio.client.run(DRAW)), PROMPT)
    with pytest.raises(Cancelled):
        studio.client.wait(job)


def test_the_log_has_no_prompt_and_no_picture(studio: Studio) -> None:
    studio.client.run({**DRAW, "prompt": "a red circle, and my secret name"})
    text = "\n".join(file.read_text() for file in studio.endpoint.logs.glob("*.log"))
    assert "text-to-image" in text
    assert "secret name" not in text
    assert "base64" not in text
