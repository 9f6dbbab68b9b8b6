"""What a form sends."""

from pathlib import Path
from typing import Any

import pytest

from ui.failures import Failure
from ui.inputs import job_input, restored
from ui.media import data_url
from ui.schemas import Field, Schema

STEPS = Field("num_inference_steps", "integer", default=30, minimum=1, maximum=150)
SCHEMA = Schema(
    "kite",
    "",
    streams=False,
    fields=(
        Field("prompt", "text", required=True),
        STEPS,
        Field("strength", "number", default=0.8),
        Field("seed", "integer"),
        Field("steps", "json"),
        Field("safety_check", "flag", default=True),
        Field("image", "image"),
    ),
)


def sent(configured: tuple[str, ...] = (), **values: Any) -> dict[str, Any]:
    return job_input(SCHEMA, {"prompt": "a kite", **values}, configured)


def test_only_what_differs_from_the_handlers_defaults_is_sent() -> None:
    assert sent(num_inference_steps=30, strength=0.8, seed="", safety_check=True) == {
        "pipeline": "kite",
        "prompt": "a kite",
    }
    changed = sent(num_inference_steps=31, seed="7", safety_check=False)
    assert (changed["num_inference_steps"], changed["seed"], changed["safety_check"]) == (31, 7, False)


def test_a_field_that_the_configuration_names_is_always_sent() -> None:
    assert sent(configured=("num_inference_steps",), num_inference_steps=30)["num_inference_steps"] == 30


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"prompt": ""}, "Prompt is missing."),
        ({"seed": "many"}, "Seed must be a whole number, or empty."),
        ({"seed": "1.5"}, "Seed must be a whole number, or empty."),
        ({"steps": "[{"}, "Steps is not JSON"),
    ],
)
def test_what_cannot_be_sent_is_said(values: dict[str, Any], said: str) -> None:
    with pytest.raises(Failure, match=said):
        sent(**values)


def test_files_go_along_as_data_urls_up_to_what_a_request_holds(tmp_path: Path) -> None:
    (file := tmp_path / "a.png").write_bytes(b"png")
    assert sent(image=str(file))["image"] == "data:image/png;base64,cG5n"
    file.write_bytes(bytes(8_000_000))
    with pytest.raises(Failure, match=r"8\.0 MB; 7\.8 MB fit"):
        data_url(str(file))


@pytest.mark.parametrize(
    ("field", "kept", "shown"),
    [
        (Field("prompt", "text", max_length=3), "a kite", "a k"),
        (Field("prompt", "text"), 7, None),
        (STEPS, 12, 12),
        (STEPS, True, None),
        (STEPS, "12", None),
        (STEPS, float("nan"), None),
        (Field("wind", "choice", choices=("calm",)), "calm", "calm"),
        (Field("wind", "choice", choices=("calm",)), "storm", None),
        (Field("wind", "choice", choices=("calm",)), {}, None),
        (Field("preview", "flag"), False, False),
        (Field("preview", "flag"), 0, None),
        (Field("steps", "json"), [{}], [{}]),
        (Field("steps", "json"), "[]", None),
        (Field("image", "image"), "/etc/passwd", None),
    ],
)
def test_a_form_takes_from_elsewhere_only_what_it_can_hold(field: Field, kept: Any, shown: Any) -> None:
    assert restored(field, kept) is shown or restored(field, kept) == shown
