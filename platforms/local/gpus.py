"""The cards of this machine, as NVIDIA's driver tells of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from shared.errors import InvalidInput
from shared.hardware import Cards


@dataclass(frozen=True)
class Gpu:
    """A card now; memory in bytes, `processes` as in `hardware.Card`."""

    number: int
    name: str
    total: int
    used: int
    processes: Mapping[int, int] = field(default_factory=dict)


class Inventory(Protocol):
    """What knows the cards."""

    def read(self) -> Sequence[Gpu]:
        """Every card that answers, in the order of its number."""


class Driver:
    """All cards of the machine, numbered as `nvidia-smi` numbers them; one that does not answer is left out.

    Raises, when it is made:
        InvalidInput: there is none.
    """

    def __init__(self, cards: Cards | None = None) -> None:
        self._cards = cards or Cards()
        if not self.read():
            raise InvalidInput(
                "--gpus: this machine has no NVIDIA card that its driver tells of; leave --gpus out to run on the CPU"
            )

    def read(self) -> list[Gpu]:
        """See Inventory."""
        return [
            Gpu(number, card.name, card.memory_total, card.memory_total - card.memory_free, card.processes)
            for number, card in self._cards.read().items()
            if card.memory_total is not None and card.memory_free is not None
        ]


@dataclass(frozen=True)
class Chosen:
    """The cards to use, by number, and what knows them."""

    inventory: Inventory
    numbers: tuple[int, ...]


def choose(asked: str, inventory: Inventory) -> Chosen:
    """The cards that `--gpus` names: `all`, or such as `0,1`.

    Raises:
        InvalidInput: one of them is not there, or is named twice.
    """
    there = [gpu.number for gpu in inventory.read()]
    has = ", ".join(map(str, there)) or "none"
    if asked.strip() == "all" and there:
        return Chosen(inventory, tuple(there))
    named = [part.strip() for part in asked.split(",")]
    wrong = [part for part in named if part not in map(str, there)]
    if wrong:
        raise InvalidInput(f"--gpus: there is no card '{wrong[0][:64]}'; this machine has: {has}")
    if len(set(named)) < len(named):
        raise InvalidInput("--gpus: a card is named twice")
    return Chosen(inventory, tuple(int(part) for part in named))
