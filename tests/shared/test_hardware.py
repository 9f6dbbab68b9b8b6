"""The cards as a driver tells of them; the driver is one that tests give cards to."""

import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pynvml
import pytest

from shared.hardware import Cards, GPUComputeInfo, GPUUtilizationInfo, HardwareInformation, HardwareStats
from tests.shared.nvml import GIB, WAIT_S, Driver, Silicon


def driver(**more: Any) -> Driver:
    return Driver([Silicon("GPU-aa11"), Silicon("GPU-bb22"), Silicon("GPU-cc33")], [Silicon("MIG-dd44")], **more)


def seen(cards: Cards) -> dict[int, str]:
    return {number: card.id for number, card in cards.read().items()}


@pytest.mark.parametrize("name", [name for name in vars(Driver) if name.startswith("nvml")])
def test_the_drivers_functions_take_what_those_of_pynvml_take(name: str) -> None:
    ours = inspect.signature(getattr(Driver, name)).parameters
    assert [p for p in ours if p != "self"] == list(inspect.signature(getattr(pynvml, name)).parameters)


def test_a_machine_without_a_driver_has_no_cards() -> None:
    try:
        pynvml.nvmlInit()
        pytest.skip("this machine has a driver")
    except pynvml.NVMLError:
        assert Cards().read() == {}


@pytest.mark.parametrize("error", [pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded])
def test_a_driver_that_does_not_start_is_asked_once(error: type[pynvml.NVMLError]) -> None:
    nvml = driver(broken=error)
    cards = Cards(nvml=nvml)
    assert cards.read() == cards.read() == {}
    assert nvml.inits == 1


def test_a_driver_is_started_once_by_the_first_of_several_that_ask() -> None:
    nvml = driver(gate=threading.Event())
    cards = Cards(nvml=nvml, patience_s=WAIT_S)
    assert nvml.inits == 0
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(seen, cards) for _ in range(4)]
        assert nvml.gate is not None
        nvml.gate.set()
        assert {tuple(each.result(WAIT_S)) for each in asked} == {(0, 1, 2)}
    assert nvml.inits == 1


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, ["GPU-aa11", "GPU-bb22", "GPU-cc33"]),
        ("1", ["GPU-bb22"]),
        ("2, 0", ["GPU-cc33", "GPU-aa11"]),
        ("GPU-cc33,GPU-aa11", ["GPU-cc33", "GPU-aa11"]),
        ("GPU-b", ["GPU-bb22"]),
        ("MIG-dd44", ["MIG-dd44"]),
        ("", []),
        ("-1", []),
        ("0,-1,1", ["GPU-aa11"]),
        ("0,3,1", ["GPU-aa11"]),
        ("none", []),
        ("²", []),
    ],
)
def test_the_cards_are_those_that_cuda_sees_in_its_order(visible: str | None, expected: list[str]) -> None:
    assert seen(Cards(visible, driver())) == dict(enumerate(expected))


def test_a_uuid_of_no_card_names_none() -> None:
    assert seen(Cards("GPU-ee55,GPU-aa11", driver())) == {1: "GPU-aa11"}


def test_a_card_that_is_lost_takes_no_other_with_it() -> None:
    nvml = driver()
    nvml.cards[1].is_lost = True
    assert seen(Cards(nvml=nvml)) == {0: "GPU-aa11", 2: "GPU-cc33"}


def test_a_driver_that_stops_answering_shows_no_cards() -> None:
    nvml = driver()
    cards = Cards(nvml=nvml)
    assert len(cards.read()) == 3
    nvml.broken = pynvml.NVMLError_Unknown
    assert cards.read() == {}
    nvml.broken = None
    assert len(cards.read()) == 3


def test_a_driver_that_hangs_holds_only_the_one_who_asked() -> None:
    nvml = driver()
    cards = Cards(nvml=nvml, patience_s=0.01)
    known = cards.read()
    nvml.gate = threading.Event()
    nvml.asked.clear()
    with ThreadPoolExecutor(1) as threads:
        hanging = threads.submit(cards.read)
        assert nvml.asked.wait(WAIT_S)
        assert cards.read() == known
        assert not hanging.done()
        nvml.gate.set()
        assert hanging.result(WAIT_S) == known


def test_cards_are_told_in_the_shape_of_livepeers_runner() -> None:
    (card,) = Cards("0", driver()).read().values()
    about = {"id": "GPU-aa11", "name": "NVIDIA Test", "memory_total": 24 * GIB, "memory_free": 20 * GIB}
    info = HardwareInformation(pipeline="p", model_id="a/b", gpu_info={0: GPUComputeInfo.of(card)})
    assert info.model_dump(mode="json")["gpu_info"] == {"0": {**about, "major": 8, "minor": 9}}
    stats = HardwareStats(pipeline="p", model_id="a/b", gpu_stats={0: GPUUtilizationInfo.of(card)})
    told = {"utilization_compute": 50, "utilization_memory": 30}
    assert stats.model_dump(mode="json")["gpu_stats"] == {"0": {**about, **told}}


def test_a_card_tells_what_processes_hold_of_it_where_it_does() -> None:
    told, shy = Silicon("GPU-aa11", processes={7: 4 * GIB, 8: None}), Silicon("GPU-bb22")
    first, second = Cards(nvml=Driver([told, shy])).read().values()
    assert (first.processes, second.processes) == ({7: 4 * GIB, 8: 0}, {})


def test_what_a_card_does_not_tell_is_nothing_here_and_zero_there() -> None:
    shy = Silicon("GPU-ff66", total=None, rates=None, capability=None)
    (card,) = Cards(nvml=Driver([shy])).read().values()
    assert {card.memory_total, card.memory_free, card.utilization_compute, card.compute_capability} == {None}
    info, stats = GPUComputeInfo.of(card), GPUUtilizationInfo.of(card)
    assert (info.memory_total, info.memory_free, info.major, info.minor) == (0, 0, 0, 0)
    assert (stats.utilization_compute, stats.utilization_memory) == (0, 0)
