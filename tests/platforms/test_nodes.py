"""A worker whose jobs are run by containers: three processes, of which one is killed."""

import json
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import handlers
from shared.job import Event, Job, Piece
from shared.runner import Runner
from shared.settings import Settings
from tests.platforms.container.box import EXTRA, Box, Process
from tests.platforms.harness import until

WAIT_S = 60
JOBS = 40
TOKEN = "node-key"


def front_of(folder: Path, urls: list[str], **more: Any) -> Path:
    """A models.json with every pipeline of the tests on these nodes."""
    file = folder / "models.json"
    names = ("sleep", "tell", "noise")
    file.write_text(json.dumps([{"pipeline": name, "model_id": name, "url": urls, **more} for name in names]))
    return file


def front(folder: Path, urls: list[str], **more: Any) -> Runner:
    return Runner(Settings(models=front_of(folder, urls, **more), handlers=EXTRA), handlers.Folders(EXTRA))


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Process]]:
    with ExitStack() as stack:
        folders = [tmp_path / name for name in "abc"]
        for folder in folders:
            folder.mkdir()
        started = [Process(folder, AUTH_TOKEN=TOKEN) for folder in folders]  # all at once, then waited for
        yield [stack.enter_context(each) for each in started]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with Box(tmp_path_factory.mktemp("node")) as box:
        yield box


def test_no_job_is_lost_where_one_of_three_nodes_is_killed(
    nodes: list[Process], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NODES_KEY", TOKEN)
    diary = tmp_path / "diary"
    runner = front(tmp_path, [each.url for each in nodes], token_env="NODES_KEY")
    asked = {"pipeline": "sleep", "ms": 100, "steps": 10, "diary": str(diary)}
    futures = [runner.submit(Job(f"job-{n}", {**asked, "name": f"job-{n}"})) for n in range(JOBS)]
    until(lambda: sum(each.done() for each in futures) >= JOBS // 4, 60)
    nodes[0].process.send_signal(signal.SIGKILL)
    results = [each.result(WAIT_S) for each in futures]

    assert [each["receipt"]["job_id"] for each in results] == [f"job-{n}" for n in range(JOBS)]
    there = [each["receipt"]["node"]["receipt"]["job_id"] for each in results]
    assert len(set(there)) == JOBS
    by_node = Counter(each["metrics"]["node"] for each in results)
    assert set(by_node) == {"node-1", "node-2", "node-3"}
    assert by_node["node-1"] < min(by_node["node-2"], by_node["node-3"])
    ended = Counter(line.split()[0] for line in diary.read_text().splitlines() if " end " in line)
    assert set(ended) == {f"job-{n}" for n in range(JOBS)}
    assert sum(ended.values()) <= JOBS + 1  # one may have ended on the killed node, which could not say so any more


def test_text_passes_through_piece_by_piece_and_stops_there_when_it_is_cancelled(node: Box, tmp_path: Path) -> None:
    diary, heard = tmp_path / "diary", list[Event]()
    job = Job(
        "told",
        {"pipeline": "tell", "gate": str(tmp_path / "gate"), "diary": str(diary), "name": "told"},
        heard.append,
    )
    future = front(tmp_path, [node.url]).submit(job)
    until(lambda: [each.value for each in heard if isinstance(each, Piece)] == ["one "])
    job.cancel.cancel("enough")
    assert isinstance(future.exception(WAIT_S), BaseException)
    assert "told end" in diary.read_text()  # a cancel has happened when it is answered


def test_a_node_gives_a_job_the_time_that_is_given_here(node: Box, tmp_path: Path) -> None:
    job = Job("late", {"pipeline": "sleep", "ms": 60_000, "steps": 600}, timeout_s=0.3)
    assert getattr(front(tmp_path, [node.url]).submit(job).exception(WAIT_S), "code", "") == "deadline_exceeded"


def test_a_container_is_a_door_to_others(node: Box, tmp_path: Path) -> None:
    with Box(tmp_path, models=front_of(tmp_path, [node.url])) as door:
        result = door.ok("/noise", {"side": 8})
        told = door.get("/capabilities").json()
        refused = door.post("/noise", {"side": -8})
    assert result["receipt"]["node"]["receipt"]["outputs"][0]["sha256"] == result["receipt"]["outputs"][0]["sha256"]
    assert refused.status_code == 422
    warm = {each["pipeline"]: [model["warm"] for model in each["models"]] for each in told["capabilities"]}
    assert warm["noise"] == [True]
    assert told["load"]["capacity"] == 2
    assert node.url not in json.dumps([result, told])


def test_a_door_takes_as_many_jobs_as_its_nodes_run_and_its_queue_holds(node: Box, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with Box(tmp_path, models=front_of(tmp_path, [node.url]), queue_max=1) as door:
        door.ok("/tell", {})
        held = [door.later("/tell", {"gate": str(gate)}) for _ in range(3)]
        until(lambda: door.server.performer.inside() == 3)
        assert door.post("/tell", {}).status_code == 429
        gate.touch()
        assert [each.result(WAIT_S).status_code for each in held] == [200, 200, 200]
