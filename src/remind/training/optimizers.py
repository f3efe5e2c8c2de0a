"""Which optimiser moves which weights, and how fast as the run goes on."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from remind.models.dit import CausalVideoDiT
from remind.training.config import TrainConfig
from remind.training.muon import Muon


def build_optimizers(model: CausalVideoDiT, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """AdamW for everything that is trained, or Muon for the blocks' matrices and AdamW for the rest.

    Cameras stay with AdamW in both: a residual that starts at zero must be able to stay small.
    """
    hidden: list[torch.nn.Parameter] = []
    if config.optimizer == "muon":
        hidden = [p for name, p in model.named_parameters()
                  if p.requires_grad and p.ndim == 2 and name.startswith("blocks.") and "camera" not in name]
    taken = {id(p) for p in hidden}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in taken]
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


def state_tensors(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """All that optimisers carry from step to step, by names of weights: `blocks.0.ffn.0.weight.exp_avg`.

    A state that is not there yet is made, with the zeros that a first step would start from. Rates and options are not
    state: they follow from the config and the step.
    """
    names = {parameter: name for name, parameter in model.named_parameters()}
    found: dict[str, Tensor] = {}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                state = optimizer.state[parameter]
                if not state:
                    state.update(_zero_state(optimizer, parameter))
                found |= {f"{names[parameter]}.{key}": value for key, value in state.items()}
    return found


def _zero_state(optimizer: torch.optim.Optimizer, parameter: Tensor) -> dict[str, Tensor]:
    zeros = torch.zeros_like(parameter, memory_format=torch.preserve_format)
    if isinstance(optimizer, Muon):
        return {"momentum": zeros}
    step = torch.zeros((), dtype=torch.float32, device=parameter.device)  # as fused AdamW makes it
    return {"step": step, "exp_avg": zeros, "exp_avg_sq": zeros.clone()}
