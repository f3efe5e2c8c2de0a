"""How many weights a config has, how many of them move, and by which optimiser; counted on the meta device."""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace

from remind.models.config import DiTConfig
from remind.models.dit import CausalVideoDiT
from remind.training.config import TrainConfig
from remind.training.lora import LoraOptions, add_lora
from remind.training.muon import Muon
from remind.training.optimizers import build_optimizers


@dataclass(frozen=True)
class Weights:
    """Numbers of weights.

    Args:
        total, trainable: all of them.
        camera: of what reads cameras.
        adapters: of LoRA.
        muon: those that Muon moves; AdamW moves the other trainable ones.
    """

    total: int = 0
    trainable: int = 0
    camera: int = 0
    adapters: int = 0
    muon: int = 0

    def __add__(self, other: Weights) -> Weights:
        return Weights(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, times: int) -> Weights:
        return Weights(*(a * times for a in astuple(self)))


@dataclass(frozen=True)
class Parameters:
    """Of a model: of one block, of what is not in blocks, and the matrices of a block that Muon moves."""

    block: Weights
    rest: Weights
    layers: int
    muon_shapes: tuple[tuple[int, int], ...]

    @property
    def whole(self) -> Weights:
        return self.block * self.layers + self.rest


def shape_model(config: DiTConfig, lora: LoraOptions | None, layers: int) -> CausalVideoDiT:
    """A model on the meta device, adapters included, with so many blocks."""
    model = CausalVideoDiT.empty(replace(config, num_layers=layers))
    if lora is not None:
        add_lora(model, lora)
    return model


def count_parameters(config: TrainConfig) -> Parameters:
    """Exact numbers, from one block and the rest: all blocks are equal."""
    model = shape_model(config.model, config.lora, layers=1)
    moved_by_muon = {id(p) for optimizer in build_optimizers(model, config) if isinstance(optimizer, Muon)
                     for group in optimizer.param_groups for p in group["params"]}  # fmt: skip
    block, rest = Weights(), Weights()
    shapes = []
    for name, p in model.named_parameters():
        size, by_muon = p.numel(), id(p) in moved_by_muon
        one = Weights(size, size * p.requires_grad, size * ("camera" in name), size * (".lora_" in name),
                      size * by_muon)  # fmt: skip
        if name.startswith("blocks."):
            block += one
        else:
            rest += one
        if by_muon:
            shapes.append((p.shape[0], p.shape[1]))
    return Parameters(block, rest, config.model.num_layers, tuple(shapes))
