"""Bytes, rate and seconds left, by a clock that the tests move."""

import pytest

from shared.models.transfer import WINDOW_S, Meter, Transfer
from tests.clock import Clock


def test_nothing_is_known_at_first(clock: Clock) -> None:
    moment = Meter(100, clock).read()
    assert (moment, moment.eta_s) == (Transfer(0, 100, None), None)


def test_the_rate_and_the_seconds_left_follow_from_what_has_arrived(clock: Clock) -> None:
    meter = Meter(100, clock)
    clock.now = 4.0
    meter.add(40)
    moment = meter.read()
    assert (moment.done, moment.rate, moment.eta_s) == (40, 10.0, 6.0)


def test_what_was_there_already_is_done_and_says_nothing_about_the_rate(clock: Clock) -> None:
    meter = Meter(100, clock)
    meter.skip(50)
    clock.now = 1.0
    meter.add(5)
    assert meter.read() == Transfer(55, 100, 5.0)


def test_what_must_be_fetched_again_is_taken_back(clock: Clock) -> None:
    meter = Meter(100, clock)
    clock.now = 1.0
    meter.add(60)
    meter.add(-60)
    assert meter.read() == Transfer(0, 100, None)


def test_the_rate_is_that_of_the_last_seconds(clock: Clock) -> None:
    meter = Meter(10_000, clock)
    for second in range(1, 21):
        clock.now = float(second)
        meter.add(10)
    for second in range(21, 21 + int(WINDOW_S) + 2):
        clock.now = float(second)
        meter.add(100)
    assert meter.read().rate == pytest.approx(100)


def test_another_processs_progress_is_read_as_it_stands(clock: Clock) -> None:
    meter = Meter(0, clock)
    clock.now = 2.0
    meter.at(20, 60)
    assert meter.read() == Transfer(20, 60, 10.0)


def test_more_than_was_announced_leaves_no_negative_time() -> None:
    assert Transfer(11, 10, 1.0).eta_s == 0
