"""Camera moves as a line of text: `right-20, left-20`, as HY-WorldPlay and STEVO-Bench write them.

Each move is an action (or several joined by `+`) over that many latents; a latent is four frames. `w s a d` go
forward, back, left and right along the camera's own axes, `up down left right` turn it, `stay` (ours) holds it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from remind.camera_io.track import MAX_POSES, interpolate_poses
from remind.errors import CameraError
from remind.geometry import rotation_pitch, rotation_yaw

FRAMES_PER_LATENT = 4
TURN_DEG = 3.0  # a latent, as HY-WorldPlay has it
STEP = 0.08  # a latent, in the unit of the scene, as HY-WorldPlay has it
_MAX_TEXT = 10_000
_MOVE = re.compile(r"([a-z]+(?: ?\+ ?[a-z]+)*) ?- ?([0-9]{1,5})")
# yaw and pitch in degrees, then right and forward in units, all a latent
_ACTIONS: dict[str, tuple[float, float, float, float]] = {
    "right": (TURN_DEG, 0, 0, 0), "left": (-TURN_DEG, 0, 0, 0), "up": (0, TURN_DEG, 0, 0), "down": (0, -TURN_DEG, 0, 0),
    "d": (0, 0, STEP, 0), "a": (0, 0, -STEP, 0), "w": (0, 0, 0, STEP), "s": (0, 0, 0, -STEP), "stay": (0, 0, 0, 0),
}  # fmt: skip


def pose_string_c2w(
    text: str, *, num_frames: int | None = None, start: Float[Tensor, "4 4"] | None = None
) -> Float[Tensor, "t 4 4"]:
    """Poses of a line of moves, the first one the identity or `start`.

    Our choice: another length stretches every move alike and rounds its ends to whole frames, so that angles and
    distances at the turning points stay exactly what they were; else a target might never leave the view.

    Args:
        text: e.g. `s-3, right+up-20, left+down-20`.
        num_frames: None for the string's own length, 4 * (sum of latents) + 1.
        start: where the camera stands. Moves at their own length that go on from the last pose of others are, bit for
            bit, the moves of both in one line.

    Raises:
        CameraError: a move that is not one, or too few frames for the moves.
    """
    moves = [_parse(number, move) for number, move in enumerate(_split(text), 1)]
    keys = _latent_poses(moves, torch.eye(4, dtype=torch.float64) if start is None else start)
    ends = np.cumsum([count for _, count in moves])
    frames = FRAMES_PER_LATENT * int(ends[-1]) + 1 if num_frames is None else num_frames
    turning_frames = whole_ends(ends.tolist(), frames - 1)
    latents = np.interp(np.arange(frames), [0, *turning_frames], [0, *ends])
    c2w = interpolate_poses(keys, torch.arange(len(keys), dtype=torch.float64), torch.from_numpy(latents))
    at_key = latents == latents.round()  # interpolation there rounds, and moves that go on would begin elsewhere
    c2w[torch.from_numpy(at_key)] = keys[torch.from_numpy(latents[at_key]).long()]
    return c2w


def whole_ends(ends: Sequence[int], total: int) -> list[int]:
    """Where consecutive moves end when all of them together are stretched to `total` frames, at least one each.

    Args:
        ends: where they end before; increasing, the last one is their total.

    Raises:
        CameraError: fewer frames than moves, or more than `MAX_POSES`.
    """
    if not len(ends) <= total < MAX_POSES:
        raise CameraError("this many frames do not hold the camera's moves", got=f"{total} for {len(ends)} moves",
                          expected=f"at least one each, fewer than {MAX_POSES}")  # fmt: skip
    rounded, last = [], 0
    for index, end in enumerate(ends):
        left_over = len(ends) - 1 - index
        last = min(max(round(end * total / ends[-1]), last + 1), total - left_over)
        rounded.append(last)
    return rounded


def _split(text: str) -> list[str]:
    moves = [move.strip() for move in text[:_MAX_TEXT].lower().split(",")]
    if len(text) > _MAX_TEXT or not all(moves):
        raise CameraError("no camera moves", got=repr(text[:40]), expected="e.g. 'right-20, left-20'")
    return moves


def _parse(number: int, move: str) -> tuple[Float[np.ndarray, "4"], int]:
    match = _MOVE.fullmatch(" ".join(move.split()))
    names = re.split(r" ?\+ ?", match[1]) if match else []
    if match is None or int(match[2]) < 1 or not set(names) <= set(_ACTIONS):
        raise CameraError(f"camera move {number} is not one", got=repr(move[:40]),
                          expected=f"{', '.join(_ACTIONS)} (or several with +), a minus, a number of latents >= 1",
                          fix="e.g. 'right-20' or 'right+up-10'")  # fmt: skip
    return np.array([_ACTIONS[name] for name in names], dtype=np.float64).sum(0), int(match[2])


def _latent_poses(
    moves: Sequence[tuple[Float[np.ndarray, "4"], int]], start: Float[Tensor, "4 4"]
) -> Float[Tensor, "n 4 4"]:
    if FRAMES_PER_LATENT * sum(count for _, count in moves) >= MAX_POSES:
        raise CameraError("the camera's moves take too long", expected=f"fewer than {MAX_POSES} frames")
    pose = start
    poses = [pose]
    for (yaw, pitch, right, forward), count in moves:
        turn = rotation_yaw(torch.tensor([yaw]))[0] @ rotation_pitch(torch.tensor([pitch]))[0]
        step = torch.tensor([right, 0.0, forward], dtype=torch.float64)
        for _ in range(count):
            pose = pose.clone()
            pose[:3, :3] = pose[:3, :3] @ turn
            pose[:3, 3] += pose[:3, :3] @ step
            poses.append(pose)
    return torch.stack(poses)
