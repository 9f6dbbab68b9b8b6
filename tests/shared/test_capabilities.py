"""The document of a worker, as it is read from other nodes."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from shared.capabilities import Capabilities

MODEL = {"model_id": "ours/first", "constraints": {"width": {"minimum": 8, "multiple_of": 8, "default": 64}}}
LOAD = {"running": 0, "waiting": 2, "backlog_s": 1.5, "capacity": 1, "queue_max": 8}


def document(model: dict[str, Any] | None = None, load: dict[str, Any] | None = None, **more: Any) -> str:
    models = [{**MODEL, **(model or {})}]
    capability = {"pipeline": "text-to-image", "models": models}
    return json.dumps(
        {"version": "0.1.0", "worker": "w", "load": {**LOAD, **(load or {})}, "capabilities": [capability], **more}
    )


def test_a_document_is_read_with_what_it_says_and_defaults_for_the_rest() -> None:
    told = Capabilities.model_validate_json(document({"warm": True}))
    (capability,) = told.capabilities
    (model,) = capability.models
    assert (told.load.waiting, told.load.backlog_s) == (2, 1.5)
    assert (model.warm, model.default, model.revision, model.price) == (True, False, "main", None)
    assert (model.constraints["width"].minimum, model.constraints["width"].maximum) == (8, None)


def test_what_a_newer_node_adds_is_passed_over() -> None:
    told = Capabilities.model_validate_json(document({"colour": "blue"}, {"fans": 3}, region="somewhere"))
    assert told == Capabilities.model_validate_json(document())


def test_a_node_may_not_know_how_long_it_is_busy() -> None:
    assert Capabilities.model_validate_json(document(load={"backlog_s": None})).load.backlog_s is None


@pytest.mark.parametrize(
    "wrong",
    [
        document({"warm": "yes"}),
        document({"model_id": None}),
        document({"price": {"per_unit": -1, "unit": "pixel", "pixels_per_unit": 1, "currency": "USD"}}),
        document({"price": {"per_unit": 1.0, "unit": "pixel", "pixels_per_unit": 0, "currency": "USD"}}),
        document({"constraints": {"width": 8}}),
        document(load={"running": "1"}),
        document(load={"running": -1}),
        document(load={"waiting": 1.5}),
        document(load={"backlog_s": float("inf")}),
        document(load={"backlog_s": float("nan")}),
        document(load={"capacity": 0}),
        document(capabilities={"text-to-image": []}),
        document(worker=None),
        "[]",
    ],
)
def test_what_is_of_another_type_is_refused(wrong: str) -> None:
    with pytest.raises(ValidationError):
        Capabilities.model_validate_json(wrong)
