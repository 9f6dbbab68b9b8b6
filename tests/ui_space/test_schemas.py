"""schemas.json: what the handlers take, as forms show it."""

import json
from enum import StrEnum
from pathlib import Path

import pytest
from pydantic import Field as Parameter
from typer.testing import CliRunner

import handlers
from platforms.cli import app
from platforms.forms import fields, schemas_text
from shared.media.image import ImageInput
from shared.schemas import Params
from ui.schemas import Field, Schema, read

ROOT = Path(__file__).parents[2]
SCHEMAS = read(ROOT / "ui_space" / "schemas.json")


class Colour(StrEnum):
    red = "red"
    blue = "blue"


class KiteParams(Params):
    """What a kite is made of."""

    picture: ImageInput
    tails: int = Parameter(3, ge=0, lt=9, description="Behind it.")
    length_m: float | None = Parameter(None, gt=0, le=50)
    weights: dict[str, float] = Parameter({})
    knots: list[str]
    colour: Colour = Colour.red


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
    assert (made["knots"]["kind"], made["knots"]["required"]) == ("json", True)
    assert (made["colour"]["choices"], made["colour"]["default"]) == (["red", "blue"], "red")


def test_what_is_required_or_usual_is_in_sight_files_first() -> None:
    names = [f.name for f in SCHEMAS["image-to-image"].in_sight]
    assert names[:3] == ["image", "prompt", "negative_prompt"]
    assert "scheduler" in [f.name for f in SCHEMAS["image-to-image"].advanced]


def test_a_form_of_few_fields_has_no_fold_unless_json_is_in_it() -> None:
    fields = (Field("crf", "integer"), Field("tails", "json", required=True))
    small = Schema("kite", "", False, fields)
    assert [f.name for f in small.in_sight] == ["crf", "tails"]
    folded = Schema("kite", "", False, (*fields, Field("knots", "json")))
    assert [f.name for f in folded.advanced] == ["crf", "knots"]
    large = Schema("kite", "", False, (*fields, *(Field(f"f{n}", "text", required=n == 7) for n in range(8))))
    assert [f.name for f in large.in_sight] == ["tails", "f7"]
    assert large.advanced[0].name == "crf"


def test_a_workflow_is_asked_for_by_prompt_with_its_steps_under_advanced() -> None:
    assert SCHEMAS["workflow"].in_sight[0].name == "prompt"
    assert "steps" in [f.name for f in SCHEMAS["workflow"].advanced]
    assert field("workflow", "steps").kind == "json"


def test_pipelines_say_which_files_they_take() -> None:
    upscale = SCHEMAS["upscale"]
    assert [upscale.takes(kind) for kind in ("image", "video")] == [upscale.field("image"), upscale.field("video")]
    assert SCHEMAS["text-to-image"].takes("image") is None


def test_the_file_is_what_the_generator_writes() -> None:
    assert json.loads(schemas_text(handlers.Folders())) == json.loads(
        (ROOT / "ui_space" / "schemas.json").read_text()
    )


def test_the_command_writes_those_of_another_folder_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HANDLERS", str(Path(__file__).parent / "own_handlers"))
    done = CliRunner().invoke(app, ["schemas"])
    (file := tmp_path / "schemas.json").write_text(done.stdout)
    own = read(file)
    assert list(own) == sorted([*handlers.names(), "fly-kite"])
    assert [f.name for f in own["fly-kite"].in_sight] == ["name", "tails_m", "wind", "height_m", "told", "until"]
    assert own["fly-kite"].title == "Fly kite"
