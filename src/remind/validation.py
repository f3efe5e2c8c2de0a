"""What a look at a run gives: scalars, pictures, and one score by which the best checkpoint is kept.

Lies below training and evaluation, since one calls what the other offers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from remind.models.dit import CausalVideoDiT


@dataclass(frozen=True)
class Validation:
    """The result of one look.

    Args:
        scalars: numbers by name.
        score: higher is better.
        pictures: to look at, by name, sRGB; each may have a size of its own.
    """

    scalars: dict[str, float]
    score: float
    pictures: dict[str, UInt8[np.ndarray, "_ _ 3"]] = field(default_factory=dict)


Validator = Callable[[CausalVideoDiT], Validation]
"""Looks at a model. The answer is a function of its weights alone; the model, its mode and torch's global generator are
left as they were found."""


@contextmanager
def in_eval_mode(model: CausalVideoDiT) -> Iterator[CausalVideoDiT]:
    """The model in eval mode; afterwards each of its modules is in the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, training in modes:
            module.training = training
