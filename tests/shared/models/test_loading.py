"""What is being loaded, and for how long."""

from pathlib import Path

import pytest

from shared.device import Device
from shared.models.loading import Loading
from shared.models.pool import Pool
from shared.schemas import ModelSource
from tests.clock import Clock


def test_a_load_is_overdue_once_it_takes_longer_than_it_may() -> None:
    clock = Clock(100.0)
    loading = Loading(clock)
    with loading.of("a"):
        clock.advance(9)
        with loading.of("b"):
            assert loading.overdue(9) is None
            clock.advance(1)
            assert loading.overdue(9) == "a"
    assert loading.overdue(9) is None


def test_a_load_that_fails_is_none_any_more() -> None:
    loading = Loading(Clock(100.0))
    with pytest.raises(ZeroDivisionError), loading.of("a"):
        raise ZeroDivisionError
    assert loading.overdue(-1) is None


def test_a_pool_tells_what_it_loads_and_also_while_it_looks_for_the_device() -> None:
    seen: list[str | None] = []

    def device() -> Device:
        seen.append(pool.loading.overdue(-1))
        return Device("cpu")

    def load(source: ModelSource, device: Device) -> str:
        seen.append(pool.loading.overdue(-1))
        return source.model_id

    pool = Pool(device)
    with pool.acquire(load, ModelSource("a", "main", Path("/nowhere"))):
        seen.append(pool.loading.overdue(-1))
    assert seen == ["a", "a", None]
