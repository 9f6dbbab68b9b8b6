"""The configuration of a checkpoint in one file: found on the volumes, else fetched once, without its weights."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from handlers import text_to_image
from handlers.text_to_image import TextToImageParams
from shared.device import Device
from shared.errors import ModelUnavailable
from shared.models.cached import folder_name
from shared.models.catalog import Entry
from shared.models.diffusion import load
from shared.models.single_file import KINDS, SD1
from shared.models.store import Store
from shared.schemas import ModelSource
from shared.settings import inherited
from tests.lines import Lines
from tests.shared.conftest import Checkpoint
from tests.shared.models.folders import safetensors, write_cached
from tests.shared.models.hub_server import HubServer, hub_server, refusal
from tests.shared.models.recorder import Recorder
from tests.shared.models.single_files import one_file
from tests.shared.models.stores import never, store

ROOT = Path(__file__).parents[3]
MODEL, FILE = "Ours/Trained", "mine.safetensors"
CONFIGURATION = KINDS[SD1, 4].configuration
COMMIT = "d" * 40
ENTRY = Entry(pipeline="text-to-image", model_id=f"{MODEL}/{FILE}")
DRAWN = TextToImageParams(prompt="a circle", num_inference_steps=2, seed=7, width=64, height=64)
FIRST_CONVOLUTION = "model.diffusion_model.input_blocks.0.0.weight"


@pytest.fixture(scope="module")
def mine(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint of Stable Diffusion 1 in one file, alone in its folder."""
    return one_file(checkpoint("sd"), tmp_path_factory.mktemp("mine") / FILE)


@pytest.fixture(scope="module")
def original(checkpoint: Checkpoint) -> dict[str, bytes]:
    """The repository whose configuration fits: as the real one, with a safety checker, and with its weights."""
    folder = checkpoint("sd-checked")
    files = {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    return {**files, "README.md": b"# Original", "v1-5.safetensors": safetensors()}


@pytest.fixture
def served(mine: Path, original: dict[str, bytes]) -> Iterator[HubServer]:
    with hub_server() as server:
        server.add(MODEL, {FILE: mine.read_bytes(), "README.md": b"# Mine", "training/config.json": b"{}"})
        server.add(CONFIGURATION, original, COMMIT)
        yield server


def on_disk(mine: Path, folder: Path) -> Entry:
    folder.mkdir()
    return Entry(pipeline="text-to-image", model_id=str(shutil.copy(mine, folder)))


def drawn(source: ModelSource) -> bytes:
    ctx = Recorder()
    text_to_image.run(load(source, Device("cpu")), DRAWN, ctx)
    return ctx.made[0].image.tobytes()


def texts(files: dict[str, bytes]) -> set[str]:
    return {n for n in files if n.endswith((".json", ".txt")) and ("/" in n or n == "model_index.json")}


def requests_of(served: HubServer) -> int:
    return len(served.seen)


def test_a_file_of_the_hub_gets_its_configuration_once_and_draws_what_the_folder_draws(
    tmp_path: Path, served: HubServer, original: dict[str, bytes], checkpoint: Checkpoint
) -> None:
    source = store(tmp_path, hub_url=served.url).ensure(ENTRY)
    assert (source.model_id, source.path.name) == (f"{MODEL}/{FILE}", FILE)
    assert source.options["config_revision"] == COMMIT
    assert served.gets == dict.fromkeys({FILE, *texts(original)}, 1)
    asked = requests_of(served)
    again = store(tmp_path, hub_url=served.url).ensure(ENTRY, on_download=never)
    assert again == source
    assert drawn(source) == drawn(ModelSource("ours/folder", "main", checkpoint("sd")))
    assert requests_of(served) == asked


def test_two_files_of_one_kind_share_a_configuration(
    tmp_path: Path, served: HubServer, mine: Path, original: dict[str, bytes]
) -> None:
    served.add("Ours/Other", {"other.safetensors": mine.read_bytes()})
    ours = store(tmp_path, hub_url=served.url)
    sources = [
        ours.ensure(e) for e in (ENTRY, Entry(pipeline="text-to-image", model_id="Ours/Other/other.safetensors"))
    ]
    assert len({source.options["config"] for source in sources}) == 1
    assert {served.gets[name] for name in texts(original)} == {1}


def test_what_is_loaded_is_logged_with_the_configurations_commit(
    tmp_path: Path, served: HubServer, lines: Lines
) -> None:
    load(store(tmp_path, hub_url=served.url).ensure(ENTRY), Device("cpu"))
    (line,) = lines.named("configuration")
    assert vars(line)["fields"]["of"] == CONFIGURATION
    assert vars(line)["fields"]["revision"] == COMMIT


def test_a_model_on_the_volume_lends_its_configuration(
    tmp_path: Path, mine: Path, original: dict[str, bytes]
) -> None:
    snapshot = write_cached(tmp_path / "volume", CONFIGURATION, COMMIT, original)
    source = store(tmp_path / "volume").ensure(on_disk(mine, tmp_path / "files"), on_download=never)
    assert source.options == {"config": str(snapshot), "config_revision": COMMIT}
    assert drawn(source)


@pytest.mark.parametrize("lost", ["model_index.json", "tokenizer/tokenizer_config.json"])
def test_a_snapshot_without_all_of_the_configuration_lends_none(
    tmp_path: Path, mine: Path, original: dict[str, bytes], lost: str
) -> None:
    folder = lost.rpartition("/")[0]
    kept = {n: d for n, d in original.items() if n != lost and (not folder or n.rpartition("/")[0] != folder)}
    write_cached(tmp_path / "volume", CONFIGURATION, COMMIT, kept)
    source = store(tmp_path / "volume").find(on_disk(mine, tmp_path / "files"))
    assert source is not None
    assert source.options == {}


@pytest.mark.parametrize("name", ["text_encoder/config.json", "tokenizer/tokenizer_config.json"])
def test_a_configuration_that_lost_a_file_is_mended(
    tmp_path: Path, served: HubServer, original: dict[str, bytes], name: str
) -> None:
    ours = store(tmp_path, hub_url=served.url)
    lost = Path(ours.ensure(ENTRY).options["config"]) / name
    lost.unlink()
    ours.ensure(ENTRY)
    assert lost.read_bytes() == original[name]
    assert served.gets[FILE] == 1


def test_the_configuration_serves_for_the_whole_model_when_that_is_wanted(
    tmp_path: Path, served: HubServer, original: dict[str, bytes]
) -> None:
    ours = store(tmp_path, hub_url=served.url)
    ours.ensure(ENTRY)
    whole = Entry(pipeline="text-to-image", model_id=CONFIGURATION)
    assert ours.find(whole) is None
    assert (ours.ensure(whole).path / "unet/diffusion_pytorch_model.safetensors").is_file()
    assert {served.gets[name] for name in texts(original)} == {1}


def test_a_file_on_disk_gets_its_configuration_from_the_hub(tmp_path: Path, served: HubServer, mine: Path) -> None:
    entry = on_disk(mine, tmp_path / "files")
    ours = store(tmp_path / "volume", hub_url=served.url)
    source = ours.ensure(entry)
    assert source.options["config_revision"] == COMMIT
    assert drawn(source)
    assert ours.find(entry) == source


def test_what_lies_beside_a_file_on_disk_or_is_named_is_taken(
    tmp_path: Path, served: HubServer, mine: Path, checkpoint: Checkpoint
) -> None:
    entry = on_disk(mine, tmp_path / "files")
    named = entry.model_copy(update={"options": {"config": str(checkpoint("sd"))}})
    ours = store(tmp_path / "volume", hub_url=served.url)
    assert ours.ensure(named, on_download=never).options == named.options
    shutil.copytree(checkpoint("sd"), tmp_path / "files" / "mine", ignore=shutil.ignore_patterns("*.safetensors"))
    assert ours.ensure(entry, on_download=never).options == {}
    assert requests_of(served) == 0


def test_a_file_in_a_folder_of_its_repository_takes_the_configuration_at_the_top(
    tmp_path: Path, served: HubServer, mine: Path, original: dict[str, bytes]
) -> None:
    served.add("Ours/Both", {**original, "merged/best.safetensors": mine.read_bytes()})
    entry = Entry(pipeline="text-to-image", model_id="Ours/Both/merged/best.safetensors")
    source = store(tmp_path, hub_url=served.url).ensure(entry)
    assert source.options == {}
    assert not (tmp_path / folder_name(CONFIGURATION)).exists()
    assert drawn(source)


@pytest.mark.parametrize("where", ["hub", "disk"])
def test_a_configuration_that_cannot_be_had_is_said_with_what_to_do(
    tmp_path: Path, served: HubServer, mine: Path, where: str
) -> None:
    served.instead[f"/api/models/{CONFIGURATION}/revision/main"] = refusal(500, "")
    ours = store(tmp_path / "volume", hub_url=served.url)
    entry = ENTRY if where == "hub" else on_disk(mine, tmp_path / "files")
    complaint = (
        rf"is Stable Diffusion 1, and needs .* into a folder named mine .*; '{CONFIGURATION}' cannot be fetched"
    )
    with pytest.raises(ModelUnavailable, match=complaint) as caught:
        ours.ensure(entry)
    assert caught.value.detail == {"reason": "unreachable"}
    assert str(tmp_path) not in caught.value.message
    served.instead.clear()
    assert ours.ensure(entry).options["config_revision"] == COMMIT
    assert served.gets[FILE] == (1 if where == "hub" else 0)


def test_offline_nobody_is_asked_for_a_configuration(tmp_path: Path, served: HubServer, mine: Path) -> None:
    """In a process of its own: huggingface_hub reads HF_HUB_OFFLINE when it is imported."""
    code = """
import sys
from pathlib import Path
from shared.errors import ModelUnavailable
from shared.models.catalog import Entry
from shared.models.store import Store
for model_id in sys.argv[3:]:
    try:
        store = Store(Path(sys.argv[1]), volumes=(), hub_url=sys.argv[2])
        print(store.ensure(Entry(pipeline="text-to-image", model_id=model_id)).options["config_revision"])
    except ModelUnavailable as exc:
        print(exc.message)
"""
    store(tmp_path / "volume", hub_url=served.url).ensure(ENTRY)
    asked = requests_of(served)
    disk = on_disk(mine, tmp_path / "files").model_id
    runs = [
        subprocess.run(
            [sys.executable, "-c", code, str(root), served.url, *ids],
            env=inherited(HF_HUB_OFFLINE="1"),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        for root, ids in ((tmp_path / "volume", [f"{MODEL}/{FILE}", disk]), (tmp_path / "empty", [disk]))
    ]
    assert runs[0].stdout.split() == [COMMIT, COMMIT]
    assert "into a folder named mine beside the file" in runs[1].stdout
    assert "HF_HUB_OFFLINE is set" in runs[1].stdout
    assert requests_of(served) == asked


def test_a_configuration_in_use_is_evicted_by_nobody(tmp_path: Path, served: HubServer) -> None:
    ours, other = (Store(tmp_path, volumes=(), hub_url=served.url) for _ in range(2))
    source = ours.ensure(ENTRY)
    (stored,) = [m for m in other.stored() if m.model_id == CONFIGURATION]
    with ours.hold(ENTRY, source):
        assert not other.evict(stored)
    assert other.evict(stored)
    with ours.hold(ENTRY, source) as found:  # fetched again, rather than missing at the load
        assert drawn(found)


def takes_nine_channels(mine: Path, file: Path) -> bytes:
    weights = load_file(mine)
    weights[FIRST_CONVOLUTION] = torch.zeros(8, 9, 3, 3)
    save_file(weights, file)
    return file.read_bytes()


def test_a_file_that_no_pipeline_runs_is_refused_when_it_has_arrived(
    tmp_path: Path, served: HubServer, mine: Path
) -> None:
    served.repos[MODEL].files[FILE] = takes_nine_channels(mine, tmp_path / "inpainting.safetensors")
    volume = tmp_path / "volume"
    with pytest.raises(ModelUnavailable, match=rf"{FILE} cannot be used: .* an inpainting model; no pipeline here"):
        store(volume, hub_url=served.url).ensure(ENTRY)
    assert [f for f in volume.rglob("*") if f.is_file()] == []
    assert served.gets == {FILE: 1}


def test_a_single_file_of_another_kind_of_pipeline_is_its_own_business(tmp_path: Path, served: HubServer) -> None:
    served.add("Ours/Upscaler", {"network.safetensors": safetensors()})
    entry = Entry(pipeline="upscale", model_id="Ours/Upscaler/network.safetensors")
    source = store(tmp_path, hub_url=served.url).ensure(entry)
    assert (source.path.name, source.options) == ("network.safetensors", {})
