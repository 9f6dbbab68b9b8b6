"""`pilotlight models pin` as its user runs it, against a hub on loopback."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.models.catalog import BUILT_IN
from tests.platforms.model_volume import COMMIT, models, terminal_with, told
from tests.platforms.terminal import Terminal
from tests.shared.models.folders import REMOTE
from tests.shared.models.hub_server import HubServer, hub_server

ONE, TWO, PINNED = "Ours/One", "Ours/Two", "Ours/Pinned"
OLD, COMMIT_OF_TWO = "1" * 40, "3" * 40
LISTED = """[
  {
    "pipeline": "text-to-image",
    "model_id": "Ours/One",
    "pinned": false,
    "defaults": {"num_inference_steps": 1, "guidance_scale": 0.0}
  },
  {"pipeline": "image-to-image", "model_id": "Ours/One", "warm": true},
  {"pipeline": "text-to-image", "model_id": "Ours/Two", "revision": "main"},
  {"pipeline": "inpainting", "model_id": "Ours/Pinned", "revision": "%s", "pinned": true},
  {"pipeline": "text-to-image", "model_id": "demo/text-to-image"}
]
""" % ("1" * 40)
PIN_OF_TWO = f'"model_id": "Ours/Two", "revision": "{COMMIT_OF_TWO}", "pinned": true}}'
ALL_PINNED = (
    LISTED.replace('    "pinned": false', f'    "revision": "{COMMIT}",\n    "pinned": true')
    .replace('"Ours/One", "warm"', f'"Ours/One", "revision": "{COMMIT}", "pinned": true, "warm"')
    .replace('"model_id": "Ours/Two", "revision": "main"}', PIN_OF_TWO)
)


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with hub_server() as server:
        server.add(ONE, REMOTE, COMMIT)
        server.add(TWO, REMOTE, COMMIT_OF_TWO)
        server.add(PINNED, REMOTE, "9" * 40)
        yield server


@pytest.fixture
def terminal(tmp_path: Path, hub: HubServer) -> Terminal:
    terminal = terminal_with(tmp_path, hub, [])
    (tmp_path / "models.json").write_text(LISTED)
    return terminal


def written(terminal: Terminal) -> str:
    return (terminal.folder / "models.json").read_text()


def test_every_branch_becomes_its_commit_and_all_else_stays(terminal: Terminal) -> None:
    told_of = told(terminal, "pin")
    pins = {item["model_id"]: item["revision"] for item in told_of}
    assert pins == {PINNED: OLD, ONE: COMMIT, TWO: COMMIT_OF_TWO}
    assert written(terminal) == ALL_PINNED
    assert f"{ONE} {COMMIT} pinned before" in models(terminal, "pin").stdout
    assert written(terminal) == ALL_PINNED


def test_one_model_of_another_file(terminal: Terminal) -> None:
    other = terminal.folder / "other.json"
    other.write_text(LISTED)
    done = models(terminal, "pin", TWO, "--file", str(other))
    assert done.stdout == f"{TWO} {COMMIT_OF_TWO} pinned, was main\n"
    assert other.read_text() == LISTED.replace('"model_id": "Ours/Two", "revision": "main"}', PIN_OF_TWO)
    assert written(terminal) == LISTED


def test_the_built_in_file_is_not_written_unless_it_is_named(terminal: Terminal, hub: HubServer) -> None:
    before = BUILT_IN.read_bytes()
    for named in ("", str(BUILT_IN)):
        assert "set MODELS to a file of your own" in models(terminal, "pin", code=1, MODELS=named).stderr
    assert hub.seen == []
    assert BUILT_IN.read_bytes() == before


def test_offline_nothing_is_pinned(terminal: Terminal) -> None:
    assert "HF_HUB_OFFLINE is set" in told(terminal, "pin", code=1, HF_HUB_OFFLINE="1")["error"]
    assert "ConnectError" in models(terminal, "pin", code=1, HF_ENDPOINT="http://127.0.0.1:9").stderr
    assert written(terminal) == LISTED


def test_a_model_that_the_hub_does_not_have_is_said_and_the_others_are_pinned(
    terminal: Terminal, hub: HubServer
) -> None:
    del hub.repos[ONE]
    found = {item["model_id"]: item for item in told(terminal, "pin", code=1)}
    assert found[ONE]["error"].startswith("model_unavailable: the hub has no 'Ours/One'")
    assert found[ONE]["pinned"] is False
    assert written(terminal) == LISTED.replace('"model_id": "Ours/Two", "revision": "main"}', PIN_OF_TWO)


@pytest.mark.parametrize("model_id", ["Ours/Three", "demo/text-to-image"])
def test_a_model_that_cannot_be_pinned_is_refused(terminal: Terminal, model_id: str) -> None:
    refused = models(terminal, "pin", model_id, code=1).stderr
    assert f"'{model_id}' is no model of the hub in models.json; it has: {ONE}, {TWO}, {PINNED}" in refused


def test_a_worker_takes_the_file_that_was_written(terminal: Terminal) -> None:
    models(terminal, "pin")
    entries = {(e["pipeline"], e["model_id"]): e for e in json.loads(written(terminal))}
    assert entries["text-to-image", ONE]["revision"] == COMMIT
    assert told(terminal, "download", ONE)[0]["revision"] == COMMIT
