"""The averaged weights, which are what a run ships: an exponential average of the trained ones, sharded as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from remind.training.shards import local


class WeightAverage:
    """average <- d average + (1 - d) weights after every step, in float32; d grows from a tenth to `decay`.

    Source: our choice of the start, d = min(decay, (1 + step) / (10 + step)): an average over the last tenth of a young
    run forgets the initial weights.

    Args:
        model: whose trained parameters are averaged; frozen ones are their own average.
        decay: 0..1.
    """

    @torch.no_grad()
    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.tensors: dict[str, Tensor] = {name: p.detach().clone().float() for name, p in self.weights.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after `step` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        weights = [local(p) for p in self.weights.values()]
        torch._foreach_lerp_([local(t) for t in self.tensors.values()], [w.float() for w in weights], 1 - decay)

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """The model has the averaged weights meanwhile, and its own, bit for bit, afterwards."""
        with torch.no_grad():
            own = [local(p).clone() for p in self.weights.values()]
            for p, average in zip(self.weights.values(), self.tensors.values(), strict=True):
                local(p).copy_(local(average))
        try:
            yield
        finally:
            with torch.no_grad():
                for p, kept in zip(self.weights.values(), own, strict=True):
                    local(p).copy_(kept)
