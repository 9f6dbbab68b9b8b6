"""Workers that come and go with their jobs on cards that do not exist: real processes, real queue, no torch."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from platforms.local.agenda import Timing
from platforms.local.gpus import choose
from platforms.local.workers import WORKER_COMMAND
from shared.errors import InsufficientCapacity, InvalidInput
from tests.platforms.lab import is_gone, until
from tests.platforms.rack import GB, FleetLab, Rack

MODELS: list[dict[str, Any]] = [
    {"model_id": "small"},
    {"model_id": "small", "pipeline": "second-census", "idle_s": 200},
    {"model_id": "other"},
    {"model_id": "pinned", "gpu": 1, "gpu_memory_gb": 2},
    {"model_id": "brief", "gpu_memory_gb": 1, "idle_s": 0.2},
    {"model_id": "huge", "gpu_memory_gb": 50},
    {"model_id": "broken", "gpu_memory_gb": 1},
    {"model_id": "large", "gpu_memory_gb": 9},
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetLab]:
    """Two cards of 10 GB; `small` and `other` fit on one together."""
    with FleetLab(tmp_path_factory.mktemp("fleet"), Rack(10, 10), MODELS) as lab:
        yield lab


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetLab]:
    """The same with the workers that everybody has."""
    with FleetLab(tmp_path_factory.mktemp("real-fleet"), Rack(10, 10), MODELS, command=WORKER_COMMAND) as lab:
        yield lab


def test_models_share_a_card_where_they_fit_and_pipelines_share_their_model(real: FleetLab) -> None:
    lab = real
    jobs = [lab.submit("small"), lab.submit("other"), lab.submit("pinned")]
    small, other, pinned = map(lab.told, jobs)
    assert [told["card"] for told in (small, other, pinned)] == ["0", "0", "1"]
    assert len({told["pid"] for told in (small, other, pinned)}) == 3
    assert small["order"] == "PCI_BUS_ID"
    again = lab.client.run({"pipeline": "second-census"})["metrics"]
    assert again["pid"] == small["pid"]
    assert lab.census(None)["pid"] == small["pid"]


def test_a_worker_ends_after_its_idle_time_and_the_next_job_starts_another(lab: FleetLab) -> None:
    first = lab.census("brief")["pid"]
    lab.until_gone("brief")
    until(lambda: is_gone(first), "the process goes on")
    assert lab.census("brief")["pid"] != first


def test_what_no_card_can_hold_fails_at_once_and_says_what_it_needs(lab: FleetLab) -> None:
    with pytest.raises(InsufficientCapacity, match=r"huge: it needs 50\.0 GB .* has 10\.0 GB"):
        lab.census("huge")
    assert not lab.seats("huge")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"pipeline": "census", "model_id": "nobody/knows"}, "is not in this worker's catalog; it has: .*small"),
        ({"pipeline": "census", "ms": -1}, "ms: Input should be greater than or equal to 0"),
        ({"pipeline": "nonsense"}, "does not serve 'nonsense'; it serves: .*census"),
        ({"ms": 1}, "input.pipeline is missing"),
        ({"pipeline": "errand", "models": ["nobody/knows"]}, "nobody/knows' is not in this worker's catalog"),
    ],
)
def test_bad_input_is_refused_as_by_a_worker_without_starting_one(
    lab: FleetLab, given: dict[str, Any], says: str
) -> None:
    before = [seat.name for seat in lab.fleet.seats]
    with pytest.raises(InvalidInput, match=says):
        lab.client.run(given)
    assert {seat.name for seat in lab.fleet.seats} <= set(before)


def test_a_worker_that_dies_is_replaced_and_its_job_runs_again(real: FleetLab) -> None:
    lab = real
    gate = lab.folder / "open"
    first = lab.census("small")["pid"]
    running = lab.submit("small", gate=str(gate))
    until(lambda: "output" in lab.client.status(running), "the job does not run")
    os.kill(first, signal.SIGKILL)
    gate.touch()
    told = lab.told(running)
    assert told["pid"] != first
    assert told["card"] == "0"
    assert lab.client.status(running)["retries"] == 1


def test_a_worker_that_cannot_load_its_model_fails_the_jobs_that_wait_for_it(lab: FleetLab) -> None:
    Path(lab.model("broken"), "broken").touch()
    job = lab.submit("broken")
    other = lab.submit("other", ms=1)
    with pytest.raises(InsufficientCapacity, match="broken: its worker ends before its first job"):
        lab.client.wait(job)
    assert not lab.seats("broken")
    lab.told(other)


def test_a_job_without_a_model_and_a_chain_have_workers_of_their_own(real: FleetLab) -> None:
    lab = real
    lab.client.run({"pipeline": "errand"})
    told = lab.client.run({"pipeline": "errand", "models": [lab.model("small"), lab.model("pinned")]})["metrics"]
    assert told["card"] == "1"  # where one of them is pinned
    with pytest.raises(InsufficientCapacity, match=r"small and .*huge: it needs 54\.0 GB"):
        lab.client.run({"pipeline": "errand", "models": [lab.model("small"), lab.model("huge")]})


def test_a_chain_of_more_than_a_card_holds_has_one_to_itself(lab: FleetLab) -> None:
    """Its worker lets one model go for the next."""
    lab.client.run({"pipeline": "errand", "models": [lab.model("small"), lab.model("large")]})
    (seat,) = lab.seats("large")
    assert seat.size == 10 * GB


def test_warm_loads_a_model_before_its_first_job(lab: FleetLab) -> None:
    lab.until_gone("brief")
    answer = lab.warm({"pipeline": "census", "model_id": lab.model("brief")})
    assert (answer.status_code, answer.json()) == (200, {"status": "WARM"})
    (seat,) = lab.seats("brief")
    assert seat.pool.is_ready
    assert lab.census("small")["pid"]  # meanwhile others run


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"pipeline": "census", "model_id": "huge"}, 503, "insufficient_capacity: .*needs 50.0 GB"),
        ({"pipeline": "census", "model_id": "nobody/knows"}, 400, "invalid_input: .*catalog"),
        ({"pipeline": "nonsense"}, 400, "invalid_input: no pipeline 'nonsense' here"),
        ({"model_id": "x"}, 400, "invalid_input: pipeline: Field required"),
        ([], 400, "invalid_input: body: "),
    ],
)
def test_warm_says_why_not(lab: FleetLab, body: Any, status: int, says: str) -> None:
    if isinstance(body, dict) and body.get("model_id") == "huge":
        body = {**body, "model_id": lab.model("huge")}
    answer = lab.warm(body)
    assert answer.status_code == status
    assert re.search(says, answer.json()["error"])


def test_warm_wants_the_key_and_an_endpoint_that_there_is(lab: FleetLab) -> None:
    assert lab.warm({"pipeline": "census"}, key="wrong").status_code == 401


def test_warm_that_takes_longer_than_the_wait_goes_on(lab: FleetLab) -> None:
    lab.until_gone("brief")
    answer = lab.warm({"pipeline": "census", "model_id": lab.model("brief")}, wait_ms=0)
    assert (answer.status_code, answer.json()) == (202, {"status": "LOADING"})
    until(lambda: any(seat.pool.is_ready for seat in lab.seats("brief")), "it is not loaded")


def test_idle_workers_make_room_and_busy_ones_are_waited_for(tmp_path: Path) -> None:
    """One card, three models of which two fit."""
    models = [{"model_id": name} for name in ("a", "b")] + [{"model_id": "large", "gpu_memory_gb": 6}]
    gate = tmp_path / "open"
    with FleetLab(tmp_path, Rack(10), models, timing=Timing(look_s=0.05, patience_s=3600)) as lab:
        running, idle = lab.submit("a", gate=str(gate)), lab.submit("b")
        lab.told(idle)
        lab.told(lab.submit("large"))
        assert not lab.seats("b")  # the idle one went, the busy one did not
        assert lab.status(running) == "IN_PROGRESS"
        waits = lab.submit("b")
        lab.told(waits)
        assert not lab.seats("large")
        gate.touch()
        lab.told(running)


def test_nobody_waits_for_ever_behind_a_busy_model(tmp_path: Path) -> None:
    """Two models take turns on a card: a long queue for one is interrupted for the other, and neither starves."""
    with FleetLab(tmp_path, Rack(10), [{"model_id": "a", "gpu_memory_gb": 8}, {"model_id": "b"}]) as lab:
        lab.census("a")
        many = [lab.submit("a", ms=50) for _ in range(40)]
        one = lab.submit("b")
        lab.told(one)
        assert lab.status(many[-1]) == "IN_QUEUE"
        lab.client.cancel(many[-1])
        lab.told(many[-2])


def test_a_model_that_has_to_go_for_another_is_not_called_warm(tmp_path: Path) -> None:
    gate, later = tmp_path / "open", tmp_path / "later"
    with FleetLab(tmp_path, Rack(10), [{"model_id": "a", "gpu_memory_gb": 8}, {"model_id": "b"}]) as lab:
        running = lab.submit("a", gate=str(gate))
        until(lambda: lab.status(running) == "IN_PROGRESS", "it is not taken")
        one = lab.submit("b", gate=str(later))
        (seat,) = lab.seats("a")
        until(lambda: seat.draining, "nobody has to go")
        asked = {"pipeline": "census", "model_id": lab.model("a")}
        assert lab.warm(asked, wait_ms=500).json() == {"status": "LOADING"}
        gate.touch()
        until(lambda: lab.status(one) == "IN_PROGRESS", "it waits for ever")
        later.touch()
        assert lab.warm(asked).json() == {"status": "WARM"}
        assert lab.seats("a") != [seat]


def test_warm_models_are_there_from_the_start_and_stay(tmp_path: Path) -> None:
    models = [
        {"model_id": "kept", "warm": True, "idle_s": 0},
        {"model_id": "rest", "gpu_memory_gb": 6, "idle_s": 0},
        {"model_id": "large", "gpu_memory_gb": 7},
    ]
    with FleetLab(tmp_path, Rack(10), models) as lab:
        (seat,) = lab.seats("kept")
        assert seat.pool.is_ready
        first = lab.pid("kept")
        lab.census("rest")
        lab.until_gone("rest")
        with pytest.raises(InsufficientCapacity, match=r"4\.0 GB of it kept for warm models"):
            lab.census("large")
        assert lab.census("kept")["pid"] == first


def test_warm_models_that_do_not_fit_are_said_at_the_start(tmp_path: Path) -> None:
    models = [{"model_id": name, "gpu_memory_gb": 6, "warm": True} for name in "ab"]
    lab = FleetLab(tmp_path, Rack(10), models)
    with pytest.raises(InsufficientCapacity, match=r"b: it needs 6\.0 GB of GPU memory"), lab:
        pass


def test_what_a_worker_is_seen_to_hold_counts_from_then_on(tmp_path: Path) -> None:
    """A model of unknown size has a card to itself, until it has been measured; also after a restart."""
    models: list[dict[str, Any]] = [{"model_id": "unknown", "gpu_memory_gb": None}, {"model_id": "other"}]
    rack = Rack(10)
    with FleetLab(tmp_path, rack, models) as lab:
        lab.census("unknown")
        (seat,) = lab.seats("unknown")
        assert seat.size == 10 * GB
        rack.processes[0][lab.pid("unknown")] = 5 * GB
        until(lambda: seat.size == 5 * GB, "it is not measured")
        lab.census("other")
        assert lab.seats("unknown")
    rack.processes[0].clear()
    with FleetLab(tmp_path, rack, models) as lab:
        jobs = [lab.submit("unknown"), lab.submit("other")]
        assert [lab.told(job)["card"] for job in jobs] == ["0", "0"]
        assert [seat.size for seat in (*lab.seats("unknown"), *lab.seats("other"))] == [5 * GB, 4 * GB]


def test_what_other_programs_hold_is_waited_for_a_while(tmp_path: Path) -> None:
    rack = Rack(10)
    rack.foreign[0] = 8 * GB
    with FleetLab(tmp_path, rack, [{"model_id": "a"}], timing=Timing(look_s=0.05, crowded_s=1)) as lab:
        with pytest.raises(InsufficientCapacity, match=r"and other programs hold 8\.0 GB"):
            lab.census("a")
        job = lab.submit("a")
        rack.foreign[0] = 0
        lab.told(job)


def test_a_model_may_have_a_worker_on_each_of_several_cards(tmp_path: Path) -> None:
    gate = tmp_path / "open"
    with FleetLab(tmp_path, Rack(10, 10), [{"model_id": "a"}], workers=2) as lab:
        jobs = [lab.submit("a", gate=str(gate)) for _ in range(2)]
        until(lambda: all(lab.status(job) == "IN_PROGRESS" for job in jobs), "one of them waits")
        gate.touch()
        assert {lab.told(job)["card"] for job in jobs} == {"0", "1"}


def test_jobs_of_before_a_restart_find_their_workers(tmp_path: Path) -> None:
    models = [{"model_id": "a"}, {"model_id": "b"}]
    with FleetLab(tmp_path, Rack(10), models, timing=Timing(look_s=3600)) as lab:
        until(lambda: lab.client.health()["jobs"]["inQueue"] == 0, "something waits")
        gate = tmp_path / "open"
        jobs = [lab.submit("a", gate=str(gate)), lab.submit("a"), lab.submit("b")]
        until(lambda: lab.status(jobs[0]) == "IN_PROGRESS", "it is not taken")
        gate.touch()
    with FleetLab(tmp_path, Rack(10), models) as lab:
        for job in jobs:
            assert lab.told(job)["card"] == "0"


def test_pins_to_cards_that_are_not_there_are_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"pins .*a to card 3, which --gpus does not name"):
        FleetLab(tmp_path, Rack(10), [{"model_id": "a", "gpu": 3}])


@pytest.mark.parametrize(("asked", "numbers"), [("all", (0, 1, 2)), ("0", (0,)), ("2, 0", (2, 0))])
def test_cards_are_chosen_by_number(asked: str, numbers: tuple[int, ...]) -> None:
    assert choose(asked, Rack(10, 10, 10)).numbers == numbers


@pytest.mark.parametrize(
    ("asked", "says"), [("0,3", "no card '3'; this machine has: 0, 1"), ("x", "no card 'x'"), ("1,1", "named twice")]
)
def test_cards_that_are_not_there_are_named(asked: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        choose(asked, Rack(10, 10))
