"""Who makes the videos of the world benchmark: a checkpoint, or a control. Anyone else's are found, not made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

from einops import rearrange
from jaxtyping import UInt8
from torch import Tensor
from torch.nn.functional import pad

from remind.data.world_clips import WorldClip
from remind.errors import InputError
from remind.evaluation.case_meter import CaseMeter
from remind.evaluation.controls import Control, run_control
from remind.evaluation.world_files import scored_hw
from remind.evaluation.world_scores import Mode, first_generated
from remind.evaluation.world_suite import SuiteCase
from remind.inference.pipeline import RecoveryTask, RemindPipeline
from remind.inference.rollout import KnockOut
from remind.models.codec import LinearCodec

Video = UInt8[Tensor, "t h w 3"]
SEED_STRIDE = 1_000_003  # seeds of two evaluations share no noise


@dataclass(frozen=True)
class PreparedCase:
    """A clip at work.

    Args:
        number: within the whole test set, so that a part of it has the same noise.
        case: by what makes it.
        hw: frame size of generation, px.
    """

    number: int
    case: SuiteCase
    hw: tuple[int, int]

    @cached_property
    def given(self) -> WorldClip:
        """At the size of generation."""
        return self.case.render(self.hw)

    @cached_property
    def meter(self) -> CaseMeter:
        """At the size that is measured."""
        scored = scored_hw(self.hw)
        return CaseMeter(self.given if scored == self.hw else self.case.render(scored))


@runtime_checkable
class Maker(Protocol):
    """Makes the videos of some clips.

    Args:
        hw: frame size that they are made from, px.
        batch: clips at a time.
    """

    hw: tuple[int, int]
    batch: int

    def identity(self) -> dict[str, Any]:
        """What decides the videos, JSON values."""

    def about(self, number: int) -> dict[str, Any]:
        """What decides one of them besides, e.g. its seed."""

    def make(self, cases: Sequence[PreparedCase], mode: Mode) -> list[Video]:
        """Whole videos, what was given included."""


@dataclass(frozen=True)
class ControlMaker:
    """A control: known behaviour, rendered, and through the embedded codec as a small model's frames are.

    Args:
        control: see `run_control`.
        hw: frame size, px.
    """

    control: Control
    hw: tuple[int, int]
    batch: int = 16

    def identity(self) -> dict[str, Any]:
        return {"control": self.control, "frames_through": "embedded codec"}

    def about(self, number: int) -> dict[str, Any]:
        return {}

    def make(self, cases: Sequence[PreparedCase], mode: Mode) -> list[Video]:
        codec = LinearCodec.load()
        return [run_control(self.control, one.meter, generated_from=first_generated(one.meter, mode),
                            round_trip=lambda rgb: through_codec(codec, rgb)) for one in cases]  # fmt: skip


@dataclass(frozen=True)
class ModelMaker:
    """A checkpoint.

    Args:
        pipe: of it.
        facts: what is said of it: name and hash.
        seed: of the noise, >= 0.
        memory_noise: sigma at which chunks are remembered, in [0, 1).
        knock_out: take away every chunk that shows the state before generation (V2V); see `rollout`.
        batch: clips at a time.

    Raises:
        InputError: a seed that is none.
    """

    pipe: RemindPipeline
    facts: Mapping[str, Any]
    seed: int = 0
    memory_noise: float = 0.0
    knock_out: KnockOut | None = None
    batch: int = 16

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**40:
            raise InputError("a seed is a number from 0 on", got=self.seed, expected="below 2^40")
        if not 0 <= self.memory_noise < 1:
            raise InputError("noise on memory is a noise level", got=self.memory_noise, expected="0 <= sigma < 1")

    @property
    def hw(self) -> tuple[int, int]:  # type: ignore[override]
        return self.pipe.hw

    def identity(self) -> dict[str, Any]:
        sampler = self.pipe.options().sampler
        return {**self.facts, "seed": self.seed, "memory_noise": self.memory_noise, "knock_out": self.knock_out,
                "sampler": [sampler.kind, sampler.steps, sampler.shift]}  # fmt: skip

    def about(self, number: int) -> dict[str, Any]:
        return {"noise_seed": self.seed * SEED_STRIDE + number}

    def make(self, cases: Sequence[PreparedCase], mode: Mode) -> list[Video]:
        if mode == "i2v" and self.knock_out is not None:
            raise InputError("only what was given can be knocked out", got="image to video",
                             fix="--mode v2v, or without --knock-out")  # fmt: skip
        tasks = [RecoveryTask(one.given.degraded, one.given.schedule, self.about(one.number)["noise_seed"])
                 for one in cases]  # fmt: skip
        sampler = self.pipe.options().sampler
        if mode == "i2v":
            return self.pipe.image_to_video(tasks, sampler=sampler, memory_noise=self.memory_noise,
                                            max_batch=self.batch)  # fmt: skip
        return self.pipe.recover(tasks, sampler=sampler, knock_out_anchors=self.knock_out,
                                 memory_noise=self.memory_noise, max_batch=self.batch)  # fmt: skip


def through_codec(codec: LinearCodec, rgb: Video) -> Video:
    """Encode and decode; sizes that are no multiple of 8 px repeat their last row and column meanwhile."""
    height, width = rgb.shape[1:3]
    pictures = rearrange(rgb, "t h w c -> t c h w").float()
    padded = pad(pictures, (0, -width % 8, 0, -height % 8), mode="replicate").to(rgb.dtype)
    video = rearrange(padded, "t c h w -> 1 t h w c").contiguous()
    return codec.decode(codec.encode(video))[0, :, :height, :width].contiguous()
