"""Requests and answers of the container's routes, which are made from its handlers."""

import base64
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from shared.media.image import encode_image
from tests.platforms.container.box import Box
from tests.platforms.extra_handlers.noise import noise

PICTURE = encode_image(Image.linear_gradient("L").resize((32, 32)), "png")
PICTURE_URL = f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"


def detail(answer: Any) -> Any:
    return answer.json()["detail"]


def test_a_request_gets_its_result_with_metrics_and_receipt(box: Box) -> None:
    answer = box.post("/noise", {"side": 8, "num_images_per_prompt": 2})
    result = answer.json()
    assert [(image["seed"], image["nsfw"]) for image in result["images"]] == [(0, False), (1, False)]
    head, _, data = result["images"][1]["url"].partition(",")
    assert head == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).tobytes() == noise(8, 1).tobytes()
    digests = [output["sha256"] for output in result["receipt"]["outputs"]]
    assert digests[1] == hashlib.sha256(base64.b64decode(data)).hexdigest()
    assert result["receipt"]["job_id"] == answer.headers["X-Job-Id"]
    assert result["metrics"]["run_s"] >= 0


@pytest.mark.parametrize("path", ["/noise", "/noise/"])
@pytest.mark.parametrize("way", ["json", "multipart", "urlencoded"])
def test_each_route_takes_json_and_both_forms_with_and_without_a_slash(box: Box, path: str, way: str) -> None:
    ways: dict[str, dict[str, Any]] = {
        "json": {"body": {"side": 4}},
        "multipart": {"files": {"side": (None, "4")}},
        "urlencoded": {"data": {"side": "4"}},
    }
    assert box.ok(path, **ways[way])["receipt"]["params"]["side"] == 4


def test_a_handler_that_is_not_served_has_no_route(box: Box) -> None:
    answer = box.post("/text-to-image", {"prompt": "x"})
    assert (answer.status_code, detail(answer)["code"]) == (404, "not_found")


@pytest.mark.parametrize("way", ["file", "text", "url in json"])
def test_a_picture_comes_as_a_file_or_as_a_data_url(box: Box, way: str) -> None:
    ways: dict[str, dict[str, Any]] = {
        "file": {"files": {"image": ("a", PICTURE, "application/octet-stream")}},
        "text": {"files": {"image": (None, PICTURE_URL)}},
        "url in json": {"body": {"image": PICTURE_URL}},
    }
    told = box.ok("/noise", **ways[way])["receipt"]["params"]["image"]
    assert told == {"sha256": hashlib.sha256(PICTURE).hexdigest(), "bytes": len(PICTURE)}


def test_a_truncated_picture_is_taken_and_flagged(box: Box) -> None:
    whole = encode_image(noise(64, 0), "png")
    result = box.ok("/noise", files={"image": ("a.png", whole[: len(whole) // 2])})
    assert result["metrics"]["truncated_input"] is True
    assert "truncated_input" not in box.ok("/noise", files={"image": ("a.png", whole)})["metrics"]


def test_what_is_no_picture_is_refused_and_leaves_no_file(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    answer = box.post("/noise", files={"image": ("a.png", b"no picture" * 300_000)})
    assert answer.status_code == 422
    assert detail(answer)[0]["loc"] == ["body"]
    assert "not an image" in detail(answer)[0]["msg"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("body", "loc", "kind"),
    [
        ({"side": 0}, ["body", "side"], "greater_than_equal"),
        ({"side": "x", "image_format": "bmp"}, ["body", "side"], "int_parsing"),
        ({"sides": 4}, ["body", "sides"], "extra_forbidden"),
        ({"pipeline": "sleep"}, ["body", "pipeline"], "extra_forbidden"),
        ({"openai_route": "/v1/models"}, ["body", "openai_route"], "extra_forbidden"),
        ({"fallbacks": {"side": 3}}, ["body", "fallbacks"], "extra_forbidden"),
        ([1], ["body"], "dict_type"),
        (3, ["body"], "dict_type"),
    ],
)
def test_wrong_parameters_are_named_as_fastapi_does(box: Box, body: Any, loc: list[str], kind: str) -> None:
    answer = box.post("/noise", body)
    assert answer.status_code == 422
    first = detail(answer)[0]
    assert (first["loc"], first["type"]) == (loc, kind)
    assert all(set(error) == {"loc", "msg", "type"} for error in detail(answer))


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"{", "application/json"),
        (b'{"side": NaN}', "application/json"),
        (b"\xff", "application/json"),
        (b"side=4", "text/plain"),
        (b"--b\r\nnonsense", "multipart/form-data; boundary=b"),
        (b"side=4", "multipart/form-data"),
        (b'--b\r\nContent-Disposition: form-data; name="side"\r\n\r\n4', "multipart/form-data; boundary=b"),
        (b"side=4&" * 1001, "application/x-www-form-urlencoded"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(box: Box, body: bytes, content_type: str) -> None:
    answer = box.post("/noise", data=body, headers={"Content-Type": content_type})
    assert answer.status_code == 422
    assert detail(answer)[0]["loc"] == ["body"]


def test_a_picture_may_come_in_a_plain_form(box: Box) -> None:
    large = base64.b64encode(encode_image(noise(640, 0), "png")).decode()
    assert len(large) > 1_500_000
    told = box.ok("/noise", data={"image": large, "side": "4"})["receipt"]["params"]
    assert (told["side"], told["image"]["bytes"]) == (4, len(base64.b64decode(large)))


def test_json_of_too_many_values_is_not_read(box: Box) -> None:
    answer = box.post("/noise", data=b"[0" + b",0" * 1_000_001 + b"]", headers={"Content-Type": "application/json"})
    assert (answer.status_code, detail(answer)[0]["type"]) == (422, "json_invalid")


def test_an_empty_body_is_no_json(box: Box) -> None:
    assert box.post("/noise", data=b"").status_code == 422


def test_a_picture_alone_comes_by_accept_with_seed_and_receipt_in_headers(box: Box) -> None:
    answer = box.post("/noise", {"side": 16}, headers={"Accept": "image/webp"})
    assert answer.headers["Content-Type"] == "image/webp"
    assert Image.open(io.BytesIO(answer.content)).format == "WEBP"
    receipt = json.loads(answer.headers["X-Receipt"])
    assert receipt["outputs"][0]["sha256"] == hashlib.sha256(answer.content).hexdigest()
    assert (answer.headers["X-Seed"], answer.headers["X-Nsfw"]) == ("0", "false")
    assert "run_s" in json.loads(answer.headers["X-Metrics"])


@pytest.mark.parametrize("accept", ["*/*", "application/json", "image/png;q=0.5, application/json", "text/html"])
def test_any_other_accept_gets_json(box: Box, accept: str) -> None:
    assert box.post("/noise", {"side": 4}, headers={"Accept": accept}).json()["images"]


def test_two_pictures_cannot_come_alone(box: Box) -> None:
    answer = box.post("/noise", {"side": 4, "num_images_per_prompt": 2}, headers={"Accept": "image/png"})
    assert len(answer.json()["images"]) == 2


def test_a_video_alone_comes_by_accept(box: Box) -> None:
    answer = box.post("/film-noise", {}, headers={"Accept": "video/mp4"})
    assert answer.headers["Content-Type"] == "video/mp4"
    assert answer.content[4:8] == b"ftyp"
    assert box.ok("/film-noise", {})["videos"][0]["frames"] == 4


def test_an_error_of_the_handler_is_hidden_behind_an_id(box: Box) -> None:
    answer = box.post("/sleep", {"ms": 0, "fail": "a secret"})
    assert answer.status_code == 500
    assert detail(answer)["code"] == "internal"
    assert "secret" not in answer.text


def test_a_model_of_somebody_else_is_a_400(box: Box, tmp_path: Path) -> None:
    answer = box.post("/film-noise", {"model_id": "someone/else"})
    assert answer.status_code == 200  # this pipeline has no model
    models = tmp_path / "models.json"
    models.write_text(json.dumps([{"pipeline": "converse", "model_id": "demo/text-generation"}]))
    with Box(tmp_path, models=models) as other:
        answer = other.post("/converse", {"name": "a", "after": "b", "folder": ".", "model_id": "someone/else"})
    assert answer.status_code == 400
    assert detail(answer)["code"] == "invalid_input"
    assert "demo/text-generation" in detail(answer)["msg"]


def test_files_over_the_limit_are_refused(tmp_path: Path) -> None:
    with Box(tmp_path, max_media_bytes=100_000) as small:
        one = small.post("/noise", files={"image": ("a", b"x" * 100_001)})
        body = small.post("/noise", data=b"x" * 3_000_000, headers={"Content-Type": "application/json"})
        form = small.post("/noise", files={"image": ("a", b"x" * 3_000_000)})
    for answer in (one, body, form):
        assert answer.status_code == 413
        assert detail(answer)["code"] == "media_too_large"
    assert "MAX_MEDIA_BYTES" in detail(one)["msg"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_other_methods_are_a_405(box: Box, method: str) -> None:
    answer = box.session.request(method, f"{box.url}/noise", timeout=30)
    assert answer.status_code == 405
    assert detail(answer)["code"] == "invalid_input"
    assert answer.headers["Allow"] == "POST"
