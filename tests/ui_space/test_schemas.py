"""schemas.json: what the handlers take, as forms show it."""

import json
from pathlib import Path

from pydantic import Field as Parameter

import handlers
from docs.schemas import fields, schemas_text
from shared.media.image import ImageInput
from shared.schemas import Params
from ui.schemas import Field, Schema, read

ROOT = Path(__file__).parents[2]
SCHEMAS = read(ROOT / "ui_space" / "schemas.json")


class KiteParams(Params):
    """What a kite is made of."""

    picture: ImageInput
    tails: int = Parameter(3, ge=0, lt=9, description="Behind it.")
    length_m: float | None = Parameter(None, gt=0, le=50)
    weights: dict[str, float] = Parameter({})


def field(pipeline: str, name: str) -> Field:
    found = SCHEMAS[pipeline].field(name)
    assert found
    return found


def test_every_handler_has_a_form() -> None:
    assert list(SCHEMAS) == handlers.names()


def test_labels_hints_bounds_and_defaults_are_the_handlers() -> None:
    steps = field("text-to-image", "num_inference_steps")
    assert steps == Field("num_inference_steps", "integer", "Denoising steps.", default=30, minimum=1, maximum=150)
    assert steps.label == "Inference steps"
    assert field("image-to-image", "strength").over == 0
    assert "png" in field("text-to-image", "image_format").choices


def test_a_new_handlers_parameters_become_fields() -> None:
    made = {f["name"]: f for f in fields(KiteParams)}
    assert made["picture"]["kind"] == "image"
    assert made["picture"]["required"]
    assert made["tails"] == {
        "name": "tails",
        "kind": "integer",
        "required": False,
        "description": "Behind it.",
        "default": 3,
        "minimum": 0,
    }
    assert (made["length_m"]["over"], made["length_m"]["maximum"]) == (0, 50)
    assert "weights" not in made


def test_what_is_required_or_usual_is_in_sight_files_first() -> None:
    names = [f.name for f in SCHEMAS["image-to-image"].in_sight]
    assert names[:3] == ["image", "prompt", "negative_prompt"]
    assert "scheduler" in [f.name for f in SCHEMAS["image-to-image"].advanced]
    kite = Schema("kite", "", False, (Field("tails", "integer", required=True), Field("crf", "integer")))
    assert [f.name for f in kite.in_sight] == ["tails"]


def test_a_workflow_is_asked_for_by_prompt_with_its_steps_under_advanced() -> None:
    assert SCHEMAS["workflow"].in_sight[0].name == "prompt"
    assert "steps" in [f.name for f in SCHEMAS["workflow"].advanced]
    assert field("workflow", "steps").kind == "json"


def test_pipelines_say_which_files_they_take() -> None:
    upscale = SCHEMAS["upscale"]
    assert [upscale.takes(kind) for kind in ("image", "video")] == [upscale.field("image"), upscale.field("video")]
    assert SCHEMAS["text-to-image"].takes("image") is None


def test_the_file_is_what_the_generator_writes() -> None:
    assert json.loads(schemas_text()) == json.loads((ROOT / "ui_space" / "schemas.json").read_text())
