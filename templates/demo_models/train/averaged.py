"""Train a network and keep the running average of its weights, which draws better than the last ones do."""

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

MOST_OF_THE_OLD = 0.998  # how much of the average stays at each step
WARM_UP = 100  # steps over which the learning rate rises

Network = TypeVar("Network", bound=nn.Module)


class Averaged(Generic[Network]):
    """A network in training under an optimizer, whose learning rate is the highest; `average` is what is saved.

    Gradients longer than `longest` are shortened to it.
    """

    def __init__(self, network: Network, optimizer: Optimizer, *, longest: float = 1.0) -> None:
        self.network = network.train()
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        self._optimizer, self._longest = optimizer, longest
        self._rate = optimizer.param_groups[0]["lr"]

    def learn(self, loss: Tensor, step: int, share: float) -> None:
        """One step down the loss, at that share of the learning rate."""
        self._optimizer.param_groups[0]["lr"] = self._rate * min(1, (step + 1) / WARM_UP) * share
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self._longest)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._blend(1 - min(MOST_OF_THE_OLD, (step + 1) / (step + 20)))

    @torch.no_grad()
    def _blend(self, share: float) -> None:
        for kept, new in zip(self.average.parameters(), self.network.parameters(), strict=True):
            kept.lerp_(new, share)


def lowered(done: float, slope: float) -> float:
    """A share of the learning rate that stays, and then falls by the slope to next to nothing at the end."""
    return min(1, max(0.02, slope * (1 - done)))
