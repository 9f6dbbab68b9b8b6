"""Plans: parameters under their own names, whatever another API calls them."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import pytest
from pydantic import Field, ValidationError

import handlers
from shared.plan import Planner
from shared.schemas import Params
from shared.settings import Settings


class Named(Params):
    OTHER_NAMES: ClassVar[Mapping[str, str]] = MappingProxyType({"max_tokens": "most", "limit": "most"})

    most: int = Field(10, description="A number.")


@pytest.mark.parametrize("name", ["most", "max_tokens", "limit"])
def test_a_parameter_is_known_by_each_of_its_names(name: str) -> None:
    assert Named.model_validate({name: 3}).most == 3


def test_null_means_default_under_any_name() -> None:
    assert Named.model_validate({"most": None, "max_tokens": 3, "limit": None}).most == 3
    assert Named.model_validate({"limit": None}).most == 10


def test_two_names_at_once_are_refused_naming_both() -> None:
    with pytest.raises(ValidationError, match="max_tokens and limit are one parameter; give one of them"):
        Named.model_validate({"max_tokens": 1, "limit": 1})
    with pytest.raises(ValueError, match="most and limit are one parameter"):
        Named.canonical({"most": 1, "limit": 1})


def test_canonical_names_leave_the_rest_as_it_is() -> None:
    assert Named.canonical({"limit": 1, "other": [1], "none": None}) == {"most": 1, "other": [1]}


def test_another_name_is_no_field_of_the_schema() -> None:
    assert list(Named.model_json_schema()["properties"]) == ["most"]


@pytest.mark.parametrize(("model_id", "width", "steps"), [("someone/new", 1024, 50), ("demo/text-to-image", 64, 8)])
def test_fallbacks_stand_behind_the_model_and_the_job(model_id: str, width: int, steps: int) -> None:
    """A model that says nothing of a parameter gets the fallback; what a job says beats both."""
    planner = Planner(Settings(pipeline="text-to-image", model_id=model_id), handlers.Folders())
    told = {"prompt": "x", "fallbacks": {"width": 1024, "num_inference_steps": 50, "unknown": 1}}
    plan = planner.plan(told)
    assert (plan.params.width, plan.params.num_inference_steps) == (width, steps)  # type: ignore[attr-defined]
    assert planner.plan({**told, "width": 128}).params.width == 128  # type: ignore[attr-defined]


def test_a_node_is_sent_no_fallback(tmp_path: Path) -> None:
    """It has its own, behind its model's defaults: a turbo model there would run 50 steps in place of one."""
    entry = {"pipeline": "text-to-image", "model_id": "a/b", "url": "http://10.0.0.2:8000", "defaults": {"seed": 1}}
    (tmp_path / "models.json").write_text(json.dumps([entry]))
    planner = Planner(Settings(models=tmp_path / "models.json"), handlers.Folders())
    given = {"pipeline": "text-to-image", "prompt": "x", "fallbacks": {"width": 1024, "num_inference_steps": 50}}
    assert planner.plan(given).params.model_fields_set == {"prompt", "seed"}
