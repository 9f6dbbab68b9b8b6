"""models.json: what it may say, how the environment narrows it, and which model a job gets."""

import json
from pathlib import Path
from typing import Any

import pytest

import handlers
from shared.errors import InvalidInput
from shared.models.catalog import BUILT_IN, COMMIT, Catalog, Entry, read
from shared.settings import Settings

DRAW, CHANGE = "text-to-image", "image-to-image"
COMMIT_A = "a" * 40
ENTRIES: list[dict[str, Any]] = [
    {"pipeline": DRAW, "model_id": "ours/first", "defaults": {"num_inference_steps": 3}},
    {"pipeline": DRAW, "model_id": "ours/second"},
    {"pipeline": CHANGE, "model_id": "ours/first", "defaults": {"num_inference_steps": 5}},
]
NEEDED = {"prompt": "a circle", "image": "iVBORw0KGgo="}  # what a job must bring, and a catalog cannot
NEEDED_BY = {"frame-interpolation": {"video": "AAAA"}}


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return write(tmp_path, ENTRIES)


def write(folder: Path, content: Any) -> Path:
    file = folder / "models.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def catalog(models: Path, **more: Any) -> Catalog:
    return Catalog.from_settings(Settings(models=models, **more))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "cannot be read as JSON"),
        ("[{\n", "cannot be read as JSON: .*: line 2 column 1"),
        ({"pipeline": DRAW}, "models.json: Input should be a valid list"),
        ([{"pipeline": DRAW}], "entry 0.model_id: Field required"),
        ([*ENTRIES, {"pipeline": DRAW, "model_id": "a/b", "speed": 1}], "entry 3.speed: Extra inputs"),
        ([{"pipeline": DRAW, "model_id": "a/b", "defaults": 5}], "entry 0.defaults: "),
        ([{"pipeline": DRAW, "model_id": "a/b", "pinned": True}], "entry 0: .*'main' is not a commit"),
    ],
)
def test_a_file_with_a_mistake_is_refused_naming_it(tmp_path: Path, content: Any, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        read(write(tmp_path, content))


def test_a_file_that_is_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"none\.json cannot be read: No such file"):
        read(tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match=r"binary\.json cannot be read as JSON: it is not UTF-8"):
        read(tmp_path / "binary.json")


def test_an_entry_pinned_to_a_commit_is_read() -> None:
    assert Entry(pipeline=DRAW, model_id="a/b", revision=COMMIT_A, pinned=True).revision == COMMIT_A


def test_a_price_is_read_as_the_orchestrators_list_has_it(tmp_path: Path) -> None:
    price = {"price_per_unit": 4768371, "pixels_per_unit": 1e12, "currency": "USD", "capacity": 2}
    priced, free = read(write(tmp_path, [{**ENTRIES[0], **price}, ENTRIES[1]]))
    assert (priced.price_per_unit, priced.pixels_per_unit, priced.currency) == (4768371, 10**12, "USD")
    assert (free.price_per_unit, free.pixels_per_unit, free.currency) == (None, 1, "wei")
    assert (priced.capacity, free.capacity) == (2, None)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"price_per_unit": -1}, "price_per_unit: .*greater than or equal to 0"),
        ({"price_per_unit": float("inf")}, "price_per_unit: .*finite"),
        ({"pixels_per_unit": 0}, "pixels_per_unit: .*greater than or equal to 1"),
        ({"pixels_per_unit": 0.5}, "pixels_per_unit: .*integer"),
        ({"currency": "$"}, "currency: .*pattern"),
        ({"capacity": 0}, "capacity: .*greater than or equal to 1"),
    ],
)
def test_a_price_that_none_can_be_is_refused(tmp_path: Path, wrong: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidInput, match=f"entry 0.{complaint}"):
        read(write(tmp_path, [{**ENTRIES[0], **wrong}]))


def test_offers_every_pipeline_once_in_the_files_order(models: Path) -> None:
    assert catalog(models).pipelines() == [DRAW, CHANGE]


def test_a_job_without_a_model_gets_the_pipelines_first_one(models: Path) -> None:
    assert catalog(models).resolve(DRAW, None).model_id == "ours/first"


def test_a_model_has_the_defaults_of_its_pipeline(models: Path) -> None:
    steps = [catalog(models).resolve(p, "ours/first").defaults["num_inference_steps"] for p in (DRAW, CHANGE)]
    assert steps == [3, 5]


def test_pipeline_narrows_the_list(models: Path) -> None:
    narrowed = catalog(models, pipeline=CHANGE)
    assert narrowed.pipelines() == [CHANGE]
    with pytest.raises(InvalidInput, match=f"no model for '{DRAW}'"):
        narrowed.resolve(DRAW, None)


def test_model_id_narrows_the_list(models: Path) -> None:
    narrowed = catalog(models, pipeline=DRAW, model_id="ours/second")
    assert [e.model_id for e in narrowed.entries] == ["ours/second"]


def test_model_id_alone_keeps_every_pipeline_of_that_model(models: Path) -> None:
    assert catalog(models, model_id="ours/first").pipelines() == [DRAW, CHANGE]


def test_model_id_of_a_model_that_no_entry_has_is_a_list_of_one(models: Path) -> None:
    (entry,) = catalog(models, pipeline=DRAW, model_id="theirs/new").entries
    assert (entry.model_id, entry.warm, entry.pinned, entry.defaults) == ("theirs/new", True, False, {})


def test_model_id_of_a_model_that_no_entry_has_needs_a_pipeline(models: Path) -> None:
    with pytest.raises(InvalidInput, match="set PIPELINE too"):
        catalog(models, model_id="theirs/new")


def test_an_unknown_model_is_refused_naming_those_there_are(models: Path) -> None:
    with pytest.raises(InvalidInput, match=r"'theirs/new' is not .* it has: ours/first, ours/second"):
        catalog(models).resolve(DRAW, "theirs/new")


def test_allow_any_model_takes_an_id_of_the_hub(models: Path) -> None:
    entry = catalog(models, allow_any_model=True).resolve(DRAW, "theirs/new-1.5_x")
    assert (entry.model_id, entry.revision, entry.pinned) == ("theirs/new-1.5_x", "main", False)


@pytest.mark.parametrize(
    "model_id",
    [
        "/etc",
        "/models/ours",
        "./ours",
        "../ours/first",
        "ours",
        "ours/..",
        "a/b/c",
        "a/b/c.bin",
        "a/b/../c.safetensors",
        "a/../b.safetensors",
        "a/b/.c.safetensors",
        "a/b//c.safetensors",
        "a/b/c.safetensors/d",
        "a/b/c.safetensors\n",
        "/a/b/c.safetensors",
        "a/c.safetensors/..",
        "b.safetensors",
        "a/b\n",
        "~/ours",
        "a b/c",
        "",
        "demo/..",
    ],
)
def test_allow_any_model_takes_no_path(models: Path, model_id: str) -> None:
    with pytest.raises(InvalidInput, match="catalog"):
        catalog(models, allow_any_model=True).resolve("nothing-of-it", model_id)


@pytest.mark.parametrize(
    ("model_id", "repository", "file"),
    [
        ("theirs/new/mine.safetensors", "theirs/new", "mine.safetensors"),
        ("theirs/new-1.5_x/q4/some model (v2).Q4_K-M+.gguf", "theirs/new-1.5_x", "q4/some model (v2).Q4_K-M+.gguf"),
    ],
)
def test_an_id_may_name_one_file_of_a_repository(models: Path, model_id: str, repository: str, file: str) -> None:
    listed = Entry(pipeline=DRAW, model_id=model_id)
    asked = catalog(models, allow_any_model=True).resolve(DRAW, model_id)
    (alone,) = catalog(models, pipeline=DRAW, model_id=model_id).entries
    for entry in (listed, asked, alone):
        assert (entry.model_id, entry.files, entry.full_id) == (repository, (file,), model_id)


@pytest.mark.parametrize("files", [["b.gguf"], ["a.gguf", "b.gguf"], "a.gguf", None, 5])
def test_an_id_with_a_file_beside_other_files_is_refused(tmp_path: Path, files: Any) -> None:
    listed = [{"pipeline": DRAW, "model_id": "a/b/a.gguf", "files": files}]
    with pytest.raises(InvalidInput, match=r"entry 0: .*names the file a\.gguf, and files another one"):
        read(write(tmp_path, listed))


def test_an_id_with_its_file_may_repeat_it(tmp_path: Path) -> None:
    listed = [{"pipeline": DRAW, "model_id": "a/b/a.gguf", "files": ["a.gguf"]}]
    assert read(write(tmp_path, listed)) == [Entry(pipeline=DRAW, model_id="a/b", files=("a.gguf",))]


def test_one_file_of_several_is_found_by_its_full_id_and_the_first_by_its_repository(tmp_path: Path) -> None:
    listed = [{"pipeline": DRAW, "model_id": f"ours/many/{n}.safetensors"} for n in "ab"]
    found = catalog(write(tmp_path, listed), allow_any_model=True)
    assert found.resolve(DRAW, "ours/many/b.safetensors") is found.entries[1]
    assert found.resolve(DRAW, "ours/many") is found.entries[0]
    assert found.resolve(DRAW, "ours/many/c.safetensors") not in found.entries
    whole = catalog(write(tmp_path, [*listed, {"pipeline": DRAW, "model_id": "ours/many"}]))
    assert whole.resolve(DRAW, "ours/many").files == ()
    with pytest.raises(InvalidInput, match=r"it has: ours/many/a\.safetensors, ours/many/b\.safetensors, ours/many$"):
        whole.resolve(DRAW, "ours/many/c.safetensors")


def test_model_id_narrows_the_list_to_one_file(tmp_path: Path) -> None:
    listed = [{"pipeline": DRAW, "model_id": f"ours/many/{n}.safetensors", "gpu_memory_gb": 2} for n in "ab"]
    (entry,) = catalog(write(tmp_path, listed), model_id="ours/many/b.safetensors").entries
    assert (entry.files, entry.gpu_memory_gb, entry.warm) == (("b.safetensors",), 2, True)


@pytest.mark.parametrize("model_id", ["demo/text-generation", "/models/ours", "./ours"])
def test_a_model_that_is_on_no_hub_has_the_id_that_it_was_given(model_id: str) -> None:
    assert Entry(pipeline=DRAW, model_id=model_id, files=("model.gguf",)).full_id == model_id


def test_the_built_in_list_offers_what_the_readme_says() -> None:
    offered = {(e.pipeline, e.model_id) for e in read(BUILT_IN)}
    stable_diffusion = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    for model_id in ("stabilityai/sd-turbo", "stabilityai/sdxl-turbo", stable_diffusion, "demo/text-to-image"):
        assert {(DRAW, model_id), (CHANGE, model_id)} <= offered


def test_no_model_of_the_built_in_list_is_listed_twice() -> None:
    listed = [(e.pipeline, e.model_id) for e in read(BUILT_IN)]
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("entry", read(BUILT_IN), ids=lambda e: f"{e.pipeline}:{e.model_id}")
def test_a_built_in_entry_has_defaults_that_its_handler_takes(entry: Entry) -> None:
    params = handlers.get(entry.pipeline).params
    assert entry.defaults.keys() <= params.model_fields.keys()
    needed = NEEDED_BY.get(entry.pipeline, {name: v for name, v in NEEDED.items() if name in params.model_fields})
    taken = params.model_validate({**needed, **entry.defaults})
    assert {name: getattr(taken, name) for name in entry.defaults} == entry.defaults


@pytest.mark.parametrize("entry", read(BUILT_IN), ids=lambda e: f"{e.pipeline}:{e.model_id}")
def test_a_built_in_entry_says_whether_its_revision_moves(entry: Entry) -> None:
    assert entry.pinned == bool(COMMIT.fullmatch(entry.revision))
    assert entry.pinned or entry.revision == "main"


WRITE = "text-generation"


def test_ggml_repo_is_a_list_of_one_warm_model() -> None:
    (entry,) = catalog(BUILT_IN, ggml_repo="TheBloke/Some-GGUF", ggml_type="llama").entries
    assert (entry.pipeline, entry.model_id, entry.revision) == (WRITE, "TheBloke/Some-GGUF", "main")
    assert (entry.files, entry.options, entry.warm, entry.pinned) == ((), {}, True, False)


def test_the_first_workers_variables_name_the_file_and_how_to_load_it() -> None:
    env = {
        "GGML_REPO": "TheBloke/Some-GGUF",
        "GGML_FILE": "some.Q4_K_M.gguf",
        "GGML_TYPE": "gptneox",
        "GGML_REVISION": COMMIT_A,
        "GGML_LAYERS": "20",
        "GGML_CONTEXT": "2048",
        "GGML_PARALLEL": "4",
        "PIPELINE": WRITE,
    }
    (entry,) = Catalog.from_settings(Settings.from_env(env)).entries
    assert (entry.files, entry.revision) == (("some.Q4_K_M.gguf",), COMMIT_A)
    assert entry.options == {"gpu_layers": 20, "context": 2048, "slots": 4}


@pytest.mark.parametrize(("layers", "options"), [(-1, {}), (None, {}), (0, {"gpu_layers": 0})])
def test_layers_below_zero_are_as_many_as_fit(layers: int | None, options: dict[str, int]) -> None:
    assert catalog(BUILT_IN, ggml_repo="a/b", ggml_layers=layers).entries[0].options == options


@pytest.mark.parametrize("more", [{"pipeline": DRAW}, {"model_id": "c/d"}, {"pipeline": WRITE, "model_id": "c/d"}])
def test_ggml_repo_beside_another_choice_is_refused(more: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match=r"GGML_REPO names the model .*; unset PIPELINE and MODEL_ID"):
        catalog(BUILT_IN, ggml_repo="a/b", **more)


def test_ggml_file_alone_is_refused() -> None:
    with pytest.raises(InvalidInput, match="GGML_FILE is set without GGML_REPO"):
        catalog(BUILT_IN, ggml_file="a.gguf")


@pytest.mark.parametrize("file", ["../a.gguf", "..", "folder/../../a.gguf", "folder/.."])
def test_a_ggml_file_outside_its_repository_is_refused(file: str) -> None:
    with pytest.raises(InvalidInput, match="GGML_FILE leaves its repository"):
        catalog(BUILT_IN, ggml_repo="a/b", ggml_file=file)


def test_a_ggml_file_may_be_in_a_folder_and_have_dots_in_its_name() -> None:
    assert catalog(BUILT_IN, ggml_repo="a/b", ggml_file="q4/a..b.gguf").entries[0].files == ("q4/a..b.gguf",)


def test_the_variables_beat_what_the_list_says_of_text_models_only(tmp_path: Path) -> None:
    options = {"context": 512, "slots": 3}
    models = write(tmp_path, [{"pipeline": p, "model_id": "ours/m", "options": options} for p in (WRITE, DRAW)])
    text, picture = catalog(models, ggml_context=256).entries
    assert text.options == {"context": 256, "slots": 3}
    assert picture.options == options


@pytest.mark.parametrize("name", ["model.gguf", "."])
def test_model_id_may_be_a_file_or_a_folder_of_one(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    (entry,) = catalog(BUILT_IN, pipeline=WRITE, model_id=path, ggml_context=256).entries
    assert (entry.pipeline, entry.model_id, entry.warm, entry.options) == (WRITE, path, True, {"context": 256})


def test_the_built_in_list_has_the_demo_model_for_text() -> None:
    (entry,) = [e for e in read(BUILT_IN) if e.pipeline == WRITE]
    assert (entry.model_id, entry.files) == ("demo/text-generation", ("model.gguf",))


@pytest.mark.parametrize(
    "model_id",
    [
        "theirs/a--b",
        "theirs/a..b",
        "the--irs/ab",
        "theirs/new.git",
        "theirs/new-",
        "theirs/new.",
        f"theirs/{'n' * 97}",
        f"{'t' * 97}/new",
        f"theirs/{'n' * 300}",
        f"theirs/new/{'f' * 251}.gguf",
        f"theirs/new/{'ü' * 130}.gguf",
        f"theirs/new/{'f' * 256}/small.gguf",
        "thöirs/new",
    ],
)
def test_an_id_that_the_hub_cannot_have_is_refused_where_any_is_allowed(models: Path, model_id: str) -> None:
    with pytest.raises(InvalidInput, match="is not in this worker's catalog"):
        catalog(models, allow_any_model=True).resolve(DRAW, model_id)


@pytest.mark.parametrize("model_id", [f"{'t' * 96}/{'n' * 96}", "t/n", "a/b/small--q4..x.gguf", "a/b_", "a.b/c.d"])
def test_an_id_as_the_hub_may_have_it_is_taken(models: Path, model_id: str) -> None:
    assert catalog(models, allow_any_model=True).resolve(DRAW, model_id).full_id == model_id
