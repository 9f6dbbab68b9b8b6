"""`pilotlight models` as its user runs it, against a hub on loopback."""

import contextlib
import json
import os
import pty
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.platforms import model_volume
from tests.platforms.model_volume import COMMIT, WEIGHTS, damage, entry, models, terminal_with, told
from tests.platforms.terminal import PILOTLIGHT, ROOT, Terminal
from tests.shared.models.folders import REMOTE, safetensors, write_cached
from tests.shared.models.hub_server import HubServer, hub_server, slow

MODEL, PINNED, GATED, OTHER = "Ours/Small", "Ours/Pinned", "Ours/Gated", "Ours/Other"
COMMIT_OF_PINNED, NEW = "3" * 40, "4" * 40
DAYS = 86_400


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with hub_server() as server:
        for model_id in (MODEL, OTHER):
            server.add(model_id, REMOTE, COMMIT)
        server.add(PINNED, REMOTE, COMMIT_OF_PINNED)
        server.add(GATED, REMOTE, COMMIT).gated_for = frozenset({"hf_good"})
        yield server


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    return tmp_path / "volume"


@pytest.fixture
def terminal(tmp_path: Path, hub: HubServer, volume: Path) -> Terminal:
    pinned = entry(PINNED, "image-to-image", revision=COMMIT_OF_PINNED, pinned=True)
    return terminal_with(tmp_path, hub, [entry(MODEL), entry(MODEL, "inpainting"), pinned])


def listed(terminal: Terminal) -> dict[str, Any]:
    """What `list --json` says, by model."""
    return {model["model_id"]: model for model in told(terminal, "list")}


def snapshot(volume: Path, model_id: str = MODEL, commit: str = COMMIT) -> Path:
    return model_volume.snapshot(volume, model_id, commit)


def on_a_screen(terminal: Terminal, *args: str) -> tuple[int, str]:
    """How a command ends whose stderr is a terminal, and what it shows there."""
    screen, stderr = pty.openpty()
    shown = b""
    env = {**terminal.env, "COLUMNS": "120"}
    with subprocess.Popen(
        [*PILOTLIGHT, *args], env=env, cwd=ROOT, stderr=stderr, stdout=subprocess.DEVNULL
    ) as process:
        os.close(stderr)
        with contextlib.suppress(OSError):  # how a screen ends on Linux
            while piece := os.read(screen, 2**12):
                shown += piece
    os.close(screen)
    return process.returncode, shown.decode()


def test_a_model_is_downloaded_listed_found_and_evicted(terminal: Terminal, volume: Path) -> None:
    missing = models(terminal, "path", MODEL, code=1)
    assert f"pilotlight models download {MODEL}" in missing.stderr

    done = models(terminal, "download", MODEL)
    assert done.stdout == f"{MODEL} {snapshot(volume)}\n"
    assert done.stderr == ""  # no bar where nobody sees it
    assert models(terminal, "path", MODEL).stdout == f"{snapshot(volume)}\n"
    assert (snapshot(volume) / WEIGHTS).read_bytes() == REMOTE[WEIGHTS]

    found = listed(terminal)
    assert list(found) == [MODEL]
    facts = {name: found[MODEL][name] for name in ("revision", "path", "pinned", "complete", "in_use", "ours")}
    truth = {"pinned": False, "complete": True, "in_use": False, "ours": True}
    assert facts == {"revision": COMMIT, "path": str(snapshot(volume)), **truth}
    assert found[MODEL]["bytes"] >= len(REMOTE[WEIGHTS])
    assert found[MODEL]["last_used"] == pytest.approx(time.time(), abs=120)
    table = models(terminal, "list").stdout
    assert MODEL in table
    assert COMMIT[:7] in table

    assert "evicted" in models(terminal, "evict", MODEL).stdout
    assert not snapshot(volume).exists()
    assert listed(terminal) == {}
    assert "is not on the volumes" in models(terminal, "evict", MODEL, code=1).stderr


def test_all_and_a_pipelines_models_are_downloaded_once_each(terminal: Terminal, hub: HubServer) -> None:
    models(terminal, "download", "--all", "--pipeline", "image-to-image")
    assert list(listed(terminal)) == [PINNED]
    lines = models(terminal, "download", "--all").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [MODEL, PINNED]
    assert hub.gets[WEIGHTS] == 2


def test_verify_names_a_flipped_byte_and_repair_mends_it(terminal: Terminal, volume: Path) -> None:
    models(terminal, "download", MODEL)
    sound = models(terminal, "verify")
    assert "as on the hub" in sound.stdout
    assert sound.stderr == ""
    file = snapshot(volume) / WEIGHTS
    damage(file)
    assert WEIGHTS in models(terminal, "verify", MODEL, code=1).stderr
    assert "repaired" in models(terminal, "verify", "--repair").stdout
    assert file.read_bytes() == REMOTE[WEIGHTS]
    models(terminal, "verify")


def test_a_model_that_the_catalog_lists_no_more_is_repaired_by_its_own_list(
    terminal: Terminal, hub: HubServer, volume: Path
) -> None:
    models(terminal, "download", OTHER, ALLOW_ANY_MODEL="1")
    text, weights = (snapshot(volume, OTHER) / name for name in ("unet/config.json", WEIGHTS))
    damage(text)
    hub.gets.clear()
    assert "repaired" in models(terminal, "verify", "--repair").stdout
    assert hub.gets == {"unet/config.json": 1}
    damage(weights)
    wrong = weights.read_bytes()
    del hub.repos[OTHER]
    assert "the hub has no" in models(terminal, "verify", "--repair", code=1).stderr
    assert weights.read_bytes() == wrong
    assert text.read_bytes() == REMOTE["unet/config.json"]


def test_what_is_pinned_or_another_tools_is_kept(terminal: Terminal, volume: Path) -> None:
    models(terminal, "download", PINNED)
    foreign = write_cached(volume, OTHER, COMMIT, REMOTE)
    assert "it is pinned in the catalog" in models(terminal, "evict", PINNED, code=1).stderr
    assert "it is pinned" in models(terminal, "evict", "--unused-for", "0h").stderr
    assert "another tool downloaded it" in models(terminal, "evict", OTHER, code=1).stderr
    assert snapshot(volume, PINNED, COMMIT_OF_PINNED).is_dir()
    assert foreign.is_dir()
    assert listed(terminal)[PINNED]["pinned"]


def test_what_a_worker_uses_is_kept(terminal: Terminal, volume: Path) -> None:
    models(terminal, "download", MODEL)
    readers = snapshot(volume).parents[1] / ".readers"
    readers.mkdir(exist_ok=True)
    (readers / f"{COMMIT}-somebody").touch()
    assert listed(terminal)[MODEL]["in_use"]
    assert "a worker uses it" in models(terminal, "evict", MODEL, code=1).stderr
    assert snapshot(volume).is_dir()


def test_only_what_was_long_unused_goes(terminal: Terminal, volume: Path) -> None:
    models(terminal, "download", MODEL)
    models(terminal, "evict", "--unused-for", "12h")
    assert snapshot(volume).is_dir()
    long_ago = time.time() - 31 * DAYS
    repo = snapshot(volume).parents[1]
    for file in (*repo.glob(".used-*"), *repo.glob(".published-*")):
        os.utime(file, (long_ago, long_ago))
    assert MODEL in models(terminal, "evict", "--unused-for", "30d").stdout
    assert not snapshot(volume).exists()


@pytest.mark.parametrize(
    "args", [["evict"], ["evict", MODEL, "--unused-for", "30d"], ["evict", "--unused-for", "30"], ["download"]]
)
def test_a_command_that_does_not_say_what_is_refused(terminal: Terminal, args: list[str]) -> None:
    models(terminal, *args, code=2)


def test_a_model_in_no_entry_is_refused_unless_any_is_allowed(terminal: Terminal, volume: Path) -> None:
    refused = models(terminal, "download", OTHER, code=1)
    assert f"is not in this worker's catalog; it has: {MODEL}, {PINNED}" in refused.stderr
    assert not volume.exists()
    models(terminal, "download", OTHER, ALLOW_ANY_MODEL="1")
    assert snapshot(volume, OTHER).is_dir()


def test_a_gated_model_says_so_and_the_others_are_fetched(terminal: Terminal, volume: Path) -> None:
    listing = terminal.folder / "gated.json"
    listing.write_text(json.dumps([entry(GATED), entry(MODEL)]))
    done = models(terminal, "download", "--all", code=1, MODELS=str(listing), HF_TOKEN="")
    assert GATED in done.stderr
    assert "HF_TOKEN" in done.stderr
    assert done.stdout == f"{MODEL} {snapshot(volume)}\n"
    models(terminal, "download", GATED, MODELS=str(listing), HF_TOKEN="hf_good")


def test_a_terminal_shows_bytes_and_rate(terminal: Terminal, hub: HubServer) -> None:
    hub.repos[MODEL].files[WEIGHTS] = safetensors(2_000_000)
    hub.faults[WEIGHTS].append(slow(2.0))
    code, shown = on_a_screen(terminal, "models", "download", MODEL)
    assert code == 0
    assert MODEL in shown
    assert "/2.0 MB" in shown
    assert "B/s" in shown
    assert "s left" in shown


def test_a_terminal_shows_what_is_hashed_and_fetched_again(terminal: Terminal, hub: HubServer, volume: Path) -> None:
    hub.repos[MODEL].files[WEIGHTS] = safetensors(2_000_000)
    models(terminal, "download", "--all")
    damage(snapshot(volume) / WEIGHTS)
    hub.faults[WEIGHTS].append(slow(2.0))
    code, shown = on_a_screen(terminal, "models", "verify", "--repair")
    assert code == 0
    assert f"{PINNED} (1 of 2)" in shown
    assert f"{MODEL} (2 of 2)" in shown
    hashed, _, fetched = shown.partition("has the right size and the wrong sha256")
    assert "2.0/2.0 MB" in hashed
    assert f"{MODEL} (2 of 2), again" in fetched
    assert "/2.0 MB" in fetched
    assert "B/s" in fetched


def test_below_the_list_is_what_the_volume_holds_and_what_is_left(terminal: Terminal, volume: Path) -> None:
    empty = models(terminal, "list").stdout
    assert "pilotlight models download --all" in empty
    models(terminal, "download", MODEL)
    partial = volume / "models--Ours--Other" / ".incoming" / "a" / "half"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(bytes(5_000_000))
    last = models(terminal, "list", MODELS_MAX_GB="0.5").stdout.splitlines()[-1]
    assert last.startswith(f"{volume}: 1 model, 5.0 MB, 5.0 MB of it in unfinished downloads; ")
    assert " free; 500.0 MB left of MODELS_MAX_GB=0.5" in last


def test_every_command_answers_in_json(terminal: Terminal, volume: Path) -> None:
    named = {"model_id": MODEL, "revision": COMMIT, "path": str(snapshot(volume))}
    missing = told(terminal, "path", MODEL, code=1)
    assert missing["error"].startswith(f"model_unavailable: model '{MODEL}' is not here")
    assert told(terminal, "download", MODEL) == [named]
    assert told(terminal, "path", MODEL) == [named]
    assert told(terminal, "list")[0].items() >= {**named, "refs": ["main"]}.items()
    assert told(terminal, "verify") == [{**named, "complete": True, "damaged": [], "repaired": False}]
    damage(snapshot(volume) / WEIGHTS)
    wrong = [{"file": WEIGHTS, "what": "has the right size and the wrong sha256"}]
    (found,) = told(terminal, "verify", code=1)
    assert found["damaged"] == wrong
    assert found["error"].startswith("model_unavailable: ")
    (mended,) = told(terminal, "verify", "--repair")
    assert mended == {**named, "complete": True, "damaged": wrong, "repaired": True}
    assert told(terminal, "evict", "--unused-for", "1h") == []
    (gone,) = told(terminal, "evict", MODEL)
    assert gone["evicted"]
    assert gone["bytes"] > len(REMOTE[WEIGHTS])


def test_what_fails_is_json_too_and_keeps_its_exit_code(terminal: Terminal, volume: Path) -> None:
    listing = terminal.folder / "gated.json"
    listing.write_text(json.dumps([entry(GATED), entry(PINNED, revision=COMMIT_OF_PINNED, pinned=True)]))
    terminal.env |= {"MODELS": str(listing), "HF_TOKEN": ""}
    failed, fetched = told(terminal, "download", "--all", code=1)
    assert failed["model_id"] == GATED
    assert failed["error"].startswith("model_unavailable: ")
    assert fetched["path"] == str(snapshot(volume, PINNED, COMMIT_OF_PINNED))
    (kept,) = told(terminal, "evict", PINNED, code=1)
    assert not kept["evicted"]
    assert kept["kept"] == "it is pinned in the catalog"
    assert "error" in kept
    assert told(terminal, "download", OTHER, code=1)["error"].startswith("invalid_input: model_id")
    assert told(terminal, "list", code=1, MODELS_MAX_GB="-1")["error"].startswith("invalid_input: environment")


def test_a_revision_is_downloaded_found_verified_and_evicted_alone(
    terminal: Terminal, hub: HubServer, volume: Path
) -> None:
    models(terminal, "download", MODEL)
    hub.repos[MODEL].commit, hub.repos[MODEL].branches = NEW, ("main", "v2")
    assert told(terminal, "path", MODEL)[0]["revision"] == COMMIT  # what is here stands for `main`
    assert told(terminal, "download", MODEL, "--revision", "v2")[0]["revision"] == NEW
    for name, commit in (("v2", NEW), (NEW, NEW), (NEW[:7], NEW), ("main", COMMIT), (COMMIT, COMMIT)):
        assert told(terminal, "path", MODEL, "--revision", name)[0]["path"] == str(snapshot(volume, MODEL, commit))
    damage(snapshot(volume) / WEIGHTS)
    models(terminal, "verify", MODEL, "--revision", "v2")
    models(terminal, "verify", MODEL, "--revision", "main", code=1)
    models(terminal, "evict", MODEL, "--revision", NEW[:7])
    assert [m["revision"] for m in told(terminal, "list")] == [COMMIT]
    gone = models(terminal, "path", MODEL, "--revision", "v2", code=1).stderr
    assert f"is not here at revision 'v2'; it is here at: {COMMIT[:12]} (main)" in gone
    unknown = models(terminal, "download", MODEL, "--revision", "mian", code=1).stderr
    assert f"'{MODEL}' has no revision 'mian'; it has: main" in unknown


@pytest.mark.parametrize("command", [["download", "--all"], ["verify"], ["evict", "--unused-for", "1h"]])
def test_a_revision_is_that_of_one_model(terminal: Terminal, command: list[str]) -> None:
    assert "MODEL_ID" in models(terminal, *command, "--revision", "main", code=2).stderr


def test_a_folder_has_no_revisions(terminal: Terminal) -> None:
    (terminal.folder / "models.json").write_text(json.dumps([entry("demo/text-to-image")]))
    refused = models(terminal, "download", "demo/text-to-image", "--revision", "main", code=1).stderr
    assert "has no revisions" in refused


def test_the_ancestors_script_is_this_command() -> None:
    env = {**os.environ, "PATH": f"{Path(PILOTLIGHT[0]).parent}:{os.environ['PATH']}"}
    script = str(ROOT / "scripts" / "dl-checkpoints.sh")
    done = subprocess.run([script, "--help"], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "Fetch models" in done.stdout


def test_the_id_of_one_file_is_understood_by_every_command(terminal: Terminal, volume: Path) -> None:
    model_id = f"{OTHER}/small.safetensors"
    for wanted in (model_id, OTHER):
        models(terminal, "download", wanted, ALLOW_ANY_MODEL="1")
    assert "as on the hub" in models(terminal, "verify", model_id).stdout
    missing = models(terminal, "verify", f"{OTHER}/large.safetensors", code=1).stderr
    assert f"model '{OTHER}/large.safetensors' is not on the volumes" in missing
    models(terminal, "evict", model_id)
    assert not snapshot(volume, OTHER).exists()


def test_a_time_that_is_none_evicts_nothing(terminal: Terminal, volume: Path) -> None:
    models(terminal, "download", MODEL)
    for none in ("-30d", "nand", "infd", "1e999h", "d"):
        models(terminal, "evict", f"--unused-for={none}", code=2)
    assert snapshot(volume).is_dir()
