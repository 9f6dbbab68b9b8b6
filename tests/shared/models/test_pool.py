"""The pool: what is warm stays while it is used, and the least recently used goes first."""

import weakref

import pytest

from shared.device import Device
from shared.errors import ModelUnavailable
from shared.models.pool import Pool
from shared.schemas import ModelSource
from tests.shared.models.pools import A, B, C, Loader, Weights, pool, source, use


@pytest.fixture
def load() -> Loader:
    return Loader()


def test_a_warm_model_is_not_loaded_again(load: Loader) -> None:
    ours = pool()
    assert not ours.holds(load, A)
    use(ours, load, A, A)
    assert load.loaded == ["a"]
    assert ours.holds(load, A)


def test_another_revision_is_another_model(load: Loader) -> None:
    ours = pool(2)
    use(ours, load, A, source("a", "old"))
    assert load.loaded == ["a", "a"]


def test_the_least_recently_used_goes_first(load: Loader) -> None:
    ours = pool(2)
    use(ours, load, A, B, A, C)
    assert [ours.holds(load, s) for s in (A, B, C)] == [True, False, True]
    use(ours, load, A)
    assert load.loaded == ["a", "b", "c"]


def test_without_room_in_memory_idle_models_go_until_there_is(load: Loader) -> None:
    wants = {"a": 1, "b": 1, "c": 2}

    def has_room(device: Device, source: ModelSource) -> bool:
        return sum(wants[name] for name in ours.footprint()) + wants[source.model_id] <= 3

    ours = Pool(lambda: Device("cpu"), capacity=8, has_room=has_room)
    use(ours, load, A, B)
    assert ours.holds(load, A)
    use(ours, load, C)
    assert [ours.holds(load, s) for s in (A, B, C)] == [False, True, True]


def test_a_model_that_nothing_makes_room_for_is_tried_all_the_same(load: Loader) -> None:
    ours = Pool(lambda: Device("cpu"), capacity=8, has_room=lambda device, source: False)
    use(ours, load, A, B)
    assert [ours.holds(load, s) for s in (A, B)] == [False, True]


def test_room_is_made_before_the_next_model_is_loaded(load: Loader) -> None:
    ours = pool()
    with ours.acquire(load, A) as model:
        first = weakref.ref(model)
        del model
    alive: list[bool] = []

    def watch(source: ModelSource, device: Device) -> Weights:
        alive.append(first() is not None)
        return Weights(source)

    use(ours, watch, B)
    assert alive == [False]


def test_a_model_in_use_is_not_let_go(load: Loader) -> None:
    ours = pool()
    with ours.acquire(load, A) as held:
        use(ours, load, B, C)
        assert ours.holds(load, A)
        ours.free(everything=True)
        with ours.acquire(load, A) as again:
            assert again is held
    assert load.loaded == ["a", "b", "c"]


def test_a_model_is_idle_only_after_its_last_use_has_ended(load: Loader) -> None:
    ours = pool()
    with ours.acquire(load, A):
        use(ours, load, A)
        ours.free(everything=True)
        assert ours.holds(load, A)
    ours.free(everything=True)
    assert not ours.holds(load, A)


def test_a_use_that_fails_gives_its_model_back(load: Loader) -> None:
    ours = pool()
    with pytest.raises(ZeroDivisionError), ours.acquire(load, A):
        raise ZeroDivisionError
    ours.free(everything=True)
    assert not ours.holds(load, A)


def test_handlers_that_name_the_same_load_function_share_the_model() -> None:
    import handlers

    drawing, changing = handlers.get("text-to-image"), handlers.get("image-to-image")
    assert drawing.load is changing.load


def test_two_load_functions_do_not_share_a_model(load: Loader) -> None:
    ours, other = pool(2), Loader()
    use(ours, load, A)
    use(ours, other, A)
    assert (load.loaded, other.loaded) == (["a"], ["a"])


def test_a_load_that_fails_leaves_nothing_behind_and_is_tried_again(load: Loader) -> None:
    ours = pool()
    load.refuse = True
    with pytest.raises(ModelUnavailable), ours.acquire(load, A):
        pass
    assert not ours.holds(load, A)
    assert ours.footprint() == {}
    load.refuse = False
    use(ours, load, A)
    assert load.loaded == ["a", "a"]


def test_what_is_warm_is_told_by_loader_id_and_revision(load: Loader) -> None:
    ours = pool(capacity=2)
    use(ours, load, A, source("a", "other"))
    assert list(ours.warm()) == [(load, "a", "main"), (load, "a", "other")]
    use(ours, load, B)
    assert list(ours.warm()) == [(load, "a", "other"), (load, "b", "main")]
    ours.free(everything=True)
    assert ours.warm() == {}


def test_what_ran_out_of_memory_is_not_loaded_again_for_its_second_try(load: Loader) -> None:
    ours = pool(2)
    use(ours, load, A, B)
    ours.free(everything=False)
    assert (ours.holds(load, A), ours.holds(load, B)) == (False, True)
    ours.free(everything=True)
    assert not ours.holds(load, B)
