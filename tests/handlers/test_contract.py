"""What every handler of the folder keeps, so that its schema is the API reference; and how the folder is read."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

import handlers
from shared.errors import InvalidInput, NotFound
from shared.media.image import encode_image
from shared.media.source import data_url
from shared.models.catalog import BUILT_IN, read
from shared.schemas import Handler, Params

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "diffusers", "transformers", "huggingface_hub", "runpod", "fastapi")
PICTURE = data_url(encode_image(Image.new("RGB", (64, 64), "red"), "png"), "image/png")
SAMPLING = {"prompt", "negative_prompt", "guidance_scale", "num_inference_steps", "seed", "width", "height"}
WRITING = {"prompt", "max_new_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "seed", "stop"}
WRITING |= {"messages", "frequency_penalty", "presence_penalty", "response_format", "logit_bias", "n"}  # OpenAI's
SPECIFIED = {
    "text-to-image": SAMPLING,
    "image-to-image": SAMPLING | {"image", "strength"},
    "text-generation": WRITING,
    "image-to-video": {"image", "height", "width", "num_frames", "num_inference_steps", "seed"},
    "workflow": {"steps"},  # of a chain
}
EITHER: dict[str, dict[str, Any]] = {  # one of several that may be given
    "text-generation": {"prompt": "a circle"},
    "upscale": {"image": PICTURE},
    "frame-interpolation": {"images": [PICTURE, PICTURE]},
    "workflow": {"steps": [{"pipeline": "upscale", "image": PICTURE}]},
}
# What others call the parameters that Hugging Face's task specifications name.
ALIASES = {"steps", "n", "num_images", "cfg", "cfg_scale", "guidance", "negative", "sampler", "text", "input_image"}
ALIASES |= {"random_seed", "n_frames", "frames_count", "w", "h", "denoise", "model", "max_tokens_to_generate"}
WORKING = """
from shared.schemas import Handler, Params

def run(model, params, ctx):
    ctx.note(ran=True)

handler = Handler(params=Params, run=run)
"""


class Planning:
    """Implements schemas.Planning without models."""

    def handler(self, pipeline: str) -> Handler:
        return handlers.get(pipeline)

    def plan(self, pipeline: str, params: dict[str, Any]) -> Params:
        return handlers.get(pipeline).params.model_validate(params)


every_handler = pytest.mark.parametrize("name", handlers.names())


def fields(name: str) -> dict[str, dict[str, Any]]:
    properties: dict[str, dict[str, Any]] = handlers.get(name).params.model_json_schema()["properties"]
    return properties


def needed(name: str) -> dict[str, Any]:
    """Values for the fields without which nothing can run."""
    schema = handlers.get(name).params.model_json_schema()
    given = EITHER.get(name, {})
    return {**given, **{f: sample(schema["properties"][f]) for f in schema.get("required", []) if f not in given}}


def sample(schema: dict[str, Any]) -> Any:
    if schema.get("format") == "image":
        return PICTURE
    if schema["type"] == "array":
        return [sample(schema["items"])] * max(1, schema.get("minItems", 1))
    return {"string": "a circle", "integer": schema.get("minimum", 1), "number": schema.get("minimum", 1.0)}[
        schema["type"]
    ]


def numeric(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The schema's numbers, wherever they are allowed."""
    choices = schema.get("anyOf", [schema])
    return [
        choice
        for choice in choices
        if choice.get("type") in ("integer", "number") and not {"enum", "const"} & choice.keys()
    ]


def test_importing_handlers_imports_nothing_heavy() -> None:
    code = f"import handlers, sys; [handlers.get(n) for n in handlers.names()]; print({HEAVY!r} & sys.modules.keys())"
    code = code.replace(repr(HEAVY), repr(set(HEAVY)))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@every_handler
def test_every_field_is_described(name: str) -> None:
    assert handlers.get(name).params.__doc__
    assert [field for field, schema in fields(name).items() if not schema.get("description")] == []


@every_handler
def test_every_number_has_bounds(name: str) -> None:
    def bounded(number: dict[str, Any]) -> bool:
        lowest = {"minimum", "exclusiveMinimum"} & number.keys()
        return bool(lowest and {"maximum", "exclusiveMaximum"} & number.keys())

    assert [field for field, schema in fields(name).items() if not all(map(bounded, numeric(schema)))] == []


@every_handler
def test_unknown_fields_are_refused(name: str) -> None:
    params = handlers.get(name).params
    assert params.model_json_schema()["additionalProperties"] is False
    with pytest.raises(ValidationError, match="Extra inputs"):
        params.model_validate({**needed(name), "no_such_field": 1})


@every_handler
def test_null_means_default(name: str) -> None:
    params = handlers.get(name).params
    optional = params.model_fields.keys() - needed(name).keys()
    given = params.model_validate({**needed(name), **dict.fromkeys(optional)})
    default = params.model_validate(needed(name))
    assert {f: getattr(given, f) for f in optional} == {f: getattr(default, f) for f in optional}


@every_handler
def test_parameters_cannot_be_changed(name: str) -> None:
    params = handlers.get(name).params.model_validate(needed(name))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(params, next(iter(type(params).model_fields)), None)


@every_handler
def test_parameters_have_the_names_of_the_task_specifications(name: str) -> None:
    assert SPECIFIED.get(name, set()) <= fields(name).keys()
    assert not (ALIASES - SPECIFIED.get(name, set())) & fields(name).keys()


@every_handler
def test_the_schema_and_the_parameters_are_json(name: str) -> None:
    handler = handlers.get(name)
    json.dumps(handler.params.model_json_schema())
    params = handler.params.model_validate(needed(name))
    if handler.validate:
        handler.validate(params, Planning())
    assert PICTURE not in json.dumps(params.as_record())


@every_handler
def test_warm_up_parameters_are_valid(name: str) -> None:
    handler = handlers.get(name)
    if handler.warmup:
        handler.params.model_validate({**needed(name), **handler.warmup})


def test_every_pipeline_of_the_built_in_list_has_a_handler() -> None:
    assert {entry.pipeline for entry in read(BUILT_IN)} <= set(handlers.names())


def test_an_unknown_pipeline_is_refused_naming_those_there_are() -> None:
    with pytest.raises(NotFound, match=r"no pipeline 'music'; there are: .*text-to-image"):
        handlers.get("music")


def write(folder: Path, name: str, code: str = WORKING) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(code)
    return folder


def test_a_folder_adds_its_handlers_to_ours(tmp_path: Path) -> None:
    both = handlers.Folders(write(tmp_path, "turn_round.py"))
    assert both.names() == sorted([*handlers.names(), "turn-round"])
    assert isinstance(both.get("turn-round"), Handler)
    assert both.get("text-to-image") is handlers.get("text-to-image")


def test_a_folder_may_replace_one_of_ours(tmp_path: Path) -> None:
    both = handlers.Folders(write(tmp_path, "text_to_image.py"))
    assert both.names() == handlers.names()
    assert both.get("text-to-image").params is not handlers.get("text-to-image").params


def test_files_that_start_with_an_underscore_are_no_pipelines(tmp_path: Path) -> None:
    assert handlers.Folders(write(tmp_path, "_parts.py")).names() == handlers.names()


def test_a_handler_is_imported_once_and_only_when_asked_for(tmp_path: Path) -> None:
    write(tmp_path, "broken.py", "raise RuntimeError('imported')")
    both = handlers.Folders(write(tmp_path, "fine.py"))
    assert both.get("fine") is both.get("fine")
    with pytest.raises(RuntimeError, match="imported"):
        both.get("broken")


@pytest.mark.parametrize("code", ["", "handler = 5", "handler: object"])
def test_a_file_without_a_handler_is_refused_naming_it(tmp_path: Path, code: str) -> None:
    with pytest.raises(TypeError, match=r"nothing\.py must end with `handler = Handler\("):
        handlers.Folders(write(tmp_path, "nothing.py", code)).get("nothing")


def test_a_file_with_a_mistake_shows_the_mistake(tmp_path: Path) -> None:
    with pytest.raises(SyntaxError) as caught:
        handlers.Folders(write(tmp_path, "wrong.py", "handler = (")).get("wrong")
    assert caught.value.filename == str(tmp_path / "wrong.py")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        handlers.Folders(write(tmp_path, "wrong.py", "import no_such_library")).get("wrong")


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="HANDLERS: there is no folder"):
        handlers.Folders(tmp_path / "typo")
