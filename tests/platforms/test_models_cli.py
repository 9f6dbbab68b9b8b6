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

from tests.platforms.terminal import PILOTLIGHT, ROOT, Terminal
from tests.shared.models.folders import REMOTE, safetensors, write_cached
from tests.shared.models.hub_server import HubServer, hub_server, slow

MODEL, PINNED, GATED, OTHER = "Ours/Small", "Ours/Pinned", "Ours/Gated", "Ours/Other"
COMMIT, COMMIT_OF_PINNED = "2" * 40, "3" * 40
WEIGHTS = "unet/diffusion_pytorch_model.fp16.safetensors"
DAYS = 86_400


def entry(model_id: str, pipeline: str = "text-to-image", **more: Any) -> dict[str, Any]:
    return {"pipeline": pipeline, "model_id": model_id, **more}


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
    terminal = Terminal(tmp_path, models=[entry(MODEL), entry(MODEL, "inpainting"), pinned])
    terminal.env |= {
        "HF_ENDPOINT": hub.url.rstrip("/"),
        "HF_HUB_CACHE": str(tmp_path / "of-other-tools"),
        "HF_HUB_DISABLE_XET": "1",
        "MODEL_DIR": str(volume),
        "TERM": "xterm",
    }
    return terminal


def models(terminal: Terminal, *args: str, code: int = 0, **env: str) -> "subprocess.CompletedProcess[str]":
    """What a command prints that ends as it should."""
    done = terminal.run("models", *args, **env)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def listed(terminal: Terminal) -> dict[str, Any]:
    """What `list --json` says, by model."""
    return {model["model_id"]: model for model in json.loads(models(terminal, "list", "--json").stdout)}


def snapshot(volume: Path, model_id: str = MODEL, commit: str = COMMIT) -> Path:
    return volume / f"models--{model_id.replace('/', '--')}" / "snapshots" / commit


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
    told = {name: found[MODEL][name] for name in ("revision", "path", "pinned", "complete", "in_use", "ours")}
    truth = {"pinned": False, "complete": True, "in_use": False, "ours": True}
    assert told == {"revision": COMMIT, "path": str(snapshot(volume)), **truth}
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
    assert "as on the hub" in models(terminal, "verify").stdout
    file = snapshot(volume) / WEIGHTS
    file.chmod(0o644)
    file.write_bytes(REMOTE[WEIGHTS][:-1] + b"?")
    assert WEIGHTS in models(terminal, "verify", MODEL, code=1).stderr
    assert "repaired" in models(terminal, "verify", "--repair").stdout
    assert file.read_bytes() == REMOTE[WEIGHTS]
    models(terminal, "verify")


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
    readers.mkdir()
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


def test_the_ancestors_script_is_this_command() -> None:
    env = {**os.environ, "PATH": f"{Path(PILOTLIGHT[0]).parent}:{os.environ['PATH']}"}
    script = str(ROOT / "scripts" / "dl-checkpoints.sh")
    done = subprocess.run([script, "--help"], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "Fetch models" in done.stdout
