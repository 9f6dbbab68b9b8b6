"""Where workers go: tables of cases, and what holds for whatever is on the cards."""

import random
from collections.abc import Sequence

import pytest

from platforms.local.placement import Card, Evict, Need, Refuse, Resident, Start, Verdict, Wait, place

GB = 10**9


def card(number: int, total: float, foreign: float = 0) -> Card:
    return Card(number, int(total * GB), int(foreign * GB))


def on(number: int, size: float, state: str, name: str = "", used_at: float = 0) -> Resident:
    return Resident(name or f"{state}-{number}", number, int(size * GB), state, used_at)  # type: ignore[arg-type]


def need(size: float | None, pin: int | None = None) -> Need:
    return Need(None if size is None else int(size * GB), pin)


def start(number: int, size: float) -> Start:
    return Start(number, int(size * GB))


def evict(number: int, size: float, *names: str) -> Evict:
    return Evict(number, int(size * GB), names)


def wait(number: int, size: float, *names: str) -> Wait:
    return Wait(number, int(size * GB), names)


BOTH = [card(0, 24), card(1, 24)]


@pytest.mark.parametrize(
    ("asked", "cards", "there", "expected"),
    [
        (need(8), BOTH, [], start(0, 8)),
        (need(8), BOTH, [on(1, 10, "busy")], start(1, 8)),
        (need(16), BOTH, [on(0, 10, "busy")], start(1, 16)),
        (need(24), BOTH, [], start(0, 24)),
        (need(8), [card(0, 24), card(1, 16)], [], start(1, 8)),
        (need(8, pin=0), [card(0, 24), card(1, 16)], [], start(0, 8)),
        (need(8), [card(0, 24, foreign=20), card(1, 24)], [], start(1, 8)),
        (need(0), [card(0, 24)], [on(0, 24, "busy")], start(0, 0)),
        (need(None), [card(0, 24), card(1, 16, foreign=1)], [on(0, 1, "busy")], start(1, 15)),
        (need(None), BOTH, [], start(0, 24)),
    ],
    ids=[
        "the first of equal cards",
        "where the least is left",
        "where it fits",
        "to the last byte",
        "the smaller card, so that the larger stays free for large ones",
        "but where it is pinned",
        "other programs hold the room",
        "what needs no memory fits always",
        "of unknown size: the card without another worker",
        "of unknown size: all of the card",
    ],
)
def test_it_starts_where_there_is_room(
    asked: Need, cards: list[Card], there: list[Resident], expected: Verdict
) -> None:
    assert place(asked, cards, there) == expected


@pytest.mark.parametrize(
    ("asked", "cards", "there", "expected"),
    [
        (need(20), [card(0, 24)], [on(0, 8, "idle")], evict(0, 20, "idle-0")),
        (need(20), BOTH, [on(0, 8, "busy"), on(1, 8, "idle")], evict(1, 20, "idle-1")),
        (
            need(12),
            [card(0, 24)],
            [on(0, 8, "idle", "late", 9), on(0, 8, "idle", "early", 1), on(0, 8, "idle", "later", 10)],
            evict(0, 12, "early", "late"),
        ),
        (
            need(6),
            [card(0, 24)],
            [on(0, 1, "idle", "tiny", 1), on(0, 22, "idle", "large", 2)],
            evict(0, 6, "large"),
        ),
        (
            need(20),
            BOTH,
            [on(0, 8, "idle", "a", 1), on(0, 8, "idle", "b", 1), on(1, 16, "idle", "c", 5)],
            evict(1, 20, "c"),
        ),
        (need(20, pin=0), BOTH, [on(0, 8, "idle")], evict(0, 20, "idle-0")),
        (need(20), BOTH, [on(0, 8, "kept"), on(1, 8, "idle")], evict(1, 20, "idle-1")),
        (need(None), [card(0, 24)], [on(0, 1, "idle")], evict(0, 24, "idle-0")),
    ],
    ids=[
        "an idle one goes",
        "rather than a busy one",
        "those used longest ago",
        "none in vain",
        "one rather than two",
        "on the card that it is pinned to",
        "never what is kept",
        "for one of unknown size, all that are idle",
    ],
)
def test_idle_ones_make_room(asked: Need, cards: list[Card], there: list[Resident], expected: Verdict) -> None:
    assert place(asked, cards, there) == expected


@pytest.mark.parametrize(
    ("asked", "cards", "there", "expected"),
    [
        (need(20), [card(0, 24)], [on(0, 8, "leaving")], wait(0, 20)),
        (need(20), BOTH, [on(0, 8, "leaving"), on(1, 8, "idle")], wait(0, 20)),
        (need(20), [card(0, 24)], [on(0, 8, "busy")], wait(0, 20, "busy-0")),
        (need(20), BOTH, [on(0, 12, "busy"), on(1, 8, "busy")], wait(1, 20, "busy-1")),
        (need(22), [card(0, 24)], [on(0, 3, "idle"), on(0, 3, "busy")], wait(0, 22, "idle-0", "busy-0")),
        (need(20, pin=0), BOTH, [on(0, 8, "busy")], wait(0, 20, "busy-0")),
    ],
    ids=[
        "for one that leaves",
        "rather than that another goes too",
        "for a busy one",
        "where the least work has to end",
        "for busy ones, with the idle ones",
        "for its own card, with another one free",
    ],
)
def test_it_waits_for_busy_ones(asked: Need, cards: list[Card], there: list[Resident], expected: Verdict) -> None:
    assert place(asked, cards, there) == expected


@pytest.mark.parametrize(
    ("asked", "cards", "there", "ever", "says"),
    [
        (need(30), BOTH, [], True, "needs 30.0 GB of GPU memory, and the roomiest, card 0, has 24.0 GB"),
        (need(20, pin=1), [card(0, 24), card(1, 16)], [], True, "its card, card 1, has 16.0 GB"),
        (need(20), [card(0, 24)], [on(0, 8, "kept")], True, "24.0 GB, 8.0 GB of it kept for warm models"),
        (need(20), [card(0, 24, foreign=8)], [], False, "and other programs hold 8.0 GB"),
        (need(None), [card(0, 24)], [on(0, 1, "kept")], True, "gpu_memory_gb"),
    ],
)
def test_what_no_card_can_hold_is_refused_with_figures(
    asked: Need, cards: list[Card], there: list[Resident], ever: bool, says: str
) -> None:
    verdict = place(asked, cards, there)
    assert isinstance(verdict, Refuse)
    assert verdict.ever is ever
    assert says in verdict.message


@pytest.mark.parametrize("asked", [need(8, pin=1), need(None, pin=1)])
def test_what_is_pinned_to_a_card_that_is_lost_is_refused_for_now(asked: Need) -> None:
    verdict = place(asked, [card(0, 24)], [on(1, 8, "busy")])
    assert verdict == Refuse("the driver does not tell of its card any more", ever=False)


def situation(seed: int) -> tuple[Need, list[Card], list[Resident]]:
    """Some cards, some workers on them that fit, and a worker to place."""
    dice = random.Random(seed)
    cards = [card(n, dice.choice([8, 16, 24]), dice.choice([0, 0, 0, 3])) for n in range(dice.randint(1, 4))]
    there: list[Resident] = []
    for number in range(dice.randint(0, 10)):
        spot, size = dice.choice(cards), dice.randint(1, 12)
        state = dice.choice(["kept", "busy", "busy", "idle", "idle", "leaving"])
        if sum(r.size for r in there if r.card == spot.number) + size * GB <= spot.total - spot.foreign:
            there.append(on(spot.number, size, state, f"w{number}", dice.random()))
    pin = dice.choice([None, None, dice.choice(cards).number])
    return need(dice.choice([None, *range(1, 28)]), pin), cards, there


def room(spot: Card, there: Sequence[Resident], without: Sequence[str] = ()) -> int:
    return spot.total - spot.foreign - sum(r.size for r in there if r.card == spot.number and r.name not in without)


def size_on(asked: Need, spot: Card) -> int:
    return spot.total - spot.foreign if asked.size is None else asked.size


@pytest.mark.parametrize("first", range(0, 2000, 500))
def test_no_card_is_ever_promised_more_than_it_has_and_nobody_leaves_in_vain(first: int) -> None:
    for seed in range(first, first + 500):
        check(*situation(seed))


def check(asked: Need, cards: list[Card], there: list[Resident]) -> None:
    allowed = [c for c in cards if asked.card in (None, c.number)]
    verdict = place(asked, cards, there)
    fitting = [c.number for c in allowed if room(c, there) >= size_on(asked, c)]
    if fitting:
        assert isinstance(verdict, Start)
        left = {c.number: room(c, there) - size_on(asked, c) for c in allowed}
        assert left[verdict.card] == min(left[number] for number in fitting)
        return
    assert not isinstance(verdict, Start)
    if isinstance(verdict, Refuse):
        kept = [r for r in there if r.state == "kept"]
        assert all(room(c, kept) < size_on(asked, c) for c in allowed)
        return
    spot = cards[verdict.card]
    assert spot in allowed
    states = {r.name: r.state for r in there if r.card == spot.number}
    assert {states[name] for name in verdict.names} <= ({"idle"} if isinstance(verdict, Evict) else {"idle", "busy"})
    leaving = [name for name, state in states.items() if state == "leaving"]
    assert room(spot, there, [*verdict.names, *leaving]) >= size_on(asked, spot)
    for name in verdict.names:
        fewer = [other for other in verdict.names if other != name]
        assert room(spot, there, [*fewer, *leaving]) < size_on(asked, spot)


@pytest.mark.parametrize("first", range(0, 2000, 500))
def test_whoever_is_not_refused_can_start_once_those_it_waits_for_have_left(first: int) -> None:
    for seed in range(first, first + 500):
        asked, cards, there = situation(seed)
        verdict = place(asked, cards, there)
        if isinstance(verdict, Evict | Wait):
            there = [r for r in there if r.name not in verdict.names and r.state != "leaving"]
            assert isinstance(place(asked, cards, there), Start), seed
