"""The OpenAPI document of the synchronous routes: valid, with Livepeer's names, and whole."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import handlers
from shared.jobs.document import components, operation
from shared.jobs.request_schemas import of_params, plain

DOCUMENT = Path(__file__).parents[3] / "openapi.json"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return dict(json.loads(DOCUMENT.read_text()))


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a document."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    for each in value if isinstance(value, list) else ():
        yield from nodes(each)


def test_it_is_valid_by_openapis_own_schema() -> None:
    check = "import schemathesis, sys; schemathesis.openapi.from_path(sys.argv[1]).validate()"
    subprocess.run([sys.executable, "-c", check, str(DOCUMENT)], timeout=60, check=True)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    named = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert {node["$ref"] for node in nodes(document) if "$ref" in node} <= named


def test_operations_and_types_have_livepeers_names(document: dict[str, Any]) -> None:
    operations = {method["operationId"] for path in document["paths"].values() for method in path.values()}
    named = {"genTextToImage", "genImageToImage", "genImageToVideo", "genUpscale", "genLLM"}
    assert operations >= named | {"health", "hardware_info", "hardware_stats", "version"}
    for_requests = {"TextToImageParams", "Body_genImageToImage", "Body_genImageToVideo", "Body_genUpscale"}
    of_text = {"LLMRequest", "LLMMessage", "LLMResponse", "LLMChoice", "LLMTokenUsage"}
    answered = {"ImageResponse", "VideoResponse", "Media", "HealthCheck", "Version", "HardwareInformation"}
    of_errors = {"HTTPError", "APIError", "HTTPValidationError", "ValidationError"}
    assert set(document["components"]["schemas"]) >= for_requests | of_text | answered | of_errors


@pytest.mark.parametrize("pipeline", handlers.names())
def test_every_parameter_can_be_sent_as_json_and_in_a_form(document: dict[str, Any], pipeline: str) -> None:
    content = document["paths"][f"/{pipeline}"]["post"]["requestBody"]["content"]
    assert sorted(content) == ["application/json", "application/x-www-form-urlencoded", "multipart/form-data"]
    for body in content.values():
        schema = document["components"]["schemas"][body["schema"]["$ref"].rpartition("/")[2]]
        assert schema["properties"].keys() >= handlers.get(pipeline).params.model_fields.keys()
        assert schema["additionalProperties"] is False


def test_files_are_bytes_in_a_form_and_text_in_json(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["Body_genImageToImage"]["properties"]["image"]["format"] == "binary"
    assert "format" not in schemas["ImageToImageParams"]["properties"]["image"]
    images = schemas["Body_genFrameInterpolation"]["properties"]["images"]
    assert (images["type"], images["items"]["format"]) == ("array", "binary")


def test_a_form_has_objects_as_text(document: dict[str, Any]) -> None:
    form = document["components"]["schemas"]["Body_genTextGeneration"]["properties"]
    assert form["logit_bias"]["type"] == form["response_format"]["type"] == "string"
    assert form["messages"]["items"]["type"] == "string"


def test_the_routes_own_defaults_stand_there(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    output = schemas["ImageToVideoParams"]["properties"]["output"]
    assert (output["default"], output["enum"]) == ("frames", ["video", "frames", "mp4"])
    assert schemas["TextToImageParams"]["properties"]["width"]["default"] == 1024
    assert schemas["TextGenerationParams"]["properties"]["stream"]["default"] is False
    assert schemas["TextGenerationParams"]["properties"]["max_tokens"]["maximum"] == 1_000_000


def test_generators_of_clients_meet_nothing_that_they_do_not_know(document: dict[str, Any]) -> None:
    """What OpenAPI 3.0 has not: null, const, and bounds as numbers that exclude themselves."""
    for node in nodes(document):
        assert node.get("type") != "null"
        assert not {"const", "exclusiveMinimum", "exclusiveMaximum"} & node.keys()


def test_bounds_that_exclude_themselves_are_said_otherwise() -> None:
    assert plain({"type": "integer", "exclusiveMaximum": 9}) == {"type": "integer", "maximum": 8}
    told = plain({"type": "number", "exclusiveMinimum": 0, "description": "A share."})
    assert told == {"type": "number", "minimum": 0, "description": "A share. More than 0."}


def test_a_handler_kept_elsewhere_is_described_without_any_code(tmp_path: Path) -> None:
    source = (
        '"""Wait."""\n'
        "from pydantic import Field\n"
        "from shared.schemas import Context, Handler, Params\n"
        "class NapParams(Params):\n"
        '    """How long."""\n'
        '    seconds: float = Field(1.0, gt=0, description="How long.")\n'
        "def run(model: None, params: NapParams, ctx: Context) -> None: ...\n"
        "handler = Handler(params=NapParams, run=run)\n"
    )
    (tmp_path / "nap.py").write_text(source)
    handler = handlers.Folders(tmp_path).get("nap")
    told = operation("nap", handler)
    assert (told["operationId"], told["description"]) == ("genNap", "How long.")
    assert told["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/ImageResponse")
    assert of_params("nap", handler.params).keys() == {"NapParams", "Body_genNap"}
    assert "NapParams" in components({"nap": handler})["schemas"]
