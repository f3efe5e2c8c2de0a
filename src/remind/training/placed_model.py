"""The model of a run with its first weights, on the device of this rank and sharded over all of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from remind.models.convert import load_checkpoint
from remind.models.dit import CausalVideoDiT
from remind.training.config import TrainConfig
from remind.training.distributed import Ranks
from remind.training.lora import add_lora
from remind.training.shards import local, own_part


def build_model(config: TrainConfig, ranks: Ranks) -> CausalVideoDiT:
    """The model at step 0.

    Weights are float32. Those of a checkpoint are read from its file piece by piece, each rank its own shard. Random
    ones are drawn on every rank, whole and on the CPU, so that they depend on the seed alone.

    Raises:
        CheckpointError: `init_from` names nothing, something damaged, or weights of another model.
    """
    state = initial_weights(config)
    model = CausalVideoDiT.empty(config.model)
    if config.lora is not None:
        add_lora(model, config.lora)
    model.checkpoint_blocks = config.execution.recompute
    ranks.shard(model)
    model.to_empty(device=ranks.device)
    fill(model, state)
    if config.execution.compile:
        compile_blocks(model)
    return model


def initial_weights(config: TrainConfig) -> dict[str, Tensor]:
    """Whole weights on the CPU: of the checkpoint to start from (still in its file), or random; adapters with them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if config.init_from is not None:
            state = load_checkpoint(config.init_from, config.model)[1]
        else:
            state = CausalVideoDiT(config.model).state_dict()
        if config.lora is None:
            return state
        torch.manual_seed(config.seed)
        model = CausalVideoDiT.empty(config.model)
        model.load_state_dict(state, assign=True)
        add_lora(model, config.lora)
        return model.state_dict()


@torch.no_grad()
def fill(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Give every parameter its weights, this rank's shard of them where it is sharded.

    Args:
        state: whole tensors under the names of the parameters.
    """
    for name, parameter in model.named_parameters():
        local(parameter).copy_(state[name][own_part(parameter)])


def compile_blocks(model: CausalVideoDiT) -> None:
    """Compile what every block computes; what shards it stays outside."""
    for block in model.blocks:
        block.forward = torch.compile(block.forward, fullgraph=True)  # type: ignore[method-assign]
