"""Everything wrong that a client can send through a real worker: a clear error each time, and the worker goes on."""

import base64
import io
from typing import Any

import pytest
import requests
from PIL import Image

from shared.errors import JobError
from tests.studio import Studio

PROMPT = "a red circle on a blue background"
DRAW = {"pipeline": "text-to-image", "prompt": PROMPT, "num_inference_steps": 1}
CHANGE = {"pipeline": "image-to-image", "prompt": PROMPT, "num_inference_steps": 2, "strength": 0.5}


def as_base64(image: Image.Image, image_format: str = "PNG") -> str:
    file = io.BytesIO()
    image.save(file, image_format)
    return base64.b64encode(file.getvalue()).decode()


def cut(encoded: str, n_bytes: int) -> str:
    return base64.b64encode(base64.b64decode(encoded)[:n_bytes]).decode()


PICTURE = as_base64(Image.radial_gradient("L").convert("RGB"))
NO_PICTURE = base64.b64encode(b"not a picture").decode()
HUGE = as_base64(Image.new("1", (10_000, 10_000)))

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "missing prompt": ({"pipeline": "text-to-image"}, "invalid_input: prompt: Field required"),
    "unknown field": ({**DRAW, "promt": "x"}, "invalid_input: promt: there is no such .*; did you mean prompt\\?"),
    "width 7": ({**DRAW, "width": 7}, "invalid_input: width: .*(greater than or equal to 64|multiple of 8)"),
    "width 65": ({**DRAW, "width": 65}, "invalid_input: width: Input should be a multiple of 8"),
    "100 megapixel image": ({**CHANGE, "image": HUGE}, "media_too_large: .*MAX_IMAGE_PIXELS"),
    "image cut inside its header": ({**CHANGE, "image": cut(PICTURE, 20)}, "invalid_input: .*image"),
    "text as image": ({**CHANGE, "image": NO_PICTURE}, "invalid_input: .*not an image"),
    "words as image": ({**CHANGE, "image": "a cat, please"}, "invalid_input: image: .*base64"),
    "URL to a private address": ({**CHANGE, "image": "http://192.168.0.1/cat.png"}, "invalid_input: .*private"),
    "URL to the metadata service": ({**CHANGE, "image": "http://169.254.169.254/"}, "invalid_input: .*private"),
    "file URL": ({**CHANGE, "image": "file:///etc/passwd"}, "invalid_input: .*file"),
    "unknown pipeline": ({"pipeline": "text-to-sculpture"}, "invalid_input: .*does not serve 'text-to-sculpture'"),
    "unknown model": ({**DRAW, "model_id": "nobody/nothing"}, "invalid_input: model_id 'nobody/nothing' is not"),
    "unknown scheduler": ({**DRAW, "scheduler": "os.system"}, "invalid_input: scheduler: Input should be 'DDIM"),
    "no step left": ({**CHANGE, "image": PICTURE, "strength": 0.1}, "invalid_input: .*steps x strength"),
    "too few places": ({**DRAW, "delivery": {"put": [{"url": "https://example.com/1"}]}, "num_images_per_prompt": 2},
                       "invalid_input: delivery.put has 1"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_bad_job_fails_with_what_is_wrong(studio: Studio, what: str) -> None:
    given, says = BAD[what]
    with pytest.raises(JobError, match=says):
        studio.client.run(given)


def test_the_error_reaches_the_wire_as_code_and_message(studio: Studio) -> None:
    answer = _post(studio, "runsync", {"input": {"pipeline": "text-to-image"}}).json()
    assert answer["status"] == "FAILED"
    assert answer["error"] == "invalid_input: prompt: Field required"
    assert "output" not in answer


def test_an_image_cut_after_its_header_loads_as_far_as_it_goes_and_is_flagged(studio: Studio) -> None:
    noisy = as_base64(Image.effect_noise((256, 256), 80).convert("RGB"))
    result = studio.client.run({**CHANGE, "image": cut(noisy, len(noisy) // 2)})
    assert result["metrics"]["truncated_input"] is True


@pytest.mark.parametrize("body", [{"input": {}}, {}, {"input": None}])
def test_an_empty_input_is_refused_before_it_is_queued(studio: Studio, body: dict[str, Any]) -> None:
    answer = _post(studio, "run", body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("invalid_input:")


def test_an_11_mb_body_is_refused(studio: Studio) -> None:
    answer = _post(studio, "run", {"input": {**DRAW, "negative_prompt": "x" * 11_000_000}})
    assert answer.status_code == 400
    assert "10MiB" in answer.json()["error"]


def test_a_wrong_token_is_refused(studio: Studio) -> None:
    answer = _post(studio, "run", {"input": DRAW}, key="wrong")
    assert answer.status_code == 401
    assert answer.json()["error"].startswith("unauthorized:")


def test_after_all_that_the_same_worker_draws(studio: Studio) -> None:
    (pid,) = studio.endpoint.pools["media"].running().values()
    for given, _ in BAD.values():
        with pytest.raises(JobError):
            studio.client.run(given)
    assert studio.client.run(DRAW)["images"][0]["url"].startswith("data:image/png;base64,")
    assert list(studio.endpoint.pools["media"].running().values()) == [pid]


def _post(studio: Studio, route: str, body: dict[str, Any], key: str | None = None) -> requests.Response:
    headers = {"Authorization": f"Bearer {key or studio.endpoint.key}"}
    return requests.post(f"{studio.endpoint.url}/media/{route}", json=body, headers=headers, timeout=60)
