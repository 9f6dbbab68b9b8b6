"""Results as JSON and as files, and errors."""

import base64
import json
from typing import Any

import pytest
from fastapi import Response

from shared.errors import ENDINGS, InvalidInput, MediaTooLarge, QueueFull, Unauthorized, UnknownModel
from shared.jobs.answers import MAX_RECEIPT_HEADER, file_answer, json_parts, refusal
from shared.schemas import Output


def output(data: bytes, media_type: str = "image/png") -> Output:
    return Output(data, media_type, "png", "", pixels_sha256=None, pixels=1, seed=7, nsfw=False)


def result(*files: Output, **more: Any) -> dict[str, Any]:
    return {"images": [{**f.as_dict(f)} for f in files], "metrics": {"run_s": 0.1}, "receipt": {"id": "é"}, **more}


def detail(answer: Response) -> Any:
    return json.loads(bytes(answer.body))["detail"]


def joined(value: dict[str, Any]) -> bytes:
    return b"".join(json_parts(value))


def test_files_are_written_as_data_urls_into_the_json() -> None:
    files = [output(bytes(range(256)) * 9), output(b"")]
    read = json.loads(joined(result(*files, text='"file-0" \\ \u2028')))
    head = "data:image/png;base64,"
    assert [image["url"] for image in read["images"]] == [head + base64.b64encode(f.data).decode() for f in files]
    assert read["text"] == '"file-0" \\ \u2028'
    assert read["receipt"] == {"id": "é"}


def test_half_a_character_does_not_end_the_answer() -> None:
    assert json.loads(joined({"text": "\ud800"})) == {"text": "?"}


def test_what_is_no_json_is_not_written_as_something_else() -> None:
    with pytest.raises(TypeError):
        json_parts({"x": object()})


def test_a_file_alone_has_the_rest_in_headers() -> None:
    answer = file_answer(result(output(b"png")), "image/png", "job-1")
    assert answer is not None
    assert (answer.body, answer.headers["x-seed"], answer.headers["x-job-id"]) == (b"png", "7", "job-1")
    assert json.loads(answer.headers["x-receipt"]) == {"id": "é"}


@pytest.mark.parametrize("files", [[], [output(b"a"), output(b"b")], [output(b"a", "image/webp")]])
def test_without_one_file_of_that_type_there_is_none(files: list[Output]) -> None:
    assert file_answer(result(*files), "image/png", "job-1") is None


def test_a_link_is_no_file() -> None:
    shown = {"images": [{"url": "https://x/y.png", "seed": 1, "nsfw": False}], "metrics": {}, "receipt": {}}
    assert file_answer(shown, "image/png", "job-1") is None


def test_a_receipt_that_is_too_long_for_a_header_says_so() -> None:
    told = result(output(b"png"), receipt={"prompt": "x" * MAX_RECEIPT_HEADER})
    answer = file_answer(told, "image/png", "job-1")
    assert answer is not None
    assert "too long" in answer.headers["x-receipt"]


def test_a_retry_is_told_in_a_header_and_the_body() -> None:
    answer = refusal(QueueFull("full", retry_after_s=3))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
    assert detail(answer) == {
        "code": "queue_full",
        "msg": "full",
        "retryable": True,
        "retry_after_s": 3,
    }


def test_wrong_fields_are_a_list_and_other_refusals_are_not() -> None:
    listed = detail(refusal(InvalidInput("no picture")))
    assert listed == [{"loc": ["body"], "msg": "no picture", "type": "invalid_input"}]
    foreign = refusal(UnknownModel("no such model"))
    assert (foreign.status_code, detail(foreign)["msg"]) == (400, "no such model")


def test_what_belongs_to_a_status_is_in_the_headers() -> None:
    assert refusal(Unauthorized("key")).headers["www-authenticate"] == "Bearer"
    assert refusal(MediaTooLarge("large")).headers["connection"] == "close"


def test_every_ending_can_be_answered() -> None:
    def leaves(kind: type[Any]) -> list[type[Any]]:
        return [kind, *(leaf for child in kind.__subclasses__() for leaf in leaves(child))]

    for kind in [leaf for base in ENDINGS for leaf in leaves(base)]:
        assert refusal(kind("x")).status_code == kind.http_status
