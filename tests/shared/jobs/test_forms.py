"""Parameters out of JSON and forms."""

from typing import Any, Literal

import pytest
from pydantic import Field

from shared.errors import InvalidInput
from shared.jobs.forms import Fields
from shared.media.image import ImageInput
from shared.schemas import ModelParams


class EveryKind(ModelParams):
    """A parameter of each kind."""

    OTHER_NAMES = {"tokens": "steps"}

    prompt: str = ""
    steps: int = 1
    scale: float | None = None
    factor: Literal[2, 4] = 2
    check: bool = True
    kind: Literal["a", "b"] = "a"
    image: ImageInput | None = None
    images: list[ImageInput] | None = None
    stop: str | list[str] = Field(default_factory=list)
    names: list[str] | None = None
    turns: list[dict[str, Any]] | None = None
    weights: str | dict[str, float] = ""
    bias: dict[str, float] | None = None


FIELDS = Fields(EveryKind)


@pytest.mark.parametrize(
    ("sent", "given"),
    [
        ([("steps", "3")], {"steps": 3}),
        ([("scale", "7.500000")], {"scale": 7.5}),
        ([("factor", "4")], {"factor": 4}),
        ([("check", "false")], {"check": False}),
        ([("check", "False")], {"check": "False"}),  # which pydantic reads
        ([("steps", "many")], {"steps": "many"}),  # which pydantic names
        ([("scale", "NaN")], {"scale": "NaN"}),
        ([("tokens", "9")], {"tokens": 9}),
        ([("prompt", "4")], {"prompt": "4"}),
        ([("prompt", '{"a": 1}')], {"prompt": '{"a": 1}'}),
        ([("prompt", "")], {}),
        ([("steps", "")], {}),
        ([("image", b"")], {}),
        ([("prompt", "a"), ("prompt", "b")], {"prompt": "b"}),
        ([("image", b"x")], {"image": b"x"}),
        ([("image", "https://x/y.png")], {"image": "https://x/y.png"}),
        ([("images", b"x")], {"images": [b"x"]}),
        ([("images", b"x"), ("images", "data:,")], {"images": [b"x", "data:,"]}),
        ([("names", "a")], {"names": ["a"]}),
        ([("names", '["a", "b"]')], {"names": ["a", "b"]}),
        ([("names", "a"), ("names", "b")], {"names": ["a", "b"]}),
        ([("stop", "a")], {"stop": "a"}),
        ([("stop", "a"), ("stop", "b")], {"stop": ["a", "b"]}),
        ([("turns", '[{"role": "user"}]')], {"turns": [{"role": "user"}]}),
        ([("turns", '{"role": "a"}'), ("turns", '{"role": "b"}')], {"turns": [{"role": "a"}, {"role": "b"}]}),
        ([("weights", '{"a/b": 0.5}')], {"weights": {"a/b": 0.5}}),
        ([("weights", "a/b")], {"weights": "a/b"}),
        ([("bias", '{"1": 2}')], {"bias": {"1": 2}}),
        ([("delivery", '{"put": []}')], {"delivery": {"put": []}}),
        ([("unknown", "x")], {"unknown": "x"}),
        ([("unknown", b"x")], {"unknown": "a file"}),
    ],
)
def test_a_form_is_read_by_what_each_parameter_takes(
    sent: list[tuple[str, str | bytes]], given: dict[str, Any]
) -> None:
    assert FIELDS.of_form(sent) == given


@pytest.mark.parametrize(
    ("sent", "given"),
    [
        ({"prompt": "", "steps": ""}, {"prompt": ""}),
        ({"model_id": "", "kind": "", "image": "", "bias": ""}, {}),
        ({"model_id": "a/b", "seed": None}, {"model_id": "a/b", "seed": None}),
        ({"weights": "", "unknown": "x"}, {"weights": "", "unknown": "x"}),
    ],
)
def test_empty_text_in_json_means_not_given_where_it_can_be_no_value(
    sent: dict[str, Any], given: dict[str, Any]
) -> None:
    assert FIELDS.of_json(sent) == given


def test_a_file_where_none_is_taken_is_named() -> None:
    with pytest.raises(InvalidInput) as wrong:
        FIELDS.of_form([("prompt", b"x")])
    assert wrong.value.detail["errors"][0]["loc"] == ["prompt"]


@pytest.mark.parametrize("body", [None, [], "x", 3])
def test_only_an_object_holds_parameters(body: Any) -> None:
    with pytest.raises(InvalidInput):
        FIELDS.of_json(body)
