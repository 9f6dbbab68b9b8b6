"""A pool that several threads want models of: who shares, who waits, and for whom."""

import threading

import pytest

from shared.device import Device
from shared.errors import Cancelled
from shared.models.pool import Pool
from shared.schemas import ModelSource
from tests.shared.models.pools import A, B, C, Loader, Weights, pool, use

WAIT_S = 20


@pytest.fixture
def load() -> Loader:
    return Loader()


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
