"""Floating-point operations of a training step, counted from shapes; matrix products and attention, 2 per multiply-add.

Attention is counted by the pairs of chunks that the plan lets attend each other (the dense kernel computes all pairs).
A backward pass does every product twice, once for the input's gradient and once for the weight's; attention's does five
products where the forward pass does two, since scores are computed again. Where activations are recomputed, blocks
run forward twice. Frozen weights (LoRA) need no gradient of their own.

Source: our choice of what counts, that of torch's FlopCounterMode; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from remind.frame_graph import LATENTS_PER_CHUNK
from remind.geometry import POSE_DESCRIPTOR_DIM
from remind.training.config import TrainConfig
from remind.training.example_plans import PlanShape
from remind.training.muon import ITERATIONS

PARTS = ("attention to chunks", "its projections", "attention to text", "feed-forward", "cameras", "outside of blocks",
         "optimiser")  # fmt: skip


@dataclass(frozen=True)
class Work:
    """FLOPs of a part.

    Args:
        forward, backward: of the two passes.
        again: of the forward pass that recomputation does once more.
    """

    forward: float = 0.0
    backward: float = 0.0
    again: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.forward + other.forward, self.backward + other.backward, self.again + other.again)

    def __mul__(self, times: int | float) -> Work:
        return Work(self.forward * times, self.backward * times, self.again * times)

    @property
    def total(self) -> float:
        return self.forward + self.backward + self.again


class _Pass:
    """Shapes of one pass over a micro-batch on one rank, and the products of its layers."""

    def __init__(self, config: TrainConfig, plan: PlanShape, clips: int):
        model, ranks = config.model, config.execution.sequence_parallel
        self.model, self.lora, self.ranks = model, config.lora, ranks
        height, width = (size // patch for size, patch in zip(config.latent_hw, model.patch_hw, strict=True))
        self.frames = clips * LATENTS_PER_CHUNK * plan.entries
        self.tokens = self.frames * height * width / ranks
        self.texts = clips * plan.num_prompts * model.text_len
        chunk = LATENTS_PER_CHUNK * height * width
        computed = plan.entries**2 if config.step.kernel == "dense" else plan.pairs
        # Ranks of a sequence group compute each the share of their heads, over all tokens.
        self.pairs = clips * computed * chunk**2 / ranks
        self.text_pairs = self.tokens * model.text_len

    def linear(self, rows: int | float, wide: int, out: int, *, name: str = "", input_gradient: bool = True,
               frozen: bool | None = None) -> Work:  # fmt: skip
        """A linear layer, with its adapter where LoRA puts one.

        Args:
            rows: that pass through.
            name: end of the layer's name.
            input_gradient: whether what it reads depends on any trained weight.
            frozen: whether its weight is fixed; None = as the run has it.
        """
        frozen = self.lora is not None if frozen is None else frozen
        work = self.product(rows, wide, out, gradients=input_gradient + (not frozen))
        if self.lora is not None and name in self.lora.targets:
            rank = self.lora.rank
            work += self.product(rows, wide, rank, gradients=input_gradient + 1) + self.product(rows, rank, out)
        return work

    def product(self, rows: int | float, wide: int, out: int, *, gradients: int = 2) -> Work:
        forward = 2.0 * rows * wide * out
        return Work(forward, gradients * forward)

    def attention(self, seen: int | float) -> Work:
        """Two products over pairs of tokens; five on the way back."""
        forward = 4.0 * seen * self.model.dim
        return Work(forward, 2.5 * forward)


def pass_work(config: TrainConfig, plan: PlanShape, clips: int) -> dict[str, Work]:
    """One rank's forward and backward pass over a micro-batch, by part (`PARTS`, without the optimiser).

    Args:
        plan: of all its clips.
        clips: in the micro-batch.
    """
    p = _Pass(config, plan, clips)
    blocks = {name: work * config.model.num_layers for name, work in _block(p).items()}
    if config.lora is not None:  # nothing before the first block is trained, so what q, k and v read has no gradient
        adapters = sum(name in config.lora.targets for name in ("qk" if _folds(config) else "qkv"))
        unneeded = 3 * config.model.dim + adapters * config.lora.rank
        blocks["its projections"] += Work(backward=-2.0 * p.tokens * config.model.dim * unneeded)
    if config.execution.recompute:
        blocks = {name: work + Work(again=work.forward) for name, work in blocks.items()}
    return {**blocks, "outside of blocks": _outside(p)}


def optimizer_work(muon_shapes: Sequence[tuple[int, int]], layers: int) -> Work:
    """Muon's Newton-Schulz iterations, which every rank does in full; AdamW multiplies no matrices."""
    work = 0.0
    for rows, columns in muon_shapes:
        small, large = min(rows, columns), max(rows, columns)
        work += ITERATIONS * (4.0 * small**2 * large + 2.0 * small**3)
    return Work(forward=layers * work)


def _folds(config: TrainConfig) -> bool:
    """Whether camera residuals are put into the weights of values and outputs."""
    return config.model.camera_mode in ("vo", "full") and config.model.vo_transform == "concat"


def _block(p: _Pass) -> dict[str, Work]:
    model = p.model
    dim, ffn, t = model.dim, model.ffn_dim, p.tokens
    q, k, v, o = (p.linear(t, dim, dim, name=name) for name in "qkvo")
    to_chunks, cameras = p.attention(p.pairs), Work()
    mode = model.camera_mode
    if mode in ("qk", "full"):
        offsets = (model.num_heads if model.phase_per_head else 1) * (
            model.head_dim // 2 if model.phase_pairs == "all" else model.rotary_pairs_thw[0])  # fmt: skip
        cameras += p.product(p.frames, POSE_DESCRIPTOR_DIM, model.camera_hidden, gradients=1)
        cameras += p.product(p.frames, model.camera_hidden, offsets)
    if mode in ("vo", "full") and model.vo_transform == "prope":
        cameras += (p.product(t, 4, dim, gradients=1) + p.product(t, dim, dim)) * 2
    elif mode in ("vo", "full"):
        v, o, folding = _folded(p)
        cameras += folding + p.product(p.frames, 6, dim, gradients=1) * 2
    if mode == "dual":
        to_chunks = to_chunks * 2
        cameras += p.product(t, 4, dim, gradients=1) * 4 + p.linear(t, dim, dim, frozen=False)
    text_gradient = p.lora is None  # text is embedded by frozen layers otherwise
    to_text = p.linear(t, dim, dim, name="q") + p.linear(t, dim, dim, name="o") + p.attention(p.text_pairs)
    for name in "kv":
        to_text += p.linear(p.texts, dim, dim, name=name, input_gradient=text_gradient)
    feed_forward = p.linear(t, dim, ffn, name="ffn.0") + p.linear(t, ffn, dim, name="ffn.2")
    return {"attention to chunks": to_chunks, "its projections": q + k + v + o, "attention to text": to_text,
            "feed-forward": feed_forward, "cameras": cameras}  # fmt: skip


def _folded(p: _Pass) -> tuple[Work, Work, Work]:
    """Projections of values and outputs with the residual in their weights, and the product that puts it there."""
    dim, t = p.model.dim, p.tokens
    v, o = p.linear(t, dim, dim, name="", frozen=False), p.linear(t, dim, dim, name="", frozen=False)
    folding = p.product(dim, dim, dim) if t > dim else p.product(t, dim, dim)
    if p.lora is not None:  # adapters are multiplied out where a residual reads the weight beside it
        for name in "vo":
            if name in p.lora.targets:
                folding += p.product(dim, p.lora.rank, dim)
    return v, o, folding


def _outside(p: _Pass) -> Work:
    model, dim = p.model, p.model.dim
    patch = model.patch_hw[0] * model.patch_hw[1]
    trained = p.lora is None
    work = p.linear(p.tokens, model.in_channels * patch, dim, input_gradient=False)
    work += p.linear(p.texts, model.text_dim, dim, input_gradient=False)
    work += p.linear(p.texts, dim, dim, input_gradient=trained)
    work += p.linear(p.frames, model.freq_dim, dim, input_gradient=False)
    work += p.linear(p.frames, dim, dim, input_gradient=trained)
    work += p.linear(p.frames, dim, 6 * dim, input_gradient=trained)
    return work + p.linear(p.tokens, dim, patch * model.out_channels)
