"""Networks to interpolate with: FILM at random and small, and one that blends."""

from dataclasses import replace

import torch
from torch import Tensor

from shared.models.film import FILM, Encoded, Flows, Sizes

SMALL = Sizes(pyramid_levels=4, fusion_levels=3, specialised_levels=1, sub_levels=2, filters=4)
SMALL = replace(SMALL, flow_convolutions=(2, 3), flow_filters=(6, 8))


def random_film(sizes: Sizes = SMALL, seed: int = 0) -> FILM:
    """A network of random weights, which draws nothing but depends on everything that it is given."""
    torch.manual_seed(seed)
    return FILM(sizes).eval().requires_grad_(False)


class Blend(FILM):
    """Draws both frames on each other, by their time, so that any frame between two is known exactly.

    Counts its calls. More than `room` pixels at once are out of memory.
    """

    def __init__(self, room: int = 2**30) -> None:
        super().__init__(SMALL)
        self.room = room
        self.encoded: list[int] = []
        self.times: list[float] = []
        self.pairs = 0

    def encode(self, image: Tensor) -> Encoded:
        if image[0, 0].numel() > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        self.encoded.append(image[0, 0].numel())
        return Encoded([image], [image])

    def flows(self, first: Encoded, last: Encoded) -> Flows:
        self.pairs += 1
        return Flows([first.images[0][:, :2]], [last.images[0][:, :2]])

    def between(self, first: Encoded, last: Encoded, flows: Flows, time: Tensor) -> Tensor:
        self.times.append(time.item())
        return torch.lerp(first.images[0], last.images[0], time.item())
