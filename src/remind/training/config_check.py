"""What the values of a training config must be, so that a run that cannot work ends before it begins."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING

from remind.data.kinds import kinds_of
from remind.errors import InputError
from remind.frame_graph import FRAMES_PER_LATENT, LATENTS_PER_CHUNK
from remind.world import FAMILIES

if TYPE_CHECKING:
    from remind.training.config import TrainConfig

CODEC_STRIDE_PX = 8
"""Pixels per latent pixel of every codec here: the embedded one and Wan's."""


def check_config(config: TrainConfig) -> None:
    """Look at every number, and at values that must fit together; the options' own classes look at themselves.

    Raises:
        InputError: a value out of its range, or two that contradict each other; named as the command line names it.
    """
    _check_sizes(config)
    _check_rates(config)
    _check_noise(config)
    _check_data(config)
    _check_execution(config)


def _check_sizes(config: TrainConfig) -> None:
    _whole("steps", config.steps)
    _whole("batch_size", config.batch_size)
    _whole("group_size", config.group_size, least=0)
    if config.group_size and config.batch_size % config.group_size:
        raise InputError("--group-size must divide --batch-size",
                         got=f"groups of {config.group_size} in a batch of {config.batch_size}",
                         expected="a divisor of it, or 0 for the whole batch")  # fmt: skip
    for size, patch in zip(config.hw, config.model.patch_hw, strict=True):
        if size < 1 or size % (CODEC_STRIDE_PX * patch):
            raise InputError("--hw does not split into the model's tokens", got=config.hw,
                             expected=f"multiples of {CODEC_STRIDE_PX * patch} px")  # fmt: skip
    per_chunk = FRAMES_PER_LATENT * LATENTS_PER_CHUNK
    if config.num_frames < 2 * per_chunk - 3 or (config.num_frames + 3) % per_chunk:
        raise InputError("--num-frames must fill two whole chunks or more", got=config.num_frames,
                         expected="12k - 3, e.g. 57 or 81")  # fmt: skip


def _check_rates(config: TrainConfig) -> None:
    _number("learning_rate", config.learning_rate)
    _number("muon_learning_rate", config.muon_learning_rate)
    _whole("warmup_steps", config.warmup_steps, least=0)
    _number("weight_decay", config.weight_decay, positive=False)
    _number("grad_clip", config.grad_clip)
    _share("ema_decay", config.ema_decay)
    if config.ema_decay == 1:
        raise InputError("--ema-decay 1 would keep the first weights for ever", got=1, expected="below 1, e.g. 0.998")


def _check_noise(config: TrainConfig) -> None:
    _number("step.sigma_shift", config.step.sigma_shift)
    low, high = config.step.memory_sigma
    if not 0 <= low <= high <= 1:
        raise InputError("--step.memory-sigma must be a range of noise levels", got=(low, high),
                         expected="0 <= low <= high <= 1")  # fmt: skip
    _one_of("step.kernel", config.step.kernel, ("prefix", "dense"))


def _check_data(config: TrainConfig) -> None:
    _whole("seed", config.seed, least=0)
    _whole("bank_size", config.bank_size, least=0)
    _share("world_share", config.world_share)
    for family in config.world_families:
        _one_of("world_families", family, FAMILIES)
    # Looking away needs clips wider than what the model sees; the other kinds are for measuring.
    for kind in config.world_kinds:
        _one_of("world_kinds", kind, [known for known in kinds_of("train") if known != "lookaway"])
    if not config.world_kinds:
        raise InputError("--world-kinds must name an interruption", got="none", expected="e.g. light_toggle")
    for part in config.data:
        if not 0 < part.weight < math.inf:
            raise InputError("the weight of a store must be positive", got=f"{part.weight:g} for {part.store}",
                             fix="leave the store out, or give it a weight")  # fmt: skip
    stores = [part.store for part in config.data]
    twice = sorted({str(store) for store in stores if stores.count(store) > 1})
    if twice:
        raise InputError("a store is named twice", got=", ".join(twice), fix="name it once, with its whole weight")


def _check_execution(config: TrainConfig) -> None:
    execution, validation = config.execution, config.validation
    _whole("execution.micro_batch", execution.micro_batch, least=0)
    largest = config.group_size or config.batch_size
    if execution.micro_batch > largest:
        raise InputError("--execution.micro-batch is larger than a group of clips", got=execution.micro_batch,
                         expected=f"1..{largest}, or 0 for all of a rank's share")  # fmt: skip
    _whole("execution.replicate", execution.replicate)
    _whole("execution.sequence_parallel", execution.sequence_parallel)
    _whole("execution.checkpoint_every", execution.checkpoint_every)
    _whole("execution.keep", execution.keep)
    _whole("execution.workers", execution.workers, least=0)
    _whole("validation.every", validation.every, least=0)
    _whole("validation.clips", validation.clips)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _whole(name: str, value: int, *, least: int = 1) -> None:
    if value < least:
        raise InputError(f"{_option(name)} must be {'positive' if least else 'zero or positive'}", got=value)


def _number(name: str, value: float, *, positive: bool = True) -> None:
    if not (math.isfinite(value) and (value > 0 or (value == 0 and not positive))):
        raise InputError(f"{_option(name)} must be {'positive' if positive else 'zero or positive'}", got=value)


def _share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise InputError(f"{_option(name)} is a share", got=value, expected="0..1")


def _one_of(name: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise InputError(f"{_option(name)} knows no such thing", got=value, expected=" | ".join(known))
