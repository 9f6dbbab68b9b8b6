"""Models that were read before there was a device, and what each one takes of its memory."""

import pytest

from shared.device import Device
from shared.models.pool import Pool
from shared.schemas import ModelSource
from tests.shared.models.pools import A, B, C, Loader, Weights, pool, use


@pytest.fixture
def load() -> Loader:
    return Loader()


class Card(Device):
    """A device that counts its memory; that of this process goes up and down by itself."""

    held = 0

    def memory_used(self) -> int:
        return Card.held


def test_the_footprint_is_what_a_load_added() -> None:
    Card.held = 1000
    ours = Pool(lambda: Card("cpu"), capacity=2)

    def load_bytes(source: ModelSource, device: Device) -> object:
        Card.held += 32
        return object()

    def load_nothing(source: ModelSource, device: Device) -> object:
        return object()

    def place_bytes(device: Device) -> object:
        Card.held += 16
        return object()

    ours.place(load_bytes, C, place_bytes)
    assert ours.footprint() == {"c": 16}
    with ours.acquire(load_bytes, A), ours.acquire(load_nothing, B):
        assert ours.footprint() == {"a": 32, "b": 0}
    ours.free(everything=True)
    assert ours.footprint() == {}


def test_a_model_that_was_read_before_is_placed_as_if_it_had_been_loaded(load: Loader) -> None:
    told: list[list[ModelSource]] = []
    ours = Pool(lambda: Device("cpu"), capacity=2, on_change=told.append)
    use(ours, load, A)
    ready = Weights(B)
    assert ours.place(load, B, lambda device: ready) is ready
    assert told[-1] == [A, B]
    with ours.acquire(load, B) as model:
        assert model is ready
    assert load.loaded == ["a"]
    assert list(ours.warm()) == [(load, "a", "main"), (load, "b", "main")]


def test_a_placed_model_makes_room_and_goes_like_others(load: Loader) -> None:
    ours = pool()
    use(ours, load, A)
    alive: list[bool] = []

    def ready(device: Device) -> Weights:
        alive.append(ours.holds(load, A))
        return Weights(B)

    ours.place(load, B, ready)
    assert alive == [False]
    use(ours, load, C)
    assert [ours.holds(load, s) for s in (A, B, C)] == [False, False, True]
    use(ours, load, B)
    assert load.loaded == ["a", "c", "b"]


def test_a_model_that_cannot_be_placed_leaves_nothing_behind(load: Loader) -> None:
    def fail(device: Device) -> Weights:
        raise MemoryError

    ours = pool()
    with pytest.raises(MemoryError):
        ours.place(load, A, fail)
    assert not ours.holds(load, A)
    use(ours, load, A)
