"""Whose the memory of the cards is: our workers', or that of other programs."""

from collections.abc import Sequence

from platforms.local.deployments import Deployment
from platforms.local.gpus import Gpu, Inventory
from platforms.local.placement import Card
from platforms.local.seats import Seat
from platforms.local.sizes import Sizes


class Memory:
    """The chosen cards, and what each deployment needs of one."""

    def __init__(self, inventory: Inventory, numbers: Sequence[int], sizes: Sizes) -> None:
        self._inventory = inventory
        self._numbers = numbers
        self._sizes = sizes
        self._foreign: dict[int, int] = {}
        self._largest = max(gpu.total for gpu in self._read())

    def needed(self, deployment: Deployment) -> int | None:
        """Bytes; None where nothing tells."""
        return self._sizes.of(deployment, self._largest)

    def cards(self, seats: Sequence[Seat]) -> list[Card]:
        """The cards now. The seats' sizes become what their processes are seen to hold.

        What other programs hold is looked at while no worker comes or goes: its memory would be taken for theirs.
        """
        cards = []
        for gpu in self._read():
            here = [seat for seat in seats if seat.card == gpu.number]
            for seat in here:
                self._measure(seat, gpu)
            if all(seat.pool.is_ready and not seat.closing for seat in here):
                ours = sum(_held(seat, gpu) or seat.size for seat in here)
                self._foreign[gpu.number] = max(0, gpu.used - ours)
            cards.append(Card(gpu.number, gpu.total, self._foreign.get(gpu.number, 0)))
        return cards

    def _read(self) -> list[Gpu]:
        return [gpu for gpu in self._inventory.read() if gpu.number in self._numbers]

    def _measure(self, seat: Seat, gpu: Gpu) -> None:
        """What it holds counts in place of what was said once it has run a job: a model that waits holds less."""
        held = _held(seat, gpu)
        if held and seat.has_run:
            self._sizes.note(seat.deployment, held)
            seat.size = max(held, self.needed(seat.deployment) or 0)
        else:
            seat.size = max(held, seat.size)


def _held(seat: Seat, gpu: Gpu) -> int:
    """Bytes of the seat's processes; 0 where the driver does not tell."""
    return sum(gpu.processes.get(pid, 0) for pid in seat.pool.running().values())
