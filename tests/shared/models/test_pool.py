"""The pool: what is warm stays while it is used, and the least recently used goes first."""

import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

from shared.device import Device
from shared.errors import Cancelled, ModelUnavailable
from shared.models.pool import Pool
from shared.schemas import ModelSource

WAIT_S = 20


class Weights:
    """A model that can be watched."""

    def __init__(self, source: ModelSource) -> None:
        self.source = source


class Loader:
    """Counts its loads; `refuse` makes the next ones fail."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.refuse = False

    def __call__(self, source: ModelSource, device: Device) -> Weights:
        self.loaded.append(source.model_id)
        if self.refuse:
            raise ModelUnavailable("no")
        return Weights(source)


def source(model_id: str, revision: str = "main") -> ModelSource:
    return ModelSource(model_id, revision, Path("/nowhere"))


A, B, C = source("a"), source("b"), source("c")


@pytest.fixture
def load() -> Loader:
    return Loader()


def pool(capacity: int = 1) -> Pool:
    return Pool(lambda: Device("cpu"), capacity=capacity)


def use(pool: Pool, load: Any, *sources: ModelSource) -> None:
    for wanted in sources:
        with pool.acquire(load, wanted) as model:
            assert model.source == wanted


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


def test_what_is_warm_is_told_by_loader_id_and_revision(load: Loader) -> None:
    ours = pool(capacity=2)
    use(ours, load, A, source("a", "other"))
    assert list(ours.warm()) == [(load, "a", "main"), (load, "a", "other")]
    use(ours, load, B)
    assert list(ours.warm()) == [(load, "a", "other"), (load, "b", "main")]
    ours.free(everything=True)
    assert ours.warm() == {}


def test_what_is_warm_is_told_while_a_model_is_being_loaded(load: Loader) -> None:
    ours, told = pool(capacity=2), []

    def ask() -> None:
        told.append(list(ours.warm()))

    def load_slowly(source: ModelSource, device: Device) -> object:
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(WAIT_S)
        return object()

    use(ours, load, A)
    with ours.acquire(load_slowly, B):
        assert told == [[(load, "a", "main")]]


def test_two_threads_that_want_a_model_load_it_once(load: Loader) -> None:
    ours, both = pool(), threading.Barrier(2, timeout=WAIT_S)
    models: list[Weights] = []

    def work() -> None:
        both.wait()
        with ours.acquire(load, A) as model:
            models.append(model)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert load.loaded == ["a"]
    assert models[0] is models[1]


def test_what_ran_out_of_memory_is_not_loaded_again_for_its_second_try(load: Loader) -> None:
    ours = pool(2)
    use(ours, load, A, B)
    ours.free(everything=False)
    assert (ours.holds(load, A), ours.holds(load, B)) == (False, True)
    ours.free(everything=True)
    assert not ours.holds(load, B)


class Waiting:
    """Wants a model in a thread of its own, and may be refused while it waits."""

    def __init__(self, pool: Pool, load: Loader, source: ModelSource) -> None:
        self.waits, self.has, self.let_go = threading.Event(), threading.Event(), threading.Event()
        self.refuse: BaseException | None = None
        self.refused: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(pool, load, source))
        self._thread.start()

    def _run(self, pool: Pool, load: Loader, source: ModelSource) -> None:
        try:
            with pool.acquire(load, source, check=self._check):
                self.has.set()
                self.let_go.wait(WAIT_S)
        except Cancelled as exc:
            self.refused = exc

    def _check(self) -> None:
        self.waits.set()
        if self.refuse:
            raise self.refuse

    def end(self) -> None:
        self.let_go.set()
        self._thread.join(WAIT_S)


def test_a_model_waits_for_the_place_that_another_thread_uses(load: Loader) -> None:
    ours = pool()
    with ours.acquire(load, A):
        second = Waiting(ours, load, B)
        assert second.waits.wait(WAIT_S)
        assert not second.has.is_set()
        assert load.loaded == ["a"]
    assert second.has.wait(WAIT_S)
    assert (ours.holds(load, A), ours.holds(load, B)) == (False, True)
    second.end()


def test_a_job_that_is_stopped_waits_no_longer(load: Loader) -> None:
    ours = pool()
    with ours.acquire(load, A):
        second = Waiting(ours, load, B)
        assert second.waits.wait(WAIT_S)
        second.refuse = Cancelled("asked")
        second.end()
        assert second.refused is second.refuse
    assert load.loaded == ["a"]
    use(ours, load, B)


def test_several_threads_use_one_model_at_once(load: Loader) -> None:
    ours = pool()
    users = [Waiting(ours, load, A) for _ in range(3)]
    assert all(user.has.wait(WAIT_S) for user in users)
    ours.free(everything=True)
    assert ours.holds(load, A)
    for user in users:
        user.end()
    assert load.loaded == ["a"]
    ours.free(everything=True)
    assert not ours.holds(load, A)


def test_a_thread_does_not_wait_for_what_its_own_job_holds(load: Loader) -> None:
    ours = pool()
    with ours.acquire(load, A), ours.acquire(load, B):
        assert ours.holds(load, A)
    assert load.loaded == ["a", "b"]


def test_a_thread_that_holds_one_waits_for_the_other_threads_only(load: Loader) -> None:
    ours = pool(2)
    first, second = Waiting(ours, load, A), Waiting(ours, load, B)
    assert first.has.wait(WAIT_S)
    assert second.has.wait(WAIT_S)
    third = Waiting(ours, load, C)
    assert third.waits.wait(WAIT_S)
    first.end()
    assert third.has.wait(WAIT_S)
    assert ours.holds(load, B)
    second.end()
    third.end()


def test_who_waits_is_not_passed_by_who_wants_a_warm_model(load: Loader) -> None:
    """Or a model that is always wanted would never go."""
    ours = pool()
    first = Waiting(ours, load, A)
    assert first.has.wait(WAIT_S)
    second = Waiting(ours, load, B)
    assert second.waits.wait(WAIT_S)
    third = Waiting(ours, load, A)
    assert third.waits.wait(WAIT_S)
    assert not third.has.is_set()
    first.end()
    assert second.has.wait(WAIT_S)
    assert not third.has.is_set()
    second.end()
    assert third.has.wait(WAIT_S)
    third.end()
    assert load.loaded == ["a", "b", "a"]


def test_who_gives_up_waiting_lets_the_next_one_in(load: Loader) -> None:
    ours = pool()
    with ours.acquire(load, A):
        second = Waiting(ours, load, B)
        assert second.waits.wait(WAIT_S)
        third = Waiting(ours, load, A)
        assert third.waits.wait(WAIT_S)
        second.refuse = Cancelled("asked")
        assert third.has.wait(WAIT_S)
        second.end()
        third.end()
    assert load.loaded == ["a"]


def test_a_job_that_holds_a_model_does_not_queue_behind_who_waits_for_it(load: Loader) -> None:
    ours = pool()
    with ours.acquire(load, A) as held:
        second = Waiting(ours, load, B)
        assert second.waits.wait(WAIT_S)
        with ours.acquire(load, A, check=lambda: pytest.fail("it waits for itself")) as again:
            assert again is held
        with ours.acquire(load, C, check=lambda: pytest.fail("it waits for itself")):
            assert not second.has.is_set()
    assert second.has.wait(WAIT_S)
    second.end()
    assert load.loaded == ["a", "c", "b"]
