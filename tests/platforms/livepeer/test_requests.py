"""Each request that Livepeer's node sends to a container, as its client writes it, and what it makes of the answer.

The members are those of the generated types, in the order in which the client writes them.
"""

import base64
import io
import json
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from templates.demo_models import judge
from tests.platforms.livepeer import answers, wire
from tests.platforms.livepeer.conftest import LITTLE, TOKEN
from tests.platforms.livepeer.container import Container

DRAWING = "demo/text-to-image"
PROMPT = "a large red circle on a white background"

TEXT_TO_IMAGE: dict[str, Any] = {
    "guidance_scale": 2,
    "height": 64,
    "loras": "",
    "model_id": DRAWING,
    "negative_prompt": "",
    "num_images_per_prompt": 2,
    "num_inference_steps": 8,
    "prompt": PROMPT,
    "safety_check": True,
    "seed": 3,
    "width": 64,
}
IMAGE_TO_IMAGE: list[tuple[str, wire.Value]] = [
    ("prompt", PROMPT),
    ("model_id", DRAWING),
    ("loras", ""),
    ("strength", 0.8),
    ("guidance_scale", 2.0),
    ("image_guidance_scale", 1.5),
    ("negative_prompt", ""),
    ("safety_check", True),
    ("seed", 3),
    ("num_images_per_prompt", 1),
    ("num_inference_steps", 8),
]
IMAGE_TO_VIDEO: list[tuple[str, wire.Value]] = [
    ("model_id", "demo/image-to-video"),
    ("height", 64),
    ("width", 64),
    ("fps", 4),
    ("motion_bucket_id", 127),
    ("noise_aug_strength", 0.02),
    ("seed", 3),
    ("safety_check", True),
    ("num_inference_steps", 2),
]
UPSCALE: list[tuple[str, wire.Value]] = [
    ("prompt", "a photograph"),
    ("model_id", "demo/upscale"),
    ("safety_check", True),
    ("seed", 3),
    ("num_inference_steps", 75),
]
LLM: dict[str, Any] = {
    "max_tokens": 24,
    "messages": [{"content": "How many corners does a square have?", "role": "user"}],
    "model": "demo/text-generation",
    "stream": False,
    "temperature": 0.7,
    "top_k": -1,
    "top_p": 1,
}


def shown(media: answers.Media) -> Image.Image:
    """The picture of a data URL, decoded."""
    _, _, encoded = media.url.partition(",")
    picture = Image.open(io.BytesIO(base64.b64decode(encoded, validate=True)))
    picture.load()
    return picture


def test_text_to_image(external: Container) -> None:
    answer = wire.post(external.url, "/text-to-image", wire.json_body(TEXT_TO_IMAGE), TOKEN)
    assert answer.status == 200, answer.data
    read = answers.ImageResponse.model_validate_json(answer.data)
    assert [media.seed for media in read.images] == [3, 4]
    assert all(judge.matches(shown(media), PROMPT) for media in read.images)


def test_members_that_the_client_leaves_out_have_defaults(external: Container) -> None:
    answer = wire.post(external.url, "/text-to-image", wire.json_body({"model_id": "", "prompt": PROMPT}), TOKEN)
    assert answer.status == 200, answer.data
    assert len(answers.ImageResponse.model_validate_json(answer.data).images) == 1


@pytest.mark.parametrize("filename", ["picture.png", "image"])  # a gateway's, and a remote worker's
def test_image_to_image(external: Container, picture: bytes, filename: str) -> None:
    body = wire.multipart_body(picture, filename, IMAGE_TO_IMAGE)
    answer = wire.post(external.url, "/image-to-image", body, TOKEN)
    assert answer.status == 200, answer.data
    (media,) = answers.ImageResponse.model_validate_json(answer.data).images
    assert (media.seed, shown(media).size) == (3, (64, 64))


def test_image_to_video_answers_the_frames_of_one_video(external: Container, picture: bytes) -> None:
    body = wire.multipart_body(picture, "picture.png", IMAGE_TO_VIDEO)
    answer = wire.post(external.url, "/image-to-video", body, TOKEN)
    assert answer.status == 200, answer.data
    (frames,) = answers.VideoResponse.model_validate_json(answer.data).frames
    assert {frame.seed for frame in frames} == {3}
    assert [shown(frame).size for frame in frames] == [(64, 64)] * LITTLE["num_frames"]


@pytest.mark.parametrize("prompt", ["a photograph", ""])
def test_upscale_takes_the_prompt_that_every_client_sends(external: Container, picture: bytes, prompt: str) -> None:
    fields = [("prompt", prompt), *UPSCALE[1:]]
    answer = wire.post(external.url, "/upscale", wire.multipart_body(picture, "picture.png", fields), TOKEN)
    assert answer.status == 200, answer.data
    (media,) = answers.ImageResponse.model_validate_json(answer.data).images
    assert shown(media).size == (256, 256)


def test_a_truncated_picture_is_used_as_far_as_it_goes(external: Container, picture: bytes) -> None:
    body = wire.multipart_body(picture[:-40], "picture.png", IMAGE_TO_IMAGE)
    answer = wire.post(external.url, "/image-to-image", body, TOKEN)
    assert answer.status == 200, answer.data
    assert answers.ImageResponse.model_validate_json(answer.data).images
    assert answer.json()["metrics"]["truncated_input"] is True


def test_llm(managed: Container) -> None:
    answer = wire.post(managed.url, "/llm", wire.json_body(LLM))
    assert answer.status == 200, answer.data
    read = answers.LLMResponse.model_validate_json(answer.data)
    said = read.choices[0].message
    assert said and (said.role, bool(said.content)) == ("assistant", True)
    assert read.usage.total_tokens == read.usage.prompt_tokens + read.usage.completion_tokens > 0
    assert read.choices[0].finish_reason in ("stop", "length")


def test_llm_names_the_model_that_answered_where_the_container_has_others_too(external: Container) -> None:
    answer = wire.post(external.url, "/llm", wire.json_body({**LLM, "max_tokens": 1, "model": ""}), TOKEN)
    assert answers.LLMResponse.model_validate_json(answer.data).model == "demo/text-generation"


def events(answer: wire.Answer) -> list[answers.LLMResponse]:
    """The stream, as the node reads it: line by line, up to the first choice that gives a reason for its end."""
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    read = []
    for line in answer.data.decode().split("\n"):
        assert len(line) < 64 * 1024, "its scanner ends at a longer line"
        assert line == "" or line.startswith("data: "), f"it takes '{line}' for broken JSON"
        if line in ("", "data: [DONE]"):
            continue
        read.append(answers.LLMResponse.model_validate_json(line.removeprefix("data: ")))
        if read[-1].choices[0].finish_reason:
            break
    return read


def test_llm_streamed(managed: Container) -> None:
    answer = wire.post(managed.url, "/llm", wire.json_body({**LLM, "stream": True, "temperature": 0}))
    assert answer.status == 200, answer.data
    *pieces, last = events(answer)
    deltas = [piece.choices[0].delta for piece in [*pieces, last]]
    assert all(delta is not None for delta in deltas)
    whole = wire.post(managed.url, "/llm", wire.json_body({**LLM, "temperature": 0}))
    said = answers.LLMResponse.model_validate_json(whole.data)
    assert said.choices[0].message
    assert "".join(delta.content for delta in deltas if delta) == said.choices[0].message.content
    assert last.choices[0].finish_reason == said.choices[0].finish_reason
    assert last.usage == said.usage


FOREIGN = "stabilityai/sd-turbo"


@pytest.mark.parametrize("path", ["/text-to-image", "/image-to-image"])
def test_another_model_than_the_container_has_is_a_400(external: Container, picture: bytes, path: str) -> None:
    fields: list[tuple[str, wire.Value]] = [("prompt", PROMPT), ("model_id", FOREIGN)]
    form = wire.multipart_body(picture, "image", fields)
    body = form if path == "/image-to-image" else wire.json_body(dict(sorted(fields)))
    refused(wire.post(external.url, path, body, TOKEN))


def test_another_model_than_the_container_has_is_a_400_of_llm_too(managed: Container) -> None:
    refused(wire.post(managed.url, "/llm", wire.json_body({**LLM, "model": FOREIGN})))


def refused(answer: wire.Answer) -> None:
    """A 400 whose message names the model."""
    assert answer.status == 400, answer.data
    assert FOREIGN in answers.HTTPError.model_validate_json(answer.data).detail.msg


def test_a_wrong_field_is_a_422_whose_detail_is_a_list(external: Container) -> None:
    body = wire.json_body({**TEXT_TO_IMAGE, "height": 63})
    answer = wire.post(external.url, "/text-to-image", body, TOKEN)
    assert answer.status == 422
    (problem,) = answers.HTTPValidationError.model_validate_json(answer.data).detail
    assert problem.loc == ["body", "height"]


def test_a_missing_picture_is_a_422_whose_detail_is_a_list(external: Container) -> None:
    body = wire.multipart_body(b"", "image", IMAGE_TO_IMAGE)
    answer = wire.post(external.url, "/image-to-image", body, TOKEN)
    assert answer.status == 422
    assert answers.HTTPValidationError.model_validate_json(answer.data).detail[0].loc == ["body", "image"]


@pytest.mark.parametrize("token", [None, "another"])
def test_a_wrong_token_is_a_401(external: Container, token: str | None) -> None:
    answer = wire.post(external.url, "/text-to-image", wire.json_body(TEXT_TO_IMAGE), token)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answers.HTTPError.model_validate_json(answer.data).detail.msg


def test_what_the_checks_of_this_page_would_not_let_through() -> None:
    """So that a check which lets everything through is noticed."""
    url = "data:image/png;base64,AAAA"
    for wrong in ({"url": url, "seed": None, "nsfw": False}, {"url": "https://a/b.png", "seed": 1, "nsfw": False}):
        with pytest.raises(ValidationError):
            answers.ImageResponse.model_validate_json(json.dumps({"images": [wrong]}))
