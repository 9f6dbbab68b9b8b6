"""Which endpoints and which models `up` serves, by what the environment names."""

import json
from pathlib import Path
from typing import Any

import pytest

import handlers
from platforms.local import serving
from shared.errors import InvalidInput
from shared.plan import Planner
from shared.settings import Settings

PICTURE = {"pipeline": "text-to-image", "model_id": "a/picture"}
TEXT = {"pipeline": "text-generation", "model_id": "a/text"}


def served(folder: Path, env: dict[str, str]) -> dict[str, list[str]]:
    """For each endpoint its workers' pipelines and models, as they plan them from their environment.

    But for workflows, which every worker of pictures runs.
    """
    found = {}
    for name, more in serving.endpoints(Settings.from_env(env), folder).items():
        planner = Planner(Settings.from_env({**env, **more}), handlers.Folders())
        pipelines = [pipeline for pipeline in planner.pipelines if pipeline != "workflow"]
        found[name] = [*pipelines, *(e.model_id for e in planner.catalog.entries)]
    return found


DRAWN = ["text-to-image", "image-to-image"], ["demo/text-to-image", "demo/text-to-image"]
FILMED = (
    ["image-to-video", "frame-interpolation", "upscale"],
    ["demo/image-to-video", "demo/frame-interpolation", "demo/upscale"],
)
DEMO_MEDIA = [*DRAWN[0], *FILMED[0], *DRAWN[1], *FILMED[1]]
DEMO_TEXT = ["text-generation", "demo/text-generation"]


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, {"media": DEMO_MEDIA, "text-generation": DEMO_TEXT}),
        ({"PIPELINE": "text-generation"}, {"text-generation": DEMO_TEXT}),
        ({"PIPELINE": "text-to-image"}, {"media": ["text-to-image", "demo/text-to-image"]}),
        ({"PIPELINE": "text-generation", "MODEL_ID": "a/b"}, {"text-generation": ["text-generation", "a/b"]}),
        ({"PIPELINE": "text-to-image", "MODEL_ID": "a/b"}, {"media": ["text-to-image", "a/b"]}),
        ({"MODEL_ID": "demo/text-generation"}, {"text-generation": DEMO_TEXT}),
        ({"MODEL_ID": "demo/text-to-image"}, {"media": [*DRAWN[0], *DRAWN[1]]}),
        ({"GGML_REPO": "a/g"}, {"media": DEMO_MEDIA, "text-generation": ["text-generation", "a/g"]}),
        ({"GGML_REPO": "a/g", "PIPELINE": "text-generation"}, {"text-generation": ["text-generation", "a/g"]}),
    ],
)
def test_the_environment_says_which(tmp_path: Path, env: dict[str, str], expected: dict[str, list[str]]) -> None:
    assert served(tmp_path, env) == expected


@pytest.mark.parametrize(
    ("models", "env", "expected"),
    [
        (
            [PICTURE, TEXT],
            {},
            {"media": ["text-to-image", "a/picture"], "text-generation": ["text-generation", "a/text"]},
        ),
        ([PICTURE], {}, {"media": ["text-to-image", "a/picture"]}),
        ([TEXT], {}, {"text-generation": ["text-generation", "a/text"]}),
        ([], {}, {"media": []}),
        ([PICTURE, TEXT], {"MODEL_ID": "a/text"}, {"text-generation": ["text-generation", "a/text"]}),
        (
            [PICTURE, TEXT],
            {"GGML_REPO": "a/g"},
            {"media": ["text-to-image", "a/picture"], "text-generation": ["text-generation", "a/g"]},
        ),
    ],
)
def test_a_list_of_ones_own_is_divided(
    tmp_path: Path, models: list[dict[str, Any]], env: dict[str, str], expected: dict[str, list[str]]
) -> None:
    (tmp_path / "mine.json").write_text(json.dumps(models))
    assert served(tmp_path, {"MODELS": str(tmp_path / "mine.json"), **env}) == expected


def test_handlers_of_ones_own_have_an_endpoint_beside_a_list_of_text(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps([TEXT]))
    settings = Settings(models=tmp_path / "mine.json", handlers=tmp_path)
    assert list(serving.endpoints(settings, tmp_path)) == ["media", "text-generation"]


@pytest.mark.parametrize("env", [{"MODELS": "/nowhere.json"}, {"MODEL_ID": "a/b"}, {"GGML_FILE": "x.gguf"}])
def test_what_cannot_be_served_is_said_before_a_worker_starts(tmp_path: Path, env: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        serving.endpoints(Settings.from_env(env), tmp_path)


def test_workers_of_pictures_run_workflows_and_those_of_text_do_not(tmp_path: Path) -> None:
    made = serving.endpoints(Settings(), tmp_path)
    pipelines = {name: Planner(Settings.from_env(more), handlers.Folders()).pipelines for name, more in made.items()}
    assert ["workflow" in pipelines[name] for name in ("media", "text-generation")] == [True, False]
