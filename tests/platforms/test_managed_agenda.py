"""Who gets a card next: with a clock to turn, and no process."""

import math
from dataclasses import replace

import pytest

from platforms.local.agenda import Actions, Agenda, Timing
from platforms.local.deployments import Deployment
from platforms.local.placement import Card, Resident, State
from shared.models.catalog import Entry
from tests.clock import Clock

GB = 10**9
CARDS = [Card(0, 10 * GB)]
TIMING = Timing(patience_s=30, crowded_s=20)


def deployment(name: str, gb: float | None, *, warm: bool = False) -> Deployment:
    return Deployment("media", (Entry(pipeline="p", model_id=name, gpu_memory_gb=gb, warm=warm),))


def on(name: str, gb: float, state: State, card: int = 0) -> Resident:
    return Resident(name, card, int(gb * GB), state)


class Desk:
    """An agenda with its clock; models are given by name, in the order in which their jobs came."""

    def __init__(self) -> None:
        self.clock = Clock(100.0)
        self.agenda = Agenda(lambda deployment: deployment.said[0], TIMING, self.clock)

    def decide(self, *wanting: Deployment, there: list[Resident], cards: list[Card] = CARDS) -> Actions:
        return self.agenda.decide({d.key: d for d in wanting}, cards, there)


def started(actions: Actions) -> list[tuple[str, int]]:
    return [(deployment.title, at.card) for deployment, at in actions.start]


def ended(actions: Actions) -> list[tuple[str, ...]]:
    return [evict.names for _, evict in actions.end]


A, B, LARGE = deployment("a", 6), deployment("b", 4), deployment("large", 8)


def test_several_start_at_once_and_none_on_anothers_room() -> None:
    first = Desk().decide(A, B, deployment("c", 4), there=[], cards=[*CARDS, Card(1, 4 * GB)])
    assert started(first) == [("a", 0), ("b", 0), ("c", 1)]
    assert Desk().decide(A, LARGE, there=[]).drain == set()


def test_what_is_to_be_warm_comes_first() -> None:
    assert started(Desk().decide(A, deployment("kept", 6, warm=True), there=[])) == [("kept", 0)]


def test_one_idle_worker_is_ended_once_also_where_two_want_its_room() -> None:
    actions = Desk().decide(A, B, there=[on("idle", 6, "idle")])
    assert ended(actions) == [("idle",)]
    assert started(actions) == []


def test_busy_ones_go_on_until_somebody_has_waited_long_enough() -> None:
    desk, there = Desk(), [on("busy", 6, "busy")]
    assert desk.decide(LARGE, there=there).drain == set()
    desk.clock.advance(29)
    assert desk.decide(LARGE, there=there).drain == set()
    desk.clock.advance(1)
    assert desk.decide(LARGE, there=there).drain == {"busy"}


@pytest.mark.parametrize(("turn_ends_at", "drained"), [(130, {"busy"}), (131, set()), (math.inf, set())])
def test_nobody_has_to_go_before_its_turn_is_over_which_begins_when_it_is_loaded(
    turn_ends_at: float, drained: set[str]
) -> None:
    desk, there = Desk(), [replace(on("busy", 6, "busy"), turn_ends_at=turn_ends_at)]
    desk.decide(LARGE, there=there)
    desk.clock.advance(30)
    assert desk.decide(LARGE, there=there).drain == drained


def test_small_ones_may_pass_until_then_but_not_for_ever() -> None:
    desk, there = Desk(), [on("busy", 6, "busy")]
    assert started(desk.decide(LARGE, B, there=there)) == [("b", 0)]
    desk.clock.advance(30)
    assert started(desk.decide(LARGE, B, there=there)) == []


def test_whoever_had_to_go_waits_behind_whom_it_went_for() -> None:
    """Its jobs are older; but it has had its turn."""
    desk = Desk()
    desk.decide(LARGE, there=[on("a", 6, "busy")])
    desk.clock.advance(30)
    assert desk.decide(LARGE, there=[on("a", 6, "busy")]).drain == {"a"}
    desk.clock.advance(1)
    assert started(desk.decide(A, LARGE, there=[])) == [("large", 0)]


def test_it_waits_for_one_card_and_not_now_for_this_and_now_for_that() -> None:
    desk, cards = Desk(), [Card(0, 10 * GB), Card(1, 10 * GB)]
    desk.decide(LARGE, there=[on("x", 3, "busy"), on("y", 4, "busy", 1)], cards=cards)
    desk.clock.advance(30)
    assert desk.decide(LARGE, there=[on("x", 5, "busy"), on("y", 4, "busy", 1)], cards=cards).drain == {"x"}


def test_room_elsewhere_ends_the_wait() -> None:
    desk, cards = Desk(), [Card(0, 10 * GB), Card(1, 10 * GB)]
    desk.decide(LARGE, there=[on("x", 3, "busy"), on("y", 4, "busy", 1)], cards=cards)
    assert started(desk.decide(LARGE, there=[on("x", 3, "busy")], cards=cards)) == [("large", 1)]


@pytest.mark.parametrize("after_s", [0.0, 19.0, 20.0])
def test_what_other_programs_hold_is_borne_for_a_while(after_s: float) -> None:
    desk, crowded = Desk(), [Card(0, 10 * GB, foreign=5 * GB)]
    assert desk.decide(A, there=[], cards=crowded).refuse == []
    desk.clock.advance(after_s)
    assert len(desk.decide(A, there=[], cards=crowded).refuse) == (after_s >= 20)


def test_what_fits_nowhere_is_refused_at_once_and_others_go_on() -> None:
    actions = Desk().decide(deployment("huge", 11), A, there=[])
    assert [(deployment.title, "11.0 GB" in why) for deployment, why in actions.refuse] == [("huge", True)]
    assert started(actions) == [("a", 0)]


def test_another_worker_starts_only_where_there_is_room_as_it_is() -> None:
    agenda = Desk().agenda
    at = agenda.another(A, CARDS, [on("busy", 4, "busy")])
    assert at is not None
    assert at.card == 0
    assert agenda.another(A, CARDS, [on("idle", 5, "idle")]) is None
    assert agenda.another(A, [], []) is None
