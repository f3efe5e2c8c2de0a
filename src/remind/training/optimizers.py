"""Which optimiser moves which weights, and how fast as the run goes on."""

from __future__ import annotations

import math

import torch

from remind.models.dit import CausalVideoDiT
from remind.training.config import TrainConfig
from remind.training.muon import Muon


def build_optimizers(model: CausalVideoDiT, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for the blocks' matrices and AdamW for the rest.

    Cameras stay with AdamW in both: a residual that starts at zero must be able to stay small.
    """
    hidden: list[torch.nn.Parameter] = []
    if config.optimizer == "muon":
        hidden = [p for name, p in model.named_parameters()
                  if p.ndim == 2 and name.startswith("blocks.") and "camera" not in name]
    taken = {id(p) for p in hidden}
    rest = [p for p in model.parameters() if id(p) not in taken]
    adamw = torch.optim.AdamW(
        [{"params": [p for p in rest if p.ndim >= 2], "weight_decay": config.weight_decay},
         {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0}],
        lr=config.learning_rate, betas=(0.9, 0.98), fused=True,
    )
    if not hidden:
        return [adamw]
    return [adamw, Muon(hidden, config.muon_learning_rate, weight_decay=config.weight_decay)]


def rate_share(config: TrainConfig, step: int) -> float:
    """Share of the peak learning rate at a step: linear warmup, then half a cosine down to a twentieth."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done))


def set_rates(optimizers: list[torch.optim.Optimizer], config: TrainConfig, step: int) -> float:
    """Give every optimiser its rate of the step; returns AdamW's."""
    share = rate_share(config, step)
    for optimizer in optimizers:
        peak = config.muon_learning_rate if isinstance(optimizer, Muon) else config.learning_rate
        for group in optimizer.param_groups:
            group["lr"] = peak * share
    return config.learning_rate * share
