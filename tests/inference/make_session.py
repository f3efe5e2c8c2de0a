"""The shipped small model as a pipeline, and what sessions are told in the tests."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from remind.data.world_clips import WorldClip, make_world_clip
from remind.frame_graph import InterruptionKind
from remind.inference.pipeline import RemindPipeline
from remind.inference.session import Session

PROMPT = "a tank fills slowly"
FAST: dict[str, Any] = {"steps": 1}
"""One denoising pass a chunk."""


@cache
def nano() -> RemindPipeline:
    return RemindPipeline.from_pretrained("nano")


@cache
def world(seed: int = 3, kind: InterruptionKind = "light_toggle") -> WorldClip:
    """A world clip of the model's size, clean and interrupted."""
    return make_world_clip(seed, kind=kind, hw=(32, 32), num_frames=81)


def clean(frames: int = 81) -> Tensor:
    return world().clean.rgb[:frames]


def start(prompt: str = PROMPT, **how: Any) -> Session:
    return nano().start(prompt, **FAST | how)


def same(a: Session, b: Session, *, num_chunks: int = 1, **asked: Any) -> bool:
    """Whether both go on with the same bits."""
    return torch.equal(a.step(num_chunks=num_chunks, **asked), b.step(num_chunks=num_chunks, **asked))
