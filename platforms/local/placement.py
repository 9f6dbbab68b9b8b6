"""Where a model's worker goes: a pure function of its size, the cards, and what runs on them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["kept", "busy", "idle", "leaving"]


@dataclass(frozen=True)
class Card:
    """A GPU; memory in bytes, `foreign` being what other programs hold."""

    number: int
    total: int
    foreign: int = 0


@dataclass(frozen=True)
class Resident:
    """A worker on a card, with the bytes that count as its own. Kept ones are never told to leave.

    `used_at` is when it last had a job, `turn_ends_at` until when it goes on although others wait; both in seconds.
    """

    name: str
    card: int
    size: int
    state: State
    used_at: float = 0.0
    turn_ends_at: float = 0.0


@dataclass(frozen=True)
class Need:
    """What is to be placed; a size that is not known needs a card to itself. `card` is the only one that will do."""

    size: int | None
    card: int | None = None


@dataclass(frozen=True)
class Start:
    """There is room for `size` bytes on this card."""

    card: int
    size: int


@dataclass(frozen=True)
class Evict:
    """There is room once these idle workers have left."""

    card: int
    size: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Wait:
    """There will be room on this card when these workers have left, some of them busy, and who is leaving already."""

    card: int
    size: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Refuse:
    """No card can hold it; `ever` is False where that is so because of what other programs hold."""

    message: str
    ever: bool


Verdict = Start | Evict | Wait | Refuse

_KINDS: tuple[tuple[type[Evict] | type[Wait], tuple[State, ...]], ...] = (
    (Evict, ("idle",)),
    (Wait, ("idle", "busy")),
)


def place(need: Need, cards: Sequence[Card], residents: Sequence[Resident]) -> Verdict:
    """Decide for one worker, disturbing as little as possible.

    Best fit: of the cards with room, the one that has the least left, so that large models find room later. Else the
    fewest idle workers go, those that were used longest ago; else it waits for the card where the least has to go.
    """
    allowed = [card for card in cards if need.card in (None, card.number)]
    if not allowed:
        return Refuse("the driver does not tell of its card any more", ever=False)
    here = {card.number: [r for r in residents if r.card == card.number] for card in allowed}
    if fits := [card for card in allowed if _spare(need, card, here[card.number]) >= 0]:
        best = min(fits, key=lambda card: (_spare(need, card, here[card.number]), -_size(need, card), card.number))
        return Start(best.number, _size(need, best))
    leaves = {number: [r for r in there if r.state != "leaving"] for number, there in here.items()}
    sizes = {card.number: _size(need, card) for card in allowed}
    if soon := [card.number for card in allowed if _spare(need, card, leaves[card.number]) >= 0]:
        return Wait(soon[0], sizes[soon[0]], ())
    for verdict, movable in _KINDS:
        outs = {card.number: _to_leave(need, card, leaves[card.number], movable) for card in allowed}
        if possible := {number: out for number, out in outs.items() if out is not None}:
            number = min(possible, key=lambda number: (_cost(possible[number]), number))
            return verdict(number, sizes[number], tuple(r.name for r in possible[number]))
    return _refusal(need, allowed, leaves)


def _size(need: Need, card: Card) -> int:
    return max(0, card.total - card.foreign) if need.size is None else need.size


def _spare(need: Need, card: Card, there: Iterable[Resident]) -> int:
    """Bytes left on the card beside these; negative where they are too few."""
    return card.total - card.foreign - sum(r.size for r in there) - _size(need, card)


def _to_leave(need: Need, card: Card, there: Sequence[Resident], movable: Sequence[State]) -> list[Resident] | None:
    """Who must leave for it to fit, none of them in vain; None where that does not help."""
    out = sorted((r for r in there if r.state in movable), key=_latest_last(movable))

    def fits_without(gone: Sequence[Resident]) -> bool:
        return _spare(need, card, (r for r in there if r not in gone)) >= 0

    if not fits_without(out):
        return None
    for resident in reversed(list(out)):
        if fits_without([r for r in out if r is not resident]):
            out.remove(resident)
    return out


def _latest_last(movable: Sequence[State]) -> Callable[[Resident], tuple[int, float, str]]:
    return lambda r: (movable.index(r.state), r.used_at, r.name)


def _cost(out: Sequence[Resident]) -> tuple[int, int, float, int]:
    busy = sum(r.size for r in out if r.state == "busy")
    return busy, len(out), max(r.used_at for r in out), sum(r.size for r in out)


def _refusal(need: Need, cards: Sequence[Card], there: dict[int, list[Resident]]) -> Refuse:
    kept = {card.number: sum(r.size for r in there[card.number] if r.state == "kept") for card in cards}
    card = max(cards, key=lambda card: card.total - kept[card.number])
    has = f"card {card.number}, has {gigabytes(card.total)}"
    has += f", {gigabytes(kept[card.number])} of it kept for warm models" if kept[card.number] else ""
    ever = _spare(need, Card(card.number, card.total), [r for r in there[card.number] if r.state == "kept"]) < 0
    if not ever:
        has += f", and other programs hold {gigabytes(card.foreign)}"
    wants = f"needs {gigabytes(need.size)} of GPU memory" if need.size is not None else _UNKNOWN
    return Refuse(f"it {wants}, and {'its card,' if need.card is not None else 'the roomiest,'} {has}", ever)


_UNKNOWN = "needs a card to itself, for its size is not known (`gpu_memory_gb` in models.json says it)"


def gigabytes(size: int) -> str:
    """Bytes for people, as `gpu_memory_gb` counts them."""
    return f"{size / 1e9:.1f} GB"
