"""Trajectories for clips that are rendered again: the camera leaves its first view until that is out of sight, and
comes back.

Source: ReMind Sec. 3.1 and F.2. The four kinds and the ranges that they are drawn from are our choice: the first view
must be hidden, and a clean chunk must lie before the camera leaves and after it is back, else there is no memory to
teach.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from remind.errors import InputError
from remind.frame_graph import frames_of_chunk, num_chunks
from remind.geometry import away_and_back, rigid, rotation_pitch, rotation_yaw

LoopKind = Literal["lookaway", "pan", "loop", "orbit"]
LOOP_KINDS: tuple[LoopKind, ...] = get_args(LoopKind)
_FARTHEST_DEG = 150.0
_ORBIT_DEG = (130.0, 175.0)  # a thing's front is out of sight from its other side


def loop_trajectory(
    kind: LoopKind, num_frames: int, rng: np.random.Generator, *, fov_deg: tuple[float, float], scene_depth: float
) -> Float[Tensor, "t 4 4"]:
    """Poses that leave the first view, hide it, and end where they began.

    - `lookaway`: turn by more than a view, to a side or up, stay, turn back.
    - `pan`: turn to a side by more than a view and at once back.
    - `loop`: a step to the side while turning that way, and back.
    - `orbit`: around what is straight ahead, to its other side, and back.

    Args:
        num_frames: 12k - 3, at least 57.
        rng: decides side, angle, length of the step and times.
        fov_deg: fields of view, horizontal and vertical, 5..120: how far is far enough.
        scene_depth: how far away the middle of the scene is, in the renderer's unit of length, > 0.

    Raises:
        InputError: an unknown kind, or numbers out of range.
    """
    if kind not in LOOP_KINDS:
        raise InputError("no such trajectory", got=kind, expected=", ".join(LOOP_KINDS))
    if not (scene_depth > 0 and all(5 <= angle <= 120 for angle in fov_deg)):
        raise InputError("no trajectory for such a view", got=f"fields of view {fov_deg}, scene depth {scene_depth}",
                         expected="5..120 degrees each, a depth > 0")  # fmt: skip
    if num_frames < 57:
        raise InputError("a clip is too short to leave and come back", got=num_frames, expected="57 frames or more")
    gone = _clock(num_frames, rng, stays=kind == "lookaway")
    side = 1.0 if rng.random() < 0.5 else -1.0
    wide, high = fov_deg
    if kind == "lookaway" and rng.random() < 0.25 and 1.3 * high <= 75:
        return _posed(rotation_pitch(gone * float(rng.uniform(1.1, 1.3)) * high))
    turn = side * min(_FARTHEST_DEG, float(rng.uniform(1.0, 1.3)) * wide)
    if kind == "orbit":
        rotation = rotation_yaw(-side * gone * float(rng.uniform(*_ORBIT_DEG)))
        middle = torch.tensor([0.0, 0.0, scene_depth], dtype=torch.float64)
        return rigid(rotation, middle - rotation @ middle)
    rotation = rotation_yaw(gone * turn)
    if kind == "loop":
        step = torch.tensor([side * float(rng.uniform(0.1, 0.3)) * scene_depth, 0.0, 0.0], dtype=torch.float64)
        return rigid(rotation, gone[:, None] * step)
    return _posed(rotation)


def fields_of_view_deg(intrinsics_px: Float[Tensor, " 4"], hw: tuple[int, int]) -> tuple[float, float]:
    """Horizontal and vertical field of view of a camera, degrees."""
    fx, fy, _, _ = intrinsics_px.tolist()
    return (math.degrees(2 * math.atan(hw[1] / (2 * fx))), math.degrees(2 * math.atan(hw[0] / (2 * fy))))


def _clock(num_frames: int, rng: np.random.Generator, *, stays: bool) -> Float[Tensor, " t"]:
    """How far gone each frame is, 0..1: at rest in the first chunk and in the last, with or without a stay between."""
    chunks = num_chunks(num_frames)
    spare = 1 if chunks >= 7 else 0  # a second clean chunk at either end, now and then
    first = frames_of_chunk(1 + int(rng.integers(0, spare + 1))).start + int(rng.integers(0, 5))
    last = frames_of_chunk(chunks - 1 - int(rng.integers(0, spare + 1))).start - int(rng.integers(0, 5))
    away = last - first
    stay = int(away * rng.uniform(0.25, 0.45)) if stays else 1
    leave = first + int((away - stay) * rng.uniform(0.4, 0.6))
    return away_and_back(num_frames, start=first, hidden_start=leave, hidden_stop=leave + stay, stop=last)


def _posed(rotation: Float[Tensor, "t 3 3"]) -> Float[Tensor, "t 4 4"]:
    return rigid(rotation, torch.zeros(len(rotation), 3, dtype=torch.float64))
