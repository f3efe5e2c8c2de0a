"""Where float64 can be computed: phases and angles need it, and one kind of device does not have it."""

from __future__ import annotations

import torch

WITHOUT_FLOAT64 = frozenset({"mps"})


def float64_device(device: torch.device) -> torch.device:
    """The device itself, or the CPU where it has no float64. What is computed in it is a few numbers a frame."""
    return torch.device("cpu") if device.type in WITHOUT_FLOAT64 else device
