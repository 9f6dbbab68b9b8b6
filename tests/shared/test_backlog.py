"""The estimate of how much work a worker has before it."""

import math

import pytest

from shared.backlog import MOST_AWAY, Backlog
from tests.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock(100.0)


@pytest.fixture
def backlog(clock: Clock) -> Backlog:
    return Backlog(clock)


def run_once(backlog: Backlog, clock: Clock, seconds: float, kind: str = "sleep") -> None:
    backlog.accepted("before", kind)
    backlog.started("before")
    clock.now += seconds
    backlog.ended("before", seconds)


def test_nothing_accepted_is_nothing_left(backlog: Backlog) -> None:
    assert backlog.remaining_s() == 0
    assert len(backlog) == 0


def test_counts_what_runs_and_what_waits(backlog: Backlog) -> None:
    for job in ("a", "b", "c"):
        backlog.accepted(job, "sleep")
    backlog.away("c", away=True)
    backlog.started("a")
    assert backlog.counts() == (1, 2)
    backlog.ended("a")
    backlog.ended("b")
    assert backlog.counts() == (0, 1)


def test_a_job_of_unknown_length_is_endless_and_leaves_room_for_no_more_than_one(backlog: Backlog) -> None:
    backlog.accepted("a", "sleep")
    assert backlog.remaining_s() == math.inf
    assert backlog.room(0.6) == 1


def test_known_jobs_count_with_their_mean(backlog: Backlog, clock: Clock) -> None:
    run_once(backlog, clock, 0.05)
    assert backlog.room(0.6) == 12
    backlog.accepted("a", "sleep")
    backlog.accepted("b", "sleep")
    assert backlog.remaining_s() == pytest.approx(0.1)


def test_a_running_job_shrinks_as_time_passes(backlog: Backlog, clock: Clock) -> None:
    run_once(backlog, clock, 2.0)
    backlog.accepted("a", "sleep")
    backlog.started("a")
    clock.now += 1.5
    assert backlog.remaining_s() == pytest.approx(0.5)
    clock.now += 5
    assert backlog.remaining_s() == 0


def test_reported_steps_beat_the_mean(backlog: Backlog, clock: Clock) -> None:
    run_once(backlog, clock, 2.0)
    backlog.accepted("a", "sleep")
    backlog.started("a")
    backlog.stepped("a", 9.0)
    assert backlog.remaining_s() == pytest.approx(9.0)
    clock.now += 8.8
    assert backlog.remaining_s() == pytest.approx(0.2)


def test_kinds_have_means_of_their_own(backlog: Backlog, clock: Clock) -> None:
    run_once(backlog, clock, 0.05, "short")
    backlog.accepted("a", "long")
    assert backlog.remaining_s() == math.inf


def test_accepting_a_job_twice_counts_it_once(backlog: Backlog, clock: Clock) -> None:
    run_once(backlog, clock, 1.0)
    backlog.accepted("a", "sleep")
    backlog.accepted("a", "sleep")
    assert backlog.remaining_s() == pytest.approx(1.0)
    backlog.ended("a")
    backlog.ended("a")
    assert backlog.remaining_s() == 0


def test_a_job_that_waits_for_a_network_does_not_keep_others_from_the_device(backlog: Backlog) -> None:
    backlog.accepted("fetching", "unheard-of")
    backlog.away("fetching", away=True)
    assert backlog.remaining_s() == 0
    backlog.away("fetching", away=False)
    assert backlog.remaining_s() == math.inf


def test_many_jobs_that_wait_for_networks_are_enough(backlog: Backlog) -> None:
    for n in range(MOST_AWAY):
        assert backlog.remaining_s() == 0
        backlog.accepted(f"fetching-{n}", "sleep")
        backlog.away(f"fetching-{n}", away=True)
    assert backlog.remaining_s() == math.inf


def test_with_two_places_one_endless_job_leaves_a_place_free(clock: Clock) -> None:
    backlog = Backlog(clock, slots=2)
    backlog.accepted("a", "text")
    assert backlog.remaining_s() == 0
    assert backlog.room(0.6) == 1
    backlog.accepted("b", "text")
    assert backlog.remaining_s() == math.inf
    assert backlog.room(0.6) == 1


def test_as_many_jobs_as_places_fit_while_nothing_is_known(clock: Clock) -> None:
    backlog = Backlog(clock)
    assert backlog.room(0.6) == 1
    backlog.slots = 4
    assert backlog.room(0.6) == 4
    backlog.accepted("a", "text")
    assert backlog.room(0.6) == 3


def test_jobs_spread_over_the_places(clock: Clock) -> None:
    backlog = Backlog(clock, slots=2)
    run_once(backlog, clock, 2.0)
    for name in ("a", "b", "c"):
        backlog.accepted(name, "sleep")
    backlog.started("a")
    backlog.started("b")
    backlog.stepped("a", 5.0)
    backlog.stepped("b", 1.0)
    assert backlog.remaining_s() == pytest.approx(3.0)
    backlog.ended("b")
    assert backlog.remaining_s() == pytest.approx(2.0)


def test_short_jobs_fill_all_places(clock: Clock) -> None:
    backlog = Backlog(clock, slots=4)
    run_once(backlog, clock, 0.1)
    assert backlog.room(0.6) == 24


def test_with_more_places_more_jobs_may_wait_for_networks(clock: Clock) -> None:
    backlog = Backlog(clock, slots=2)
    for n in range(2 * MOST_AWAY):
        assert backlog.remaining_s() == 0
        backlog.accepted(f"fetching-{n}", "sleep")
        backlog.away(f"fetching-{n}", away=True)
    assert backlog.remaining_s() == math.inf
